"""Least squares with a prior."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scalestop.laws.curves.rate_path import Array


def gauss_newton(
    evaluate: Callable[[Array], tuple[Array, Array]],
    start: Array,
    mean: Array,
    precision: Array,
    steps: int = 40,
) -> tuple[Array, Array]:
    """Minimise |residuals|^2 + (theta - mean)' precision (theta - mean) by damped Gauss-Newton steps.

    Args:
        evaluate: Returns residuals in units of their standard deviation, and minus their derivatives.
        start: Where to begin.
        mean: Prior mean.
        precision: Inverse of the prior covariance.
        steps: Most steps.

    Returns:
        The minimum, and the inverse of the Gauss-Newton Hessian there.
    """
    theta, damping = start.copy(), 1e-3

    def cost(residual: Array, at: Array) -> float:
        return float(residual @ residual + (at - mean) @ precision @ (at - mean))

    residual, slope = evaluate(theta)
    value = cost(residual, theta)
    for _ in range(steps):
        hessian = slope.T @ slope + precision
        pull = slope.T @ residual - precision @ (theta - mean)
        step = np.linalg.solve(hessian + damping * np.diag(np.diag(hessian)), pull)
        trial = theta + np.clip(step, -1.0, 1.0)
        new_residual, new_slope = evaluate(trial)
        new = cost(new_residual, trial)
        if np.isfinite(new) and new <= value:
            gained = value - new
            theta, residual, slope, value, damping = trial, new_residual, new_slope, new, damping / 5
            if gained < 1e-5:
                break
        elif damping > 1e6:
            break
        else:
            damping *= 8
    return theta, np.asarray(np.linalg.inv(slope.T @ slope + precision), dtype=np.float64)
