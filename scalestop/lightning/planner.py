"""The plan of a live run: made when it starts, corrected when real steps or a measured speed say otherwise."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from scalestop.accounting.meter import Usage
from scalestop.accounting.tokens import TokenCounter
from scalestop.laws import ScalingLaw
from scalestop.lightning import trainer as _trainer
from scalestop.planning.budget import Budget
from scalestop.planning.plan import budget_limits, make_plan
from scalestop.planning.planned import Plan
from scalestop.planning.rule import StopRule
from scalestop.planning.speed import Speed
from scalestop.run.gate import Gate
from scalestop.run.metrics import progress
from scalestop.run.speed_probe import SpeedProbe
from scalestop.schedules.budget_lr import BudgetLR
from scalestop.schedules.horizons import Scheduled, budget_schedules, decay_note, horizon_conflicts
from scalestop.schedules.undecayed import UndecayedPenalty

_SAME_STEP = 0.02
"""A first step within this share of the expected one leaves the plan as it is."""


@dataclass(frozen=True)
class Aims:
    """What the user asked of a run, apart from the model."""

    budget: Budget
    """What the run may spend."""
    job_budget: Budget | None
    """What this job alone may spend."""
    law: ScalingLaw
    """The law that knows the optimum."""
    rule: StopRule
    """Settings of the stop rule."""
    gate: Gate
    """Metrics that a compute-optimal stop waits for."""
    speed: Speed
    """Peak, MFU and price as the user gave them."""
    tokens_per_step: int | None = None
    """Tokens per optimizer step as the user gave them."""
    penalty: UndecayedPenalty | None = None
    """What an undecayed learning rate costs, where records tell."""

    def plan(
        self, num_params: int, tokens_per_step: int | None, flops_per_token: int | None, speed: Speed | None = None
    ) -> Plan:
        """Return the plan for a model; see `make_plan`."""
        return make_plan(
            self.budget,
            self.law,
            num_params,
            tokens_per_step,
            rule=self.rule,
            flops_per_token=flops_per_token,
            speed=speed or self.speed,
            job_budget=self.job_budget,
        )


@dataclass
class RunPlanner:
    """Plans one run of one model."""

    aims: Aims
    """What the user asked for."""
    num_params: int
    """N, counted as the law counts it."""
    flops_per_token: int
    """What a token costs."""
    num_devices: int
    """Devices that train together."""
    measured: float | None = None
    """Model FLOP/s of one device, once measured; kept over resumes."""
    schedules: list[BudgetLR] = field(default_factory=list)
    """The run's learning-rate schedules that follow the budget."""
    _scheduled: list[Scheduled] = field(default_factory=list)
    _probe: SpeedProbe = field(default_factory=SpeedProbe)
    _checked: bool = False

    def begin(self, trainer: Any, counter: TokenCounter) -> Plan:
        """Return the plan before the first step; the first batch is looked at for its tokens."""
        self._checked = False
        self._scheduled = _trainer.schedules(trainer)
        self.schedules = [found for item in self._scheduled for found in budget_schedules(item.scheduler)]
        return self._plan(self.aims.tokens_per_step or _peek_tokens_per_step(trainer, counter))

    def with_decay_note(self, plan: Plan) -> Plan:
        """Return the plan, with a warning where the learning rate will still be high at its stop."""
        note = decay_note(self._scheduled, plan, self.aims.penalty)
        return replace(plan, warnings=(*plan.warnings, note)) if note else plan

    def conflicts(self, trainer: Any, plan: Plan) -> list[str]:
        """Say what in the Trainer, in a schedule or in the gate stands in the plan's way."""
        lines = [*_trainer.conflicts(trainer, plan), *horizon_conflicts(self._scheduled, plan)]
        waits = self.aims.gate.conditions and plan.target_tokens is not None
        if waits and any(schedule.floor == 0 for schedule in self.schedules):
            lines.append(
                "until: past the compute-optimal point BudgetLR's rate is 0, so a metric that is not good enough there "
                "cannot get better; give BudgetLR a floor, such as 0.1"
            )
        return lines

    def correct(self, trainer: Any, plan: Plan, taken: Usage) -> tuple[Plan, list[str], list[str]]:
        """Hold the plan's tokens per step against the first steps that were really taken.

        Args:
            trainer: The Trainer.
            plan: The plan so far.
            taken: What this fit has used; without an optimizer step there is nothing to see yet.

        Returns:
            The plan, corrected where it has to be; what to say of it; what stands in its way.
        """
        if self._checked or taken.optimizer_steps == 0:
            return plan, [], []
        self._checked = True
        said, conflicts = [], []
        tokens, expected = round(taken.tokens / taken.optimizer_steps), plan.tokens_per_step
        if tokens and (expected is None or abs(tokens / expected - 1) > _SAME_STEP):
            plan = self._plan(tokens, plan.speed)
            where = f"{plan.stop_reason} after about step {plan.stop_step:,}" if plan.stop_step else "?"
            said.append(f"the first step took {tokens:,} tokens; expected stop: {where}")
            late = horizon_conflicts(self._scheduled, plan) if expected is None else []
            conflicts = [*_trainer.conflicts(trainer, plan), *late]
        if tokens and taken.tokens_non_padding < (1 - _SAME_STEP) * taken.tokens:
            share = 1 - taken.tokens_non_padding / taken.tokens
            said.append(
                f"{share:.0%} of the first step's tokens were padding, which spends FLOPs and does not count towards "
                f"D_opt: the optimum comes later than the plan says, or not at all"
            )
        return plan, said, conflicts

    @property
    def checked(self) -> bool:
        """Whether the plan has been held against a real step."""
        return self._checked

    def measure(self, plan: Plan, job_usage: Usage) -> tuple[Plan, str] | None:
        """Find the optimum of a budget in time or money with a measured speed.

        Args:
            plan: The plan so far, without an optimum.
            job_usage: What this job has used.

        Returns:
            The plan with its optimum and what to say of it; None while the warm-up window lasts.
        """
        self.measured = self._probe.flops_per_device_second(job_usage)
        if self.measured is None:
            return None
        plan = self._plan(plan.tokens_per_step)
        return plan, f"plan, at the speed measured over {self._probe.window}\n{plan}"

    def tell_time(self, plan: Plan, usage: Usage, name: str) -> None:
        """Set the clock of each BudgetLR.

        Args:
            plan: The plan.
            usage: What the run has used, the same on every rank.
            name: Who tells the time, where there are several callbacks.
        """
        for schedule in self.schedules:
            limits = plan.limits if schedule.horizon is None else budget_limits(schedule.horizon)
            schedule.advance(progress(limits, usage), name)

    def _plan(self, tokens_per_step: int | None, speed: Speed | None = None) -> Plan:
        live = replace(self.aims.speed, num_devices=self.num_devices, measured_flops_per_second=self.measured)
        return self.aims.plan(self.num_params, tokens_per_step, self.flops_per_token, speed or live)


def _peek_tokens_per_step(trainer: Any, counter: TokenCounter) -> int | None:
    batch = _trainer.peek_batch(trainer)
    if batch is None:
        return None
    try:
        tokens = counter(batch).processed
    except Exception:  # the batch may still be changed on its way to the model, where it is read in earnest
        return None
    return tokens * _trainer.accumulation(trainer) * _trainer.data_parallel_size(trainer) or None
