"""How sure the published laws are: draws from refits of the public runs, or from the intervals that a paper prints.

Hoffmann et al.'s runs are public as points read out of their figure 4 (Besiroglu et al. 2024). What is kept here is not
the points but what 1,000 bootstrap refits to them say of the constants, how the runs scatter about each law, and how
far fits to the cheaper runs missed the dearer ones; `tests/published_draws.py` makes the file.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scalestop.laws.uncertainty import Uncertainty

HOFFMANN_RUNS = "hoffmann_runs.draws.json"
NAMES = ("E", "A", "B", "alpha", "beta")
_LOGS = ("A", "B")
_NUM_QUANTILES = 400


def refit_uncertainty(law: str, constants: Mapping[str, float]) -> Uncertainty:
    """Return the uncertainty of a parametric law of Hoffmann et al.'s runs.

    The draws are the law's own constants, moved as each refit moved from the best fit: E, alpha and beta by
    differences, A and B by factors. How far the runs let the constants move is a matter of the runs and of the form,
    and the same for every law of them; that a law sits off the best fit shows in its runs' scatter. The law is
    `besiroglu` or `chinchilla`.
    """
    data = _hoffmann_runs()
    draws = np.column_stack(
        [
            constants[name] * np.exp(moved) if name in _LOGS else constants[name] + moved
            for name, moved in zip(NAMES, deviations(data).T, strict=True)
        ]
    )
    return Uncertainty(
        draws=draws,
        names=NAMES,
        method="parametric",
        num_runs=data["num_runs"],
        data_hash=data["data_hash"],
        intervals={
            name: (float(low), float(high))
            for name, low, high in zip(NAMES, *np.quantile(draws, [0.05, 0.95], axis=0), strict=True)
        },
        scatter=np.array(data["scatter"][law]),
        drift=data["drift"],
        drift_params=data["drift_params"],
        source=data["source"],
    )


def deviations(data: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return by how much each refit moved E, log A, log B, alpha, beta; shape (draws, 5)."""
    raw = zlib.decompress(base64.b64decode(data["deviations_f4_columns_zlib_base64"]))
    return np.frombuffer(raw, dtype="<f4").reshape(len(NAMES), data["num_draws"]).T.astype(np.float64)


def exponent_uncertainty(
    k_N: float, a: float, interval: tuple[float, float], level: float, pivot: float, num_runs: int, source: str
) -> Uncertainty:
    """Return the uncertainty of N_opt = k_N·C^a from the published interval of a alone.

    The exponents are the evenly spaced quantiles of two half normal distributions that meet at a and put their ends of
    the interval where the paper does. Each is paired with the k_N that leaves N_opt at the pivot as it is: an exponent
    is learned from the slope about the middle of the budgets. The level there is taken as known, as nothing is
    published of it, so near the pivot, the middle of the budgets in FLOPs, the intervals are too narrow. `level` is the
    share of the distribution inside the published interval, and `source` its table.
    """
    normal = NormalDist()
    scores = np.array([normal.inv_cdf((i + 0.5) / _NUM_QUANTILES) for i in range(_NUM_QUANTILES)])
    edge = normal.inv_cdf((1 + level) / 2)
    low, high = interval
    exponents = a + scores / edge * np.where(scores < 0, a - low, high - a)
    draws = np.column_stack([k_N * pivot ** (a - exponents), exponents])
    ends = np.quantile(exponents, [0.05, 0.95])
    return Uncertainty(
        draws=draws,
        names=("k_N", "a"),
        method="published interval",
        num_runs=num_runs,
        data_hash="",
        intervals={"a": (float(ends[0]), float(ends[1]))},
        source=source,
    )


@cache
def _hoffmann_runs() -> dict[str, Any]:
    text = resources.files("scalestop.laws").joinpath("data", HOFFMANN_RUNS).read_text(encoding="utf-8")
    return dict(json.loads(text))
