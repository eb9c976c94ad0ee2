"""The parametric law's objective: a Huber loss on log-loss residuals in log-sum-exp form, with exact derivatives.

Hoffmann et al. 2022, eq. 3: sum over runs of Huber(LSE(log A - alpha·log N, log B - beta·log D, log E) - log L).
The sum is kept a sum: averaged, it is so small that optimisers stop early (Besiroglu et al. 2024, section 4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scalestop.fitting.solve.newton import Array, Bounds

NAMES = ("E", "A", "B", "alpha", "beta")
"""Order of the constants, that of `ParametricLaw.constant_names()`."""

HUBER_DELTA = 1e-3
"""Hoffmann et al. 2022, appendix D.2."""

_EXPONENTS = (1e-3, 10.0)


@dataclass(frozen=True)
class Standardised:
    """Runs in coordinates where the five constants are of order one and nearly uncorrelated.

    theta = (log E, log A - alpha·mean(log N), log B - beta·mean(log D), alpha·sd(log N), beta·sd(log D)).
    """

    log_params: Array
    """(log N - mean) / sd, shape (R,)."""
    log_tokens: Array
    """(log D - mean) / sd, shape (R,)."""
    log_loss: Array
    """log L, L in nats per token, shape (R,)."""
    centre: tuple[float, float]
    """Means of log N and log D."""
    scale: tuple[float, float]
    """Standard deviations of log N and log D."""

    @classmethod
    def of(cls, params: Array, tokens: Array, loss: Array) -> Standardised:
        """Standardise runs: parameters, tokens and losses in nats, each of shape (R,)."""
        log_params, log_tokens = np.log(params), np.log(tokens)
        centre = float(log_params.mean()), float(log_tokens.mean())
        scale = float(log_params.std()) or 1.0, float(log_tokens.std()) or 1.0
        return cls(
            (log_params - centre[0]) / scale[0], (log_tokens - centre[1]) / scale[1], np.log(loss), centre, scale
        )

    def to_constants(self, theta: Array) -> Array:
        """Return (E, A, B, alpha, beta), shape (M, 5), from theta of that shape."""
        alpha, beta = theta[:, 3] / self.scale[0], theta[:, 4] / self.scale[1]
        log_a, log_b = theta[:, 1] + alpha * self.centre[0], theta[:, 2] + beta * self.centre[1]
        return np.stack([np.exp(theta[:, 0]), np.exp(log_a), np.exp(log_b), alpha, beta], axis=1)

    def to_theta(self, constants: Array) -> Array:
        """Return theta, shape (M, 5), from (E, A, B, alpha, beta) of that shape. E = 0 becomes the lower bound."""
        E, A, B, alpha, beta = constants.T
        log_e = np.log(np.maximum(E, 1e-300))
        log_a, log_b = np.log(A) - alpha * self.centre[0], np.log(B) - beta * self.centre[1]
        return np.stack([log_e, log_a, log_b, alpha * self.scale[0], beta * self.scale[1]], axis=1)

    def bounds(self) -> Bounds:
        """Return the box searched: E from e^-25 of the least loss to the largest loss, exponents from 0.001 to 10."""
        low, high = float(self.log_loss.min()), float(self.log_loss.max())
        (least, most), (n, d) = _EXPONENTS, self.scale
        return Bounds(
            np.array([low - 25, low - 25, low - 25, least * n, least * d]),
            np.array([high, high + 10, high + 10, most * n, most * d]),
        )


class SurfaceObjective:
    """Value, gradient and Hessian of the Huber sum at many theta at once; see `newton.Objective`."""

    def __init__(self, runs: Standardised) -> None:
        self.runs = runs
        n, d, one = runs.log_params, runs.log_tokens, np.ones_like(runs.log_loss)
        # exponents of A/N^alpha/L and B/D^beta/L as products of small matrices
        self._size_term = np.stack([one, -n, -runs.log_loss])
        self._data_term = np.stack([one, -d, -runs.log_loss])
        self._inverse_loss = np.exp(-runs.log_loss)
        # moments that the derivatives need
        self._n2 = np.stack([one, -n, n * n], axis=1)
        self._d2 = np.stack([one, -d, d * d], axis=1)
        self._nd = np.stack([one, -n, -d, n * d], axis=1)
        self._n1 = np.ascontiguousarray(self._n2[:, :2])
        self._d1 = np.ascontiguousarray(self._d2[:, :2])

    def __call__(self, theta: Array, weights: Array, delta: Array | float) -> tuple[Array, Array, Array]:
        """Return values (M,), gradients (M, 5) and Hessians (M, 5, 5) at theta (M, 5)."""
        count = len(theta)
        factor = np.ones((count, 3))
        factor[:, 0], factor[:, 1] = theta[:, 1], theta[:, 3]
        size_share = factor @ self._size_term
        factor[:, 0], factor[:, 1] = theta[:, 2], theta[:, 4]
        data_share = factor @ self._data_term
        np.exp(size_share, out=size_share)
        np.exp(data_share, out=data_share)
        predicted = np.exp(theta[:, :1]) * self._inverse_loss
        predicted += size_share
        predicted += data_share  # over the measured loss, from here on
        residual = np.log(predicted)
        np.divide(1, predicted, out=predicted)
        size_share *= predicted
        data_share *= predicted

        limit = delta[:, None] if isinstance(delta, np.ndarray) and delta.ndim else delta
        influence = np.clip(residual, -limit, limit)
        curved = influence == residual
        pull = influence * weights
        residual -= 0.5 * influence
        value = np.einsum("mr,mr->m", pull, residual)

        # d2(LSE) = sum of s_k·g_k·g_k' - g·g', so the Hessian is sum of (curved - pull)·g·g' + pull·s_k·g_k·g_k'
        square = curved * weights
        square -= pull
        moments = np.empty((count, _NUM_MOMENTS))
        pull.sum(axis=1, out=moments[:, 0])
        square.sum(axis=1, out=moments[:, 1])
        moments[:, 2:5] = (pull * size_share) @ self._n2
        moments[:, 5:8] = np.multiply(pull, data_share, out=pull) @ self._d2
        square_n = square * size_share
        moments[:, 8:10] = square_n @ self._n1
        square_d = np.multiply(square, data_share, out=square)
        moments[:, 10:12] = square_d @ self._d1
        moments[:, 12:16] = (square_n * data_share) @ self._nd
        moments[:, 16:19] = np.multiply(square_n, size_share, out=square_n) @ self._n2
        moments[:, 19:22] = np.multiply(square_d, data_share, out=square_d) @ self._d2
        derivatives = moments @ _DERIVATIVES
        return value, derivatives[:, :5], derivatives[:, 5:].reshape(count, 5, 5)


_NUM_MOMENTS = 22
_PULL, _SQUARE = 0, 1
_FIRST_N, _FIRST_D = 2, 5  # pull times a share, against (1, -n, n^2) or (1, -d, d^2)
_ONE_N, _ONE_D = 8, 10  # square times a share, against (1, -n) or (1, -d)
_BOTH = 12  # square times both shares, against (1, -n, -d, n·d)
_SECOND_N, _SECOND_D = 16, 19  # square times a share twice, against (1, -n, n^2) or (1, -d, d^2)


def _derivative_matrix() -> Array:
    """Return how gradient and Hessian are summed from the moments, shape (22, 5 + 25).

    E's share is 1 less the other two, so its entries are differences of moments.
    """
    gradient = {
        0: {_PULL: 1, _FIRST_N: -1, _FIRST_D: -1},
        1: {_FIRST_N: 1},
        2: {_FIRST_D: 1},
        3: {_FIRST_N + 1: 1},
        4: {_FIRST_D + 1: 1},
    }
    hessian = {
        (1, 1): {_SECOND_N: 1, _FIRST_N: 1},
        (1, 3): {_SECOND_N + 1: 1, _FIRST_N + 1: 1},
        (3, 3): {_SECOND_N + 2: 1, _FIRST_N + 2: 1},
        (2, 2): {_SECOND_D: 1, _FIRST_D: 1},
        (2, 4): {_SECOND_D + 1: 1, _FIRST_D + 1: 1},
        (4, 4): {_SECOND_D + 2: 1, _FIRST_D + 2: 1},
        (1, 2): {_BOTH: 1},
        (2, 3): {_BOTH + 1: 1},
        (1, 4): {_BOTH + 2: 1},
        (3, 4): {_BOTH + 3: 1},
        (0, 1): {_ONE_N: 1, _SECOND_N: -1, _BOTH: -1},
        (0, 3): {_ONE_N + 1: 1, _SECOND_N + 1: -1, _BOTH + 1: -1},
        (0, 2): {_ONE_D: 1, _SECOND_D: -1, _BOTH: -1},
        (0, 4): {_ONE_D + 1: 1, _SECOND_D + 1: -1, _BOTH + 2: -1},
        (0, 0): {_SQUARE: 1, _ONE_N: -2, _ONE_D: -2, _SECOND_N: 1, _SECOND_D: 1, _BOTH: 2, **gradient[0]},
    }
    matrix = np.zeros((_NUM_MOMENTS, 30))
    for i, terms in gradient.items():
        for moment, factor in terms.items():
            matrix[moment, i] = factor
    for (i, j), terms in hessian.items():
        for moment, factor in terms.items():
            matrix[moment, [5 + 5 * i + j, 5 + 5 * j + i]] = factor
    return matrix


_DERIVATIVES = _derivative_matrix()
