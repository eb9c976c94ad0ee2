"""The fit under priors against its closed form, and the growth of error against draws of a known one."""

from __future__ import annotations

import numpy as np
import pytest

from scalestop.fitting.tasks.posterior import Prior, fit_posterior, growth_of_error


def test_a_linear_fit_is_the_closed_form_of_bayes():
    """With a scatter that cannot move: precision X'X/s² + 1/sd², mean by it (Gelman et al., BDA3, section 14.8)."""
    rng = np.random.default_rng(0)
    design = rng.normal(size=(12, 2))
    measured = design @ [1.0, -2.0] + 0.1 * rng.normal(size=12)
    prior = Prior(np.array([0.5, 0.0]), np.array([1.0, 0.5]), scatter=0.1, weight=1e12)
    found = fit_posterior(lambda at: design @ at - measured, lambda at: design, np.ones(12), prior, [prior.mean])
    precision = design.T @ design / 0.01 + np.diag([1.0, 4.0])
    mean = np.linalg.solve(precision, design.T @ measured / 0.01 + [0.5, 0.0])
    np.testing.assert_allclose(found.best, mean, rtol=1e-6)
    np.testing.assert_allclose(found.covariance, np.linalg.inv(precision), rtol=1e-5)
    drawn = found.draws(20000, 3)
    np.testing.assert_allclose(np.cov(drawn.T), found.covariance, atol=5e-5)


def test_weights_count_as_points():
    values = np.array([1.0, 3.0])
    prior = Prior(np.zeros(1), np.array([1e3]), scatter=1.0)
    weights, ones = np.array([3.0, 1.0]), np.ones((2, 1))
    found = fit_posterior(lambda at: at[0] - values, lambda at: ones, weights, prior, [np.zeros(1)])
    assert found.best[0] == pytest.approx(1.5, abs=1e-4)


@pytest.mark.parametrize("growth", [0.005, 0.02, 0.05])
def test_growth_is_learned_where_there_are_many_trials(growth):
    rng = np.random.default_rng(4)
    distance = rng.uniform(1, 4, 400)
    errors = np.sqrt(0.01**2 + (growth * distance) ** 2) * rng.normal(size=400)
    assert growth_of_error(errors, np.full(400, 1e-4), distance, np.ones(400), 0.02) == pytest.approx(growth, rel=0.25)


def test_without_trials_it_is_what_was_expected():
    """The mean square of a lognormal: exp of twice its log variance above the squared median."""
    none = np.zeros(0)
    found = growth_of_error(none, none, none, none, 0.02)
    assert found == pytest.approx(0.02 * np.exp(np.log(2) ** 2), rel=0.05)
