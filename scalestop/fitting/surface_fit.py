"""The best parametric law for a table of runs, and for thousands of reweightings of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from scalestop.fitting.newton import Array, Bounds, Minimum, minimise
from scalestop.fitting.starts import projected_starts
from scalestop.fitting.surface import HUBER_DELTA, Standardised, SurfaceObjective
from scalestop.laws.parametric import parametric_loss


class _Stage(NamedTuple):
    factor: float
    """Huber threshold as a multiple of the problem's own."""
    tolerance: float
    steps: int
    keep: int
    """Distinct points that go on."""


_QUICK = (_Stage(8.0, 1e-3, 5, 3), _Stage(8.0, 1e-3, 80, 2), _Stage(2.5, 1e-3, 80, 2), _Stage(1.0, 1e-11, 80, 1))
_THOROUGH = (_Stage(8.0, 1e-3, 80, 200), _Stage(2.5, 1e-3, 80, 200), _Stage(1.0, 1e-11, 80, 1))
_NEARBY = (_Stage(2.5, 1e-2, 80, 200), _Stage(1.0, 1e-11, 80, 1))
_FEW_RUNS = 60
_WARM_CONTINUATION = (4.0, 1.0)
_ELEMENTS_PER_CHUNK = 125_000


@dataclass(frozen=True)
class SurfaceProblem:
    """The sum of Huber losses of a table of runs, as a function of E, A, B, alpha, beta."""

    params: Array
    """N of each run, shape (R,)."""
    tokens: Array
    """D of each run."""
    loss: Array
    """Loss of each run, nats per token."""
    tied: bool = False
    """Hold alpha = beta."""
    irreducible: float | None = None
    """E in nats per token, if it is not to be fitted; 0 for a law without E."""
    delta: float = HUBER_DELTA
    """Where the Huber loss turns from square to straight, in log loss."""

    @cached_property
    def runs(self) -> Standardised:
        """The runs in the solver's coordinates."""
        return Standardised.of(self.params, self.tokens, self.loss)

    @cached_property
    def _objective(self) -> SurfaceObjective:
        return SurfaceObjective(self.runs)

    @cached_property
    def _basis(self) -> tuple[Array, Array] | None:
        """Z and offset of theta = Z·phi + offset, phi the free constants; None when all five are free."""
        if not self.tied and self.irreducible is None:
            return None
        basis, offset = np.eye(5), np.zeros(5)
        if self.tied:
            basis[3, 3], basis[4, 3] = self.runs.scale  # phi is alpha itself
            basis = np.delete(basis, 4, axis=1)
        if self.irreducible is not None:
            offset[0] = np.log(max(self.irreducible, 1e-300))
            basis = np.delete(basis, 0, axis=1)
        return basis, offset

    @property
    def num_free(self) -> int:
        """Number of constants that are fitted."""
        return 5 - self.tied - (self.irreducible is not None)

    def evaluate(self, theta: Array, weights: Array, delta: Array | float) -> tuple[Array, Array, Array]:
        """Return value, gradient and Hessian in the free coordinates; see `newton.Objective`."""
        if self._basis is None:
            return self._objective(theta, weights, delta)
        basis, offset = self._basis
        value, gradient, hessian = self._objective(theta @ basis.T + offset, weights, delta)
        return value, gradient @ basis, basis.T @ hessian @ basis

    def to_free(self, constants: Array) -> Array:
        """Return the free coordinates, shape (M, p), of constants (M, 5)."""
        return self._reduce(self.runs.to_theta(np.atleast_2d(constants)))

    def to_constants(self, free: Array) -> Array:
        """Return (E, A, B, alpha, beta), shape (M, 5), of free coordinates (M, p)."""
        if self._basis is None:
            constants = self.runs.to_constants(free)
        else:
            constants = self.runs.to_constants(free @ self._basis[0].T + self._basis[1])
        if self.irreducible is not None:
            constants[:, 0] = self.irreducible
        return constants

    def value(self, constants: Array, weights: Array | None = None) -> Array:
        """Return the objective at constants (M, 5), shape (M,)."""
        weights = np.ones(len(self.loss)) if weights is None else weights
        return self._objective(self.runs.to_theta(np.atleast_2d(constants)), weights, self.delta)[0]

    def residuals(self, free: Array) -> Array:
        """Return log(predicted / measured) of every run, shape (M, R), at free coordinates (M, p)."""
        predicted = parametric_loss(self.params, self.tokens, *self.to_constants(free).T[:, :, None])
        return np.asarray(np.log(predicted / self.loss))

    def _reduce(self, theta: Array) -> Array:
        if self._basis is None:
            return theta
        basis, offset = self._basis
        return (theta - offset) @ basis / (basis * basis).sum(axis=0)

    @cached_property
    def bounds(self) -> Bounds:
        """The box searched, in free coordinates."""
        lower, upper = self.runs.bounds()
        if self._basis is None:
            return Bounds(lower, upper)
        sizes = np.abs(self._basis[0]).sum(axis=0) if not self.tied else None
        if sizes is not None:
            return Bounds(lower[1:], upper[1:])
        tied_bounds = lower[3] / self.runs.scale[0], upper[3] / self.runs.scale[0]
        low, high = np.append(lower[:3], tied_bounds[0]), np.append(upper[:3], tied_bounds[1])
        return Bounds(low, high) if self.irreducible is None else Bounds(low[1:], high[1:])

    def fit(self, weights: Array | None = None) -> Minimum:
        """Find the global minimum.

        The Huber loss with delta = 1e-3 is nearly a sum of absolute values, and has local minima that a smoother one
        has not. So the best starts of the projected grid first go down a smoothed objective (delta x8, then x2.5).
        Then the lowest end point is left in both directions along the flattest valleys, and found again. If that finds
        a lower one, or if there are so few runs that the valleys are rugged, every point of the grid is refined.

        Args:
            weights: Weight of each run, shape (R,); 1 if None.

        Returns:
            The best end point, with `theta` holding the constants (1, 5).
        """
        weights = np.ones(len(self.loss)) if weights is None else weights
        best = self._descend(self._starts(weights, 8), weights, _QUICK)
        nearby = self._descend(self._around(best, weights, directions=2, distances=(2.0,)), weights, _NEARBY)
        if len(self.loss) < _FEW_RUNS or nearby.value[0] < best.value[0] * (1 - 1e-9):
            everything = self._descend(self._starts(weights, 144), weights, _THOROUGH)
            best = min(best, nearby, everything, key=lambda found: found.value[0])
            for _ in range(4):
                starts = self._around(best, weights, directions=self.num_free, distances=(1.0, 3.0, 10.0))
                nearby = self._descend(starts, weights, _NEARBY)
                if nearby.value[0] >= best.value[0] * (1 - 1e-9):
                    break
                best = nearby
        return best._replace(theta=self.to_constants(best.theta))

    def _starts(self, weights: Array, count: int) -> Array:
        starts = projected_starts(self.runs, weights, tied=self.tied, irreducible=self.irreducible, keep=count)
        return self._reduce(starts)

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
            start: Constants to start from, shape (5,), or (M, 5).

        Returns:
            The minima, with `theta` holding the constants (M, 5).
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
