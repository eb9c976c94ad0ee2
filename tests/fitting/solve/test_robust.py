"""Many regressions at once, against one at a time by scipy on an objective written anew."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from scalestop.fitting.solve.coupled import NUM_FREE, log_loss
from scalestop.fitting.solve.robust import DEGREES, Problems, minimise, precision, start_at

MEAN = np.array([np.log(0.65), -0.7, -0.7, np.log(0.35), np.log(0.35), 0.0, 0.0])
WIDTH = np.array([0.2, 1.5, 1.5, 0.4, 0.4, 0.3, 0.3])
NUM_RUNS = 40


def problems(num: int = 3) -> tuple[Problems, np.ndarray]:
    rng = np.random.default_rng(1)
    x, y = rng.normal(0, 1.2, (num, NUM_RUNS)), rng.normal(0, 1.2, (num, NUM_RUNS))
    truth = MEAN + WIDTH * rng.normal(0, 0.5, (num, NUM_FREE))
    measured = log_loss(truth, x, y) + 0.005 * rng.standard_t(3, (num, NUM_RUNS))
    weight = rng.uniform(0.2, 1, (num, NUM_RUNS))
    made = Problems(x, y, measured, weight, np.tile(MEAN, (num, 1)), np.tile(WIDTH**-2.0, (num, 1)))
    return made, np.full((num, NUM_RUNS), 0.005)


def objective(theta: np.ndarray, made: Problems, scale: np.ndarray, m: int, robust: bool) -> float:
    off = (log_loss(theta[None], made.x[m], made.y[m])[0] - made.log_loss[m]) / scale[m]
    cost = (DEGREES + 1) / 2 * np.log(1 + off**2 / DEGREES) if robust else off**2 / 2
    return float(made.weight[m] @ cost + np.sum(((theta - MEAN) / WIDTH) ** 2) / 2)


@pytest.mark.parametrize("robust", [True, False])
def test_the_minimum_is_scipys(robust: bool) -> None:
    made, scale = problems()
    found = minimise(made, made.prior_mean, scale, robust=robust, max_steps=100, tolerance=1e-10)
    for m, theta in enumerate(found):
        best = min(
            (
                minimize(objective, start, (made, scale, m, robust), method="BFGS", options={"gtol": 1e-7})
                for start in (MEAN, theta, MEAN + 0.1)
            ),
            key=lambda result: result.fun,
        )
        assert objective(theta, made, scale, m, robust) <= best.fun + 1e-5


def test_each_problem_is_solved_as_if_alone() -> None:
    made, scale = problems(4)
    together = minimise(made, made.prior_mean, scale, tolerance=1e-9)
    for m in range(4):
        alone = minimise(made.take(np.array([m])), made.prior_mean[[m]], scale[[m]], tolerance=1e-9)
        np.testing.assert_allclose(together[m], alone[0], atol=1e-9)


def test_without_runs_the_prior_is_left() -> None:
    made, scale = problems(1)
    silent = Problems(made.x, made.y, made.log_loss, 0 * made.weight, made.prior_mean, made.prior_precision)
    found = minimise(silent, made.prior_mean + 0.3, scale, tolerance=1e-12)
    np.testing.assert_allclose(found[0], MEAN, atol=1e-4)
    information, weight = precision(silent, found, scale)
    np.testing.assert_allclose(information[0], np.diag(WIDTH**-2.0), atol=1e-9)
    assert not weight.any()


def test_a_start_is_the_best_of_its_grid() -> None:
    """Runs of a law on the grid, g = 0 and gamma = 1: it is found exactly."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(0, 1.5, (2, NUM_RUNS))
    grid = np.geomspace(0.12, 1.0, 7)
    truth = np.array([np.log(0.7), -0.5, -0.8, np.log(grid[3]), np.log(grid[4]), 0.0, 0.0])
    found = start_at(x, y, log_loss(truth[None], x, y)[0], np.ones(NUM_RUNS), (0.55, 0.7, 0.8), 1.0)
    np.testing.assert_allclose(found, truth, atol=1e-6)
