"""A run under way, followed by the law of its family: where it will end, and how surely.

The law gives shape and constants with their covariance, the run's own curve the level and what it knows of the rest.
Departures of a curve from the form are smooth and are forgotten along it (an Ornstein-Uhlenbeck process in the log of
weighted tokens), so a hundred points that stray together count as the few that they are. Everything is Gaussian around
the best fit; the interval is widened by the law's errors on pilots that it had not seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from scalestop.errors import InputError
from scalestop.laws.curves.gauss_newton import gauss_newton
from scalestop.laws.curves.law import CurveLaw
from scalestop.laws.curves.points import EndLoss, averaged, early, usable
from scalestop.laws.curves.rate_path import Array, RatePath
from scalestop.laws.curves.student import t_quantile
from scalestop.laws.curves.terms import curve_terms

_LEVEL_SD = 3.0
_WHITE = 1e-3
"""Least scatter of a point, nats."""

_ROUNDS = 5
_FAR_OFF = 6.0
_LEAST_SPIKE = 0.1


@dataclass(frozen=True)
class Forecast:
    """The loss that a run will have at some stop."""

    loss: float
    """Nats per token."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""
    deviation: float
    """Standard deviation behind it, nats, with what the law gets wrong."""
    tokens: float
    """The stop, tokens."""
    share_seen: float
    """Share of the way there that the run has seen."""
    level: float = 0.9
    """Share of the distribution inside the interval."""

    def __str__(self) -> str:
        return f"{self.loss:.4f} ({self.low:.4f} to {self.high:.4f}, {self.level:.0%})"


class Slope(NamedTuple):
    """What further tokens bring."""

    nats_per_token: float
    """Fall of the final loss for each token that the stop is moved out, above 0 where it pays."""
    deviation: float
    """Its standard deviation."""


@dataclass(frozen=True)
class Followed:
    """A run's curve so far, taken into the law: answers for any stop and any schedule from here on."""

    law: CurveLaw
    """The family's law."""
    path: RatePath
    """The rate, as it was and as it is planned."""
    tokens: Array
    """Tokens of the points used."""
    constants: Array
    """Level L0, then the constants of `curve_terms`, as the run and the law together have them."""
    covariance: Array
    """Of the same."""
    widen: float
    """Factor on standard deviations, from the law's errors on pilots left out."""
    degrees: float
    """Degrees of freedom of the interval."""
    tokens_ref: float
    """S_ref of this run."""
    seen: float
    """Tokens seen."""
    slopes: Array
    """Derivatives of the points used, by each constant."""
    weighted_left: Array
    """Inverse noise covariance times what the form leaves of the points used."""
    inverse_noise: Array
    """Inverse of the covariance of the points' departures."""

    def forecast(
        self, tokens: float | None = None, path: RatePath | None = None, *, noise: float = 0.0, level: float = 0.9
    ) -> Forecast:
        """Return the loss to expect at a stop.

        Args:
            tokens: The stop; the path's end if None.
            path: Another schedule from here on, such as `path.decayed(now, tokens)`; the planned one if None.
            noise: Standard error of the final loss that the interval is to hold, nats.
            level: Share of the distribution inside the interval.
        """
        path = self.path if path is None else path
        stop = float(path.tokens[-1] if tokens is None else tokens)
        if stop <= 0:
            raise InputError(f"tokens: a stop after the run's start; got {tokens!r}")
        value, gradient, own = self._at(path, stop)
        variance = float(gradient @ self.covariance @ gradient) + own
        deviation = math.sqrt(max(variance, 0.0)) * self.widen
        total = math.hypot(deviation, noise)
        reach = t_quantile((1 + level) / 2, self.degrees) * total
        return Forecast(value, value - reach, value + reach, total, stop, min(1.0, self.seen / stop), level)

    def slope(self, tokens: float | None = None, path: RatePath | None = None) -> Slope:
        """Return what one more token brings when the whole schedule is stretched to it, decay included."""
        path = self.path if path is None else path
        stop = float(path.tokens[-1] if tokens is None else tokens)
        base = path.until(stop) if stop < path.tokens[-1] else path
        step = 1e-3
        ends = []
        for factor in (1 - step, 1 + step):
            moved = base.stretched(factor)
            terms = curve_terms(moved, stop * factor, self.constants[1:], self.tokens_ref, self.law.kernel)
            ends.append((float(terms.value[0]), terms.slope[0]))
        width = 2 * step * stop
        gain = (ends[0][0] - ends[1][0]) / width
        by = np.concatenate([[0.0], (ends[0][1] - ends[1][1]) / width])
        deviation = math.sqrt(max(float(by @ self.covariance @ by), 0.0)) * max(self.widen, 1.0)
        return Slope(gain, deviation)

    def expected(self, tokens: Array) -> Array:
        """Return the fitted curve at points of the planned path, nats per token."""
        terms = curve_terms(self.path, tokens, self.constants[1:], self.tokens_ref, self.law.kernel)
        return self.constants[0] + terms.value

    def _at(self, path: RatePath, stop: float) -> tuple[float, Array, float]:
        """Value at a stop, its derivative by the constants, and the variance of its own departure from the form."""
        terms = curve_terms(path, stop, self.constants[1:], self.tokens_ref, self.law.kernel)
        straight = np.concatenate([[1.0], terms.slope[0]])
        here = math.log(float(path.effective_tokens(stop)))
        apart = np.abs(np.log(self.path.effective_tokens(self.tokens)) - here)
        size = self.law.misfit * early(self.path, self.tokens)
        shared = self.law.misfit * size * np.exp(-apart / self.law.reach)
        value = float(self.constants[0] + terms.value[0] + shared @ self.weighted_left)
        gradient = straight - self.slopes.T @ (self.inverse_noise @ shared)
        own = self.law.misfit**2 - float(shared @ self.inverse_noise @ shared)
        return value, gradient, own


def follow(
    law: CurveLaw,
    num_params: float,
    path: RatePath,
    tokens: Array,
    loss: Array,
    error: Array | None = None,
    *,
    end: EndLoss | None = None,
    widen: bool = True,
) -> Followed:
    """Take a run's curve so far into the law.

    Args:
        law: The family's law, or `CurveLaw.without_pilots`.
        num_params: N.
        path: The rate as it was and as it is planned, to the planned stop.
        tokens: Tokens at each point so far, growing.
        loss: Loss at each, nats per token; not finite ones are left out.
        error: Standard error of each; None takes it from the scatter of neighbours.
        end: The final loss that another law expects at the planned stop, as one more thing known. Leave it out where
            the forecast is to be held against that law.
        widen: Whether to widen by the law's errors on pilots left out.

    Raises:
        InputError: If fewer than three points lie after warm-up.
    """
    tokens, loss = np.asarray(tokens, dtype=np.float64), np.asarray(loss, dtype=np.float64)
    keep = usable(path, tokens) & np.isfinite(loss)
    if keep.sum() < 3:
        first = path.warm_tokens * 1.5
        raise InputError(
            f"loss: {int(keep.sum())} points after {first:.3g} tokens, where warm-up is over; 3 are needed"
        )
    points = averaged(tokens[keep], loss[keep], None if error is None else np.asarray(error)[keep])
    stop = float(path.tokens[-1])
    tokens_ref = float(path.effective_tokens(stop)) if law.tokens_ref is None else law.tokens_ref
    expect = law.constants(num_params, stop / max(float(path.steps[-1]), 1.0))

    mean = np.concatenate([[float(np.median(points.loss[-9:])) - 0.3], expect.mean])
    precision = np.zeros((len(mean), len(mean)))
    precision[0, 0] = _LEVEL_SD**-2
    precision[1:, 1:] = np.linalg.inv(expect.covariance)
    place = np.log(path.effective_tokens(points.tokens))
    size = law.misfit * early(path, points.tokens)
    smooth = np.outer(size, size) * np.exp(-np.abs(place[:, None] - place) / law.reach)

    def parts(theta: Array) -> tuple[Array, Array]:
        terms = curve_terms(path, points.tokens, theta[1:], tokens_ref, law.kernel)
        return points.loss - theta[0] - terms.value, np.column_stack([np.ones(len(place)), terms.slope])

    def evaluate(theta: Array) -> tuple[Array, Array]:
        left, slope = parts(theta)
        residual, rows = root @ left, root @ slope
        if end is not None:
            terms = curve_terms(path, stop, theta[1:], tokens_ref, law.kernel)
            spread = math.hypot(end.error, law.misfit)
            residual = np.append(residual, (end.loss - theta[0] - terms.value[0]) / spread)
            rows = np.vstack([rows, np.concatenate([[1.0], terms.slope[0]]) / spread])
        return residual, rows

    theta, spikes = mean, np.zeros(len(place))
    for _ in range(_ROUNDS):
        inverse = np.linalg.inv(smooth + np.diag(points.error**2 + _WHITE**2 + spikes**2))
        root = np.linalg.cholesky(inverse).T
        theta, covariance = gauss_newton(evaluate, theta, mean, precision, steps=20)
        left, slopes = parts(theta)
        found = _spikes(left, np.hypot(size, points.error))
        if not (found > spikes).any():
            break
        spikes = np.maximum(spikes, found)
    widening = law.widening(num_params)
    seen = float(tokens[-1])
    return Followed(
        law=law,
        path=path,
        tokens=points.tokens,
        constants=theta,
        covariance=covariance,
        widen=widening.at(seen / stop) if widen else 1.0,
        degrees=widening.degrees,
        tokens_ref=tokens_ref,
        seen=seen,
        slopes=slopes,
        weighted_left=inverse @ left,
        inverse_noise=inverse,
    )


def _spikes(left: Array, usual: Array) -> Array:
    """Return the distance of points that stand apart from the others, and 0 for those that do not.

    A point that is off by six times what the others are, and by 0.1 nats, is a spike: it counts with an error of three
    times its distance, which is hardly at all.
    """
    away = np.abs(left - np.median(left))
    typical = max(float(np.median(away / usual)) / 0.6745, 1.0)
    return np.where(away > np.maximum(_FAR_OFF * typical * usual, _LEAST_SPIKE), 3 * away, 0.0)
