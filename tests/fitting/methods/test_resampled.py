from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from fitting_data import surface_runs

from scalestop.fitting import fit_law
from scalestop.fitting.intervals import interval
from scalestop.fitting.methods.method import FitOptions
from scalestop.fitting.methods.parametric import surface_problem
from scalestop.fitting.methods.resampled import Resampled, bootstrap_counts, leave_out, resample
from scalestop.fitting.tables.read import read_runs


def both_ways(num_runs: int, num_blocks: int) -> tuple[np.ndarray, Resampled, Resampled]:
    """Return the estimate, and its refits with every run left out and with blocks of runs left out."""
    table = read_runs(surface_runs(num_runs, noise=0.01, seed=3))
    options = FitOptions(bootstrap=300)
    problem = surface_problem(table, options)
    best = problem.fit().theta[0]

    def refit(weights: np.ndarray) -> np.ndarray:
        return problem.refit(weights, best).theta

    exact = resample(refit, best, table, options)
    blocks = resample(refit, best, table, options, exact_runs=10, num_blocks=num_blocks)
    return best, exact, blocks


def test_blocks_give_the_intervals_that_single_runs_give() -> None:
    """Ends of the 90 % interval move by a few hundredths of a standard error, less than other draws would move them."""
    best, exact, blocks = both_ways(900, 100)
    assert len(exact.jackknife) == 900
    assert len(blocks.jackknife) == 100
    np.testing.assert_array_equal(exact.draws, blocks.draws)
    for i in range(5):
        one, other = (interval(best[i], part.draws[:, i], part.jackknife[:, i]) for part in (exact, blocks))
        assert abs(one.low - other.low) < 0.08 * one.standard_error
        assert abs(one.high - other.high) < 0.08 * one.standard_error


def test_blocks_still_find_the_run_that_carries_the_fit() -> None:
    best, exact, blocks = both_ways(900, 100)
    error = exact.draws.std(axis=0)

    def top(part: Resampled) -> tuple[str, float]:
        moved = (np.abs(part.alone - best) / error).max(axis=1)
        return part.left_out[int(moved.argmax())], float(moved.max())

    assert len(blocks.alone) < 900 / 10
    # not always the very same run, but one that moves the fit as much
    assert top(blocks)[1] > 0.6 * top(exact)[1]
    rows = [exact.left_out.index(name) for name in blocks.left_out]
    np.testing.assert_allclose(blocks.alone, exact.alone[rows], rtol=1e-6)


def test_a_lone_heavy_run_among_many_is_named() -> None:
    runs = surface_runs(1500, noise=0.005, seed=1)
    lone = {"params": 4e12, "tokens": 3e9, "loss": 2.6}
    runs = {name: np.append(column, lone[name]) for name, column in runs.items()}
    fit = fit_law(runs, "parametric", bootstrap=60)
    assert len(fit.raw.jackknife) == 200
    assert fit.diagnostics.leverage[0].run == "records, row 1500"


def test_ten_thousand_runs_take_no_square_of_that() -> None:
    """R x R weights alone would be 800 MB."""
    table = read_runs(surface_runs(10_000))

    def refit(weights: np.ndarray) -> np.ndarray:
        return weights[:, :2] * 1.0

    tracemalloc.start()
    found = resample(refit, np.ones(2), table, FitOptions(bootstrap=1000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.draws.shape == (1000, 2)
    assert peak < 300e6


@pytest.mark.slow
def test_a_fit_of_ten_thousand_runs_stays_under_half_a_gigabyte() -> None:
    runs = surface_runs(10_000)
    tracemalloc.start()
    fit = fit_law(runs, "parametric", bootstrap=1000)
    fit.predict(1e9, 1e11)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 400e6
    assert len(fit.law.uncertainty.scatter) == 1000
    # the scatter it keeps is that of all runs
    assert fit.law.uncertainty.scatter.std() == pytest.approx(fit.residuals.log_ratio.std(), rel=0.02)


def test_every_sample_has_as_many_runs_as_there_are() -> None:
    counts = bootstrap_counts(np.arange(30), 500, seed=1)
    assert counts.shape == (500, 30)
    np.testing.assert_array_equal(counts.sum(axis=1), 30)
    # a multinomial count has mean 1 and variance 1 - 1/30
    assert abs(counts.var() - (1 - 1 / 30)) < 0.03


def test_rows_of_one_run_come_together() -> None:
    groups = np.array([0, 0, 1, 2, 2, 2])
    counts = bootstrap_counts(groups, 200, seed=2)
    for group in range(3):
        rows = counts[:, groups == group]
        np.testing.assert_array_equal(rows, np.repeat(rows[:, :1], rows.shape[1], axis=1))
    np.testing.assert_array_equal(counts[:, [0, 2, 3]].sum(axis=1), 3)


def test_the_seed_decides() -> None:
    a, b, c = (bootstrap_counts(np.arange(20), 50, seed=s) for s in (4, 4, 5))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_each_run_is_left_out_once_with_all_its_rows() -> None:
    np.testing.assert_array_equal(leave_out(np.array([0, 1, 1]), np.arange(2)), [[0, 1, 1], [1, 0, 0]])
