"""Does 90 % mean 90 % out of sample, where the form is right and where it is not? A hundred tables of each law.

The public tables are held to the same in `tests/benchmarks/bench_truth.py`.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from fitting_data import data_folder, read_columns
from synthetic_truths import TRUTHS, cases

from scalestop.errors import ScalestopWarning
from scalestop.fitting import fit_law

NUM_TABLES = 100


@pytest.fixture(scope="module")
def held() -> dict[str, list[tuple[float, float]]]:
    """Return of each table the share of far runs inside their interval, and their mean square error, by truth."""
    found: dict[str, list[tuple[float, float]]] = {}
    for case in cases(NUM_TABLES):
        at = fit_law(case.fitted, bootstrap=300).predict(case.held["params"], case.held["tokens"])
        low, high = at.new_run
        inside = (low <= case.held["loss"]) & (case.held["loss"] <= high)
        error = np.log(case.held["loss"] / at.loss.estimate)
        found.setdefault(case.truth, []).append((float(inside.mean()), float(np.mean(error**2))))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("truth", TRUTHS)
def test_intervals_hold_far_runs_of_every_law(held: dict[str, list[tuple[float, float]]], truth: str) -> None:
    coverage = np.mean([inside for inside, _ in held[truth]])
    # the standard error over a hundred tables is .01
    assert coverage >= 0.85
    if truth == "chinchilla":
        assert 0.88 <= coverage <= 0.96


@pytest.mark.slow
@pytest.mark.parametrize(("truth", "most"), [*((name, 0.012) for name in TRUTHS[:4]), ("kaplan", 0.03)])
def test_forecasts_are_close(held: dict[str, list[tuple[float, float]]], truth: str, most: float) -> None:
    assert np.sqrt(np.mean([square for _, square in held[truth]])) < most


@pytest.mark.parametrize(
    ("name", "rms"), [("runs_ml_scalefit", 0.012), ("runs_misfitting", 0.012), ("runs_porian2", 0.016)]
)
def test_public_runs_up_to_a_tenth_foretell_the_dearer_ones(name: str, rms: float) -> None:
    """Within 3 % of the frontier. Goal: 1.6 % rms over tables; Hoffmann et al.'s Approach 3 is at .8, 3.1, 17.5 %."""
    columns = read_columns(data_folder() / f"{name}.csv")
    table = {key: columns[key] for key in ("params", "tokens", "loss")}
    flops = table["params"] * table["tokens"]
    order = np.argsort(flops, kind="stable")
    least = np.empty(len(flops))
    least[order] = np.minimum.accumulate(table["loss"][order])
    cheap = flops <= flops.max() / 10 * 1.0001
    dear = ~cheap & (table["loss"] <= 1.03 * least)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScalestopWarning)
        fit = fit_law({key: column[cheap] for key, column in table.items()}, bootstrap=200)
    found = fit.predict(table["params"][dear], table["tokens"][dear])
    assert np.sqrt(np.mean(np.log(table["loss"][dear] / found.loss.estimate) ** 2)) < rms
    low, high = found.new_run
    assert np.mean((low <= table["loss"][dear]) & (table["loss"][dear] <= high)) > 0.8
    assert np.median(np.log(high / low) / 2) < 0.045
