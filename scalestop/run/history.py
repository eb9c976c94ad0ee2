"""What a run remembers of itself besides its counts: its curve, what was forecast of it, and its alarms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scalestop.errors import InputError
from scalestop.run.alarms import CourseWatch, SpikeWatch
from scalestop.run.curve import Curve
from scalestop.run.repeats import RepeatWatch

if TYPE_CHECKING:
    from scalestop.accounting.fingerprints import RowPrints
    from scalestop.accounting.losses import LossAccumulator

SCORED = (0.2, 0.5)
"""Shares of a run at which its forecast is kept, to be scored at its end."""

_SAME = 0.02
"""Share by which a planned stop may move and be the same end."""


@dataclass(frozen=True)
class Foretold:
    """What was forecast of the final loss on the way."""

    share: float
    """Share of the run that had been seen."""
    loss: float
    """Nats per token."""
    low: float
    """Lower end of its 90 % interval."""
    high: float
    """Upper end."""

    def score(self, loss: float) -> str:
        """Say how a forecast came out."""
        held = "held" if self.low <= loss <= self.high else "MISSED"
        return f"{self.loss:.3f} ({self.low:.3f} to {self.high:.3f}) at {self.share:.0%} of the run, {held}"


@dataclass
class History:
    """A run's curve and what watches it; kept in checkpoints, so that a resume joins on."""

    losses: LossAccumulator | None = None
    """Sums the training loss where it lives; None where nobody hands any in."""
    prints: RowPrints | None = None
    """Takes fingerprints of samples; None where nobody shows any."""
    curve: Curve = field(default_factory=Curve)
    """Training loss, rate, counts and validations."""
    spikes: SpikeWatch = field(default_factory=SpikeWatch)
    """Losses that are not finite, and jumps."""
    repeats: RepeatWatch = field(default_factory=RepeatWatch)
    """Samples that come again."""
    course: CourseWatch = field(default_factory=CourseWatch)
    """Forecasts in a row that miss the law."""
    marginal_below: int = 0
    """Looks in a row at which the next unit was better spent on the frontier."""
    band_beyond: int = 0
    """Checks in a row at which the curve was clearly outside its pilots' band."""
    stop: float | None = None
    """Planned stop of these forecasts, tokens."""
    foretold: list[Foretold] = field(default_factory=list)
    """The first forecast at or after each share of `SCORED`."""

    def head_for(self, stop: float) -> None:
        """Forget forecasts of another end: the budget was raised, or a branch has left its trunk.

        Args:
            stop: Tokens at the planned stop as it is now.
        """
        if self.stop is not None and abs(stop / self.stop - 1) > _SAME:
            self.foretold.clear()
            self.course.in_a_row = self.marginal_below = 0
        self.stop = stop

    def foretell(self, forecast: Foretold) -> None:
        """Keep a forecast if it is the first one at or after one of the shares that are scored."""
        reached = sum(forecast.share >= share for share in SCORED)
        if reached > sum(one.share >= share for one in self.foretold[-1:] for share in SCORED):
            self.foretold.append(forecast)

    def state_dict(self) -> dict[str, Any]:
        """Return plain data; waits for the device that holds the losses since the last point."""
        return {
            "curve": self.curve.state_dict(),
            "open": list(self.losses.peek()) if self.losses is not None else [0.0, 0.0, 0, 0],
            "spikes": self.spikes.state_dict(),
            "repeats": self.repeats.state_dict(),
            "course": [self.course.looks, self.course.in_a_row],
            "marginal_below": self.marginal_below,
            "band_beyond": self.band_beyond,
            "stop": self.stop,
            "foretold": [[one.share, one.loss, one.low, one.high] for one in self.foretold],
        }

    def load_state_dict(self, state: Mapping[str, Any], step: int) -> None:
        """Go on from what `state_dict` returned.

        Args:
            state: The state.
            step: Optimizer steps of the run; points after it are dropped.

        Raises:
            InputError: If it is something else.
        """
        try:
            self.curve = Curve.from_state(state["curve"], until_step=step)
            self.spikes = SpikeWatch.from_state(state["spikes"])
            self.repeats = RepeatWatch.from_state(state["repeats"])
            looks, in_a_row = state["course"]
            self.course = CourseWatch(int(looks), int(in_a_row))
            self.marginal_below = int(state["marginal_below"])
            self.band_beyond = int(state["band_beyond"])
            self.stop = None if state["stop"] is None else float(state["stop"])
            self.foretold = [Foretold(*map(float, row)) for row in state["foretold"]]
            total, squares, count, nonfinite = state["open"]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"history: cannot be read: {error!r}") from None
        if self.losses is not None:
            self.losses.begin_with(float(total), float(squares), int(count), int(nonfinite))
