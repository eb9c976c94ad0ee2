"""Power laws through the minima of budgets: where they lie, how deep they are, and how steep their sides."""

from __future__ import annotations

import numpy as np

from scalestop.fitting.solve.newton import Array

_EXPONENTS = (0.01, 1.5)
_GRID = 48
_LEAST_SHARE = 1e-3
"""K·C^-gamma at the dearest budget is at least this share of the loss there: a frontier that is flat is none."""


def power_law(flops: Array, minima: Array) -> Array:
    """Fit log N = log k + a·log C to each row of minima (M, groups), leaving out NaN; shape (M, 2), NaN under two."""
    present = np.isfinite(minima)
    count = present.sum(axis=1)
    x = np.where(present, np.log(flops), 0.0)
    y = np.where(present, np.log(np.where(present, minima, 1.0)), 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_x, mean_y = x.sum(axis=1) / count, y.sum(axis=1) / count
        dx = np.where(present, x - mean_x[:, None], 0.0)
        slope = (dx * y).sum(axis=1) / (dx * dx).sum(axis=1)
        k = np.exp(mean_y - slope * mean_x)
    # an allocation grows with compute; a refit that shrinks is as unusable as one with a single minimum
    good = (count >= 2) & (slope > 0)
    return np.where(good[:, None], np.column_stack([k, slope]), np.nan)


def loss_frontier(flops: Array, depths: Array) -> Array:
    """Fit L = E + K·C^-gamma to each row of depths (M, groups), leaving out NaN; shape (M, 3), NaN under four.

    Least squares of relative errors. For a given gamma E and K are linear, so only gamma is searched: on a grid of
    .01 to 1.5, then twice between the neighbours of the best. E is at least 0.
    """
    present = np.isfinite(depths)
    weight = np.where(present, 1.0 / np.where(present, depths, 1.0), 0.0)
    x = np.log(flops / np.exp(np.log(flops).mean()))
    low, high = (np.full(len(depths), np.log(end)) for end in _EXPONENTS)
    for _ in range(3):
        gammas = np.exp(low[:, None] + (high - low)[:, None] * np.linspace(0, 1, _GRID))
        E, K, error = _linear_part(x, weight, gammas)
        best = error.argmin(axis=1)
        step = (high - low) / (_GRID - 1)
        low, high = low + step * np.maximum(best - 1, 0), low + step * np.minimum(best + 1, _GRID - 1)
    row = np.arange(len(depths))
    gamma = gammas[row, best]
    log_k = np.log(K[row, best]) + gamma * np.log(flops).mean()
    found = np.column_stack([E[row, best], np.exp(np.minimum(log_k, 690.0)), gamma])
    return np.where((present.sum(axis=1) >= 4)[:, None], found, np.nan)


def _linear_part(x: Array, weight: Array, gammas: Array) -> tuple[Array, Array, Array]:
    """Return E, K (about the middle of the budgets) and the squared error for each gamma, shapes (M, gammas)."""
    basis = np.exp(-gammas[:, :, None] * x) * weight[:, None, :]
    flat = weight[:, None, :]
    target = (weight > 0).astype(np.float64)[:, None, :]
    ee, ek, kk = (flat**2).sum(-1), (flat * basis).sum(-1), (basis**2).sum(-1)
    e, k = (flat * target).sum(-1), (basis * target).sum(-1)
    determinant = np.maximum(ee * kk - ek**2, 1e-300)
    E = np.maximum((e * kk - k * ek) / determinant, 0.0)
    # K again with E in its place: at E = 0 it is another
    K = (k - E * ek) / np.maximum(kk, 1e-300)
    rising = K <= 0
    K = np.where(rising, _LEAST_SHARE, K)
    error = ((target - E[:, :, None] * flat - K[:, :, None] * basis) ** 2).sum(-1)
    return E, K, np.where(rising, np.inf, error)


def steepness(depths: Array, curvatures: Array, E: Array) -> Array:
    """Return kappa of K·C^-gamma·cosh(kappa·x), whose parabola at x = 0 has curvature c2 = (L - E)·kappa^2/2.

    Depths L and curvatures c2 of the budgets have shape (M, groups), of which NaN is left out, and E (M,).
    """
    present = np.isfinite(depths) & np.isfinite(curvatures)
    above = np.where(present, depths - E[:, None], 0.0)
    rise = np.where(present, curvatures, 0.0)
    usable = present & (above > 0)
    # relative errors of the curvature: dear budgets, flat as they are, count as much as cheap ones
    share = np.where(usable, rise / np.where(usable, above, 1.0), np.nan)
    share[~usable.any(axis=1), 0] = np.inf
    found = np.sqrt(2 * np.nanmedian(share, axis=1))
    return np.where(np.isfinite(found), found, np.nan)
