"""Planning: from a budget, a law and a model's size to where the run will stop."""

from __future__ import annotations

import math
from dataclasses import replace
from numbers import Real
from operator import itemgetter
from typing import Literal

from scalestop.errors import InputError
from scalestop.laws import Provenance, ScalingLaw, differences
from scalestop.laws.findings import describe_findings
from scalestop.laws.intervals import interval_of_run, interval_of_tokens
from scalestop.planning.allocation import allocation_of, outside
from scalestop.planning.budget import Budget, BudgetLike, is_amount
from scalestop.planning.choice import AUTO, LawChoice, LawLike, advice, need_law, resolve_law
from scalestop.planning.inverse import flops_for_params, flops_of
from scalestop.planning.planned import Plan
from scalestop.planning.rule import Limit, StopReason, StopRule, Verdict
from scalestop.planning.speed import Speed
from scalestop.units import Dimension, parse_count

__all__ = ["Plan", "budget_limits", "make_plan"]


def make_plan(
    budget: BudgetLike,
    law: LawLike = AUTO,
    num_params: int | str | None = None,
    tokens_per_step: int | str | None = None,
    *,
    rule: StopRule | None = None,
    flops_per_token: int | None = None,
    speed: Speed | None = None,
    job_budget: BudgetLike | None = None,
    run: Provenance | None = None,
) -> Plan:
    """Plan a run: where it will stop, why, and with what loss.

    Args:
        budget: Anything `Budget.parse` reads: FLOPs, tokens, device-hours, wall time, money, or several.
        law: A law, its name, its file, or what `resolve_law` gave. `"auto"` takes the built-in law whose runs are
            nearest to the budget; where even those are over three factors of ten away it only advises, and the budget
            alone ends the run. None plans without a law: budgets and accounting alone, as for data that is no text.
        num_params: N of the model, counted as the law counts it, such as `"70B"`. None plans the right-sized model.
        tokens_per_step: Tokens per optimizer step, global over ranks; needed to name the stop step.
        rule: Settings of the stop rule.
        flops_per_token: Training FLOPs per token of the model of `num_params`, which it needs; 6·N if None.
        speed: Device speed and price; needed where the budget is in time or money only.
        job_budget: What this job alone may spend (a time slice of a longer run); no part of the allocation.
        run: What is known of the run's text and recipe; the plan says where the law's runs had others.

    Raises:
        InputError: If an argument cannot be used; or a money budget has no price.
    """
    budget, rule = Budget.parse(budget), rule or StopRule()
    num_params = _whole(num_params, "num_params")
    tokens_per_step = _whole(tokens_per_step, "tokens_per_step")
    if num_params is None and flops_per_token is not None:
        raise InputError(
            f"flops_per_token: {flops_per_token!r} is the cost of a model whose num_params is not given; give both, or "
            f"neither to plan the right-sized model at 6·N"
        )
    per_token = _whole(flops_per_token, "flops_per_token")
    choice = resolve_law(law, budget, num_params, flops_per_token=per_token, speed=speed)
    if num_params is None:
        sized_by = need_law(choice, "a plan without num_params")
        flops = flops_of(_compute_of(budget, speed), sized_by)
        num_params = max(1, round(float(sized_by.optimal(float(flops)).num_params)))
    per_token = per_token or 6 * num_params
    plan = Plan(
        budget=budget,
        num_params=num_params,
        n_counts="total" if choice.law is None else choice.law.info.n_counts,
        flops_per_token=per_token,
        law=choice.name,
        rule=rule,
        allocation=None,
        limits=(),
        tokens_per_step=tokens_per_step,
        stop_step=None,
        stop_tokens=None,
        stop_reason=StopReason.NOT_STOPPED,
        loss_at_stop=None,
        speed=speed,
        law_reason=choice.reason,
        law_chosen=choice.how,
        advisory=choice.advisory,
    )
    if choice.law is not None:
        plan = _under_law(plan, choice, choice.law, run)
    target, interval = _target(plan, choice.law)
    limits = budget_limits(budget, speed)
    if job_budget is not None:
        limits += budget_limits(Budget.parse(job_budget), speed, "job")
    if target is not None:
        limits += (Limit(StopReason.COMPUTE_OPTIMAL, "tokens_non_padding", target, text=f"{target} tokens"),)
    return _forecast(replace(plan, limits=limits, target_interval=interval), choice.law)


def _under_law(plan: Plan, choice: LawChoice, law: ScalingLaw, run: Provenance | None) -> Plan:
    """Return the plan with its allocation, with what the law's size bounds are, and with what to be careful of."""
    plan = replace(
        plan,
        law_has_draws=law.uncertainty is not None,
        findings=describe_findings(law.info.findings),
        differences=tuple(differences(law, run)),
    )
    size = float(plan.num_params)
    compute = _affordable_flops(plan.budget, plan.flops_per_token, plan.speed)
    if compute is None:
        line = advice(choice, None)
        return replace(plan, warnings=(line,) if line else ())
    # The law's currency is 6·N·D. A count that adds attention, say, buys fewer tokens for the same FLOPs, and it
    # is the tokens that the law must be asked about.
    by_law, by_count = 6 * plan.num_params, plan.flops_per_token
    in_law_units = compute if by_count == by_law else max(1, round(compute * by_law / by_count))
    allocation = allocation_of(in_law_units, law, choice)
    warnings = list(allocation.warnings)
    # where N_opt is outside too, its line is there already
    if not law.info.valid.distance("num_params", allocation.num_params) and (line := outside(law, num_params=size)):
        warnings.append(line)
    plan = replace(plan, allocation=allocation, warnings=tuple(warnings))
    if not plan.too_large:
        return plan
    # a hair more than the bisection found, so that this budget is enough when it is given back
    needed = math.ceil(flops_for_params(size / plan.rule.oversize_factor, law) * by_count / by_law * (1 + 1e-9))
    return replace(plan, flops_needed=needed)


def _target(plan: Plan, law: ScalingLaw | None) -> tuple[int | None, tuple[float, float] | None]:
    """Tokens of the compute-optimal stop, if the rule has one for this size, and their interval."""
    if law is None or plan.advisory or plan.allocation is None or plan.verdict is Verdict.OVERSIZED:
        return None, None
    if plan.verdict is Verdict.RIGHT_SIZED:
        tokens, interval = plan.allocation.num_tokens, plan.allocation.tokens_interval
    elif plan.rule.undersized == "stop":
        tokens = float(law.optimal_tokens(float(plan.num_params)))
        interval = interval_of_tokens(law, plan.num_params)
    else:
        return None, None
    if plan.rule.stop_at != "median":
        if interval is None:
            raise InputError(
                f"stop_at: {plan.rule.stop_at!r} needs a law with an uncertainty, and {law.name!r} carries none; "
                f"fit one with scalestop.fit_law, or use stop_at='median'"
            )
        tokens = interval[0] if plan.rule.stop_at == "earliest" else interval[1]
    return max(1, math.ceil(tokens)), interval


_REASON = {
    Dimension.FLOPS: (StopReason.BUDGET_EXHAUSTED, "flops"),
    Dimension.TOKENS: (StopReason.TOKEN_LIMIT, "tokens_non_padding"),
    Dimension.DEVICE_SECONDS: (StopReason.DEVICE_TIME_LIMIT, "device_seconds"),
    Dimension.SECONDS: (StopReason.TIME_LIMIT, "seconds"),
    Dimension.USD: (StopReason.COST_LIMIT, "device_seconds"),
}


def budget_limits(
    budget: Budget, speed: Speed | None = None, scope: Literal["lifetime", "job"] = "lifetime"
) -> tuple[Limit, ...]:
    """Return what a budget sets on the counters of `Usage`; the speed carries the price, which one in money needs.

    Raises:
        InputError: If a budget in money has no price.
    """
    limits = []
    for quantity in budget.limits():
        reason, counter = _REASON[quantity.dimension]
        amount: float = int(quantity.value) if counter in ("flops", "tokens_non_padding") else float(quantity.value)
        if quantity.dimension is Dimension.USD:
            if speed is None or speed.usd_per_device_hour is None:
                raise InputError(
                    f"usd_per_device_hour: a budget of {quantity} needs a price; give what one device-hour costs"
                )
            amount = amount / speed.usd_per_device_hour * 3600
        limits.append(Limit(reason, counter, amount, scope, str(quantity)))  # type: ignore[arg-type]
    return tuple(limits)


def _flops_of(budget: Budget, speed: Speed | None) -> list[int]:
    """FLOPs of each limit that says so, or whose time or money a speed turns into them."""
    return [*([] if budget.flops is None else [budget.flops]), *([] if speed is None else speed.flops_for(budget))]


def _affordable_flops(budget: Budget, flops_per_token: int, speed: Speed | None) -> int | None:
    """FLOPs that the tightest limit allows this model, or None if only a speed could tell."""
    tokens = [] if budget.tokens is None else [budget.tokens * flops_per_token]
    return min(_flops_of(budget, speed) + tokens, default=None)


def _compute_of(budget: Budget, speed: Speed | None) -> Budget:
    """The budget as FLOPs or tokens, for a model that is still to be chosen."""
    flops = min(_flops_of(budget, speed), default=None)
    return budget if flops is None and budget.tokens is None else Budget(flops=flops, tokens=budget.tokens)


def _forecast(plan: Plan, law: ScalingLaw | None) -> Plan:
    """Name the limit that will be met first, its step, and the loss there."""
    if plan.too_large and plan.rule.oversized == "stop":
        return replace(plan, stop_step=0, stop_tokens=0, stop_reason=StopReason.MODEL_OVERSIZED)
    per_step = plan.tokens_per_step or 1
    reached = [(steps, limit) for limit in plan.limits if (steps := _steps_to(limit, plan, per_step)) is not None]
    if not reached:
        return plan
    # the first of the fewest: at a tie the rule's order decides, as in decide()
    steps, limit = min(reached, key=itemgetter(0))
    tokens = steps * per_step
    loss = interval = None
    of_run = False
    if law is not None and law.has_loss and tokens > 0:
        loss = float(law.loss(float(plan.num_params), float(tokens)))
        interval = interval_of_run(law, plan.num_params, tokens)
        of_run = law.uncertainty is not None and law.uncertainty.knows_scatter
    return replace(
        plan,
        stop_step=steps if plan.tokens_per_step else None,
        stop_tokens=tokens,
        stop_reason=plan.reason_at(limit, tokens),
        loss_at_stop=loss,
        loss_interval=interval,
        loss_interval_of_run=of_run,
    )


def _steps_to(limit: Limit, plan: Plan, per_step: int) -> int | None:
    """Steps after which the limit is met, or would be passed where overshooting is not allowed."""
    if limit.counter == "flops":
        per, amount = per_step * plan.flops_per_token, limit.amount
    elif limit.counter in ("tokens", "tokens_non_padding"):
        per, amount = per_step, limit.amount
    elif plan.speed is not None and plan.speed.flops_per_device_second is not None:
        rate = plan.speed.flops_per_device_second
        devices = plan.speed.num_devices if limit.counter == "seconds" else 1
        per, amount = per_step * plan.flops_per_token, limit.amount * rate * devices
    else:
        return None
    if limit.hard and plan.rule.overshoot == "never":
        # what a step takes is known once one was taken, so `decide` lets the first one pass
        return max(1, int(amount // per))
    return int(-(-amount // per))


def _whole(value: int | str | None, name: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, str):
        return parse_count(value, name)
    if isinstance(value, bool) or not isinstance(value, Real) or not is_amount(value) or int(value) != value:
        raise InputError(f"{name}: must be a positive whole number; got {value!r}")
    return int(value)
