"""A run under way: its plan held against its counts, step by step."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from scalestop.planning.planned import Plan
from scalestop.planning.rule import StopReason
from scalestop.run.earlier import Estimate
from scalestop.run.ended import describe_end
from scalestop.run.final_loss import FinalLoss, LossNames
from scalestop.run.follower import Follower
from scalestop.run.host import Host
from scalestop.run.metrics import delivered, run_metrics
from scalestop.run.outlook import scored
from scalestop.run.reporter import Reporter
from scalestop.run.share import Share
from scalestop.run.state import RunState
from scalestop.run.stopping import StopDecision


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
        self.checkpoint_path: Path | str | None = None
        """Where the last checkpoint was saved."""
        self.peak_flops_per_second: float | None = None
        """Peak of one device; None if unknown."""
        self._state, self._host, self._reporter, self._names = state, host, reporter, names
        self._watch, self._planner = state.watch, state.planner
        self.follower = Follower(state, host, reporter, names)
        """Keeps the curve, and looks ahead."""
        aims, price = state.planner.aims, state.planner.aims.speed.usd_per_device_hour
        self._charged = Share(aims.campaign, state.run, price, host, reporter) if aims.campaign is not None else None
        self._planner.checked = False
        self._gate = state.planner.aims.gate
        self._steps_before = self._watch.meter.optimizer_steps
        self._started = self._reported = self._watch.usage
        self._stop_saved_at: int | None = None
        self.announced = False
        """Whether the plan has been stated in this fit."""
        self._validations = 0
        self._log_troubles: set[str] = set()
        # asked once, as every step needs them
        self._watch.look_every = max(0, host.log_every)
        self.keeps_time = host.keeps_time
        """Whether each step sets a schedule's clock, due or not."""

    # ---- before the first step

    def start(self) -> None:
        """Begin to watch, and see whether the run should begin at all; that needs no batch."""
        self._watch.start()
        self.look()
        if self._watch.decision.stop:
            self.announce()
        self.tell_time()

    def announce(self, tokens_per_step: int | None = None) -> None:
        """State the plan, and what stands in its way.

        Args:
            tokens_per_step: Tokens per optimizer step over all ranks, as the first batch tells; None if it does not.
        """
        self.announced = True
        plan = self._planner.plan(self._planner.aims.tokens_per_step or tokens_per_step, self.plan.speed)
        plan = self.plan = replace(plan, warnings=(*plan.warnings, *self._host.notes(plan)))
        self.follower.begin(plan)
        self._reporter.say(f"plan\n{plan}")
        for line in self._host.conflicts(plan):
            self._reporter.warn(line)
        if plan.too_large and plan.rule.oversized == "warn":
            self._reporter.warn(f"N is {plan.size_ratio:.2f} N_opt; training on, as oversized='warn' asks")
        for line in self._host.keep_plan(plan):
            self._reporter.warn(line)

    def note_price(self, line: str) -> None:
        """Take up that tokens cost another price by now.

        Args:
            line: What to say of it.
        """
        self._reporter.say(line)
        if self._watch.meter.world_size == 1:  # over several ranks the plan follows at the next common look
            self._watch.look_at_next_step()

    def begin_at(self, before: Estimate) -> None:
        """Count on from what was trained before anybody counted, once a batch tells how much that was."""
        flops = before.processed * self._planner.flops_per_token
        self._state.begin_at(before.tokens, flops, before.steps, before.words)
        self._steps_before = before.steps
        self._started = self._reported = self._watch.usage
        self._reporter.say(before.words)
        self.look()
        self.tell_time()

    # ---- after an optimizer step

    @property
    def point_is_due(self) -> bool:
        """Whether the curve gets a point after the optimizer step that was just taken."""
        return self._state.history.curve.is_due(self._watch.meter.optimizer_steps)

    def step(self, due: bool) -> None:
        """Look if it is time, set the schedules' clocks, and log and save what there is to keep.

        Args:
            due: Whether a limit could have been met, or there is something to log.
        """
        if self.point_is_due and (ended := self.follower.step(self.plan)) is not None:
            self._watch.end(ended)
            due = True
        if due:
            self.look()
        if self.keeps_time:
            self.tell_time()  # before the stop is saved, so that its file holds the rate it ended with
        if due:
            stop = self._watch.decision.stop
            every = self._watch.look_every
            if stop or (every and self._watch.meter.optimizer_steps % every == 0):
                self._log()
            if stop and self._stop_saved_at is None:
                self._save_stop()

    def look(self) -> None:
        """Decide, hold the plan against what was seen, and end the run where it is time."""
        decision = self._watch.look(self.plan, self._waiting_for())
        price = self._watch.meter.price  # the same on every rank by now, as the plan has to be
        if price != self.plan.flops_per_token:
            self.plan = self._planner.reprice(self.plan, price)
            decision = self._watch.look(self.plan, self._waiting_for())
        if self._charged is not None and not decision.stop:
            ended = self._charged.charge(self._watch.job_usage)
            if ended is not None:
                self._watch.end(ended)
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
        """Keep a validation's metrics, and look at the gate's."""
        self._gate.require(self._host.metrics())
        self._validations += 1
        if not self._watch.meet(f"validation {self._validations}"):
            return
        usage = self._watch.sync()
        if self._gate.conditions or self._watch.meter.count_validation:
            self._watch.look_at_next_step()
        self.follower.validated(usage.tokens_non_padding)

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
        window, self._reported = usage.since(self._reported), usage
        try:
            values = run_metrics(self.plan, aims.settled_law, usage, job)
            peak = self.peak_flops_per_second
            values |= delivered(self.plan, window, usage, self._planner.num_devices, peak, job)
            if (goodput := self._watch.goodput) is not None:
                values["goodput"] = goodput
            values |= self.follower.metrics
            self._host.log(values)
        except Exception as error:  # a logger is somebody else's code
            if (trouble := repr(error)) not in self._log_troubles:
                self._log_troubles.add(trouble)
                self._reporter.warn(f"metrics could not be logged: {error}")

    # ---- the end

    def save(self, what: str) -> bool:
        """Save a checkpoint; every rank must call it, and a failure does not end the run.

        Args:
            what: Word in the file's name.

        Returns:
            Whether it was saved.
        """
        try:
            path = self._host.save(what)
        except Exception as error:  # storage is somebody else's code
            self._reporter.warn(f"the checkpoint could not be written: {type(error).__name__}: {error}")
            return False
        self.checkpoint_path = path or self.checkpoint_path
        return path is not None

    def finish(self) -> None:
        """Bring the counts and the decision up to date for the record."""
        if not self._watch.meet("end"):
            self._reporter.warn(
                "the ranks' data ran out at different steps: counts are those of the last reduction, "
                f"{self._watch.usage.optimizer_steps - self._watch.looked_at:,} steps before the end"
            )
            self._watch.pause()
            self._state.steps.detach()
            return
        if self._watch.decision.stop:
            self._watch.sync()
        else:
            self._watch.look(self.plan, self._waiting_for())
        self.follower.finish()
        self._watch.pause()
        if self._stop_saved_at not in (None, self._watch.meter.optimizer_steps):
            self._save_stop()  # min_steps or the like held the stop back
        self._state.steps.detach()

    def close(self) -> None:
        """Say how the run ended, and keep its record."""
        if self._charged is not None:
            self._charged.charge(self._watch.job_usage)
            self._charged.close()
        loss, usage, decision = self.follower.final_loss(), self._watch.usage, self._watch.decision
        law, late = self._planner.aims.settled_law, self._watch.late_by
        also = scored(self._state.history, loss.loss, self.share)
        self._reporter.say(describe_end(self.plan, law, usage, decision, loss.loss, late, also))
        self._record(decision, loss)

    def break_off(self, what: str, add_up: Callable[[], object] | None) -> None:
        """Keep what a run has used that was broken off; whatever goes wrong here is not told.

        Args:
            what: What broke it off.
            add_up: Adds up the ranks' counts as for a checkpoint; given where all ranks are here, and then a checkpoint
                is saved as well.
        """
        with suppress(Exception):
            self._state.steps.detach()
            self._watch.pause()
        if self._charged is not None:
            with suppress(Exception):
                self._charged.tell(self._watch.job_usage)
        if add_up is not None:
            with suppress(Exception):
                if not self.save("preempted"):
                    add_up()
        loss = FinalLoss(None, None)
        with suppress(Exception):  # after an error on a device no metric can be read
            loss = self.follower.final_loss(tells=False)
        with suppress(Exception):
            decision = StopDecision(False, StopReason.NOT_STOPPED, f"the run was ended by {what}")
            self._record(decision, loss, broken_off=True)

    @property
    def share(self) -> float | None:
        """How much of the planned run was run; None if no end was planned."""
        stop = self.plan.stop_tokens
        return self._watch.usage.tokens_non_padding / stop if stop else None

    def _record(self, decision: StopDecision, loss: FinalLoss, broken_off: bool = False) -> None:
        if self.is_idle:
            return  # nothing happened in this fit; the record of what did stands, its loss included
        seed, rate = self._host.seed(), self._host.learning_rate()
        of = self.plan, decision, loss, self._names
        record = self._state.record(*of, seed=seed, final_rate=rate, broken_off=broken_off)
        self._reporter.record(record)
        files = [file for file in (self._reporter.record_path, self.checkpoint_path) if file is not None]
        for line in self._host.keep_record(record, files):
            self._reporter.warn(line)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the trainer behind: in another process there is a plan to read, and nothing to train."""
        return {**self.__dict__, "_host": None}

    @property
    def is_idle(self) -> bool:
        """Whether this fit has added no step to those of an earlier one."""
        return self._watch.meter.optimizer_steps == self._steps_before > 0

    def _save_stop(self) -> None:
        self._stop_saved_at = self._watch.meter.optimizer_steps
        self.save("stop")
