"""Huber problems of laws whose derivatives are taken by differences, for the forms fitted less often."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from scalestop.fitting.solve.newton import Array
from scalestop.fitting.solve.problem import HuberProblem

_STEP = 1e-4
"""Difference step, in coordinates of order one: gradients to about 1e-9, curvatures to 1e-4."""


class NumericProblem(HuberProblem):
    """A problem that knows only its prediction; gradient and Hessian of each run come from differences of it."""

    @abstractmethod
    def log_predicted(self, free: Array) -> Array:
        """Return the log of the predicted loss of every run, shape (M, R), at free coordinates (M, p)."""

    def residuals(self, free: Array) -> Array:
        """Return log(predicted / measured) of every run, shape (M, R), at free coordinates (M, p)."""
        return self.log_predicted(free) - np.log(self.loss)

    def evaluate(self, theta: Array, weights: Array, delta: Array | float) -> tuple[Array, Array, Array]:
        """Return value (M,), gradient (M, p) and Hessian (M, p, p) of the Huber sum."""
        count, size = theta.shape
        pairs = [(i, j) for i in range(size) for j in range(i)]
        moves = np.zeros((1 + 2 * size + len(pairs), size))
        for i in range(size):
            moves[1 + i, i], moves[1 + size + i, i] = _STEP, -_STEP
        for k, (i, j) in enumerate(pairs):
            moves[1 + 2 * size + k, [i, j]] = _STEP
        points = (moves[:, None, :] + theta).reshape(-1, size)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            values = self.log_predicted(points).reshape(len(moves), count, -1)
        # a point so far out that it has no loss is infinitely bad, so that it is never stepped to
        lost = ~np.isfinite(values).all(axis=(0, 2))
        values[:, lost] = 0.0
        middle, up, down, both = (
            values[0],
            values[1 : 1 + size],
            values[1 + size : 1 + 2 * size],
            values[1 + 2 * size :],
        )

        residual = middle - np.log(self.loss)
        limit = delta[:, None] if isinstance(delta, np.ndarray) and delta.ndim else delta
        influence = np.clip(residual, -limit, limit)
        pull = influence * weights
        value = np.einsum("mr,mr->m", pull, residual - 0.5 * influence)
        value[lost] = np.inf
        slope = (up - down) / (2 * _STEP)
        gradient = np.einsum("imr,mr->mi", slope, pull)
        hessian = np.einsum("imr,jmr,mr->mij", slope, slope, (influence == residual) * weights, optimize=True)
        for i in range(size):
            hessian[:, i, i] += np.einsum("mr,mr->m", pull, up[i] - 2 * middle + down[i]) / _STEP**2
        for k, (i, j) in enumerate(pairs):
            mixed = np.einsum("mr,mr->m", pull, both[k] - up[i] - up[j] + middle) / _STEP**2
            hessian[:, i, j] += mixed
            hessian[:, j, i] += mixed
        return value, gradient, hessian
