from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import least_squares

from scalestop.fitting.methods.frontier import loss_frontier, power_law, steepness

FLOPS = np.geomspace(1e18, 1e21, 8)


@pytest.mark.parametrize(
    ("E", "K", "gamma"), [(1.8, 2700.0, 0.178), (0.4, 40.0, 0.06), (0.0, 60.0, 0.07), (2.0, 1e7, 0.4)]
)
def test_a_frontier_without_noise_is_found(E: float, K: float, gamma: float) -> None:
    found = loss_frontier(FLOPS, (E + K * FLOPS**-gamma)[None, :])[0]
    assert found[0] == pytest.approx(E, abs=0.02)
    assert found[2] == pytest.approx(gamma, rel=0.01)
    np.testing.assert_allclose(found[0] + found[1] * FLOPS ** -found[2], E + K * FLOPS**-gamma, rtol=1e-5)


def test_it_is_the_least_squares_fit_of_relative_errors() -> None:
    rng = np.random.default_rng(0)
    depths = (1.8 + 2700 * FLOPS**-0.178) * np.exp(0.002 * rng.normal(size=(20, 8)))
    x = np.log(FLOPS / FLOPS.mean())
    for row, (E, K, gamma) in zip(depths, loss_frontier(FLOPS, depths), strict=True):
        ours = float(((1 - (E + K * FLOPS**-gamma) / row) ** 2).sum())
        scipy = least_squares(
            lambda t, row=row: 1 - (t[0] + t[1] * np.exp(-t[2] * x)) / row,
            [1.5, 1.0, 0.2],
            bounds=([0, 0, 0.01], [5, 50, 1.5]),
        )
        assert ours <= 2 * scipy.cost * (1 + 1e-4)


def test_missing_budgets_are_left_out_and_three_are_too_few() -> None:
    depths = np.tile(1.8 + 2700 * FLOPS**-0.178, (3, 1))
    depths[1, [2, 5]] = np.nan
    depths[2, :5] = np.nan
    found = loss_frontier(FLOPS, depths)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-2)
    assert np.isnan(found[2]).all()


def test_minima_along_a_line_and_their_steepness() -> None:
    minima = 0.1 * FLOPS**0.5
    np.testing.assert_allclose(power_law(FLOPS, np.stack([minima, minima * 2])), [[0.1, 0.5], [0.2, 0.5]], rtol=1e-9)
    assert np.isnan(power_law(FLOPS, 1 / minima[None, :])).all()
    depths = 1.8 + 2700 * FLOPS**-0.178
    curvatures = (depths - 1.8) * 0.36**2 / 2
    curvatures[3] = np.nan
    assert steepness(depths[None, :], curvatures[None, :], np.array([1.8]))[0] == pytest.approx(0.36, rel=1e-12)
