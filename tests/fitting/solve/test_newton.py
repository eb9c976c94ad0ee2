from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalestop.fitting.solve.newton import Bounds, damped_step, minimise

WIDE = Bounds(np.full(2, -1e6), np.full(2, 1e6))


def random_matrices(seed: int, count: int = 6, size: int = 5) -> np.ndarray:
    half = np.random.default_rng(seed).normal(size=(count, size, size))
    return half + half.transpose(0, 2, 1)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_the_step_solves_the_damped_system_where_it_is_positive_definite(seed: int) -> None:
    hessian = random_matrices(seed)
    hessian = hessian @ hessian + 0.1 * np.eye(5)
    gradient = np.random.default_rng(seed + 1).normal(size=(6, 5))
    damping = np.geomspace(1e-9, 1.0, 6)
    expected = np.linalg.solve(hessian + damping[:, None, None] * np.eye(5), -gradient[:, :, None])[:, :, 0]
    np.testing.assert_allclose(damped_step(hessian, gradient, damping), expected, rtol=1e-6, atol=1e-9)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_the_step_goes_downhill_where_it_is_not(seed: int) -> None:
    hessian = random_matrices(seed)
    gradient = np.random.default_rng(seed + 1).normal(size=(6, 5))
    step = damped_step(hessian, gradient, np.full(6, 1e-6))
    assert np.all(np.isfinite(step))
    assert np.all(np.einsum("mi,mi->m", gradient, step) < 0)


def test_a_negative_definite_matrix_does_not_overflow() -> None:
    step = damped_step(-np.eye(5)[None] * 1e-3, np.ones((1, 5)), np.array([1e-14]))
    assert np.all(np.isfinite(step))
    assert np.all(np.abs(step) < 1e6)


def rosenbrock(theta: np.ndarray, weights: np.ndarray, delta: object) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y = theta.T
    scale = weights.sum(axis=-1) * np.ones(len(theta))
    value = 100 * (y - x * x) ** 2 + (1 - x) ** 2
    gradient = np.stack([-400 * x * (y - x * x) - 2 * (1 - x), 200 * (y - x * x)], axis=1)
    hessian = np.empty((len(theta), 2, 2))
    hessian[:, 0, 0] = 1200 * x * x - 400 * y + 2
    hessian[:, 0, 1] = hessian[:, 1, 0] = -400 * x
    hessian[:, 1, 1] = 200
    return value * scale, gradient * scale[:, None], hessian * scale[:, None, None]


def test_every_problem_of_a_batch_reaches_rosenbrocks_minimum() -> None:
    start = np.random.default_rng(0).uniform(-3, 3, size=(40, 2))
    found = minimise(rosenbrock, start, np.ones((40, 1)), 1.0, bounds=WIDE)
    assert found.converged.all()
    np.testing.assert_allclose(found.theta, 1.0, atol=1e-6)


def test_a_constant_that_pulls_out_of_the_box_ends_on_its_side() -> None:
    bounds = Bounds(np.array([-3.0, -3.0]), np.array([0.5, 3.0]))
    found = minimise(rosenbrock, np.array([[-1.0, 1.0], [0.2, -2.0]]), np.ones(1), 1.0, bounds=bounds)
    # on the side x = 0.5 the best y is x^2
    np.testing.assert_allclose(found.theta, [[0.5, 0.25]] * 2, atol=1e-6)
    assert found.converged.all()


def test_no_problem_ends_above_its_start() -> None:
    start = np.random.default_rng(1).uniform(-3, 3, size=(50, 2))
    before = rosenbrock(start, np.ones(1), 1.0)[0]
    found = minimise(rosenbrock, start, np.ones(1), 1.0, bounds=WIDE, max_steps=3)
    assert np.all(found.value <= before)
    assert not found.converged.all()


@pytest.mark.parametrize("shape", [(1,), (3, 1)])
def test_weights_may_be_shared_or_one_row_a_problem(shape: tuple[int, ...]) -> None:
    found = minimise(rosenbrock, np.zeros((3, 2)), np.full(shape, 2.0), 1.0, bounds=WIDE)
    np.testing.assert_allclose(found.theta, 1.0, atol=1e-6)
