from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import huber

from scalestop.fitting.solve.likelihood import refit_with_scale
from scalestop.fitting.solve.newton import Minimum
from scalestop.fitting.solve.surface_fit import SurfaceProblem

PRINTED = np.array([1.81686, 482.00572, 2085.43420, 0.34781303, 0.36585412])
"""E, A, B, alpha, beta of Besiroglu et al. 2024, table 1, unrounded."""


def negative_log_likelihood(runs: dict[str, np.ndarray], constants: np.ndarray, log_scale: float) -> float:
    E, A, B, alpha, beta = constants
    predicted = E + A / runs["params"] ** alpha + B / runs["tokens"] ** beta
    residual = np.log(runs["loss"] / predicted)
    return float((huber(1e-3, residual / np.exp(log_scale)) + log_scale).sum())


def fit_with_scale(problem: SurfaceProblem) -> Minimum:
    return refit_with_scale(problem, np.ones((1, len(problem.loss))), problem.fit().theta)


def test_the_printed_constants_come_out_to_three_digits(chinchilla: dict[str, np.ndarray]) -> None:
    found = fit_with_scale(SurfaceProblem(**chinchilla))
    np.testing.assert_allclose(found.theta[0], PRINTED, rtol=5e-4)


def test_the_likelihood_is_that_of_the_printed_constants_or_better(chinchilla: dict[str, np.ndarray]) -> None:
    found = fit_with_scale(SurfaceProblem(**chinchilla))
    printed = minimize(lambda s: negative_log_likelihood(chinchilla, PRINTED, s[0]), [-12.0], method="Nelder-Mead").fun
    ours = minimize(lambda s: negative_log_likelihood(chinchilla, found.theta[0], s[0]), [-12.0], method="Nelder-Mead")
    assert found.value[0] == pytest.approx(ours.fun, abs=1e-4)
    assert printed - 0.1 < found.value[0] <= printed


def test_no_nearby_law_is_likelier(chinchilla: dict[str, np.ndarray]) -> None:
    found = fit_with_scale(SurfaceProblem(**chinchilla))
    scale = minimize(lambda s: negative_log_likelihood(chinchilla, found.theta[0], s[0]), [-12.0], method="Nelder-Mead")
    rng = np.random.default_rng(0)
    for move in rng.normal(size=(300, 5)) * 10.0 ** rng.uniform(-6, -2, size=(300, 1)):
        nearby = found.theta[0] * np.exp(move)
        assert negative_log_likelihood(chinchilla, nearby, scale.x[0]) >= found.value[0] - 1e-6


def test_refitting_to_equal_weights_changes_nothing(chinchilla: dict[str, np.ndarray]) -> None:
    problem = SurfaceProblem(**chinchilla)
    found = fit_with_scale(problem)
    again = refit_with_scale(problem, np.full((2, 240), [[1.0], [3.0]]), found.theta[0])
    np.testing.assert_allclose(again.theta, np.repeat(found.theta, 2, axis=0), rtol=1e-4)
    assert again.value[1] == pytest.approx(3 * again.value[0], rel=1e-6)


def test_bootstrap_standard_errors_are_the_printed_ones(chinchilla: dict[str, np.ndarray]) -> None:
    # the paper's 4,000 samples, drawn as its code draws them: B's standard error alone scatters by 5 % between samples
    generator = np.random.RandomState(42)
    samples = [generator.choice(np.arange(240), size=240, replace=True) for _ in range(4000)]
    counts = np.stack([np.bincount(sample, minlength=240) for sample in samples]).astype(float)
    problem = SurfaceProblem(**chinchilla)
    draws = problem.refit(counts, problem.fit().theta[0]).theta
    errors = dict(zip(("E", "A", "B", "alpha", "beta"), draws.std(axis=0, ddof=1), strict=True))
    assert errors["A"] == pytest.approx(124.5, rel=0.01)
    assert errors["B"] == pytest.approx(1293, rel=0.03)
    assert errors["E"] == pytest.approx(0.02566, rel=0.01)
    assert errors["alpha"] == pytest.approx(0.01540, rel=0.01)
    assert errors["beta"] == pytest.approx(0.02059, rel=0.01)
    a = draws[:, 4] / (draws[:, 3] + draws[:, 4])
    assert a.std(ddof=1) == pytest.approx(0.020, rel=0.03)
