"""The parametric law's objective: a Huber loss on log-loss residuals in log-sum-exp form, with exact derivatives.

Hoffmann et al. 2022, eq. 3: sum over runs of Huber(LSE(log A - alpha·log N, log B - beta·log D, log E) - log L).
The sum is kept a sum: averaged, it is so small that optimisers stop early (Besiroglu et al. 2024, section 4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scalestop.fitting.newton import Array, Bounds

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
        total_pull, total_square = pull.sum(axis=1), square.sum(axis=1)
        first_n = (pull * size_share) @ self._n2
        first_d = np.multiply(pull, data_share, out=pull) @ self._d2
        square_n = square * size_share
        one_n = square_n @ self._n1
        square_d = np.multiply(square, data_share, out=square)
        one_d = square_d @ self._d1
        both = (square_n * data_share) @ self._nd
        second_n = np.multiply(square_n, size_share, out=square_n) @ self._n2
        second_d = np.multiply(square_d, data_share, out=square_d) @ self._d2
        return value, *_assemble(total_pull, total_square, first_n, first_d, one_n, one_d, both, second_n, second_d)


def _assemble(
    total_pull: Array,
    total_square: Array,
    first_n: Array,
    first_d: Array,
    one_n: Array,
    one_d: Array,
    both: Array,
    second_n: Array,
    second_d: Array,
) -> tuple[Array, Array]:
    """Put moments into gradient and Hessian. E's share is 1 less the other two, so its moments are differences."""
    gradient = np.empty((len(first_n), 5))
    gradient[:, 0] = total_pull - first_n[:, 0] - first_d[:, 0]
    gradient[:, 1], gradient[:, 3] = first_n[:, 0], first_n[:, 1]
    gradient[:, 2], gradient[:, 4] = first_d[:, 0], first_d[:, 1]
    hessian = np.empty((len(first_n), 5, 5))
    curved_n, curved_d = second_n + first_n, second_d + first_d
    hessian[:, 1, 1], hessian[:, 3, 3] = curved_n[:, 0], curved_n[:, 2]
    hessian[:, 2, 2], hessian[:, 4, 4] = curved_d[:, 0], curved_d[:, 2]
    hessian[:, 1, 3] = hessian[:, 3, 1] = curved_n[:, 1]
    hessian[:, 2, 4] = hessian[:, 4, 2] = curved_d[:, 1]
    hessian[:, 1, 2] = hessian[:, 2, 1] = both[:, 0]
    hessian[:, 3, 2] = hessian[:, 2, 3] = both[:, 1]
    hessian[:, 1, 4] = hessian[:, 4, 1] = both[:, 2]
    hessian[:, 3, 4] = hessian[:, 4, 3] = both[:, 3]
    hessian[:, 0, 1] = hessian[:, 1, 0] = one_n[:, 0] - second_n[:, 0] - both[:, 0]
    hessian[:, 0, 3] = hessian[:, 3, 0] = one_n[:, 1] - second_n[:, 1] - both[:, 1]
    hessian[:, 0, 2] = hessian[:, 2, 0] = one_d[:, 0] - second_d[:, 0] - both[:, 0]
    hessian[:, 0, 4] = hessian[:, 4, 0] = one_d[:, 1] - second_d[:, 1] - both[:, 2]
    shares = second_n[:, 0] + second_d[:, 0] + 2 * (both[:, 0] - one_n[:, 0] - one_d[:, 0])
    hessian[:, 0, 0] = total_square + shares + gradient[:, 0]
    return gradient, hessian
