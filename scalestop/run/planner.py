"""The plan of a live run: made when it starts, corrected when real steps or a measured speed say otherwise."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from scalestop.accounting.meter import Usage
from scalestop.planning.planned import Plan
from scalestop.planning.speed import Speed
from scalestop.run.aims import Aims
from scalestop.run.ended import law_fingerprint
from scalestop.run.speed_probe import SpeedProbe

_SAME_STEP = 0.02
"""A first step within this share of the expected one leaves the plan as it is."""


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
    checked: bool = False
    """Whether the plan has been held against a real step of this fit."""
    _probe: SpeedProbe = field(default_factory=SpeedProbe)

    def plan(self, tokens_per_step: int | None = None, speed: Speed | None = None) -> Plan:
        """Return the plan, as far as it can be known now.

        Args:
            tokens_per_step: Tokens per optimizer step over all ranks; as the user gave them if None.
            speed: A speed other than what the user gave and what was measured.
        """
        live = replace(self.aims.speed, num_devices=self.num_devices, measured_flops_per_second=self.measured)
        tokens = tokens_per_step or self.aims.tokens_per_step
        return self.aims.plan(self.num_params, tokens, self.flops_per_token, speed or live)

    def facts(self, plan: Plan, usage: Usage) -> dict[str, str]:
        """Return what every rank has to plan alike, by name.

        Args:
            plan: The plan.
            usage: What the run had used before, as a checkpoint says.
        """
        aims, law = self.aims, self.aims.settled_law
        facts = {
            "budget": aims.budget,
            "job_budget": aims.job_budget,
            "law": law_fingerprint(law) if law is not None else None,
            "num_params": f"{self.num_params} ({aims.convention})",
            "flops_per_token": self.flops_per_token,
            "tokens_per_step": aims.tokens_per_step,
            "stop rule": aims.rule,
            "until": [str(condition) for condition in aims.gate.conditions],
            "count of tokens so far": usage.tokens,
            "limits": [f"{limit.counter} {limit.amount!r}" for limit in plan.limits],
        }
        return {name: str(value) for name, value in facts.items()}

    def reprice(self, plan: Plan, flops_per_token: int) -> Plan:
        """Return the plan at another price of a token; one that is under way keeps its limits and its optimum.

        Args:
            plan: The plan so far.
            flops_per_token: What a token costs from here on.
        """
        self.flops_per_token = flops_per_token
        if self.checked:
            return replace(plan, flops_per_token=flops_per_token)
        return replace(self.plan(plan.tokens_per_step, plan.speed), warnings=plan.warnings)

    def correct(self, plan: Plan, taken: Usage) -> tuple[Plan, list[str]]:
        """Hold the plan's tokens per step against the first steps that were really taken.

        Args:
            plan: The plan so far.
            taken: What this fit has used; without an optimizer step there is nothing to see yet.

        Returns:
            The plan, another one where it has to be, and what to say of it.
        """
        if self.checked or taken.optimizer_steps == 0:
            return plan, []
        self.checked = True
        said = []
        tokens, expected = round(taken.tokens / taken.optimizer_steps), plan.tokens_per_step
        if tokens and (expected is None or abs(tokens / expected - 1) > _SAME_STEP):
            plan = self.plan(tokens, plan.speed)
            where = f"{plan.stop_reason} after about step {plan.stop_step:,}" if plan.stop_step else "?"
            said.append(f"the first step took {tokens:,} tokens; expected stop: {where}")
        if tokens and taken.tokens_non_padding < (1 - _SAME_STEP) * taken.tokens:
            share = 1 - taken.tokens_non_padding / taken.tokens
            said.append(
                f"{share:.0%} of the first step's tokens were padding, which spends FLOPs and does not count towards "
                f"D_opt: the optimum comes later than the plan says, or not at all"
            )
        return plan, said

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
        plan = self.plan(plan.tokens_per_step)
        return plan, f"plan, at the speed measured over {self._probe.window}\n{plan}"
