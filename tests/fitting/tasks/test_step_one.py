"""Step one: its slopes against differences, its fit against a known law, its draws about its best point."""

from __future__ import annotations

import json

import numpy as np
import pytest
from task_data import true_loss

from scalestop.errors import InputError
from scalestop.fitting.tasks.step_one import StepOne, fit_surface, log_surface, surface_tangent


def ladder(scatter=0.0, seed=0):
    n, multiple = (part.ravel() for part in np.meshgrid([1e8, 2e8, 4e8, 8e8, 1.6e9], [0.5, 1, 2, 5, 10]))
    d = 20 * n * multiple
    rng = np.random.default_rng(seed)
    return n, d, true_loss(n, d) * np.exp(scatter * rng.normal(size=len(n)))


def test_the_surface_worked_by_hand():
    """gamma 1, all terms a third at the origin: twice as far along N at alpha 1 halves that term."""
    theta = np.log(np.array([1 / 3, 1 / 3, 1 / 3, 1.0, 1.0, 1.0]))
    assert np.exp(log_surface(theta, np.zeros(1), np.zeros(1))) == pytest.approx(1.0)
    assert np.exp(log_surface(theta, np.log([2.0]), np.zeros(1))) == pytest.approx(1 / 3 + 1 / 6 + 1 / 3)
    # gamma 1/2: the two terms add as the sides of a right angle do
    theta[5] = np.log(0.5)
    assert np.exp(log_surface(theta, np.zeros(1), np.zeros(1))) == pytest.approx(1 / 3 + np.sqrt(2) / 3)


def test_the_tangent_is_the_slope_of_the_surface():
    rng = np.random.default_rng(0)
    theta = rng.normal(size=6) * 0.4 + [-0.7, -1.3, -1.3, -1.2, -1.2, -0.7]
    x, y = rng.normal(size=(2, 7))
    step = 1e-6
    moved = [
        (log_surface(theta + step * e, x, y) - log_surface(theta - step * e, x, y)) / (2 * step) for e in np.eye(6)
    ]
    np.testing.assert_allclose(surface_tangent(theta, x, y), np.stack(moved, axis=-1), atol=1e-8)


def test_it_follows_a_known_law_within_and_a_little_beyond_its_runs():
    n, d, loss = ladder()
    step = fit_surface(n, d, loss)
    np.testing.assert_allclose(step.estimate(n, d), loss, rtol=0.004)
    # ten times the dearest compute; the form has an exponent on the sum that the truth lacks
    assert step.estimate(np.array([5e9]), np.array([1e12]))[0] == pytest.approx(true_loss(5e9, 1e12), rel=0.03)


def test_draws_lie_about_the_best_fit_and_widen_with_distance():
    n, d, loss = ladder(0.005)
    step = fit_surface(n, d, loss, draws=2000)
    far_n, far_d = np.array([1e9, 1e10]), np.array([2e10, 4e12])
    drawn = np.log(step.draws(far_n, far_d))
    np.testing.assert_allclose(np.median(drawn, axis=0), np.log(step.estimate(far_n, far_d)), atol=0.005)
    assert drawn.std(axis=0)[1] > 3 * drawn.std(axis=0)[0]
    assert step.scatter == pytest.approx(0.005, rel=0.4)


def test_its_intervals_hold_the_law_in_nine_sets_of_ten():
    held = []
    for seed in range(40):
        n, d, loss = ladder(0.01, seed)
        drawn = fit_surface(n, d, loss, draws=400, seed=seed).draws(np.array([1e9]), np.array([5e10]))
        low, high = np.quantile(drawn, [0.05, 0.95])
        held.append(low <= true_loss(1e9, 5e10) <= high)
    assert np.mean(held) >= 0.8


@pytest.mark.parametrize(
    ("keep", "message"),
    [(slice(0, 4), "at least 5 runs; got 4"), (slice(0, None, 5), "all runs have params 1e\\+08")],
)
def test_runs_that_say_nothing_are_refused(keep, message):
    n, d, loss = ladder()
    with pytest.raises(InputError, match=message):
        fit_surface(n[keep], d[keep], loss[keep])


def test_a_surface_survives_its_file():
    n, d, loss = ladder(0.005)
    step = fit_surface(n, d, loss)
    again = StepOne.from_dict(json.loads(json.dumps(step.to_dict())), where="x")
    assert again.scatter == step.scatter
    np.testing.assert_allclose(again.draws(n, d), step.draws(n, d), rtol=1e-5)
    with pytest.raises(InputError, match="x: step_one: kind 'spline' is not 'surface'"):
        StepOne.from_dict({"kind": "spline"}, where="x")
