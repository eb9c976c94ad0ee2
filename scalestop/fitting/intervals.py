"""Intervals from bootstrap draws: percentile, and bias-corrected and accelerated (Efron 1987)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from scalestop.errors import InputError
from scalestop.fitting.solve.newton import Array


@dataclass(frozen=True)
class Interval:
    """An estimate, and the values that the runs do not rule out."""

    estimate: float
    low: float
    """Lower end, bias-corrected and accelerated."""
    high: float
    """Upper end, bias-corrected and accelerated."""
    percentile: tuple[float, float]
    """The same by plain percentiles of the draws."""
    standard_error: float
    """Standard deviation of the draws."""
    level: float = 0.9
    """Share of the distribution inside."""

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.estimate:.4g} ({self.low:.4g} to {self.high:.4g}, {self.level:.0%})"


def interval(estimate: float, draws: Array, jackknife: Array, level: float = 0.9) -> Interval:
    """Return the intervals of one quantity.

    Args:
        estimate: Its value on all runs.
        draws: Its value on each bootstrap sample, shape (draws,).
        jackknife: Its value with each run left out, shape (runs,).
        level: Share of the distribution inside, between 0 and 1.

    Returns:
        The interval. Draws that are not finite are left out; without any other its ends are NaN.
    """
    if not 0 < level < 1:
        raise InputError(f"level: must lie between 0 and 1, such as 0.9; got {level!r}")
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    draws, jackknife = draws[np.isfinite(draws)], jackknife[np.isfinite(jackknife)]
    if not len(draws) or not len(jackknife):
        return Interval(float(estimate), np.nan, np.nan, (np.nan, np.nan), np.nan, level)
    low, high = np.quantile(draws, tails)
    bca_low, bca_high = np.quantile(draws, _bca_levels(estimate, draws, jackknife, tails))
    return Interval(
        estimate=float(estimate),
        low=float(bca_low),
        high=float(bca_high),
        percentile=(float(low), float(high)),
        standard_error=float(np.std(draws, ddof=1)) if len(draws) > 1 else 0.0,
        level=level,
    )


def _bca_levels(estimate: float, draws: Array, jackknife: Array, tails: Array) -> Array:
    """Return which quantiles of the draws to take (Efron 1987, eq. 2.3; acceleration from the jackknife, eq. 6.6)."""
    below = np.mean(draws < estimate) + 0.5 * np.mean(draws == estimate)
    # an estimate outside its own draws has no finite bias correction
    bias = ndtri(np.clip(below, 0.5 / len(draws), 1 - 0.5 / len(draws)))
    largest = np.abs(jackknife).max()
    # the acceleration has no scale; without this the cube of a runaway constant would overflow
    jackknife = jackknife / largest if largest > 0 else jackknife
    pull = jackknife.mean() - jackknife
    spread = float(np.sum(pull**2)) ** 1.5
    acceleration = float(np.sum(pull**3)) / (6 * spread) if spread > 0 else 0.0
    score = bias + ndtri(tails)
    return ndtr(bias + score / (1 - acceleration * score))
