"""A run under way: its plan held against its counts, step by step."""

from __future__ import annotations

from typing import Any

from scalestop.lightning import trainer as _trainer
from scalestop.lightning.reporter import Reporter
from scalestop.lightning.state import RunState
from scalestop.planning.planned import Plan
from scalestop.run.metrics import delivered, run_metrics


class LiveRun:
    """Follows one fit from its plan to its end: looks, decides, corrects the plan, and tells the Trainer to stop.

    Args:
        plan: What the run is to do.
        state: The run.
        reporter: Says what changes.
        peak: Peak FLOP/s of one device; None if unknown.
    """

    def __init__(self, plan: Plan, state: RunState, reporter: Reporter, peak: float | None) -> None:
        self.plan = plan
        """What the run will do, as far as is known by now."""
        self._state, self._reporter, self._peak = state, reporter, peak
        self._watch, self._planner = state.watch, state.planner
        self._gate = state.planner.aims.gate
        self._steps_before = self._watch.meter.optimizer_steps
        self._begun = self._reported = self._watch.usage
        self._stop_saved_at: int | None = None

    def begin(self, trainer: Any) -> None:
        """Begin to watch, and see whether the run should begin at all."""
        self._state.steps.attach(trainer)
        self._watch.start()
        self.look(trainer)
        self.tell_time()

    def end(self, trainer: Any) -> None:
        """Bring the counts and the decision up to date for the record."""
        if self._watch.decision.stop:
            self._watch.sync()
        else:
            self._watch.look(self.plan, self._waiting_for(trainer))
        self._watch.pause()
        if self._stop_saved_at not in (None, self._watch.meter.optimizer_steps):
            self._save_stop(trainer)  # min_steps or the like held the stop back
        self._state.steps.detach()

    def interrupt(self) -> None:
        """Stop watching a run that was broken off."""
        self._state.steps.detach()
        self._watch.pause()

    @property
    def is_idle(self) -> bool:
        """Whether this fit has added no step to those of an earlier one."""
        return self._watch.meter.optimizer_steps == self._steps_before > 0

    # ---- after an optimizer step

    def step(self, trainer: Any, callback: Any, due: bool) -> None:
        """Look if it is time, set the schedules' clocks, and log and save what there is to keep.

        Args:
            trainer: The Trainer.
            callback: Logs through it.
            due: Whether a limit could have been met.
        """
        every = trainer.log_every_n_steps
        logs = every > 0 and self._watch.meter.optimizer_steps % every == 0
        looks = due or logs
        if looks:
            self.look(trainer)
        if self._planner.schedules:
            self.tell_time()  # before the stop is saved, so that its file holds the rate it ended with
        if looks:
            stop = self._watch.decision.stop
            if logs or stop:
                self._reporter.log(trainer, callback, self._metrics())
            if stop and self._stop_saved_at is None:
                self._save_stop(trainer)

    def look(self, trainer: Any) -> None:
        """Decide, hold the plan against what was seen, and end the run where it is time."""
        decision = self._watch.look(self.plan, self._waiting_for(trainer))
        self._state.steps.see_rate(_trainer.learning_rate(trainer))
        if not decision.stop:
            self._correct_plan(trainer)
        if self.plan.allocation is None and not decision.stop:
            self._measure_speed(trainer)
        if self._watch.decision.stop:
            trainer.should_stop = True

    def tell_time(self) -> None:
        """Set the clock of the schedules that follow the run."""
        self._planner.tell_time(self.plan, self._watch.estimate(), self._state.name or "")

    def validated(self, trainer: Any, loss: float | None) -> None:
        """Note the loss of a validation, and look at the gate's metrics.

        Args:
            trainer: The Trainer.
            loss: The loss, nats per token; None if none was logged.
        """
        self._gate.require(trainer.callback_metrics)
        usage = self._watch.sync()
        if self._gate.conditions or self._watch.meter.count_validation:
            self._watch.look_at_next_step()
        if loss is not None and usage.tokens_non_padding:
            self._state.curve.append((usage.tokens_non_padding, loss))

    def _waiting_for(self, trainer: Any) -> str | None:
        """Return the gate's unmet conditions; ranks may have logged different values, and all follow the first."""
        if not self._gate.conditions:
            return None
        target = self.plan.target_tokens
        reached = target is not None and self._watch.usage.tokens_non_padding >= target
        # where nothing is validated, a metric of the training epoch is there once the first one is over
        if reached and trainer.current_epoch > 0 and not _trainer.validates(trainer):
            self._gate.require(trainer.callback_metrics)
        unmet: str | None = trainer.strategy.broadcast(self._gate.waiting_for(trainer.callback_metrics))
        return unmet

    def _correct_plan(self, trainer: Any) -> None:
        """Hold the plan against the first real step."""
        self.plan, said, conflicts = self._planner.correct(trainer, self.plan, self._watch.usage.since(self._begun))
        if not self._planner.checked:
            self._watch.look_at_next_step()
        for line in said:
            self._reporter.say(line)
        for line in conflicts:
            self._reporter.warn(line)

    def _measure_speed(self, trainer: Any) -> None:
        """Where neither peak nor MFU was given: find the optimum of the time or money with a measured speed."""
        found = self._planner.measure(self.plan, self._watch.job_usage)
        if found is None:
            self._watch.look_at_next_step()
            return
        self.plan, said = found
        self._reporter.say(said)
        for line in _trainer.conflicts(trainer, self.plan):
            self._reporter.warn(line)
        self._watch.look(self.plan)

    def _metrics(self) -> dict[str, float]:
        usage, job, aims = self._watch.usage, self._watch.job_usage, self._planner.aims
        window = usage.since(self._reported)
        values = run_metrics(self.plan, aims.law, usage, job)
        values |= delivered(self.plan, window, usage, self._planner.num_devices, self._peak, job)
        if (goodput := self._watch.goodput) is not None:
            values["goodput"] = goodput
        self._reported = usage
        return values

    def _save_stop(self, trainer: Any) -> None:
        self._stop_saved_at = self._watch.meter.optimizer_steps
        self._reporter.checkpoint(trainer, "stop")
