"""When a run goes wrong: losses that are not finite, spikes that do not come back, and forecasts that miss the law."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, NamedTuple

from scalestop.errors import InputError
from scalestop.laws.curves.follow import Forecast
from scalestop.run.curve_point import CurvePoint

SpikeState = Literal["calm", "spike", "lost"]

_MEMORY = 16.0
_HIGH = 9.0
_LEAST = 0.1
_PATIENCE = 8
_WARM = 8


@dataclass
class SpikeWatch:
    """Watches the points of a curve for losses that are not finite and for jumps.

    A point is a spike where its loss lies above the level of those before it by nine of their usual distances and by
    0.1 nats. While a spike lasts the level stands still: if eight points in a row stay up there, the run is lost, which
    is a spike that does not come back. A slow rise is no spike; the band and the forecast see that.
    """

    nonfinite: int = 0
    """Losses that were not finite, so far."""
    spikes: int = 0
    """Spikes so far, each counted once however long it lasts."""
    returned: int = 0
    """Spikes that came back."""
    lost_at: int | None = None
    """Optimizer step at which a spike turned out not to come back; None if none did."""
    level: float | None = None
    """Running level of the loss, nats per token."""
    usual: float = 0.0
    """Running mean distance of a point from the level before it, nats."""
    points: int = 0
    """Points seen."""
    up: int = 0
    """Points in a row above the level by a spike's height."""
    up_nonfinite: int = 0
    """Points in a row of which no loss was finite."""

    def see(self, point: CurvePoint) -> SpikeState:
        """Take in the next point, and say how the run is."""
        self.nonfinite += point.nonfinite
        self.points += 1
        if point.loss is None:
            self.up_nonfinite += 1
            return self._lost(point.step) if self.up_nonfinite >= _PATIENCE else "spike"
        self.up_nonfinite = 0
        if self.level is None:
            self.level = point.loss
            return "calm"
        away = point.loss - self.level
        height = max(_HIGH * self.usual, _LEAST)
        if self.points > _WARM and away > height:
            if self.up == 0:
                self.spikes += 1
            self.up += 1
            return self._lost(point.step) if self.up >= _PATIENCE else "spike"
        if self.up and self.up < _PATIENCE:
            self.returned += 1
        self.up = 0
        share = 1 / min(self.points, _MEMORY)
        self.usual += (min(abs(away), height) - self.usual) * share
        self.level += away * max(share, 0.25)  # the level follows quickly, its steps are learnt slowly
        return "calm"

    def _lost(self, step: int) -> SpikeState:
        if self.lost_at is None:
            self.lost_at = step
        return "lost"

    def state_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> SpikeWatch:
        """Read what `state_dict` returned.

        Raises:
            InputError: If it is something else.
        """
        names = {f.name for f in fields(cls)}
        if not isinstance(state, Mapping) or set(state) != names:
            raise InputError(f"spike watch: expected the fields {', '.join(sorted(names))}; got {state!r}")
        return cls(**state)


class OffCourse(NamedTuple):
    """A forecast against what the law expects of a run of this N and D."""

    off: bool
    """Whether the forecast's whole interval lies above the law's, at this look and the ones before it."""
    excess: float
    """From the law's upper end to the forecast's lower one, nats; above 0 where the intervals are apart."""
    message: str
    """The same in words."""


@dataclass
class CourseWatch:
    """Holds forecast after forecast against the law, and calls the run off course once several in a row agree.

    Args:
        looks: Forecasts in a row that must agree. One alone may be the tail of its own noise.
    """

    looks: int = 2
    """Forecasts in a row that must agree."""
    in_a_row: int = 0
    """How many just did."""

    def see(self, forecast: Forecast, low: float, high: float) -> OffCourse:
        """Take in the next forecast.

        Args:
            forecast: Made without the law's own final loss, or the two would not be independent.
            low: Lower end of where the law expects a new run of this N and D, nats per token.
            high: Upper end. Take the law's 99 % interval of a new run (`law.uncertainty.of_new_run(losses, 0.99)`):
            late
                in a run its forecast is all but its loss, and of healthy runs one in twenty ends above a 90 % interval.
        """
        if not low <= high:
            raise InputError(f"low, high: the ends of an interval; got {low!r}, {high!r}")
        excess = forecast.low - high
        self.in_a_row = self.in_a_row + 1 if excess > 0 and math.isfinite(excess) else 0
        message = (
            f"forecast {forecast} at {forecast.tokens:.3g} tokens; the law expects {low:.4f} to {high:.4f} "
            f"for this N and D"
        )
        if excess > 0:
            message += f": at least {excess:.4f} nats worse"
        return OffCourse(self.in_a_row >= self.looks, excess, message)
