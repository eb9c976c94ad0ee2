from __future__ import annotations

import numpy as np
import pytest

from scalestop.fitting.methods.budgets import draw_deficit, fit_budget, parabola
from scalestop.fitting.tables.read import read_runs


def grid(params: np.ndarray, best: float = 1e8, noise: float = 0.0, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    loss = 2.5 + 0.05 * np.log(params / best) ** 2 + noise * rng.normal(size=len(params))
    return {"params": params, "tokens": 1e18 / params, "loss": loss}


def test_a_grid_of_few_near_sizes_takes_the_nearest_besides() -> None:
    table = read_runs(grid(np.array([1e6, 3e6, 9e7, 1.2e8, 3e10])))
    found = fit_budget(table, np.arange(5))
    assert len(found.window) == 4
    assert found.best_params == pytest.approx(1e8, rel=1e-6)
    assert found.best_loss == pytest.approx(2.5, rel=1e-9)


def test_the_window_follows_the_minimum() -> None:
    """The lowest of noisy losses may lie a step off the minimum; the window does not stay there."""
    runs = grid(np.geomspace(1e6, 1e10, 33))
    runs["loss"][10] = 2.49  # at 1.8e7, a fifth of the best size
    found = fit_budget(read_runs(runs), np.arange(33))
    assert found.best_params == pytest.approx(1e8, rel=0.15)


def test_a_window_that_curves_downwards_is_widened() -> None:
    runs = grid(np.geomspace(2.6e7, 4e9, 17), best=3e8)
    near = np.abs(np.log(runs["params"] / 3e8)) < np.log(4.2)
    runs["loss"] = np.where(near, 2.5 - 0.001 * np.log(runs["params"] / 3e8) ** 2, runs["loss"])
    found = fit_budget(read_runs(runs), np.arange(17))
    assert not found.refused
    assert len(found.window) > near.sum()


@pytest.mark.parametrize("count", [4, 5, 9])
def test_the_deficit_is_that_of_reweighted_fits(count: int) -> None:
    """Standard deviations over 1,500 tables, against those that reweighting each of them gives on average."""
    params = 1e8 * np.geomspace(1 / 3, 3, count)
    rng = np.random.default_rng(0)
    log_n = np.log(params)
    depths, squares, curved, curved_squares = [], [], [], []
    for seed in range(1500):
        loss = grid(params, noise=1e-3, seed=seed)["loss"]

        def depth_and_curvature(weights: np.ndarray, loss: np.ndarray = loss) -> tuple[np.ndarray, np.ndarray]:
            c0, c1, c2 = parabola(log_n, loss, weights)[0].T
            return c0 - c1**2 / (4 * c2), c2

        depth, curvature = depth_and_curvature(np.ones((1, count)))
        # small departures from equal weights: what the expansion is about
        drawn = depth_and_curvature(1 + 0.05 * rng.standard_normal((60, count)))
        depths.append(depth[0])
        curved.append(curvature[0])
        squares.append(np.var(drawn[0]) / 0.05**2)
        curved_squares.append(np.var(drawn[1]) / 0.05**2)
    expected = draw_deficit(fit_budget(read_runs(grid(params)), np.arange(count)), read_runs(grid(params)))
    assert np.sqrt(np.mean(squares)) / np.std(depths) == pytest.approx(expected[1], rel=0.08)
    assert np.sqrt(np.mean(curved_squares)) / np.std(curved) == pytest.approx(expected[2], rel=0.08)
    # the minimum in the middle of an even grid moves with the slope alone
    assert 0.2 <= expected[0] <= 1
