from __future__ import annotations

import numpy as np
import pytest
from fitting_data import gadre_runs, surface_runs
from fitting_oracle import BEST, published_grid, scipy_best
from hypothesis import given, settings
from hypothesis import strategies as st

from scalestop.fitting.methods.resampled import bootstrap_counts, leave_out
from scalestop.fitting.solve.surface_fit import SurfaceProblem


def value(problem: SurfaceProblem, constants: np.ndarray) -> np.ndarray:
    return problem.evaluate(problem.to_free(constants), np.ones(len(problem.loss)), problem.delta)[0]


def test_the_grid_is_the_published_one() -> None:
    assert len(published_grid()) == 4500


def test_the_chinchilla_runs_end_at_the_reference_optimum(chinchilla: dict[str, np.ndarray]) -> None:
    found = SurfaceProblem(**chinchilla).fit()
    assert found.converged[0]
    assert found.value[0] <= BEST * (1 + 1e-9)
    reference = [1.817218, 477.826, 2143.417, 0.3473105, 0.3671724]
    np.testing.assert_allclose(found.theta[0], reference, rtol=2e-6)


def test_scipy_finds_nothing_lower_on_the_chinchilla_runs(chinchilla: dict[str, np.ndarray]) -> None:
    starts = published_grid()[np.random.default_rng(0).choice(4500, 40, replace=False)]
    near = np.array([[np.log(1.8), np.log(450.0), np.log(2000.0), 0.35, 0.36]])
    best = scipy_best(chinchilla, np.concatenate([starts, near]))
    ours = SurfaceProblem(**chinchilla).fit().value[0]
    assert ours <= best * (1 + 1e-9)
    # and scipy came close, so the comparison means something
    assert best <= ours * 1.01


@pytest.mark.slow
@pytest.mark.parametrize("train_set", ["c4_original", "rpj", "rw_original"])
def test_starts_of_the_published_grid_end_no_lower_on_gadres_runs(gadre: dict[str, np.ndarray], train_set: str) -> None:
    # every ninth of the 4,500; bench_fitting.py tries them all
    runs = gadre_runs(gadre, train_set)
    assert SurfaceProblem(**runs).fit().value[0] <= scipy_best(runs, published_grid()[::9]) * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_scipy_finds_nothing_lower_on_heavy_tailed_runs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    runs = surface_runs(int(rng.choice([9, 15, 40, 90])), noise=0.0, seed=seed)
    runs["loss"] = runs["loss"] * np.exp(0.01 * rng.standard_t(2, size=len(runs["loss"])))
    starts = published_grid()[rng.choice(4500, 40, replace=False)]
    truth = np.array([[np.log(1.8), np.log(480.0), np.log(2100.0), 0.35, 0.37]])
    assert SurfaceProblem(**runs).fit().value[0] <= scipy_best(runs, np.concatenate([starts, truth])) * (1 + 1e-9)


@given(
    E=st.floats(0.3, 3.0),
    alpha=st.floats(0.15, 0.7),
    beta=st.floats(0.15, 0.7),
    size_share=st.floats(0.2, 1.5),
    data_share=st.floats(0.2, 1.5),
)
@settings(max_examples=25, deadline=None)
def test_a_law_without_noise_is_found_again(
    E: float, alpha: float, beta: float, size_share: float, data_share: float
) -> None:
    # amounts such that each term is worth `share` nats in the middle of the runs
    truth = (E, size_share * 1e9**alpha, data_share * 2e10**beta, alpha, beta)
    runs = surface_runs(70, noise=0.0, constants=truth)
    np.testing.assert_allclose(SurfaceProblem(**runs).fit().theta[0], truth, rtol=1e-5)


def test_tied_exponents_and_a_given_floor_hold_and_are_optimal(chinchilla: dict[str, np.ndarray]) -> None:
    tied = SurfaceProblem(**chinchilla, tied=True)
    found = tied.fit()
    assert found.theta[0, 3] == pytest.approx(found.theta[0, 4], rel=1e-12)
    assert tied.num_free == 4
    fixed = SurfaceProblem(**chinchilla, irreducible=1.7).fit()
    assert fixed.theta[0, 0] == 1.7
    free = SurfaceProblem(**chinchilla)
    best = free.fit()
    for restricted in (found, fixed):
        # the restricted optimum is one of the free problem's points, and worse than its best
        assert value(free, restricted.theta)[0] == pytest.approx(restricted.value[0], rel=1e-9)
        assert restricted.value[0] > best.value[0]
    rng = np.random.default_rng(0)
    nearby = np.exp(rng.normal(size=(500, 5)) * [0.01, 0.05, 0.05, 0.01, 0]) * found.theta[0]
    nearby[:, 4] = nearby[:, 3]
    assert np.all(value(free, nearby) >= found.value[0])


def test_no_irreducible_loss_is_a_law_of_two_terms(chinchilla: dict[str, np.ndarray]) -> None:
    found = SurfaceProblem(**chinchilla, irreducible=0.0).fit()
    assert found.theta[0, 0] == 0.0
    assert found.value[0] > 2 * BEST


def test_weights_count_as_copies() -> None:
    runs = surface_runs(60, seed=4)
    counts = np.random.default_rng(0).integers(1, 4, 60)
    copied = {name: np.repeat(column, counts) for name, column in runs.items()}
    once, many = SurfaceProblem(**runs).fit(counts.astype(float)), SurfaceProblem(**copied).fit()
    assert once.value[0] == pytest.approx(many.value[0], rel=1e-9)
    np.testing.assert_allclose(once.theta, many.theta, rtol=1e-4)


def test_refits_are_the_fits_of_the_resampled_runs(chinchilla: dict[str, np.ndarray]) -> None:
    problem = SurfaceProblem(**chinchilla)
    best = problem.fit().theta[0]
    counts = bootstrap_counts(np.arange(240), 12, seed=5)
    refits = problem.refit(counts, best)
    assert refits.converged.all()
    for row, value in zip(counts, refits.value, strict=True):
        drawn = {name: np.repeat(column, row.astype(int)) for name, column in chinchilla.items()}
        assert value <= SurfaceProblem(**drawn).fit().value[0] * (1 + 1e-9)


@pytest.mark.parametrize(("draws", "share"), [(300, 1.0), pytest.param(1000, 0.999, marks=pytest.mark.slow)])
def test_bootstrap_refits_are_the_best_of_thirteen_starts(
    chinchilla: dict[str, np.ndarray], draws: int, share: float
) -> None:
    problem = SurfaceProblem(**chinchilla)
    best = problem.fit().theta[0]
    counts = bootstrap_counts(np.arange(240), draws, seed=0)
    ours = problem.refit(counts, best).value
    lowest = ours.copy()
    rng = np.random.default_rng(1)
    for _ in range(12):
        starts = best * np.exp(rng.normal(size=(draws, 5)) * [0.05, 0.6, 0.6, 0.15, 0.15])
        lowest = np.minimum(lowest, problem.refit(counts, starts).value)
    assert np.mean(ours <= lowest * (1 + 1e-9)) >= share


def test_leaving_out_a_far_run_moves_the_fit_back() -> None:
    clean = surface_runs(40, noise=0.0005, seed=6)
    spoiled = {name: np.append(column, column[:1]) for name, column in clean.items()}
    spoiled["loss"][-1] *= 1.2
    problem = SurfaceProblem(**spoiled)
    without = problem.refit(leave_out(np.arange(41), np.arange(41)), problem.fit().theta[0])
    assert without.value[-1] == pytest.approx(SurfaceProblem(**clean).fit().value[0], rel=1e-6)
    assert np.argmin(without.value) == 40
