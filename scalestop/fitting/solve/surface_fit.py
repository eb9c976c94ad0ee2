"""The best parametric law for a table of runs, and for thousands of reweightings of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from scalestop.fitting.solve.newton import Array, Bounds
from scalestop.fitting.solve.problem import HuberProblem
from scalestop.fitting.solve.starts import projected_starts
from scalestop.fitting.solve.surface import HUBER_DELTA, Standardised, SurfaceObjective
from scalestop.laws.parametric import parametric_loss


@dataclass(frozen=True)
class SurfaceProblem(HuberProblem):
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
    def _basis(self) -> tuple[Array, Array]:
        """Z and offset of theta = Z·phi + offset, phi the free constants."""
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
        if self.num_free == 5:
            return self._objective(theta, weights, delta)
        basis, offset = self._basis
        value, gradient, hessian = self._objective(theta @ basis.T + offset, weights, delta)
        return value, gradient @ basis, basis.T @ hessian @ basis

    def to_free(self, constants: Array) -> Array:
        """Return the free coordinates, shape (M, p), of constants (M, 5)."""
        return self._reduce(self.runs.to_theta(np.atleast_2d(constants)))

    def to_constants(self, free: Array) -> Array:
        """Return (E, A, B, alpha, beta), shape (M, 5), of free coordinates (M, p)."""
        constants = self.runs.to_constants(free @ self._basis[0].T + self._basis[1])
        if self.irreducible is not None:
            constants[:, 0] = self.irreducible
        return constants

    def residuals(self, free: Array) -> Array:
        """Return log(predicted / measured) of every run, shape (M, R), at free coordinates (M, p)."""
        predicted = parametric_loss(self.params, self.tokens, *self.to_constants(free).T[:, :, None])
        return np.asarray(np.log(predicted / self.loss))

    def _reduce(self, theta: Array) -> Array:
        basis, offset = self._basis
        return (theta - offset) @ basis / (basis * basis).sum(axis=0)

    @cached_property
    def bounds(self) -> Bounds:
        """The box searched, in free coordinates."""
        lower, upper = self.runs.bounds()
        if self.tied:
            # phi is alpha itself, and within both boxes
            ends = np.array([lower[3:] / self.runs.scale, upper[3:] / self.runs.scale])
            lower, upper = np.append(lower[:3], ends[0].max()), np.append(upper[:3], ends[1].min())
        fixed = 0 if self.irreducible is None else 1
        return Bounds(lower[fixed:], upper[fixed:])

    def starts(self, weights: Array, most: int) -> Array:
        """Return the best of a grid of exponents; see `projected_starts`."""
        return self._reduce(
            projected_starts(self.runs, weights, tied=self.tied, irreducible=self.irreducible, keep=most)
        )
