"""Rolling forecasts inside the table: which hypothesis foretold its dearer runs, and by how much all of them missed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp

from scalestop.fitting.methods.valley_hypotheses import HYPOTHESES, NO_FLOOR, Fitted, fit_hypotheses
from scalestop.fitting.solve.horizon import IN_VALLEY, Horizon, horizon
from scalestop.fitting.solve.newton import Array
from scalestop.fitting.solve.robust import DEGREES

STEPS_BACK = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Factors of compute below the dearest run from which to forecast."""

FORWARD = 0.2
"""Drift beyond the runs over drift within the fit: the runs near the top have already set the level and the slope that
the forecast starts from. Any value from 0 to .5 forecasts alike on the public tables."""

MOST_FLOORLESS = 0.5
"""Share of the hypotheses without a floor at most, whatever the runs say, unless E is given. A floor shows only above
the runs: between them a loss that curves the other way, as small models' do, looks like none at all. Text has one, so
at least half of the forecast keeps it, and the interval holds the distance between the two."""

BACKWARD = 2.0
"""The same below the runs. Small models and short runs depart from the form faster than large ones (untuned rates, a
loss that cannot rise above a guess's): the least whole factor at which intervals hold 90 % of the valley rows below the
cheapest fitted run, families of tables weighted alike; leaving any one family out gives 1.5 or 2, but for Porian's
(0: without it the others need none)."""

LEAST_RUNS = 8
"""Runs near the valley that a rolling forecast needs; with fewer it says more of the priors than of the table."""

LEAST_SIZES = 3
"""Sizes it needs."""

_NEAR = 0.1
_WORTH = 2.0  # independent runs that the runs of one forecast are worth at most: they share the law's error
_HALF_WORTH = 2.0  # runs at which half of that is reached
_PRIOR_FORECASTS = 1.0  # forecasts that the priors' own width counts as: where a table has some, they speak for it
_PRIOR_DEGREES = 8.0
_DEGREES_PER_FORECAST = 6.0
_INFLATION = (0.5, 3.0)
_APART = 0.3  # horizons closer than this in log compute see the same runs


@dataclass(frozen=True)
class Evidence:
    """What earlier forecasts say."""

    share: Array
    """Weight of each hypothesis, summing to 1, shape (K,)."""
    floorless: float
    """Weight that the runs alone would give to there being no floor, before `MOST_FLOORLESS`."""
    inflation: float
    """Misses over expected misses, root mean square, shrunk to 1."""
    degrees: float
    """Degrees of freedom of the intervals."""
    num_forecasts: int
    """Horizons that could be held against dearer runs."""


@dataclass(frozen=True)
class Valley:
    """What only this method knows of its fit."""

    evidence: Evidence
    """How each hypothesis forecast within the table."""
    weight: Array = field(repr=False)
    """Weight of each run of the table, shape (R,): 1 on the envelope, 0 far up the sides."""
    broken: NDArray[np.int_] = field(repr=False)
    """Rows so far below the envelope of all others that they were taken for broken runs."""
    drift: float
    """Error of the form, in log loss, per factor of e of compute below the dearest run."""
    top: Horizon = field(repr=False)
    """The table seen from its dearest run, without negligible runs."""
    fitted: Fitted = field(repr=False)
    """Every hypothesis at every horizon."""


class _Forecast(NamedTuple):
    error: Array
    """Measured less forecast log loss, shape (K, Q)."""
    spread: Array
    """From the constants, shape (K, Q)."""
    noise: Array
    """Shape (K, 1)."""
    outside: Array
    """log compute beyond the horizon, shape (Q,)."""

    @property
    def worth(self) -> float:
        """Between 0 and 1."""
        return float(self.error.shape[1]) / float(self.error.shape[1] + _HALF_WORTH)


def weigh(
    log_params: Array,
    log_tokens: Array,
    log_loss: Array,
    weight: Array,
    replicates: Array,
    floor: float,
    irreducible: float | None = None,
) -> tuple[Evidence, list[Horizon], Fitted]:
    """Fit at the top and at lower horizons, and hold each lower one against the valley runs above it.

    Args:
        log_params: log N, shape (R,), as the next four.
        log_tokens: log D.
        log_loss: log L.
        weight: Weight of each run.
        replicates: How many runs share the (N, D) of each.
        floor: Least noise, in log loss.
        irreducible: E where it is given, nats per token.

    Returns:
        The evidence; the horizons, the top first; the fits.
    """
    compute = log_params + log_tokens
    horizons = [horizon(log_params, log_tokens, log_loss, weight, float(compute.max()))]
    near = horizons[0].excess < _NEAR
    valley = horizons[0].excess < IN_VALLEY
    for factor in STEPS_BACK:
        seen = near & (compute <= compute.max() - np.log(factor) + 1e-6)
        if seen.sum() < LEAST_RUNS or len(np.unique(np.round(log_params[seen] - log_params.min(), 2))) < LEAST_SIZES:
            break
        lower = horizon(log_params, log_tokens, log_loss, weight, float(compute[seen].max()))
        if all(abs(lower.top - other.top) > _APART for other in horizons) and np.any(valley & ~lower.seen):
            horizons.append(lower)
    fitted = fit_hypotheses(horizons, log_params, log_tokens, log_loss, replicates, floor, irreducible)
    forecasts = []
    for h, lower in enumerate(horizons[1:], 1):
        held = valley & ~lower.seen
        mean, spread = fitted.forecast(h, lower, log_params[held], log_tokens[held])
        forecasts.append(
            _Forecast(log_loss[held] - mean, spread, fitted.noise[h][:, None], lower.outside(compute[held]))
        )
    share, floorless = _share(forecasts, MOST_FLOORLESS if irreducible is None else 1.0)
    missed = sum(f.worth * _miss(f, share) for f in forecasts)
    worth = sum(f.worth for f in forecasts)
    inflation = np.sqrt((_PRIOR_FORECASTS + missed) / (_PRIOR_FORECASTS + worth))
    evidence = Evidence(
        share=share,
        floorless=floorless,
        inflation=float(np.clip(inflation, *_INFLATION)),
        degrees=_PRIOR_DEGREES + _DEGREES_PER_FORECAST * worth,
        num_forecasts=len(forecasts),
    )
    return evidence, horizons, fitted


def _drift() -> Array:
    return FORWARD * np.array([[k.drift] for k in HYPOTHESES])


def _share(forecasts: list[_Forecast], most_floorless: float) -> tuple[Array, float]:
    """Return posterior weights by the density each hypothesis gave to what came, and the floorless ones' own weight."""
    score = np.array([k.log_odds for k in HYPOTHESES])
    constant = gammaln(0.5 * (DEGREES + 1)) - gammaln(0.5 * DEGREES) - 0.5 * np.log(np.pi * DEGREES)
    for f in forecasts:
        deviation = np.sqrt(f.spread**2 + f.noise**2 + (_drift() * f.outside) ** 2)
        density = constant - 0.5 * (DEGREES + 1) * np.log1p((f.error / deviation) ** 2 / DEGREES) - np.log(deviation)
        score = score + _WORTH * f.worth * density.mean(axis=1)
    floorless = np.array([k.prior is NO_FLOOR for k in HYPOTHESES])
    odds = logsumexp(score[floorless]) - logsumexp(score[~floorless])
    found = float(1 / (1 + np.exp(-odds)))
    kept = min(found, most_floorless)
    # each group in its own proportions: where one has all the weight, the other's must not vanish in rounding
    for group, part in ((floorless, kept), (~floorless, 1 - kept)):
        score[group] = part * np.exp(score[group] - logsumexp(score[group]))
    return score, found


def _miss(f: _Forecast, share: Array) -> float:
    """Return the mean square error of the averaged forecast over its variance."""
    error = share @ f.error
    within = f.spread**2 + (_drift() * f.outside) ** 2 + f.noise**2
    between = (f.error - error) ** 2
    return float(np.mean(error**2 / (share @ (within + between))))
