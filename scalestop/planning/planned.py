"""A plan: what a run will do before it does it, in numbers and in words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from scalestop.display import html_card
from scalestop.planning.allocation import Allocation, spread
from scalestop.planning.budget import Budget
from scalestop.planning.choice import NAMED
from scalestop.planning.rule import Limit, StopReason, StopRule, Verdict
from scalestop.planning.speed import Speed
from scalestop.units import human_count, human_difference, human_flops, pf_days


@dataclass(frozen=True)
class Plan:
    """What a run of one model under one budget will do, before it does it. `decide` holds usage against it."""

    budget: Budget
    """What the run may spend."""
    num_params: int
    """N, counted as the law counts it."""
    n_counts: str
    """Which parameters N means: `total` or `body`."""
    flops_per_token: int
    """Training FLOPs per processed token; 6·N by convention."""
    law: str
    """The law's name; `none` for a plan without one."""
    rule: StopRule
    """Settings of the stop rule."""
    allocation: Allocation | None
    """The budget's optimum; None without a law, and while a budget in time or money waits for a measured speed."""
    limits: tuple[Limit, ...]
    """What the rule holds usage against, in the order of the rule."""
    tokens_per_step: int | None
    """Tokens per optimizer step that the forecast assumes; None if unknown."""
    stop_step: int | None
    """Optimizer step after which the run is expected to stop."""
    stop_tokens: int | None
    """Tokens it will have seen by then."""
    stop_reason: StopReason
    """Why it is expected to stop."""
    loss_at_stop: float | None
    """Predicted loss at the expected stop, nats per token."""
    speed: Speed | None = None
    """Device speed and price that turned time or money into FLOPs."""
    loss_interval: tuple[float, float] | None = None
    """90 % interval of the loss at the expected stop, for a law with draws: of this one run if
    `loss_interval_of_run`, else of the law alone."""
    loss_interval_of_run: bool = False
    """Whether `loss_interval` has a run's own scatter in it; the law then knows it from the runs behind it."""
    target_interval: tuple[float, float] | None = None
    """90 % interval of the tokens at the compute-optimal point, for a law with draws."""
    warnings: tuple[str, ...] = ()
    """Why to be careful."""
    law_reason: str = ""
    """Why it is this law."""
    law_chosen: Literal["auto", "named", "none"] = "named"
    """Who chose it."""
    advisory: bool = False
    """Whether the law only advises: the optimum is shown, and the budget alone ends the run."""
    law_has_draws: bool = False
    """Whether the law knows its uncertainty; without, no figure of it has an interval."""
    findings: str | None = None
    """What the law's fit should be doubted for, in one line."""
    differences: tuple[str, ...] = ()
    """Where the law's runs had another text, tokenizer or recipe than this one."""
    flops_needed: int | None = None
    """The least budget in FLOPs under which a model of this size is not oversized; None for one that is not."""

    @property
    def target_tokens(self) -> int | None:
        """Tokens at which the run is compute-optimal and stops; None if the rule has no such point for this size."""
        return next((int(limit.amount) for limit in self.limits if not limit.hard), None)

    @property
    def flops_limit(self) -> int | None:
        """C_budget in FLOPs; None if the budget sets none."""
        return next(
            (int(limit.amount) for limit in self.limits if limit.counter == "flops" and limit.scope == "lifetime"), None
        )

    @property
    def awaits_speed(self) -> bool:
        """Whether the law's optimum waits for a speed that turns time or money into FLOPs."""
        return self.allocation is None and self.law_chosen != "none"

    @property
    def size_ratio(self) -> float | None:
        """N/N_opt."""
        return self.num_params / self.allocation.num_params if self.allocation else None

    @property
    def verdict(self) -> Verdict | None:
        """Right-sized, oversized or undersized; None while N_opt is not known."""
        ratio = self.size_ratio
        if ratio is None:
            return None
        if abs(ratio - 1) <= self.rule.tolerance:
            return Verdict.RIGHT_SIZED
        return Verdict.OVERSIZED if ratio > 1 else Verdict.UNDERSIZED

    def reason_at(self, limit: Limit, tokens: float) -> StopReason:
        """Return what a stop at a limit is called.

        A right-sized run whose FLOPs end within the tolerance of its D_opt is compute-optimal, whichever of the two
        limits rounding meets first.

        Args:
            limit: The limit that is met.
            tokens: Tokens seen by then.
        """
        if limit.reason is not StopReason.BUDGET_EXHAUSTED or limit.scope != "lifetime" or self.target_tokens is None:
            return limit.reason
        near = self.verdict is Verdict.RIGHT_SIZED and tokens >= (1 - self.rule.tolerance) * self.target_tokens
        return StopReason.COMPUTE_OPTIMAL if near else limit.reason

    @property
    def too_large(self) -> bool:
        """Whether N exceeds the oversize factor times N_opt; never by a law that only advises."""
        return not self.advisory and self.size_ratio is not None and self.size_ratio > self.rule.oversize_factor

    @property
    def largest_params(self) -> int | None:
        """The largest N that is not oversized under this budget; None while N_opt is not known, or only advice."""
        if self.allocation is None or self.advisory:
            return None
        return math.floor(self.rule.oversize_factor * self.allocation.num_params)

    @property
    def refusal(self) -> str | None:
        """What to do about an oversized model: the size that fits, the budget it needs, the option that trains on."""
        if not self.too_large or self.largest_params is None or self.flops_needed is None:
            return None
        return (
            f"the largest model for this budget is {human_count(self.largest_params)}; "
            f"N {human_count(self.num_params)} needs {human_flops(self.flops_needed)}; "
            f"oversized='warn' trains it all the same"
        )

    @property
    def loss_at_optimum(self) -> float | None:
        """Predicted loss of the right-sized model at the same budget, nats per token."""
        return self.allocation.loss if self.allocation else None

    def __str__(self) -> str:
        rows = _rows(self)
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)

    def __repr__(self) -> str:
        return f"Plan({self.budget} by {self.law}: N {human_count(self.num_params)} {self.n_counts}; {_stop(self)})"

    def _repr_html_(self) -> str:
        return html_card("Plan", _rows(self))


# ---- in words


def _rows(plan: Plan) -> list[tuple[str, str]]:
    """Return a plan's lines, each with its name."""
    rows: list[tuple[str, str]] = [("budget", _budget(plan))]
    if plan.speed is not None and plan.speed.flops_per_device_second is not None:
        rows.append(("speed", str(plan.speed)))
    rows.append(("law", _law(plan)))
    if plan.law_chosen == "auto":
        rows.append(("chosen", f"auto: {plan.law_reason}"))
    elif plan.law_chosen == "named" and plan.law_reason not in ("", NAMED):
        rows.append(("chosen", plan.law_reason))
    if plan.findings:
        rows.append(("findings", plan.findings))
    rows += [("differs", line) for line in plan.differences]
    best, size = plan.allocation, f"N {human_count(plan.num_params)}"
    if best is not None:
        loss = f", loss {spread(best.loss, best.loss_interval, '.3f')}" if best.loss is not None else ""
        text = f"N_opt {spread(best.num_params, best.params_interval)}, "
        text += f"D_opt {spread(best.num_tokens, best.tokens_interval)} tokens "
        rows.append(("optimum", f"{text}({best.tokens_per_param:.3g} per {plan.n_counts} param){loss}"))
        size += f" = {plan.size_ratio:.3g} N_opt: {plan.verdict}"
    elif plan.law_chosen != "none":
        rows.append(("optimum", "not known yet: time and money become FLOPs once a speed is given or measured"))
    rows.append(("model", size))
    if plan.flops_per_token != 6 * plan.num_params:
        times = f"{plan.flops_per_token / plan.num_params:.3g} N (the law counts 6 N)"
        rows.append(("cost", f"{human_count(plan.flops_per_token)} FLOPs/token = {times}"))
    rows.append(("stop", _stop(plan)))
    if plan.loss_at_stop is not None:
        rows.append(("loss there", _loss(plan)))
    return rows + [("note", line) for line in plan.warnings]


def _budget(plan: Plan) -> str:
    text = str(plan.budget)
    # the allocation is in the law's currency, 6·N a token; the budget pays what a token costs
    spendable = plan.allocation.flops * plan.flops_per_token / (6 * plan.num_params) if plan.allocation else 0
    if plan.allocation is not None and plan.budget.flops is None:
        text += f" = {human_flops(spendable)}"
    jobs = [limit.text for limit in plan.limits if limit.scope == "job"]
    if jobs:
        text += f"; this job: {' or '.join(jobs)}"
    compute = plan.budget.flops or spendable
    if pf_days(compute) >= 0.01:
        text += f" ({pf_days(compute):.3g} PF-days)"
    return text


def _law(plan: Plan) -> str:
    if plan.law_chosen == "none":
        return f"none; {plan.law_reason}"
    text = f"{plan.law} (its N counts {plan.n_counts} parameters)"
    if not plan.law_has_draws:
        text += "; it has no known uncertainty, so its figures carry no interval"
    return text


def _stop(plan: Plan) -> str:
    if plan.stop_reason is StopReason.MODEL_OVERSIZED:
        when = "now" if plan.speed is not None and plan.speed.measured_flops_per_second else "before the first step"
        return f"{when}, {plan.stop_reason}: N is over {plan.rule.oversize_factor:g} N_opt; {plan.refusal}"
    if plan.stop_reason is StopReason.NOT_STOPPED or plan.stop_tokens is None:
        return "when a limit is reached; the step is not known yet"
    # the optimum and the end of the FLOPs often fall on one step, and the rule names the spent budget first
    both = plan.stop_reason is StopReason.BUDGET_EXHAUSTED and plan.stop_tokens >= (plan.target_tokens or math.inf)
    also = ", where it is compute-optimal too" if both else ""
    if plan.stop_step is None:
        return f"{plan.stop_reason} at {human_count(plan.stop_tokens)} tokens{also}"
    return (
        f"{plan.stop_reason} after step {plan.stop_step:,}, at {human_count(plan.stop_tokens)} tokens "
        f"({human_count(plan.tokens_per_step or 0, 4)} per step){also}"
    )


def _loss(plan: Plan) -> str:
    text = f"{plan.loss_at_stop:.3f} nats/token"
    if plan.loss_interval is not None:
        of = " of runs" if plan.loss_interval_of_run else ""
        text += f" (90 %{of}: {plan.loss_interval[0]:.3f} to {plan.loss_interval[1]:.3f})"
    text += " predicted"
    if plan.loss_at_optimum is not None and plan.loss_at_stop is not None:
        text += f", {human_difference(plan.loss_at_stop - plan.loss_at_optimum)} against the optimum"
    return text
