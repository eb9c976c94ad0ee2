"""The band of pilots' normalised curves: where a run should be at each share of its way, and when it has left.

Runs of one recipe fall on one curve when loss is drawn against the share of the run ('scaling collapse', Qiu et al.
2025, arXiv 2507.02119). Here the loss in each window of the share is linear in log N, log D and log batch over the
pilots, which lines up runs of several sizes and lengths also where the collapse is not exact, warm-up included; what is
left is each run's own scatter. A run is then held against it window by window: the band is crossed where the mean
departure over the last windows is larger than healthy runs of this scatter show anywhere, over a whole run, in one of
so many.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scalestop.errors import InputError
from scalestop.laws.curves.rate_path import Array, RatePath

SCHEMA = "scalestop.curve-band/1"

EDGES = np.array(
    [
        *(0, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1, 0.115, 0.135, 0.165),
        *(0.2, 0.25, 0.3, 0.36, 0.43, 0.51, 0.6, 0.7, 0.8, 0.9, 1.0),
    ]
)
"""Edges of the windows, shares of the run: finer where the loss falls faster."""

_BACK = (1, 2, 4, 8)
"""Windows over which the latest departures are averaged: a jump shows in one, a shift in eight."""

_FAR = 2.0
"""Leverage, in mean leverages of the pilots, above which a run lies outside them: twice as usual (Hoaglin and Welsch
1978). The form in N, D and batch is a plane, and holds among the pilots; healthy runs of twice the largest one's N and
D leave the band."""

_TRIALS = 10_000
_REACH = 0.5


class BandCheck(NamedTuple):
    """A run against the band of its pilots, up to a share of its way."""

    crossed: bool
    """Whether it has left the band, now or before."""
    share: float | None
    """Share of the run at which it first left; None if it did not."""
    score: float
    """Largest mean departure so far, in units of the largest that a healthy run may show; 1 is the edge of the band."""
    excess: float
    """Mean departure over the windows of that largest one, nats; above 0 where the run is worse than its pilots."""
    windows: int
    """Windows compared."""
    message: str
    """The same in words."""


@dataclass(frozen=True)
class CurveBand:
    """The pilots' curves by share of the run, and how single runs scatter around them."""

    coefficients: Array
    """Loss at the references, and its growth with log N, log D and log of a step's tokens: shape (windows, 4), nats;
    NaN where unknown."""
    covariance: Array
    """Inverse normal matrix of the regression, shape (4, 4): how much further off a run is that few pilots surround."""
    scatter: Array
    """Standard deviation of single runs around it, nats, beyond the noise of their losses, shape (windows,)."""
    rate: Array
    """Mean rate of the pilots in each window, as a share of their peak."""
    num_params_ref: float
    """N of the references."""
    tokens_ref: float
    """D of the references."""
    step_tokens_ref: float
    """Tokens per step of the references."""
    degrees: float
    """Degrees of freedom of the scatter: pilots less coefficients."""
    num_pilots: int
    """Pilots behind it."""

    def check(
        self,
        num_params: float,
        path: RatePath,
        tokens: Array,
        loss: Array,
        error: Array,
        *,
        false_alarms: float = 0.0025,
    ) -> BandCheck:
        """Hold a run against the band.

        Args:
            num_params: N.
            path: The rate as planned to the planned stop: windows where the pilots had another one are left out.
            tokens: Tokens at each point so far, in the middle of its steps.
            loss: Mean loss of each, nats per token.
            error: Standard error of each.
            false_alarms: Share of healthy runs that may cross it anywhere on their way.
        """
        stop = float(path.tokens[-1])
        into = self._row(num_params, stop, stop / max(float(path.steps[-1]), 1.0))
        mean, noise, complete = windows(tokens / stop, loss, error)
        known = complete & np.isfinite(mean) & np.isfinite(self.coefficients[:, 0])
        apart = self._apart(path)
        if apart is not None:  # after another schedule the curve is another one, also where the rates agree again
            known[apart:] = False
        count = int(known.sum())
        if not count:
            return BandCheck(False, None, 0.0, 0.0, 0, "no window of the run is comparable with its pilots yet")
        leverage = float(into @ self.covariance @ into)
        if not self._reaches(leverage):
            return BandCheck(False, None, 0.0, 0.0, 0, "the run's size, length or batch lies outside its pilots'")
        # planned over all windows, so that the edge does not move while a run is under way
        everywhere = np.isfinite(self.coefficients[:, 0])
        width = np.sqrt(np.diff(EDGES))
        single = _coarse(float(np.median((noise * width)[known])))  # all windows' noise follows from one number
        noise = single / width
        spread = self._spread(noise, leverage)
        edge = _edge(spread[np.ix_(everywhere, everywhere)].tobytes(), self.degrees, false_alarms)
        left = (mean - self.coefficients @ into)[known]
        scores, sizes = _scores(left[None], spread[np.ix_(known, known)])
        worst = np.abs(scores[0])
        out = worst.max(axis=1) > edge
        where = np.unravel_index(int(worst.argmax()), worst.shape)
        share = float(EDGES[1:][known][int(np.argmax(out))]) if out.any() else None
        excess = float(sizes[0][where])
        score = float(worst.max() / edge)
        side = "above" if excess > 0 else "below"
        message = (
            f"the loss is {abs(excess):.3f} nats {side} its pilots' curve, {score:.2f} of what a healthy run may be"
        )
        if share is not None:
            message = f"left the band of its pilots' curves at {share:.1%} of the run: " + message
        return BandCheck(bool(out.any()), share, score, excess, count, message)

    def _apart(self, path: RatePath) -> int | None:
        """The first window in which a run's planned rate is not its pilots'; None if there is none."""
        apart = np.abs(rates_in_windows(path) - self.rate) > 0.1
        return int(np.argmax(apart)) if apart.any() else None

    def _reaches(self, leverage: float) -> bool:
        return leverage <= _FAR * 4 / self.num_pilots

    def schedule_note(self, num_params: float, path: RatePath) -> str | None:
        """Say from where on a run that the pilots surround has another rate than they had; None if it has not.

        Args:
            num_params: N.
            path: The rate as planned to the planned stop.
        """
        apart, stop = self._apart(path), float(path.tokens[-1])
        into = self._row(num_params, stop, stop / max(float(path.steps[-1]), 1.0))
        if apart is None or not self._reaches(float(into @ self.covariance @ into)):
            return None
        here, theirs = float(rates_in_windows(path)[apart]), float(self.rate[apart])
        return (
            f"the rate is planned otherwise than that of the law's own runs, from {EDGES[apart]:.1%} of the run on: "
            f"there {here:.0%} of its peak, theirs {theirs:.0%}; the curve is not held against theirs after that"
        )

    def expected(self, num_params: float, num_tokens: float, step_tokens: float) -> Array:
        """Return the loss in each window of a run of this size, length and batch, nats per token."""
        return self.coefficients @ self._row(num_params, num_tokens, step_tokens)

    def _row(self, num_params: float, num_tokens: float, step_tokens: float) -> Array:
        ratios = (num_params / self.num_params_ref, num_tokens / self.tokens_ref, step_tokens / self.step_tokens_ref)
        return np.array([1.0, *map(math.log, ratios)])

    def _spread(self, noise: Array, leverage: float) -> Array:
        """Covariance of the windows' departures: what runs have of their own is alike in neighbouring windows."""
        place = np.log((EDGES[1:] + EDGES[:-1]) / 2)
        own = np.outer(self.scatter, self.scatter) * np.exp(-np.abs(place[:, None] - place) / _REACH)
        return own * (1 + leverage) + np.diag(noise**2)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data; `from_dict` reads it back."""
        return {
            "schema": SCHEMA,
            "edges": EDGES.tolist(),
            "coefficients": [[_plain(x) for x in row] for row in self.coefficients],
            "covariance": self.covariance.tolist(),
            "scatter": [_plain(x) for x in self.scatter],
            "rate": [_plain(x) for x in self.rate],
            "num_params_ref": self.num_params_ref,
            "tokens_ref": self.tokens_ref,
            "step_tokens_ref": self.step_tokens_ref,
            "degrees": self.degrees,
            "num_pilots": self.num_pilots,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, where: str = "curve band") -> CurveBand:
        """Read what `to_dict` returned.

        Raises:
            InputError: If it is something else, or has other windows.
        """
        if not isinstance(data, Mapping) or data.get("schema") != SCHEMA or data.get("edges") != EDGES.tolist():
            raise InputError(f"{where}: expected {SCHEMA!r} with this version's windows; fit it anew from the records")
        try:
            band = cls(
                coefficients=np.array(data["coefficients"], dtype=np.float64),  # None becomes NaN
                covariance=np.array(data["covariance"], dtype=np.float64),
                scatter=np.array(data["scatter"], dtype=np.float64),
                rate=np.array(data["rate"], dtype=np.float64),
                num_params_ref=float(data["num_params_ref"]),
                tokens_ref=float(data["tokens_ref"]),
                step_tokens_ref=float(data["step_tokens_ref"]),
                degrees=float(data["degrees"]),
                num_pilots=int(data["num_pilots"]),
            )
            count = len(EDGES) - 1
            if band.coefficients.shape != (count, 4) or band.covariance.shape != (4, 4):
                raise ValueError(f"coefficients of shape {band.coefficients.shape}")
            if band.scatter.shape != (count,) or band.rate.shape != (count,):
                raise ValueError(f"scatter of shape {band.scatter.shape}, rate of shape {band.rate.shape}")
            return band
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{where}: cannot be read: {error!r}") from None


def windows(share: Array, loss: Array, error: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Return mean loss and its standard error in each window, and which windows are over; NaN where one is empty."""
    count = len(EDGES) - 1
    finite = np.isfinite(loss)
    place = np.clip(np.searchsorted(EDGES, share, side="left") - 1, 0, count - 1)[finite]
    size = np.bincount(place, minlength=count).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(place, loss[finite], minlength=count) / size
        noise = np.sqrt(np.bincount(place, error[finite] ** 2, minlength=count)) / size
    over = EDGES[1:] <= (share[-1] + 1e-9 if len(share) else 0.0)
    # points sit in the middle of their steps, so the last one of a finished run lies short of its end
    step = float(share[-1] - share[-2]) if len(share) > 1 else 0.0
    over |= EDGES[1:] <= (share[-1] + step / 2 + 1e-9 if len(share) else 0.0)
    mean[size == 0], noise[size == 0] = np.nan, np.nan
    return mean, noise, over


def rates_in_windows(path: RatePath) -> Array:
    """Return the rate in the middle of each window, as a share of its peak."""
    middle = (EDGES[1:] + EDGES[:-1]) / 2 * path.tokens[-1]
    return np.interp(middle, path.tokens, path.share)


def _scores(left: Array, spread: Array) -> tuple[Array, Array]:
    """Return departures averaged over the last 1, 2, 4 and 8 windows, in standard deviations and in nats.

    Shapes (runs, windows, 4). The average is the one of least variance for a shift that is proportional to the
    windows' own standard deviation.
    """
    count = left.shape[1]
    scores = np.zeros((len(left), count, len(_BACK)))
    sizes = np.zeros_like(scores)
    deviation = np.sqrt(np.diag(spread))
    for j in range(count):
        for b, back in enumerate(_BACK):
            if back > j + 1:
                continue
            part = slice(j + 1 - back, j + 1)
            weight = np.linalg.solve(spread[part, part], deviation[part])
            scores[:, j, b] = left[:, part] @ weight / math.sqrt(deviation[part] @ weight)
            sizes[:, j, b] = left[:, part].mean(axis=1)
    return scores, sizes


def _coarse(value: float) -> float:
    """Return a value to the next 15 %: the edge hardly depends on it, and is simulated once for all that are alike."""
    return math.exp(round(math.log(max(value, 1e-9)) / 0.15) * 0.15)


@lru_cache(maxsize=64)
def _edge(covariance: bytes, degrees: float, false_alarms: float) -> float:
    """Return the score that healthy runs pass, anywhere on their way, in this share of cases; by simulation."""
    spread = np.frombuffer(covariance)
    spread = spread.reshape(math.isqrt(len(spread)), -1)
    generator = np.random.default_rng(0)
    root = np.linalg.cholesky(spread + 1e-12 * np.eye(len(spread)))
    left = generator.standard_normal((_TRIALS, len(spread))) @ root.T
    scores, _ = _scores(left, spread)
    largest = np.abs(scores).max(axis=(1, 2))
    # the scatter itself was measured on few pilots: a run's departures are t-like
    largest /= np.sqrt(generator.chisquare(degrees, _TRIALS) / degrees)
    return float(np.quantile(largest, 1 - false_alarms))


def _plain(value: float) -> float | None:
    return float(f"{value:.8g}") if math.isfinite(value) else None
