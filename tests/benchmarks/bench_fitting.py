"""How fast is a fit, and how good? On the 240 Chinchilla runs, as ratios to other ways in the same process.

    OPENBLAS_NUM_THREADS=1 python -m pytest tests/benchmarks/bench_fitting.py -m benchmark -s

Takes some ten minutes, nearly all of it the baselines. Without the `chinchilla` package
(`pip install chinchilla==0.2.0`) its line is left out.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import huber, logsumexp

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from fitting_data import chinchilla_runs, data_folder, gadre_runs, read_columns
from fitting_oracle import BEST, published_grid, scipy_best

from scalestop.fitting.methods.resampled import bootstrap_counts
from scalestop.fitting.solve.surface_fit import SurfaceProblem

pytestmark = pytest.mark.benchmark

DRAWS = 4000
DELTA = 1e-3


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    work()
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds))


@pytest.fixture(scope="module")
def runs() -> dict[str, np.ndarray]:
    return chinchilla_runs()


@pytest.fixture(scope="module")
def fit_seconds(runs: dict[str, np.ndarray]) -> float:
    # a new problem each time: nothing prepared is carried over
    return median_seconds(lambda: SurfaceProblem(**runs).fit(), 200)


def sum_huber(runs: dict[str, np.ndarray], weights: np.ndarray) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Return the objective and its gradient for scipy: x = log E, log A, log B, alpha, beta."""
    log_n, log_d, log_l = (np.log(runs[name]) for name in ("params", "tokens", "loss"))

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        terms = np.stack([np.full_like(log_n, x[0]), x[1] - x[3] * log_n, x[2] - x[4] * log_d])
        high = terms.max(axis=0)
        shares = np.exp(terms - high)
        total = shares.sum(axis=0)
        residual = np.log(total) + high - log_l
        clipped = np.clip(residual, -DELTA, DELTA)
        pull = weights * clipped
        shares *= pull / total
        gradient = np.array(
            [shares[0].sum(), shares[1].sum(), shares[2].sum(), -(shares[1] @ log_n), -(shares[2] @ log_d)]
        )
        return float(pull @ (residual - 0.5 * clipped)), gradient

    return objective


def test_a_multi_start_fit(runs: dict[str, np.ndarray], fit_seconds: float) -> None:
    found = SurfaceProblem(**runs).fit()
    gap = found.value[0] / BEST - 1
    print(f"\nfit: {1e3 * fit_seconds:.2f} ms median, f/f* - 1 = {gap:+.1e}")
    assert gap <= 1e-9


def test_the_fit_against_scipys_grid(runs: dict[str, np.ndarray], fit_seconds: float) -> None:
    objective = sum_huber(runs, np.ones(240))
    begin = time.perf_counter()
    best = min(minimize(objective, x, jac=True, method="L-BFGS-B").fun for x in published_grid())
    seconds = time.perf_counter() - begin
    print(
        f"\nscipy L-BFGS-B, analytic gradients, 4,500 starts: {seconds:.1f} s, f/f* - 1 = {best / BEST - 1:+.1e}: "
        f"{seconds / fit_seconds:,.0f}x the fit's time"
    )
    assert SurfaceProblem(**runs).fit().value[0] <= best * (1 + 1e-9)


@pytest.mark.parametrize("train_set", ["c4_original", "rpj", "rw_original"])
def test_no_start_of_scipys_grid_ends_lower_on_gadres_runs(train_set: str) -> None:
    runs = gadre_runs(read_columns(data_folder() / "gadre_testbed.csv"), train_set)
    best = scipy_best(runs, published_grid())
    ours = SurfaceProblem(**runs).fit().value[0]
    print(f"\ngadre {train_set}: scipy's best of 4,500 starts is {best / ours - 1:+.1e} above ours")
    assert ours <= best * (1 + 1e-9)


def test_the_fit_against_the_chinchilla_package(
    runs: dict[str, np.ndarray], fit_seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = pytest.importorskip("chinchilla", reason="pip install chinchilla==0.2.0 for this comparison")
    import pandas as pd
    from chinchilla._metrics import log_huber

    frame = pd.DataFrame({"C": 6 * runs["params"] * runs["tokens"], "N": runs["params"], "D": runs["tokens"]})
    frame["loss"] = runs["loss"]
    monkeypatch.chdir(tmp_path)
    frame.to_csv(tmp_path / "df.csv", index=False)
    grid = dict(
        E=np.linspace(1, 2, 5),
        a=np.linspace(1, 10, 5),
        b=np.linspace(1, 10, 5),
        alpha=np.linspace(0.1, 0.7, 5),
        beta=np.linspace(0.1, 0.7, 5),
    )
    model = package.Chinchilla(
        str(tmp_path),
        param_grid=grid,
        seed_ranges=dict(C=(1e18, 1e22), N_to_D=(1, 100)),
        loss_fn=lambda y_true, y_pred: log_huber(y_true, y_pred, delta=DELTA),
    )
    begin = time.perf_counter()
    model.fit(parallel=False, simulation=False)
    seconds = time.perf_counter() - begin
    constants = np.array([[float(model.params[name]) for name in ("E", "A", "B", "alpha", "beta")]])
    problem = SurfaceProblem(**runs)
    value = problem.evaluate(problem.to_free(constants), np.ones(len(problem.loss)), problem.delta)[0][0]
    print(
        f"\nchinchilla package 0.2.0, its README's grid with log-Huber: {seconds:.1f} s, "
        f"f/f* - 1 = {value / BEST - 1:+.1e}: {seconds / fit_seconds:,.0f}x the fit's time"
    )
    assert value >= BEST


def test_bootstraps(runs: dict[str, np.ndarray]) -> None:
    problem = SurfaceProblem(**runs)
    start = problem.fit().theta[0]
    counts = bootstrap_counts(np.arange(240), DRAWS, seed=0)
    seconds = median_seconds(lambda: problem.refit(counts, start), 7)
    ours = problem.refit(counts, start)
    lowest = ours.value.copy()
    rng = np.random.default_rng(1)
    for _ in range(12):
        starts = start * np.exp(rng.normal(size=(DRAWS, 5)) * [0.05, 0.6, 0.6, 0.15, 0.15])
        lowest = np.minimum(lowest, problem.refit(counts, starts).value)
    share = np.mean(ours.value <= lowest * (1 + 1e-9))
    print(f"\n{DRAWS:,} bootstraps: {seconds:.3f} s median, {share:.2%} within 1e-9 of the best of 13 starts")
    assert share >= 0.999

    # scipy from the same start; the first 200 draws stand for all
    theta = np.array([np.log(start[0]), np.log(start[1]), np.log(start[2]), start[3], start[4]])
    begin = time.perf_counter()
    theirs = [minimize(sum_huber(runs, row), theta, jac=True, method="BFGS").fun for row in counts[:200]]
    scipy_seconds = (time.perf_counter() - begin) * DRAWS / 200
    reached = np.mean(np.array(theirs) <= lowest[:200] * (1 + 1e-9))
    print(
        f"scipy BFGS, analytic gradients, one start each: {scipy_seconds:.1f} s (from 200), {reached:.0%} within 1e-9: "
        f"{scipy_seconds / seconds:,.0f}x the bootstraps' time"
    )
    assert ours.value[:200].sum() <= sum(theirs) * (1 + 1e-9)


def test_the_objective_timed_is_the_one_tested(runs: dict[str, np.ndarray]) -> None:
    x = np.array([0.6, 6.0, 7.5, 0.34, 0.36])
    terms = [np.full(240, x[0]), x[1] - x[3] * np.log(runs["params"]), x[2] - x[4] * np.log(runs["tokens"])]
    expected = huber(DELTA, logsumexp(terms, axis=0) - np.log(runs["loss"])).sum()
    value, gradient = sum_huber(runs, np.ones(240))(x)
    assert value == pytest.approx(expected, rel=1e-10)
    moved = [sum_huber(runs, np.ones(240))(x + 1e-6 * move)[0] for move in np.eye(5)]
    assert gradient == pytest.approx((np.array(moved) - value) / 1e-6, rel=1e-2, abs=1e-4)
