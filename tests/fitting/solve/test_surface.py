from __future__ import annotations

import numpy as np
import pytest
from fitting_data import surface_runs
from scipy.special import huber, logsumexp

from scalestop.fitting.solve.surface import Standardised, SurfaceObjective

CONSTANTS = np.array([[1.7, 400.0, 1500.0, 0.34, 0.36], [2.0, 90.0, 5000.0, 0.25, 0.4], [0.4, 30.0, 60.0, 0.15, 0.2]])


@pytest.fixture(scope="module")
def runs() -> dict[str, np.ndarray]:
    return surface_runs(50, noise=0.01, seed=3)


def written_out(constants: np.ndarray, runs: dict[str, np.ndarray], weights: np.ndarray, delta: float) -> float:
    """Hoffmann et al. 2022, eq. 3, as printed."""
    E, A, B, alpha, beta = constants
    terms = [
        np.log(A) - alpha * np.log(runs["params"]),
        np.log(B) - beta * np.log(runs["tokens"]),
        np.full(len(runs["loss"]), np.log(E)),
    ]
    return float(weights @ huber(delta, logsumexp(terms, axis=0) - np.log(runs["loss"])))


@pytest.mark.parametrize("delta", [1e-3, 1e-2, 10.0])
def test_the_value_is_the_papers_formula(runs: dict[str, np.ndarray], delta: float) -> None:
    weights = np.random.default_rng(0).integers(0, 4, 50).astype(float)
    standard = Standardised.of(**runs)
    value = SurfaceObjective(standard)(standard.to_theta(CONSTANTS), weights, delta)[0]
    np.testing.assert_allclose(value, [written_out(c, runs, weights, delta) for c in CONSTANTS], rtol=1e-10)


@pytest.mark.parametrize("delta", [1e-3, 5e-3, 10.0])
def test_gradient_and_hessian_are_the_differences_of_the_value(runs: dict[str, np.ndarray], delta: float) -> None:
    weights = np.random.default_rng(1).integers(0, 4, size=(3, 50)).astype(float)
    standard = Standardised.of(**runs)
    objective = SurfaceObjective(standard)
    theta = standard.to_theta(CONSTANTS)
    _, gradient, hessian = objective(theta, weights, delta)
    step = 1e-6
    for i, move in enumerate(step * np.eye(5)):
        up, down = objective(theta + move, weights, delta), objective(theta - move, weights, delta)
        np.testing.assert_allclose(gradient[:, i], (up[0] - down[0]) / (2 * step), rtol=1e-5, atol=1e-8)
        # the Huber loss bends where a residual passes delta: a difference across such a kink is off by one run
        np.testing.assert_allclose(hessian[:, :, i], (up[1] - down[1]) / (2 * step), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(hessian, hessian.transpose(0, 2, 1))


def test_each_problem_may_have_a_threshold_of_its_own(runs: dict[str, np.ndarray]) -> None:
    standard = Standardised.of(**runs)
    objective, theta = SurfaceObjective(standard), standard.to_theta(CONSTANTS)
    deltas = np.array([1e-3, 1e-2, 1.0])
    together = objective(theta, np.ones(50), deltas)
    for i, delta in enumerate(deltas):
        alone = objective(theta[i : i + 1], np.ones(50), float(delta))
        for a, b in zip(together, alone, strict=True):
            np.testing.assert_allclose(a[i], b[0], rtol=1e-12, atol=1e-15)


def test_constants_survive_the_standardised_coordinates(runs: dict[str, np.ndarray]) -> None:
    standard = Standardised.of(**runs)
    np.testing.assert_allclose(standard.to_constants(standard.to_theta(CONSTANTS)), CONSTANTS, rtol=1e-12)
