"""What the user asked of a run, apart from the model."""

from __future__ import annotations

from dataclasses import dataclass

from scalestop.laws import ScalingLaw
from scalestop.planning.budget import Budget
from scalestop.planning.plan import make_plan
from scalestop.planning.planned import Plan
from scalestop.planning.rule import StopRule
from scalestop.planning.speed import Speed
from scalestop.run.gate import Gate


@dataclass(frozen=True)
class Aims:
    """What the user asked of a run, apart from the model; the same for every adapter."""

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
