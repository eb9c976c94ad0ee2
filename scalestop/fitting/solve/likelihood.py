"""Besiroglu et al.'s objective: the Huber loss made a likelihood, its scale fitted along with the law.

Besiroglu et al. 2024 (arXiv 2404.10102), section 3: residuals of log loss have the density
exp(-Huber_delta(r/s)) / (c·s) with delta = 1e-3, and s is a sixth constant. As delta·s comes out near 1e-8, this is a
regression by least absolute values in all but name: the law passes through almost as many runs as it has constants.
"""

from __future__ import annotations

import numpy as np

from scalestop.fitting.solve.newton import Array, Minimum, minimise
from scalestop.fitting.solve.surface_fit import SurfaceProblem

_SHRINK = 0.3
_LEAST_RATIO = 1e-4


def refit_with_scale(problem: SurfaceProblem, weights: Array, start: Array) -> Minimum:
    """Maximise the likelihood over E, A, B, alpha, beta and the scale, for many weightings of the runs.

    For a fixed scale s the law's constants minimise the Huber sum with threshold delta·s, and for fixed constants s is
    the root of one equation. The threshold is brought down in steps from `problem.delta`, each warm-starting the next.

    Args:
        problem: The runs, with `delta` the threshold in units of the scale.
        weights: Shape (M, R).
        start: Constants to start from, shape (5,) or (M, 5): those of the Huber sum.

    Returns:
        The constants (M, 5), with the negative log likelihood (less a constant) as `value`.
    """
    count = len(weights)
    theta = np.broadcast_to(problem.to_free(start), (count, problem.num_free)).copy()
    threshold = np.full(count, problem.delta * 4)
    converged = np.zeros(count, dtype=bool)
    for _ in range(40):
        found = minimise(problem.evaluate, theta, weights, threshold, bounds=problem.bounds, tolerance=1e-9)
        theta = found.theta
        converged = found.converged
        scale = _best_scale(problem, theta, weights)
        target = problem.delta * scale
        if np.all(np.abs(np.log(threshold / target)) < 1e-6):
            break
        threshold = np.maximum(threshold * _SHRINK, target)
    residual = np.abs(problem.residuals(theta))
    value = _likelihood(residual, weights, scale, problem.delta)
    return Minimum(problem.to_constants(theta), value, converged)


def _best_scale(problem: SurfaceProblem, theta: Array, weights: Array) -> Array:
    """Return the s that maximises the likelihood, where sum of weight·psi(r/s)·r/s equals the sum of the weights."""
    residual = np.abs(problem.residuals(theta))
    total = weights.sum(axis=1)
    scale = problem.delta * np.einsum("mr,mr->m", weights, residual) / total
    for _ in range(30):
        reduced = residual / scale[:, None]
        slope = np.einsum("mr,mr->m", weights, np.minimum(reduced, problem.delta) * reduced) / total
        updated = scale * slope
        if np.allclose(updated, scale, rtol=1e-10, atol=0):
            break
        scale = updated
    return scale


def _likelihood(residual: Array, weights: Array, scale: Array, delta: float) -> Array:
    reduced = residual / scale[:, None]
    clipped = np.minimum(reduced, delta)
    huber = clipped * (reduced - 0.5 * clipped)
    return np.einsum("mr,mr->m", weights, huber) + weights.sum(axis=1) * np.log(scale)
