"""Where to start: E, A and B in closed form on a grid of exponents (variable projection).

For given exponents the law is linear in E, A and B. So the five-constant search is one over two exponents, and a grid
of 12 x 12 of them covers what 4,500 starts of all five constants cover.
"""

from __future__ import annotations

import numpy as np

from scalestop.fitting.solve.newton import Array
from scalestop.fitting.solve.surface import Standardised

GRID = np.geomspace(0.03, 2.0, 12)
"""Exponents tried. Published ones lie between 0.05 and 0.9."""


def projected_starts(
    runs: Standardised, weights: Array, *, tied: bool = False, irreducible: float | None = None, keep: int = 8
) -> Array:
    """Return the best starts of a grid of exponents.

    Each has the E, A and B that minimise the weighted sum of squared relative errors ((prediction - L)/L)^2, the log
    residual to first order. They are theta, shape (at most `keep`, 5), best first: with alpha = beta if `tied`, with E
    held at `irreducible`, nats per token, if given.
    """
    alpha, beta = (GRID, GRID) if tied else (np.repeat(GRID, len(GRID)), np.tile(GRID, len(GRID)))
    inverse_loss = np.exp(-runs.log_loss)
    # scaled coordinates: A stands for A/mean(N)^alpha, so that the three columns are alike in size
    size = np.exp(-np.outer(GRID * runs.scale[0], runs.log_params)) * inverse_loss
    data = np.exp(-np.outer(GRID * runs.scale[1], runs.log_tokens)) * inverse_loss
    normal, target = _normal_equations(size, data, inverse_loss, weights, tied)
    E, A, B = _solve_positive(normal, target, irreducible)
    amounts = np.stack([E, A, B], axis=1)
    error = (
        weights.sum() - 2 * np.einsum("gi,gi->g", amounts, target) + np.einsum("gi,gij,gj->g", amounts, normal, amounts)
    )
    best = np.argsort(error, kind="stable")[:keep]
    return np.column_stack([np.log(amounts), alpha * runs.scale[0], beta * runs.scale[1]])[best]


def _normal_equations(size: Array, data: Array, inverse_loss: Array, weights: Array, tied: bool) -> tuple[Array, Array]:
    """Return the 3 x 3 normal equations, columns (1, N^-alpha, D^-beta)/L, of every pair of exponents."""
    weighted_size, weighted_data = size * weights, data * weights
    constant = np.stack([np.ones_like(inverse_loss), inverse_loss], axis=1)
    size_sums, data_sums = weighted_size @ constant, weighted_data @ constant
    size_square = np.einsum("gr,gr->g", weighted_size, size)
    data_square = np.einsum("gr,gr->g", weighted_data, data)
    i, j = np.divmod(np.arange(len(size) ** 2), len(size))
    if tied:
        i = j = np.arange(len(size))
    cross = (weighted_size @ data.T)[i, j]
    normal = np.empty((len(i), 3, 3))
    normal[:, 0, 0] = weights @ inverse_loss**2
    normal[:, 1, 1], normal[:, 2, 2] = size_square[i], data_square[j]
    normal[:, 0, 1] = normal[:, 1, 0] = size_sums[i, 1]
    normal[:, 0, 2] = normal[:, 2, 0] = data_sums[j, 1]
    normal[:, 1, 2] = normal[:, 2, 1] = cross
    target = np.stack([np.full(len(i), weights @ inverse_loss), size_sums[i, 0], data_sums[j, 0]], axis=1)
    return normal, target


def _solve_positive(normal: Array, target: Array, irreducible: float | None) -> tuple[Array, Array, Array]:
    """Solve for E, A, B >= a little above 0; with E given, for A and B."""
    ridge = 1e-10 * np.einsum("gii->gi", normal)
    regular = normal + ridge[:, :, None] * np.eye(3)
    least = 1e-3 * target[:, 0] / normal[:, 0, 0]  # a thousandth of the loss that E alone would explain
    if irreducible is None:
        E = np.maximum(np.linalg.solve(regular, target[:, :, None])[:, 0, 0], least)
    else:
        E = np.full(len(target), max(irreducible, 1e-300))
    # A and B again with E in its place: those solved jointly belong to an E that may have been negative
    rest = target[:, 1:] - regular[:, 1:, 0] * E[:, None]
    A, B = np.maximum(np.linalg.solve(regular[:, 1:, 1:], rest[:, :, None])[:, :, 0], least[:, None]).T
    return E, A, B
