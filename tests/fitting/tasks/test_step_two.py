"""Step two: the curve by hand, its slopes against differences, its fit against a known curve."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import logit
from task_data import true_metric

from scalestop.fitting.tasks.step_two import StepTwo, fit_sigmoid, sigmoid, sigmoid_tangent


def test_the_curve_worked_by_hand():
    """Floor .25, ceiling .25 + .75·.8 = .85; half way up at x0, where the metric is .55."""
    theta = np.array([logit(0.25), logit(0.8), np.log(5.0), 0.9])
    assert sigmoid(theta, np.array(0.9)) == pytest.approx(0.55)
    assert sigmoid(theta, np.array(-50.0)) == pytest.approx(0.85)
    assert sigmoid(theta, np.array(50.0)) == pytest.approx(0.25)
    two = StepTwo(2.0, theta, theta[None], 0.01)
    assert (two.floor, two.ceiling, two.steepness, two.midpoint) == pytest.approx((0.25, 0.85, 2.5, 1.8))
    assert two.metric(np.array(1.8)) == pytest.approx(0.55)


def test_the_tangent_is_the_slope_of_the_curve():
    rng = np.random.default_rng(0)
    theta = rng.normal(size=4) * 0.4 + [-1, 2, 1.6, 0.8]
    loss = rng.normal(size=(3, 2)) * 0.2 + 1
    step = 1e-6
    moved = [(sigmoid(theta + step * e, loss) - sigmoid(theta - step * e, loss)) / (2 * step) for e in np.eye(4)]
    np.testing.assert_allclose(sigmoid_tangent(theta, loss), np.stack(moved, axis=-1), atol=1e-8)


def test_it_finds_a_known_curve_where_the_runs_show_it_whole():
    rng = np.random.default_rng(1)
    loss = np.linspace(0.3, 1.8, 40)
    two = fit_sigmoid(loss, true_metric(loss) + 0.004 * rng.normal(size=40), np.ones(40))
    assert two.floor == pytest.approx(0.25, abs=0.01)
    assert two.ceiling == pytest.approx(0.9, abs=0.01)
    assert two.steepness == pytest.approx(6, rel=0.05)
    assert two.midpoint == pytest.approx(0.9, abs=0.01)
    assert two.scatter == pytest.approx(0.004, rel=0.4)


def test_where_only_the_foot_is_seen_the_ceiling_is_doubtful():
    rng = np.random.default_rng(2)
    foot = np.linspace(1.2, 1.8, 20)
    two = fit_sigmoid(foot, true_metric(foot) + 0.004 * rng.normal(size=20), np.ones(20))
    near, far = two.draws(np.full((1000, 1), 1.3)).std(), two.draws(np.full((1000, 1), 0.6)).std()
    assert far > 10 * near


def test_a_floor_that_is_known_is_kept_to():
    loss = np.linspace(0.3, 1.0, 12)
    two = fit_sigmoid(loss, true_metric(loss), np.ones(12), floor=0.5)
    assert two.floor == pytest.approx(0.5, abs=0.05)


def test_it_survives_its_file():
    loss = np.linspace(0.3, 1.8, 12)
    two = fit_sigmoid(loss, true_metric(loss), np.ones(12))
    again = StepTwo.from_dict(json.loads(json.dumps(two.to_dict())))
    at = np.full((1000, 3), [0.5, 0.9, 1.5])
    np.testing.assert_allclose(again.draws(at), two.draws(at), atol=1e-5)
