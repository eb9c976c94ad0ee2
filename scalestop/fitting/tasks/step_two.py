"""Step two: from the loss on a task's answers to the metric, by a sigmoid with floor and ceiling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.special import expit, logit

from scalestop.fitting.solve.newton import Array
from scalestop.fitting.tasks.posterior import Prior, fit_posterior, rounded

_SHIFTS = np.array(
    [[0, 0, 0, 0], [0.3, -1, 0.3, 0.1], [-0.3, -1, -0.4, -0.1], [0.2, -2, 0.6, 0], [0, 0, -0.5, -0.3], [0, 0, 0.8, 0.1]]
)

# The floor between chance of six answers and of two; the ceiling near .9, as answer keys have errors; k and x0 so that
# the rise may begin anywhere near the runs. On olmo_ladder forecasts hardly depend on these: see `fit_task`.
_PRIOR = Prior(
    np.array([logit(0.28), 2.0, np.log(6.0), 0.7]),
    np.array([0.7, 1.0, 0.5, 0.3]),
    scatter=0.006,
)


@dataclass(frozen=True)
class StepTwo:
    """floor + (ceiling - floor)·sigmoid(k·(x0 - loss)): Bhagia et al. 2024 (arXiv 2412.04403), their second step."""

    centre: float
    """Loss on the answers in whose units the coordinates are."""
    best: Array = field(repr=False)
    """logit floor, logit of (ceiling - floor) / (1 - floor), log k and x0, the last two in units of `centre`."""
    drawn: Array = field(repr=False)
    """Draws of them, shape (draws, 4)."""
    scatter: float
    """Standard deviation of a run around the curve."""

    @property
    def floor(self) -> float:
        """The metric of a model that knows nothing."""
        return float(expit(self.best[0]))

    @property
    def ceiling(self) -> float:
        """The metric that is never passed."""
        return self.floor + (1 - self.floor) * float(expit(self.best[1]))

    @property
    def steepness(self) -> float:
        """k, per unit of loss."""
        return float(np.exp(self.best[2])) / self.centre

    @property
    def midpoint(self) -> float:
        """x0, the loss half way up."""
        return float(self.best[3]) * self.centre

    def metric(self, loss: Array) -> Array:
        """Return the metric expected at a loss on the answers, any shape."""
        return sigmoid(self.best, np.asarray(loss) / self.centre)

    def draws(self, loss: Array) -> Array:
        """Return the metric by each draw at that draw's loss, shape (draws, Q)."""
        # to first order in the coordinates, as log odds, so that draws lie about the best fit; see `StepOne.draws`
        at = np.asarray(loss) / self.centre
        best = np.clip(sigmoid(self.best, at), 1e-9, 1 - 1e-9)
        moves = np.einsum("mqp,mp->mq", sigmoid_tangent(self.best, at), (self.drawn - self.best)[: len(at)])
        return np.asarray(expit(logit(best) + moves / (best * (1 - best))))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return {**vars(self), "best": rounded(self.best), "drawn": rounded(self.drawn)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> StepTwo:
        """Read what `to_dict` returned."""
        best, drawn = np.asarray(data["best"], float), np.asarray(data["drawn"], float)
        return cls(float(data["centre"]), best, drawn, float(data["scatter"]))


def sigmoid(theta: Array, loss: Array) -> Array:
    """Return the curve; theta's last axis holds the four coordinates, `loss` is in units of the centre."""
    floor = expit(theta[..., 0])
    with np.errstate(over="ignore"):
        height = expit(np.exp(theta[..., 2]) * (theta[..., 3] - loss))
    return np.asarray(floor + (1 - floor) * expit(theta[..., 1]) * height)


def sigmoid_tangent(theta: Array, loss: Array) -> Array:
    """Return the derivatives of `sigmoid` at theta (4,) by theta, with a last axis of 4."""
    floor, share, steep = expit(theta[0]), expit(theta[1]), np.exp(theta[2])
    height = expit(steep * (theta[3] - loss))
    slope = (1 - floor) * share * height * (1 - height)
    return np.stack(
        [
            floor * (1 - floor) * (1 - share * height),
            (1 - floor) * share * (1 - share) * height,
            slope * steep * (theta[3] - loss),
            slope * steep,
        ],
        axis=-1,
    )


def fit_sigmoid(
    loss: Array, metric: Array, weights: Array, *, floor: float | None = None, draws: int = 1000, seed: int = 0
) -> StepTwo:
    """Fit the curve to the loss on the answers and the metric, between 0 and 1, at points (P,), with posterior draws.

    `weights` are the runs that each point is worth; `floor` is what guessing gets, such as .25 with four answers, else
    there is a weak prior about .25.
    """
    centre = float(np.median(loss))
    prior = _PRIOR
    if floor is not None:
        mean, sd = prior.mean.copy(), prior.sd.copy()
        mean[0], sd[0] = logit(floor), 0.05
        prior = replace(prior, mean=mean, sd=sd)

    at = loss / centre
    found = fit_posterior(
        lambda theta: sigmoid(theta, at) - metric,
        lambda theta: sigmoid_tangent(theta, at),
        weights,
        prior,
        list(prior.mean + _SHIFTS),
    )
    return StepTwo(centre, found.best, found.draws(draws, seed), found.scatter)
