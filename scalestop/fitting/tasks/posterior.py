"""A least-squares fit under Gaussian priors, with the normal approximation of its posterior."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from scalestop.fitting.solve.newton import Array


@dataclass(frozen=True)
class Prior:
    """Independent normal priors on the coordinates of a fit, and a prior on its scatter."""

    mean: Array
    """Shape (p,)."""
    sd: Array
    """Shape (p,)."""
    scatter: float
    """The scatter to be expected, in units of the residuals."""
    weight: float = 4.0
    """How many points that expectation is worth."""


@dataclass(frozen=True)
class Posterior:
    """The best point and the normal around it."""

    best: Array
    """Shape (p,)."""
    covariance: Array
    """Shape (p, p)."""
    scatter: float
    """Standard deviation of a point of weight one."""

    def draws(self, count: int, seed: int) -> Array:
        """Return `count` draws, shape (count, p)."""
        return np.random.default_rng(seed).multivariate_normal(self.best, self.covariance, count, method="eigh")


def fit_posterior(
    residuals: Callable[[Array], Array],
    slopes: Callable[[Array], Array],
    weights: Array,
    prior: Prior,
    starts: Sequence[Array],
) -> Posterior:
    """Fit coordinates and scatter in turn, four times.

    Args:
        residuals: Takes coordinates (p,), returns predicted less measured, shape (R,).
        slopes: Takes coordinates, returns the derivatives of these, shape (R, p).
        weights: Points that each residual is worth, shape (R,).
        prior: What is believed beforehand.
        starts: Coordinates to start from; the lowest end is kept.
    """
    root, scatter, count = np.sqrt(weights), prior.scatter, float(weights.sum())
    free = max(count - 0.8 * len(prior.mean), count / 4)
    points = list(starts)
    for _ in range(4):

        def target(at: Array, scatter: float = scatter) -> Array:
            with np.errstate(over="ignore"):
                return np.concatenate([root * residuals(at) / scatter, (at - prior.mean) / prior.sd])

        def jacobian(at: Array, scatter: float = scatter) -> Array:
            return np.concatenate([root[:, None] * slopes(at) / scatter, np.diag(1 / prior.sd)])

        fits = (least_squares(target, point, jacobian, method="lm", max_nfev=400) for point in points)
        found = min(fits, key=attrgetter("cost"))
        measured = float(np.sum(weights * residuals(found.x) ** 2)) / free
        # a few runs that happen to lie on a line do not make a perfect law
        log_scatter = count * np.log(max(measured, 1e-12)) / 2 + prior.weight * np.log(prior.scatter)
        scatter = float(np.exp(log_scatter / (count + prior.weight)))
        points = [found.x]
    return Posterior(np.asarray(found.x), np.linalg.inv(found.jac.T @ found.jac), scatter)


def rounded(values: Array) -> Any:
    """Return an array as JSON-ready lists of seven digits."""
    return np.vectorize(lambda value: float(f"{value:.7g}"))(values).tolist()


def growth_of_error(errors: Array, variances: Array, distances: Array, weights: Array, expected: float) -> float:
    """Return how much a form's error grows per factor of e of extrapolation, learned from predictions that were tried.

    Each error is taken as normal with variance + (growth·distance)², and the growth has a lognormal prior about
    `expected` with a standard deviation of a factor of 2.

    Args:
        errors: Predicted less measured, shape (K,).
        variances: What the fit itself and the noise account for.
        distances: Log of the extrapolation factor.
        weights: Independent predictions that each one is worth: those of one fit miss together.
        expected: Growth to be expected before any prediction was tried.
    """
    grid = expected * np.exp(np.linspace(-2.5, 2.5, 101))
    total = variances + np.multiply.outer(grid, distances) ** 2
    likelihood = -0.5 * ((np.log(total) + errors**2 / total) * weights).sum(axis=1)
    prior = -0.5 * (np.log(grid / expected) / np.log(2)) ** 2
    score = np.exp(likelihood + prior - (likelihood + prior).max())
    # the mean square, as it is variances that add up
    return float(np.sqrt((score * grid**2).sum() / score.sum()))
