"""A run under way: its plan held against its counts, step by step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from scalestop.planning.planned import Plan
from scalestop.run.final_loss import FinalLoss, LossNames
from scalestop.run.follower import Follower
from scalestop.run.host import Host
from scalestop.run.metrics import delivered, run_metrics
from scalestop.run.reporter import Reporter
from scalestop.run.state import RunState


class LiveRun:
    """Follows one fit from its plan to its end: looks, decides, corrects the plan, and tells the host to stop.

    Args:
        state: The run.
        host: What trains it.
        reporter: Says what changes.
        names: What the losses are called.
    """

    def __init__(self, state: RunState, host: Host, reporter: Reporter, names: LossNames) -> None:
        self.plan: Plan = state.planner.plan()
        """What the run will do, as far as is known by now."""
        self.checkpoint_path: Path | None = None
        """Where the last checkpoint was saved."""
        self.peak_flops_per_second: float | None = None
        """Peak of one device; None if unknown."""
        self._state, self._host, self._reporter = state, host, reporter
        self._watch, self._planner = state.watch, state.planner
        self.follower = Follower(state, host, reporter, names)
        """Keeps the curve, and looks ahead."""
        self._planner.checked = False
        self._gate = state.planner.aims.gate
        self._steps_before = self._watch.meter.optimizer_steps
        self._started = self._reported = self._watch.usage
        self._stop_saved_at: int | None = None
        self._announced = False

    # ---- before the first step

    def start(self) -> None:
        """Begin to watch, and see whether the run should begin at all; that needs no batch."""
        self._watch.start()
        self.look()
        if self._watch.decision.stop:
            self.announce()
        self.tell_time()

    @property
    def announced(self) -> bool:
        """Whether the plan has been stated in this fit."""
        return self._announced

    def announce(self, tokens_per_step: int | None = None) -> None:
        """State the plan, and what stands in its way.

        Args:
            tokens_per_step: Tokens per optimizer step over all ranks, as the first batch tells; None if it does not.
        """
        self._announced = True
        plan = self._planner.plan(self._planner.aims.tokens_per_step or tokens_per_step, self.plan.speed)
        plan = self.plan = replace(plan, warnings=(*plan.warnings, *self._host.notes(plan)))
        self.follower.begin(plan)
        self._reporter.say(f"plan\n{plan}")
        for line in self._host.conflicts(plan):
            self._reporter.warn(line)
        if plan.too_large and plan.rule.oversized == "warn":
            self._reporter.warn(f"N is {plan.size_ratio:.2f} N_opt; training on, as oversized='warn' asks")

    # ---- after an optimizer step

    def step(self, due: bool) -> None:
        """Look if it is time, set the schedules' clocks, and log and save what there is to keep.

        Args:
            due: Whether a limit could have been met.
        """
        every = self._host.log_every
        logs = every > 0 and self._watch.meter.optimizer_steps % every == 0
        ended = self.follower.step(self.plan)
        if ended is not None:
            self._watch.end(ended)
        looks = due or logs or ended is not None
        if looks:
            self.look()
        self.tell_time()  # before the stop is saved, so that its file holds the rate it ended with
        if looks:
            stop = self._watch.decision.stop
            if logs or stop:
                self._log()
            if stop and self._stop_saved_at is None:
                self._save_stop()

    def look(self) -> None:
        """Decide, hold the plan against what was seen, and end the run where it is time."""
        decision = self._watch.look(self.plan, self._waiting_for())
        self._state.steps.see_rate(self._host.learning_rate())
        if not decision.stop:
            self._correct_plan()
        if self.plan.awaits_speed and not decision.stop:
            self._measure_speed()
        if self._watch.decision.stop:
            self._host.stop()

    def tell_time(self) -> None:
        """Set the clock of the schedules that follow the run."""
        self._host.tell_time(self.plan, self._watch.estimate)

    def note_validation(self) -> None:
        """Note the loss of a validation, and look at the gate's metrics."""
        self._gate.require(self._host.metrics())
        usage = self._watch.sync()
        if self._gate.conditions or self._watch.meter.count_validation:
            self._watch.look_at_next_step()
        loss = self.follower.validated(usage.tokens_non_padding)
        if loss is not None and usage.tokens_non_padding:
            self._state.curve.append((usage.tokens_non_padding, loss))

    def _waiting_for(self) -> str | None:
        """Return the gate's unmet conditions; ranks may have logged different values, and all follow the first."""
        if not self._gate.conditions:
            return None
        target = self.plan.target_tokens
        reached = target is not None and self._watch.usage.tokens_non_padding >= target
        # where nothing is validated, a metric of the training epoch is there once the first one is over
        if reached and self._host.epoch_metrics_are_due:
            self._gate.require(self._host.metrics())
        unmet: str | None = self._host.broadcast(self._gate.waiting_for(self._host.metrics()))
        return unmet

    def _correct_plan(self) -> None:
        """Hold the plan against the first real step."""
        plan, said = self._planner.correct(self.plan, self._watch.usage.since(self._started))
        if not self._planner.checked:
            self._watch.look_at_next_step()
        conflicts = self._host.conflicts(plan) if plan is not self.plan else []
        self.plan = plan
        for line in said:
            self._reporter.say(line)
        for line in conflicts:
            self._reporter.warn(line)

    def _measure_speed(self) -> None:
        """Where neither peak nor MFU was given: find the optimum of the time or money with a measured speed."""
        found = self._planner.measure(self.plan, self._watch.job_usage)
        if found is None:
            self._watch.look_at_next_step()
            return
        self.plan, said = found
        self._reporter.say(said)
        for line in self._host.conflicts(self.plan):
            self._reporter.warn(line)
        self._watch.look(self.plan)

    def _log(self) -> None:
        usage, job, aims = self._watch.usage, self._watch.job_usage, self._planner.aims
        window = usage.since(self._reported)
        values = run_metrics(self.plan, aims.settled_law, usage, job)
        peak = self.peak_flops_per_second
        values |= delivered(self.plan, window, usage, self._planner.num_devices, peak, job)
        if (goodput := self._watch.goodput) is not None:
            values["goodput"] = goodput
        values |= self.follower.metrics
        self._reported = usage
        try:
            self._host.log(values)
        except Exception as error:  # a logger is somebody else's code
            self._reporter.warn(f"metrics could not be logged: {error}")

    # ---- the end

    def save(self, what: str) -> None:
        """Save a checkpoint; every rank must call it, and a failure does not end the run.

        Args:
            what: Word in the file's name.
        """
        try:
            self.checkpoint_path = self._host.save(what) or self.checkpoint_path
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            self._reporter.warn(f"the checkpoint could not be written: {error}")

    def finish(self) -> None:
        """Bring the counts and the decision up to date for the record."""
        if self._watch.decision.stop:
            self._watch.sync()
        else:
            self._watch.look(self.plan, self._waiting_for())
        self.follower.finish(self.plan)
        self._watch.pause()
        if self._stop_saved_at not in (None, self._watch.meter.optimizer_steps):
            self._save_stop()  # min_steps or the like held the stop back
        self._state.steps.detach()

    def break_off(self) -> None:
        """Stop watching a run that was broken off."""
        self._state.steps.detach()
        self._watch.pause()

    @property
    def share(self) -> float | None:
        """How much of the planned run was run; None if no end was planned."""
        stop = self.plan.stop_tokens
        return self._watch.usage.tokens_non_padding / stop if stop else None

    def final_loss(self) -> FinalLoss:
        """Return the run's final loss as far as it is known, and which it is."""
        return self.follower.final_loss()

    @property
    def is_idle(self) -> bool:
        """Whether this fit has added no step to those of an earlier one."""
        return self._watch.meter.optimizer_steps == self._steps_before > 0

    def _save_stop(self) -> None:
        self._stop_saved_at = self._watch.meter.optimizer_steps
        self.save("stop")
