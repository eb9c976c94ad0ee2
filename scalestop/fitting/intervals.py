"""Intervals from bootstrap draws: percentile, and bias-corrected and accelerated (Efron 1987)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from scalestop.errors import InputError
from scalestop.fitting.solve.newton import Array

POINT_FIT = "This is a point fit (bootstrap=0): it has no intervals. Fit with bootstrap=1000 for them."


@dataclass(frozen=True)
class Interval:
    """An estimate, and the values that the runs do not rule out.

    Of an array of quantities each field is an array of that shape. Of a point fit the ends are NaN.
    """

    estimate: Any
    low: Any
    """Lower end, bias-corrected and accelerated."""
    high: Any
    """Upper end, bias-corrected and accelerated."""
    percentile: tuple[Any, Any]
    """The same by plain percentiles of the draws."""
    standard_error: Any
    """Standard deviation of the draws."""
    level: float = 0.9
    """Share of the distribution inside."""

    @property
    def is_point(self) -> bool:
        """Whether there is an estimate alone: a point fit has no ends."""
        return bool(np.all(np.isnan(self.low)))

    def __contains__(self, value: float) -> bool:
        if self.is_point:
            raise InputError(f"interval: {POINT_FIT}")
        return bool(np.all((self.low <= value) & (value <= self.high)))

    def __str__(self) -> str:
        if np.ndim(self.estimate):
            return f"{np.size(self.estimate)} intervals, {self.level:.0%}"
        if self.is_point:
            return f"{self.estimate:.4g} (no interval)"
        return f"{self.estimate:.4g} ({self.low:.4g} to {self.high:.4g}, {self.level:.0%})"


def interval(estimate: float, draws: Array, jackknife: Array, level: float = 0.9) -> Interval:
    """Return the interval of one quantity from its value on all runs, on each bootstrap sample, and without each run.

    It holds its own estimate: where the draws lie to one side of that, it reaches there. Draws that are not finite are
    left out; without any other its ends are NaN.
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
        low=min(float(bca_low), float(estimate)),
        high=max(float(bca_high), float(estimate)),
        percentile=(float(low), float(high)),
        standard_error=float(np.std(draws, ddof=1)) if len(draws) > 1 else 0.0,
        level=level,
    )


def given_ends(estimate: Any, ends: tuple[Any, Any] | None, level: float) -> Interval:
    """Return the interval of an answer, a number or an array, whose (low, high) of that shape `laws.intervals` gave.

    Its standard error is that of a normal distribution of this width. Without ends, of a law without draws, it is a
    point.
    """
    shape = np.shape(estimate)
    if ends is None:
        nothing: Any = np.full(shape, np.nan) if shape else np.nan
        return Interval(estimate, nothing, nothing, (nothing, nothing), nothing, level)
    low, high = ends
    widths = 2 * float(ndtri((1 + level) / 2))
    return Interval(estimate, low, high, (low, high), (high - low) / widths, level)


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
