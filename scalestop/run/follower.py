"""A run's curve while it grows: points as they fall due, looks ahead, and what these ask for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from scalestop.laws.curves.rate_path import RatePath
from scalestop.planning.planned import Plan
from scalestop.planning.rule import StopReason
from scalestop.run.aims import Reactions
from scalestop.run.curve import Curve
from scalestop.run.curve_point import from_sums
from scalestop.run.final_loss import FinalLoss, LossNames, final_loss, validation_metrics
from scalestop.run.host import Host
from scalestop.run.outlook import Outlook, Sight, alarms
from scalestop.run.reporter import Reporter
from scalestop.run.stopping import StopDecision

if TYPE_CHECKING:
    from scalestop.run.state import RunState

_LOOK_EVERY = 8
"""Points from one look ahead to the next."""
_BAND_UNTIL = 0.15
"""Share of the run in which the curve is held against its band at every point: a fault is to be found early."""
_NORMS = ("grad_norm", "train/grad_norm", "grad_norm_total", "grad_2.0_norm_total", "grad_2_norm_total")
_SCALE = 2.0**24
_MOST = 2.0**36


class Follower:
    """Keeps one fit's curve and looks at it.

    Args:
        state: The run.
        host: What trains it.
        reporter: Says what is seen.
        names: What the losses are called.
    """

    def __init__(self, state: RunState, host: Host, reporter: Reporter, names: LossNames) -> None:
        self.metrics: dict[str, float] = {}
        """What the latest look says, as it is logged."""
        self.sight: Sight | None = None
        """The latest look; None before any."""
        self._state, self._host, self._reporter, self._names = state, host, reporter, names
        self._reactions: Reactions = state.planner.aims.reactions
        self._told: set[str] = set()
        self._plan: Plan | None = None
        self._planned: RatePath | None = None
        self._outlook: Outlook | None = None
        self._asked_for = self._knows_loss = False

    def __getstate__(self) -> dict[str, Any]:
        """Leave the trainer behind."""
        return {**self.__dict__, "_host": None}

    def begin(self, plan: Plan) -> None:
        """Set how far the points lie apart, once it is known how long the run will be; a collective."""
        curve = self._state.history.curve
        if not curve.points:
            steps = plan.stop_step
            if self._state.watch.meter.world_size > 1:  # each rank has planned with its own first batch
                steps = self._host.broadcast(steps)
            curve.stride = Curve.for_steps(steps).stride
        if self._reactions.on_forecast != "ignore":
            with suppress(Exception):  # a schedule is somebody else's code
                planned = self._path(plan)
                note = self._outlook.schedule_note(planned) if planned and self._outlook else None
                if note is not None:
                    self._reporter.say(note)

    # ---- after an optimizer step

    def step(self, plan: Plan) -> StopDecision | None:
        """Add a point if one is due, and look ahead from time to time; every rank at the same steps.

        Nothing is read from a device where no point is due.

        Args:
            plan: The plan as it stands.

        Returns:
            The decision to end the run; None to go on.
        """
        curve, steps = self._state.history.curve, self._state.watch.meter.optimizer_steps
        if not curve.is_due(steps):
            return None
        self._add_point(steps)
        self._see_repeats()
        looks = steps // curve.stride % _LOOK_EVERY == 0
        try:
            if not curve.points:  # nobody hands in a training loss
                pass
            elif looks:
                self._look(plan)
            else:
                self._check_band(plan)
        except Exception as error:  # no run is lost for a forecast
            self._once(f"the run's end could not be forecast: {type(error).__name__}: {error}")
        return self._react(looks)

    def _add_point(self, steps: int) -> None:
        state, history = self._state, self._state.history
        used = state.watch.estimate()
        total, squares, finite, nonfinite = self._read_losses()
        before = history.curve.points[-1] if history.curve.points else None
        if before is not None and steps <= before.step:
            return
        tokens = max(int(used.tokens_non_padding), before.tokens + 1 if before else 1)
        metrics = self._metrics()
        if finite == nonfinite == 0:  # nobody hands in a loss: what is logged stands for the point
            name = self._names.training(name for name in metrics if not name.startswith("scalestop/"))
            value = _number(metrics.get(name)) if name is not None else None
            if state.watch.meter.world_size > 1:  # ranks may have logged different ones
                value = self._host.broadcast(value)
            if value is None:
                return
            finite, nonfinite = int(math.isfinite(value)), int(not math.isfinite(value))
            total, squares = (value, value * value) if finite else (0.0, 0.0)
        norm = next((value for name in _NORMS if (value := _number(metrics.get(name))) is not None), None)
        point = from_sums(
            total,
            squares,
            finite,
            nonfinite=nonfinite,
            step=steps,
            tokens=tokens,
            flops=int(used.flops),
            rate=self._host.learning_rate(),
            grad_norm=norm if norm is not None and math.isfinite(norm) else None,
        )
        history.curve.add(point)
        history.spikes.see(point)

    def _read_losses(self) -> tuple[float, float, int, int]:
        """Return sum, sum of squares and counts of the losses since the last point, over all ranks."""
        losses = self._state.history.losses
        total, squares, finite, nonfinite = losses.read() if losses is not None else (0.0, 0.0, 0, 0)
        if self._state.watch.meter.world_size > 1:
            numbers = self._host.sum_over_ranks([_fixed(total), _fixed(squares), finite, nonfinite])
            total, squares, finite, nonfinite = numbers[0] / _SCALE, numbers[1] / _SCALE, *numbers[2:]
        return total, squares, finite, nonfinite

    def _see_repeats(self) -> None:
        """Tell of samples that come again before their time; each rank knows of its own, and the first one tells."""
        history = self._state.history
        if history.prints is None or self._reactions.on_forecast == "ignore" or "repeats" in self._told:
            return
        history.repeats.see(history.prints.read())
        found = history.repeats.check(self._host.passes)
        if found.repeated:
            hint = "if that is meant, on_forecast='ignore' keeps quiet"
            self._once(f"the loader repeats itself: {found.message}; {hint}", "repeats")

    # ---- looking ahead

    def _look(self, plan: Plan) -> None:
        planned = self._path(plan)
        if planned is None or self._outlook is None:
            return
        self.sight = self._outlook.see(self._state.history, planned, self._state.watch.estimate())
        self.metrics = self.sight.metrics()

    def _band_is_open(self, plan: Plan) -> bool:
        points = self._state.history.curve.points
        return bool(points and plan.stop_tokens and points[-1].tokens < _BAND_UNTIL * plan.stop_tokens)

    def _check_band(self, plan: Plan) -> None:
        if not self._band_is_open(plan) or "band" in self._told or self._reactions.on_forecast == "ignore":
            return
        planned = self._path(plan)
        band = self._outlook.check_band(self._state.history, planned) if planned and self._outlook else None
        if band is not None and band.crossed:
            self.sight = Sight(self._state.history.curve.points[-1].tokens / float(plan.stop_tokens or 1), band=band)

    def _path(self, plan: Plan) -> RatePath | None:
        """Return the planned rate to the planned stop; made once for each plan, where a schedule tells it."""
        if plan is not self._plan:
            self._plan, self._planned = plan, None
            law = self._state.planner.aims.settled_law
            self._outlook = Outlook(law, plan.num_params, judges(plan), self._names)
            shape = self._host.planned_rate(plan)
            if shape is not None and plan.stop_tokens and plan.stop_step:
                self._planned = RatePath.of_shape(shape, float(plan.stop_tokens), float(plan.stop_step))
        if self._planned is None and plan.stop_tokens and plan.stop_step:
            rate = self._host.learning_rate() or 1.0  # as far as anybody knows it stays where it is
            return RatePath.of_shape(lambda share: rate, float(plan.stop_tokens), float(plan.stop_step), num_nodes=2)
        return self._planned

    def _react(self, looked: bool) -> StopDecision | None:
        found = alarms(self._reactions, self.sight, self._state.history)
        ends = next((alarm for alarm in found if alarm.reason is not None), None)
        answer = (self.metrics, None if ends is None else (ends.message, str(ends.reason)))
        if self._state.watch.meter.world_size > 1 and (looked or self._reactions.may_stop):
            answer = self._host.broadcast(answer)  # all ranks follow the first
        self.metrics, told = answer
        for alarm in found:
            if alarm is not ends:
                self._once(alarm.message, alarm.kind)
        return None if told is None else StopDecision(True, StopReason(told[1]), told[0])

    def _once(self, message: str, kind: str | None = None) -> None:
        """Warn, once of each kind."""
        if (kind or message) not in self._told:
            self._told.add(kind or message)
            self._reporter.warn(message)

    # ---- validation, and the end

    def _metrics(self, tells: bool = True) -> Mapping[str, Any]:
        try:
            return self._host.metrics()
        except Exception as error:  # a metric is somebody else's code
            if tells:
                self._once(f"the loss could not be read: {type(error).__name__}: {error}", "unreadable")
            return {}

    def _ask(self, metrics: Mapping[str, Any]) -> None:
        """Complain of a loss metric that is not there, once it should be."""
        if metrics and not self._asked_for:
            self._asked_for = True
            if complaint := self._names.complaint(metrics):
                self._reporter.warn(complaint)

    def validated(self, tokens: int) -> None:
        """Keep every metric of a validation.

        Args:
            tokens: Tokens trained on so far, over all ranks.
        """
        metrics = self._metrics()
        self._ask(metrics)
        kept = validation_metrics(metrics, self._names)
        name = self._names.validation(kept)
        if tokens:
            self._state.history.curve.add_validation(self._state.watch.meter.optimizer_steps, tokens, kept)
        if name is None and not self._knows_loss:
            self._knows_loss = True
            logged = ", ".join(sorted(kept)) or "none"
            self._reporter.say(
                f"no validation loss is logged (val_loss, val/loss, ...; logged are: {logged}): the training loss "
                f"stands for it; name it with loss_metric"
            )

    def finish(self) -> None:
        """Add what has not become a point yet; a collective over several ranks."""
        steps = self._state.watch.meter.optimizer_steps
        points = self._state.history.curve.points
        if steps and not (points and points[-1].step >= steps):
            self._add_point(steps)

    def final_loss(self, tells: bool = True) -> FinalLoss:
        """Return the run's final loss as far as it is known, and which it is.

        Args:
            tells: Whether to warn of what cannot be read or is not there.
        """
        metrics = self._metrics(tells)
        if tells:
            self._ask(metrics)
        curve, tokens = self._state.history.curve, int(self._state.watch.estimate().tokens_non_padding)
        try:
            return final_loss(self._names, metrics, curve, tokens)
        except Exception as error:  # as above
            if tells:
                self._once(f"the loss could not be read: {type(error).__name__}: {error}", "unreadable")
            return final_loss(self._names, {}, curve, tokens)


def judges(plan: Plan) -> bool:
    """Whether the law of a plan was fitted to runs like this one, as far as anybody said: the user named it."""
    return plan.law_chosen == "named" and not plan.advisory and not plan.differences


def _fixed(value: float) -> int:
    """Return a number as an int that adds up over ranks, good to 6e-8."""
    return round(min(max(value, -_MOST), _MOST) * _SCALE) if math.isfinite(value) else 0


def _number(value: Any) -> float | None:
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError, RuntimeError):
        return None
