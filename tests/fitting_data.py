"""Runs to fit: made from known laws, and the public tables where they are at hand."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scalestop import fitting
from scalestop.laws import ParametricLaw, get_law
from scalestop.run.records import RunRecord

BUDGETS = np.geomspace(1e18, 1e21, 7)
"""FLOPs of `isoflop_runs`, where nothing else is said."""

ROOT = Path(__file__).resolve().parents[1]


def fit_published(records: Any, method: Any = "parametric", **options: Any) -> fitting.LawFit:
    """Fit by a published estimator, Hoffmann et al.'s where no other is named."""
    return fitting.fit_law(records, method, **options)


def backtest_published(records: Any, method: Any = "parametric", **options: Any) -> fitting.Backtest:
    """Backtest a published estimator, Hoffmann et al.'s where no other is named."""
    return fitting.backtest(records, method, **options)


def data_folder() -> Path:
    """Return the folder of public run tables, or skip."""
    given = os.environ.get("SCALESTOP_DATA")
    folder = Path(given) if given else ROOT.parent / "shared" / "data"
    if not (folder / "chinchilla_svg.csv").is_file():
        pytest.skip(f"public run tables are not in {folder}; set SCALESTOP_DATA to their folder")
    return folder


def read_columns(path: Path) -> dict[str, np.ndarray]:
    """Return a CSV's columns, as numbers where they are."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        try:
            columns[name] = np.array([float(v) for v in values])
        except ValueError:
            columns[name] = np.array(values)
    return columns


def chinchilla_runs() -> dict[str, np.ndarray]:
    """Return the 240 runs that Besiroglu et al. 2024 fit: columns params, tokens, loss."""
    columns = read_columns(data_folder() / "chinchilla_svg.csv")
    kept = columns["kept"] == 1
    return {"params": columns["n_params"][kept], "tokens": columns["n_tokens"][kept], "loss": columns["loss"][kept]}


def gadre_runs(columns: dict[str, np.ndarray], train_set: str) -> dict[str, np.ndarray]:
    """Return the runs of one of Gadre et al.'s training sets: columns params, tokens, loss."""
    chosen = columns["train_set"] == train_set
    names = {"params": "n_params", "tokens": "n_tokens", "loss": "loss"}
    return {ours: columns[theirs][chosen] for ours, theirs in names.items()}


def surface_runs(
    num_runs: int = 80,
    noise: float = 0.005,
    seed: int = 0,
    constants: tuple[float, ...] = (1.8, 480.0, 2100.0, 0.35, 0.37),
) -> dict[str, np.ndarray]:
    """Return runs of a known parametric law, with lognormal noise."""
    rng = np.random.default_rng(seed)
    E, A, B, alpha, beta = constants
    flops = 10 ** rng.uniform(18.5, 21.5, num_runs)
    ratio = np.exp(rng.uniform(np.log(3), np.log(200), num_runs))
    params = np.sqrt(flops / 6 / ratio)
    tokens = flops / 6 / params
    loss = (E + A / params**alpha + B / tokens**beta) * np.exp(noise * rng.normal(size=num_runs))
    return {"params": params, "tokens": tokens, "loss": loss}


def isoflop_runs(
    budgets: np.ndarray,
    reach: float = 3.0,
    count: int = 9,
    noise: float = 0.0,
    shift: float = 1.0,
    law: ParametricLaw | None = None,
) -> list[dict[str, float]]:
    """Return runs of a law, the corrected Chinchilla one if None, around the minimum of each budget."""
    law, rng = law or get_law("besiroglu"), np.random.default_rng(0)
    rows = []
    for budget in budgets:
        best = law.optimal(budget).num_params * shift
        for params in best * np.geomspace(1 / reach, reach, count):
            tokens = budget / (6 * params)
            loss = law.loss(params, tokens) * np.exp(noise * rng.normal())
            rows.append({"params": params, "tokens": tokens, "loss": loss})
    return rows


def curve_runs(count: int = 25, noise: float = 0.0) -> list[dict[str, object]]:
    """Return runs whose loss follows the corrected Chinchilla law at every token, as if always fully decayed."""
    law, rng = get_law("besiroglu"), np.random.default_rng(0)
    rows = []
    for params in np.geomspace(1e7, 3e9, count):
        tokens = np.geomspace(params, params * 500, 120)
        losses = np.asarray(law.loss(params, tokens)) * np.exp(noise * rng.normal(size=120))
        curve = list(zip(tokens.tolist(), losses.tolist(), strict=True))
        rows.append(
            {"params": params, "tokens": tokens[-1], "loss": losses[-1], "run": f"{params:.0f}", "curve": curve}
        )
    return rows


def record(index: int, **changes: object) -> RunRecord:
    """Return what a run leaves behind, larger and better with its index."""
    values = dict(
        num_params=(index + 1) * 10**6,
        num_tokens=(index + 2) * 10**7,
        flops=6 * (index + 1) * (index + 2) * 10**13,
        loss=3.0 - 0.1 * index,
        stop_reason="COMPUTE_OPTIMAL",
        law="besiroglu",
        budget="1e15 FLOPs",
        run=f"run-{index}",
    )
    return RunRecord(**{**values, **changes})  # type: ignore[arg-type]
