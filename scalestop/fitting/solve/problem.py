"""What all Huber fits share: the global search, and thousands of warm-started refits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np

from scalestop.fitting.solve.newton import Array, Bounds, Minimum, minimise


class _Stage(NamedTuple):
    factor: float
    """Huber threshold as a multiple of the problem's own."""
    tolerance: float
    steps: int
    keep: int
    """Distinct points that go on."""


_QUICK = (_Stage(8.0, 3e-2, 5, 3), _Stage(8.0, 3e-2, 80, 2), _Stage(2.5, 3e-2, 80, 2), _Stage(1.0, 1e-11, 80, 1))
_THOROUGH = (_Stage(8.0, 1e-3, 80, 200), _Stage(2.5, 1e-3, 80, 200), _Stage(1.0, 1e-11, 80, 1))
_NEARBY = (_Stage(2.5, 3e-2, 80, 200), _Stage(1.0, 1e-11, 80, 1))
_FEW_RUNS = 60
_WARM_CONTINUATION = (4.0, 1.0)
_ELEMENTS_PER_CHUNK = 125_000
_STEP = 1e-4
"""Difference step, in coordinates of order one: gradients to about 1e-9, curvatures to 1e-4."""


class HuberProblem(ABC):
    """Minimise the sum over runs of Huber(log predicted - log measured), over the constants of some law.

    Subclasses say how constants and the solver's free coordinates go into each other, and give derivatives.
    """

    loss: Array
    """Loss of each run, nats per token, shape (R,)."""
    delta: float
    """Where the Huber loss turns from square to straight, in log loss."""

    @property
    @abstractmethod
    def num_free(self) -> int:
        """Number of constants that are fitted, p."""

    @property
    @abstractmethod
    def bounds(self) -> Bounds:
        """The box searched, in free coordinates."""

    @abstractmethod
    def evaluate(self, theta: Array, weights: Array, delta: Array | float) -> tuple[Array, Array, Array]:
        """Return value, gradient and Hessian in the free coordinates; see `newton.Objective`."""

    @abstractmethod
    def residuals(self, free: Array) -> Array:
        """Return log(predicted / measured) of every run, shape (M, R), at free coordinates (M, p)."""

    @abstractmethod
    def to_free(self, constants: Array) -> Array:
        """Return the free coordinates, shape (M, p), of constants (M, k)."""

    @abstractmethod
    def to_constants(self, free: Array) -> Array:
        """Return the law's constants, shape (M, k), of free coordinates (M, p)."""

    @abstractmethod
    def starts(self, weights: Array, most: int) -> Array:
        """Return at most `most` starting points in free coordinates, the most promising first."""

    def fit(self, weights: Array | None = None) -> Minimum:
        """Find the global minimum.

        The Huber loss with delta = 1e-3 is nearly a sum of absolute values, and has local minima that a smoother one
        has not. So the best starts of the projected grid first go down a smoothed objective (delta x8, then x2.5).
        Then the lowest end point is left in both directions along the flattest valleys, and found again. If that finds
        a lower one, or if there are so few runs that the valleys are rugged, every point of the grid is refined.

        Args:
            weights: Weight of each run, shape (R,); 1 if None.

        Returns:
            The best end point, with `theta` holding the constants (1, k).
        """
        weights = np.ones(len(self.loss)) if weights is None else weights
        best = self._descend(self.starts(weights, 8), weights, _QUICK)
        nearby = self._descend(self._around(best, weights, directions=2, distances=(2.0,)), weights, _NEARBY)
        if len(self.loss) < _FEW_RUNS or nearby.value[0] < best.value[0] * (1 - 1e-9):
            everything = self._descend(self.starts(weights, 144), weights, _THOROUGH)
            best = min(best, nearby, everything, key=lambda found: found.value[0])
            for _ in range(4):
                starts = self._around(best, weights, directions=self.num_free, distances=(1.0, 3.0, 10.0))
                nearby = self._descend(starts, weights, _NEARBY)
                if nearby.value[0] >= best.value[0] * (1 - 1e-9):
                    break
                best = nearby
        return best._replace(theta=self.to_constants(best.theta))

    def _around(self, found: Minimum, weights: Array, *, directions: int, distances: tuple[float, ...]) -> Array:
        """Return points on both sides of a minimum, some standard errors away along its flattest directions."""
        value, _, hessian = self.evaluate(found.theta, weights, self.delta * _QUICK[0].factor)
        curvature, vectors = np.linalg.eigh(hessian[0])
        error = np.sqrt(value[0] / len(self.loss) / np.maximum(np.abs(curvature), 1e-6))[:directions]
        moves = np.multiply.outer([s * d for d in distances for s in (1, -1)], (error * vectors[:, :directions]).T)
        return found.theta + np.clip(moves.reshape(-1, self.num_free), -2, 2)

    def _descend(self, points: Array, weights: Array, stages: tuple[_Stage, ...]) -> Minimum:
        for stage in stages:
            found = minimise(
                self.evaluate,
                points,
                weights,
                self.delta * stage.factor,
                bounds=self.bounds,
                tolerance=stage.tolerance,
                max_steps=stage.steps,
            )
            kept = _distinct(found, stage.keep)
            points = found.theta[kept]
        return Minimum(points, found.value[kept], found.converged[kept])

    def refit(self, weights: Array, start: Array) -> Minimum:
        """Refit to many weightings of the runs, each re-converged from a warm start.

        Args:
            weights: Shape (M, R), such as the counts of a bootstrap.
            start: Constants to start from, shape (k,), or (M, k).

        Returns:
            The minima, with `theta` holding the constants (M, k).
        """
        count, chunk = len(weights), max(8, _ELEMENTS_PER_CHUNK // len(self.loss))
        begin = np.broadcast_to(self.to_free(start), (count, self.num_free))
        parts = [self._refit_chunk(weights[i : i + chunk], begin[i : i + chunk]) for i in range(0, count, chunk)]
        theta, value, converged = (np.concatenate(column) for column in zip(*parts, strict=True))
        return Minimum(self.to_constants(theta), value, converged)

    def _refit_chunk(self, weights: Array, points: Array) -> Minimum:
        weights = np.ascontiguousarray(weights, dtype=np.float64)
        for factor in _WARM_CONTINUATION:
            found = minimise(
                self.evaluate,
                points,
                weights,
                self.delta * factor,
                bounds=self.bounds,
                tolerance=1e-11 if factor == 1 else 1e-2,
            )
            points = found.theta
        return found


def _distinct(found: Minimum, most: int) -> list[int]:
    """Return the lowest of each group of end points that came together, lowest first."""
    order = np.argsort(found.value, kind="stable")
    kept = [int(order[0])]
    for i in order[1:]:
        if len(kept) == most:
            break
        if np.abs(found.theta[kept] - found.theta[i]).max(axis=1).min() > 0.02:
            kept.append(int(i))
    return kept


class NumericProblem(HuberProblem):
    """A problem of a form fitted less often: it knows only its prediction; derivatives come by differences of it."""

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
