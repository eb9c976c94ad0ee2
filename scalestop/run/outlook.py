"""Where a run is heading, from its own curve: its end, what more of it would bring, and whether it has gone wrong.

Nothing here knows of a trainer. `Outlook` looks at a curve and sees; `alarms` says what of that is to be told, and what
ends the run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from scalestop.accounting.meter import Usage
from scalestop.errors import InputError
from scalestop.laws import ScalingLaw
from scalestop.laws.curves.band import BandCheck
from scalestop.laws.curves.follow import Followed, Forecast, follow
from scalestop.laws.curves.law import CurveLaw
from scalestop.laws.curves.rate_path import RatePath
from scalestop.laws.curves.student import t_quantile
from scalestop.laws.intervals import interval_of_run
from scalestop.planning.rule import StopReason
from scalestop.run.aims import Reactions
from scalestop.run.alarms import OffCourse
from scalestop.run.curve import Curve
from scalestop.run.final_loss import LossNames
from scalestop.run.history import Foretold, History
from scalestop.run.marginal import MarginalReturn, marginal_return

LOOKS_ALIKE = 2
"""Looks in a row that must agree before a run is ended for its marginal return."""

CHECKS_ALIKE = 4
"""Checks in a row that must lie clearly outside the band before it is told."""

_CLEARLY = 1.1
"""Scores in the band above this count: the noise of a run is known badly at first, and moves the band's edge at every
check. At 1 and one check 10 of 200 healthy tiny GPTs left it, at 1.1 and four 1 did; chosen with these in sight."""
_COURSE_LEVEL = 0.99
_SAID_FROM = 0.1
"""Share of a run before which nothing is foretold; with a usual warm-up the form holds later than that."""
_JUDGED_FROM = 0.2
"""Share of a run before which no forecast is held against the law: of ten tiny GPTs without warm-up, whose forecasts
begin at once, four would have been called off course at 12 % and ended well."""
_DECAY_SHARE = 0.2
_END_SHARE = 0.02
_WHOLE = 0.95
_GAPS = 5
_ONE_GAP = 0.02
_GONE = 8
"""Losses in a row, none finite, after which a model is taken to be lost."""


class Alarm(NamedTuple):
    """Something to tell, and why the run ends if it does."""

    kind: str
    """What it is about; each kind is told once."""
    message: str
    """In words, with the numbers."""
    reason: StopReason | None = None
    """Why the run is to end; None to go on."""


@dataclass(frozen=True)
class Sight:
    """What was seen of a run at one point of its way."""

    share: float
    """Share of the planned run that had been seen."""
    forecast: Forecast | None = None
    """Final loss at the planned stop; None before it can be told."""
    decayed_now: Forecast | None = None
    """Final loss if the rate were brought to zero from here, over a fifth of the tokens so far."""
    marginal: MarginalReturn | None = None
    """What the next FLOP brings here, over what it brings on the frontier; None before it means anything."""
    course: OffCourse | None = None
    """The forecast against the law; None where the law is no judge of this run."""
    band: BandCheck | None = None
    """The curve against those of the law's own runs; None where they are not known, or no judges."""

    def metrics(self) -> dict[str, float]:
        """Return what is logged, by name."""
        values: dict[str, float] = {}
        if self.forecast is not None:
            values |= {
                "loss_forecast": self.forecast.loss,
                "loss_forecast_low": self.forecast.low,
                "loss_forecast_high": self.forecast.high,
            }
        if self.decayed_now is not None:
            values["loss_if_decayed_now"] = self.decayed_now.loss
        if self.marginal is not None:
            values |= {
                "marginal_return": self.marginal.ratio,
                "marginal_return_low": self.marginal.low,
                "marginal_return_high": self.marginal.high,
            }
        return values


class Outlook:
    """Looks at a run's curve, as the law of its family and the run's own points have it.

    Args:
        law: The law that plans the run; None if there is none.
        num_params: N, counted as the law counts it.
        is_judge: Whether the law was fitted to runs like this one, so that a run that misses it has gone wrong. A law
            of other data says where the frontier bends, not what this run should reach.
        names: What the losses are called.
    """

    def __init__(self, law: ScalingLaw | None, num_params: int, is_judge: bool, names: LossNames) -> None:
        self._law, self._num_params, self._is_judge, self._names = law, num_params, is_judge, names
        self._family = law.curves if law is not None and is_judge else None

    def see(self, history: History, planned: RatePath, used: Usage) -> Sight:
        """Look at the run as it is now, and keep in its history what later looks need.

        Args:
            history: The run's curve and its watches.
            planned: The rate as planned, from the first token to the planned stop.
            used: What the run has used.
        """
        curve, stop = history.curve, float(planned.tokens[-1])
        share = min(1.0, used.tokens_non_padding / stop)
        history.head_for(stop)
        sight = Sight(share, band=self.check_band(history, planned))
        if share < _SAID_FROM:
            return sight
        try:
            path = curve.path(planned)
            followed = self._follow(curve, path)
        except (InputError, np.linalg.LinAlgError):  # too early, or a curve of which nothing can be said
            return sight
        gap, noise = final_gap(curve, self._names, followed)
        forecast = _shifted(followed.forecast(noise=noise), gap)
        if not math.isfinite(forecast.high - forecast.low):
            return sight
        decayed = None
        seen = float(curve.points[-1].tokens)
        if seen < stop and np.interp(seen, path.tokens, path.share) > 0.5:
            branch = path.decayed(seen, _DECAY_SHARE * seen)
            decayed = _shifted(followed.forecast(path=branch, noise=noise), gap)
        sight = replace(sight, forecast=forecast, decayed_now=decayed, marginal=self._marginal(followed, planned, used))
        history.foretell(Foretold(share, forecast.loss, forecast.low, forecast.high))
        below = sight.marginal is not None and sight.marginal.high < 1
        history.marginal_below = history.marginal_below + 1 if below else 0
        law = self._law
        if share < _JUDGED_FROM:
            return sight
        if law is not None and self._is_judge and law.uncertainty is not None and law.uncertainty.knows_scatter:
            span = interval_of_run(law, self._num_params, stop, _COURSE_LEVEL)
            if span is not None:
                sight = replace(sight, course=history.course.see(forecast, *span))
        return sight

    def schedule_note(self, planned: RatePath) -> str | None:
        """Say where the rate is planned otherwise than that of the law's own runs; None if nowhere, or unknown."""
        band = self._family.band if self._family is not None else None
        return None if band is None else band.schedule_note(self._num_params, planned)

    def check_band(self, history: History, planned: RatePath) -> BandCheck | None:
        """Hold the curve so far against those of the law's own runs; None where they are not known."""
        if self._family is None or self._family.band is None or not history.curve.points:
            return None
        found = self._family.band.check(self._num_params, planned, *history.curve.training())
        history.band_beyond = history.band_beyond + 1 if found.score > _CLEARLY else 0
        return found

    def _follow(self, curve: Curve, path: RatePath) -> Followed:
        tokens, loss, error = curve.training()
        if self._family is not None:
            return follow(self._family.law, self._num_params, path, tokens, loss, error)
        step_tokens = float(path.tokens[-1] / max(path.steps[-1], 1.0))
        return follow(
            CurveLaw.without_pilots(self._num_params, step_tokens), self._num_params, path, tokens, loss, error
        )

    def _marginal(self, followed: Followed, planned: RatePath, used: Usage) -> MarginalReturn | None:
        """Hold the run, as if its schedule had been made to end here, against the frontier at this spend."""
        law, tokens = self._law, used.tokens_non_padding
        if law is None or not law.has_loss or used.flops <= 0 or tokens <= 0:
            return None
        slope = followed.slope(path=planned.stretched(tokens / float(planned.tokens[-1])))
        try:
            found = marginal_return(slope.nats_per_token, slope.deviation, used.flops / tokens, float(used.flops), law)
        except (InputError, ZeroDivisionError, OverflowError):
            return None
        known = math.isfinite(found.high - found.low) and found.ratio > 0
        return found if known and found.high - found.low < found.ratio else None


def final_gap(curve: Curve, names: LossNames, followed: Followed) -> tuple[float, float]:
    """Return what is to be added to the training loss for the final loss, and how surely.

    Args:
        curve: The run's curve.
        names: What the losses are called.
        followed: The training loss, as the fitted curve has it.

    Returns:
        The mean of validation loss less training loss over the last validations and how far one may be off it, nats;
        without validation 0, and the standard error of the mean training loss over the run's last fiftieth.
    """
    name = names.validation({name for one in curve.validations for name in one.metrics})
    if name is not None:
        at, values, _ = curve.validation(name)
        fitted = at >= followed.tokens[0]  # before it the form does not hold
        gaps = (values[fitted] - followed.expected(at[fitted]))[-_GAPS:] if fitted.any() else np.empty(0)
        if len(gaps):
            if len(gaps) == 1:
                return float(gaps[0]), max(abs(float(gaps[0])) / 2, _ONE_GAP)
            # a deviation of few gaps is known badly: as much wider as Student's t is than the normal
            wider = t_quantile(0.95, len(gaps) - 1) / NormalDist().inv_cdf(0.95)
            return float(np.mean(gaps)), float(np.std(gaps, ddof=1)) * wider
    tokens, _, error = curve.training()
    width = float(tokens[-1] - tokens[-2]) if len(tokens) > 1 else float(tokens[-1])
    return 0.0, float(error[-1]) * math.sqrt(min(1.0, width / (_END_SHARE * float(followed.path.tokens[-1]))))


def _shifted(forecast: Forecast, gap: float) -> Forecast:
    return replace(forecast, loss=forecast.loss + gap, low=forecast.low + gap, high=forecast.high + gap)


def alarms(reactions: Reactions, sight: Sight | None, history: History) -> list[Alarm]:
    """Return what is to be told of a run by now, and what ends it; pure.

    Args:
        reactions: What the user wants done.
        sight: The latest look at the run; None before any.
        history: The run's curve and its watches.
    """
    found = [*_of_losses(reactions, history)]
    if sight is None:
        return found
    if reactions.on_forecast != "ignore":
        if sight.course is not None and sight.course.off:
            reason = StopReason.OFF_COURSE if reactions.on_forecast == "stop" else None
            found.append(Alarm("course", f"off course at {sight.share:.0%} of the run: {sight.course.message}", reason))
        if sight.band is not None and sight.band.crossed and history.band_beyond >= CHECKS_ALIKE:
            found.append(Alarm("band", sight.band.message))
    if reactions.stop_when == "marginal" and sight.marginal is not None and history.marginal_below >= LOOKS_ALIKE:
        one = sight.marginal
        message = (
            f"the next unit is better spent on a larger model from the start: here it brings {one.ratio:.2f} "
            f"({one.low:.2f} to {one.high:.2f}, {one.level:.0%}) of what the frontier gives at this spend"
        )
        if sight.decayed_now is not None:
            message += (
                f"; the rate has not decayed yet, which would give {sight.decayed_now.loss:.3f}: anneal from here with "
                f"scalestop.decay_to"
            )
        found.append(Alarm("marginal", message, StopReason.MARGINAL_RETURN))
    return found


def _of_losses(reactions: Reactions, history: History) -> list[Alarm]:
    if reactions.on_nonfinite == "ignore":
        return []
    stops = StopReason.DIVERGED if reactions.on_nonfinite == "stop" else None
    spikes, found = history.spikes, []
    last = history.curve.points[-1] if history.curve.points else None
    # a single one may be a step that the gradient scaler skips: these are counted, and told at the end
    if last is not None and last.loss is None and (spikes.up_nonfinite > 1 or last.nonfinite >= _GONE):
        since = next((point.step for point in history.curve.points[::-1] if point.loss is not None), 0)
        message = f"no training loss has been finite since step {since:,}, by step {last.step:,}"
        found.append(Alarm("nonfinite", message, stops))
    if spikes.lost_at is not None and spikes.up_nonfinite == 0:
        message = (
            f"the training loss has jumped and does not come back, by step {spikes.lost_at:,}: it was "
            f"{spikes.level:.3f} before"
        )
        found.append(Alarm("lost", message, stops))
    return found


def scored(history: History, loss: float | None, share: float | None = 1.0) -> list[str]:
    """Say how the forecasts made on the way came out, and how often the loss was not finite or jumped.

    Args:
        history: The run's curve and its watches.
        loss: Final loss, nats per token.
        share: How much of the planned run was run; forecasts of an end that never came are not scored.
    """
    spikes, said = history.spikes, []
    if share is None or share < _WHOLE:
        loss = None
    if loss is not None and math.isfinite(loss) and history.foretold:
        said.append("forecast " + ", ".join(one.score(loss) for one in history.foretold))
    if spikes.nonfinite:
        said.append(f"losses that were not finite: {spikes.nonfinite:,}")
    if spikes.spikes:
        said.append(f"spikes: {spikes.spikes:,}, of which {spikes.returned:,} came back")
    return said
