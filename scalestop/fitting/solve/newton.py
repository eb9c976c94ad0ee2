"""Many small problems at once: batched damped Newton with exact derivatives.

A law has two to seven constants and a table some hundred runs, so one fit is too small to keep numpy busy. All starts
of a fit, and all refits of a bootstrap, therefore move together, as one array of problems.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]


Objective: TypeAlias = Callable[[Array, Array, Array | float], tuple[Array, Array, Array]]
"""A sum over runs, for many problems at once: takes points theta (M, p), the weight of each run, (R,) or (M, R), and
where the Huber loss turns from square to straight, a number or (M,); returns values (M,), gradients (M, p) and Hessians
(M, p, p)."""


class Bounds(NamedTuple):
    """Box that theta stays in, each of shape (p,)."""

    lower: Array
    upper: Array


class Minimum(NamedTuple):
    """Where the problems ended."""

    theta: Array
    """Shape (M, p)."""
    value: Array
    """Objective there, shape (M,)."""
    converged: NDArray[np.bool_]
    """Whether a further Newton step would gain less than the tolerance, shape (M,)."""


def minimise(
    objective: Objective,
    start: Array,
    weights: Array,
    delta: Array | float,
    *,
    bounds: Bounds,
    tolerance: float = 1e-11,
    max_steps: int = 80,
) -> Minimum:
    """Minimise every problem from its own start; no constant moves by more than 1 in one step.

    Levenberg-damped Newton: (H + damping·|H|·I) step = -g, the damping shrunk when the quadratic model predicted the
    gain and grown when it did not. A step is taken only if the objective falls, so that no problem ends above its
    start. Constants at a bound that pull outwards are held there.

    Args:
        objective: The function, with its derivatives; it gets `weights` and `delta`.
        start: Shape (M, p).
        weights: Shape (R,) shared, or (M, R).
        delta: Huber threshold, one number or shape (M,).
        bounds: Box of the constants.
        tolerance: Stop when the Newton decrement g·H^-1·g falls below this times the objective.
        max_steps: Stop at the latest after this many steps.
    """
    current = np.clip(start, *bounds)
    count, size = current.shape
    theta, final = current.copy(), np.empty(count)
    converged = np.zeros(count, dtype=bool)
    left = np.arange(count)
    shared = weights.ndim == 1
    per_problem = isinstance(delta, np.ndarray) and delta.ndim == 1
    # log residuals of 1e-13 are rounding: a table without noise has no smaller objective
    floor = 1e-26 * weights.sum(axis=-1) * np.ones(count)
    damping = np.full(count, 1e-3)
    value, gradient, hessian = objective(current, weights, delta)
    for _ in range(max_steps):
        pinned = ((current <= bounds.lower) & (gradient > 0)) | ((current >= bounds.upper) & (gradient < 0))
        if pinned.any():
            gradient = np.where(pinned, 0.0, gradient)
            hessian = np.where(pinned[:, :, None] | pinned[:, None, :], np.eye(size), hessian)
        curvature = np.abs(np.einsum("mii->mi", hessian)).max(axis=1)
        step = damped_step(hessian, gradient, damping * curvature + 1e-14)
        decrement = -np.einsum("mi,mi->m", gradient, step)
        # a problem whose damping ran away gains nothing above rounding any more
        done = (decrement <= tolerance * value + floor) | (damping > 1e8)
        if done.any():
            theta[left[done]], final[left[done]] = current[done], value[done]
            converged[left[done]] = decrement[done] <= 1e-6 * value[done] + floor[done]
            keep = ~done
            left, current, value, step = left[keep], current[keep], value[keep], step[keep]
            gradient, hessian, damping, floor = gradient[keep], hessian[keep], damping[keep], floor[keep]
            weights = weights if shared else weights[keep]
            delta = delta[keep] if per_problem else delta  # type: ignore[index]
            if not len(left):
                break
        step *= np.minimum(1, 1 / np.maximum(np.abs(step).max(axis=1), 1e-300))[:, None]
        trial = np.clip(current + step, *bounds)
        step = trial - current
        model = -np.einsum("mi,mi->m", gradient, step) - 0.5 * np.einsum("mi,mij,mj->m", step, hessian, step)
        new_value, new_gradient, new_hessian = objective(trial, weights, delta)
        better = new_value < value
        gain = np.where(better, value - new_value, 0.0) / np.maximum(model, 1e-300)
        damping = np.where(better, damping * np.where(gain > 0.5, 0.15, np.where(gain > 0.2, 1, 2)), damping * 6)
        damping = np.maximum(damping, 1e-12)
        current = np.where(better[:, None], trial, current)
        value = np.where(better, new_value, value)
        gradient = np.where(better[:, None], new_gradient, gradient)
        hessian = np.where(better[:, None, None], new_hessian, hessian)
    theta[left], final[left] = current, value
    return Minimum(theta, final, converged)


def damped_step(hessian: Array, gradient: Array, damping: Array) -> Array:
    """Solve (H + damping·I) x = -g for many small H at once, by LDL^T with its pivots kept positive.

    The usual batched solver pays about a microsecond a matrix; this pays it for an element of all matrices at once.
    Where H + damping·I is not positive definite, negative pivots change sign, so that x goes downhill all the same.
    Shapes are (M, p, p), symmetric, for H, (M, p) for g and the steps, (M,) for the damping, which is positive.
    """
    count, size = gradient.shape
    # relative to the matrix too: a pivot of nothing would compound from row to row until it overflows
    least = 0.1 * damping + 1e-11 * np.abs(np.einsum("mii->mi", hessian)).max(axis=1)
    work = np.empty((count, size, size + 1))
    work[:, :, :size], work[:, :, size] = hessian, -gradient
    work.reshape(count, -1)[:, :: size + 2] += damping[:, None]
    pivots = np.empty((count, size))
    for j in range(size):
        # row j of work ends as D·L^T, and its last column as the forward-solved right-hand side
        pivot = np.maximum(np.abs(work[:, j, j]), least)
        pivots[:, j] = pivot
        if j + 1 < size:
            factor = work[:, j + 1 :, j] / pivot[:, None]
            work[:, j + 1 :, j + 1 :] -= factor[:, :, None] * work[:, j, None, j + 1 :]
    step = np.empty((count, size))
    for i in reversed(range(size)):
        known = np.einsum("mk,mk->m", work[:, i, i + 1 : size], step[:, i + 1 :]) if i + 1 < size else 0.0
        step[:, i] = (work[:, i, size] - known) / pivots[:, i]
    return step
