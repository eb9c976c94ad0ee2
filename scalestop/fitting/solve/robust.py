"""Many small robust regressions at once: damped Gauss-Newton on the coupled surface, with priors.

Residuals of log loss follow Student's t, so that a broken run costs its logarithm; each coordinate has a normal prior.
All horizons and all hypotheses of a fit, and all its refits, move together as one array of problems.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scalestop.fitting.solve.coupled import LEAST_COUPLING, NUM_FREE, REDUCIBLE, log_loss_and_slopes
from scalestop.fitting.solve.newton import Array

DEGREES = 5.0
"""Degrees of freedom of Student's t: normal in the middle, forgiving in the tails (Gelman et al., BDA3, ch. 17)."""

_EXPONENTS = np.geomspace(0.12, 1.0, 7)  # published exponents lie between .05 and .9; Newton covers the gaps


class Problems(NamedTuple):
    """M regressions on R runs each."""

    x: Array
    """log N less its centre, shape (M, R)."""
    y: Array
    """log D less its centre, shape (M, R)."""
    log_loss: Array
    """log(L/L0), shape (M, R)."""
    weight: Array
    """Weight of each run, shape (M, R)."""
    prior_mean: Array
    """Shape (M, 7)."""
    prior_precision: Array
    """One over the prior's variance, shape (M, 7)."""

    def take(self, keep: NDArray[np.int_]) -> Problems:
        """Return some of the problems."""
        return Problems(*(values[keep] for values in self))


def minimise(
    problems: Problems,
    start: Array,
    scale: Array,
    *,
    robust: bool = True,
    max_steps: int = 30,
    tolerance: float = 1e-5,
) -> Array:
    """Return the most probable theta of every problem, shape (M, 7).

    Gauss-Newton with Levenberg's damping; a step is taken only if the objective falls. The search ends when a step
    gains less than `tolerance` of the objective (plus one).

    Args:
        problems: The regressions.
        start: Shape (M, 7).
        scale: Standard deviation of each run's log loss, shape (M, R).
        robust: Student's t if true, least squares if false.
        max_steps: Stop at the latest after this many steps.
        tolerance: See above.
    """
    theta, active, left = start.copy(), np.arange(len(start)), problems
    final = theta.copy()
    damping = np.full(len(start), 1e-3)
    predicted, slopes = log_loss_and_slopes(theta, left.x, left.y)
    value = _objective(left, theta, predicted, scale, robust)
    diagonal = np.arange(NUM_FREE)
    for _ in range(max_steps):
        hessian, gradient = _normal(left, theta, predicted, slopes, scale, robust)
        hessian[:, diagonal, diagonal] *= 1 + damping[:, None]
        step = -np.linalg.solve(hessian, gradient[..., None])[..., 0]
        step *= np.minimum(1, 1 / np.maximum(np.abs(step).max(axis=1), 1e-12))[:, None]
        trial = theta + step
        trial[:, 5] = np.maximum(trial[:, 5], LEAST_COUPLING)
        new_predicted, new_slopes = log_loss_and_slopes(trial, left.x, left.y)
        new_value = _objective(left, trial, new_predicted, scale, robust)
        better = new_value <= value
        done = (better & (value - new_value < tolerance * (1 + value))) | (damping > 1e8)
        theta = np.where(better[:, None], trial, theta)
        predicted = np.where(better[:, None], new_predicted, predicted)
        slopes = np.where(better[:, None, None], new_slopes, slopes)
        value = np.where(better, new_value, value)
        damping = np.where(better, np.maximum(0.2 * damping, 1e-9), 8 * damping)
        final[active] = theta
        if done.all():
            break
        if done.any():
            keep = np.flatnonzero(~done)
            active, left, scale = active[keep], left.take(keep), scale[keep]
            theta, predicted, slopes = theta[keep], predicted[keep], slopes[keep]
            value, damping = value[keep], damping[keep]
    return final


def precision(problems: Problems, theta: Array, scale: Array) -> tuple[Array, Array]:
    """Return the posterior precision of theta, shape (M, 7, 7), and the weight of each run in it, shape (M, R)."""
    predicted, slopes = log_loss_and_slopes(theta, problems.x, problems.y)
    weight = _working_weight(problems, predicted, scale, robust=True)
    hessian, _ = _normal(problems, theta, predicted, slopes, scale, robust=True)
    return hessian, weight


def _objective(problems: Problems, theta: Array, predicted: Array, scale: Array, robust: bool) -> Array:
    square = ((predicted - problems.log_loss) / scale) ** 2
    cost = 0.5 * (DEGREES + 1) * np.log1p(square / DEGREES) if robust else 0.5 * square
    prior = 0.5 * (problems.prior_precision * (theta - problems.prior_mean) ** 2).sum(axis=1)
    return np.asarray((problems.weight * cost).sum(axis=1) + prior)


def _working_weight(problems: Problems, predicted: Array, scale: Array, robust: bool) -> Array:
    weight = problems.weight / scale**2
    if robust:
        square = ((predicted - problems.log_loss) / scale) ** 2
        weight = weight * (DEGREES + 1) / (DEGREES + square)
    return np.asarray(weight)


def _normal(
    problems: Problems, theta: Array, predicted: Array, slopes: Array, scale: Array, robust: bool
) -> tuple[Array, Array]:
    """Return the Gauss-Newton Hessian (M, 7, 7) and the gradient (M, 7)."""
    weight = _working_weight(problems, predicted, scale, robust)
    weighted = slopes * weight[:, None]
    hessian = weighted @ slopes.transpose(0, 2, 1)
    gradient = (weighted @ (predicted - problems.log_loss)[..., None])[..., 0]
    hessian[:, np.arange(NUM_FREE), np.arange(NUM_FREE)] += problems.prior_precision
    return hessian, gradient + problems.prior_precision * (theta - problems.prior_mean)


def start_at(x: Array, y: Array, log_loss: Array, weight: Array, floors: tuple[float, ...], steepness: float) -> Array:
    """Return the best theta of a grid of exponents and floors, A and B in closed form, at g = 0, gamma = 1.

    x, y, log loss and weight are those of one problem, shape (R,); `floors` are the E/L0 to try, and `steepness` is a
    factor on the exponents tried.
    """
    grid = _EXPONENTS * steepness
    i, j = np.repeat(np.arange(len(grid)), len(grid)), np.tile(np.arange(len(grid)), len(grid))
    inverse = np.exp(-log_loss)
    size, data = np.exp(-np.outer(grid, x)) * inverse, np.exp(-np.outer(grid, y)) * inverse
    size_square, data_square = (size * size) @ weight, (data * data) @ weight
    uu, vv, uv = size_square[i], data_square[j], ((size * weight) @ data.T)[i, j]
    best = None
    for floor in floors:
        rest = 1 - floor * inverse
        ut, vt = ((size * weight) @ rest)[i], ((data * weight) @ rest)[j]
        determinant = uu * vv - uv**2 + 1e-9 * uu * vv
        A = np.maximum((vv * ut - uv * vt) / determinant, 0.01)  # a start needs positive terms, however small
        B = np.maximum((uu * vt - uv * ut) / determinant, 0.01)
        error = A * A * uu + B * B * vv + 2 * (A * B * uv - A * ut - B * vt) + weight @ rest**2
        k = int(error.argmin())
        if best is None or error[k] < best[0]:
            terms = [np.log(floor), np.log(A[k] / REDUCIBLE), np.log(B[k] / REDUCIBLE)]
            best = (error[k], [*terms, np.log(grid[i[k]]), np.log(grid[j[k]]), 0.0, 0.0])
    assert best is not None
    return np.array(best[1])
