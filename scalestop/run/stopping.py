"""Algorithm 3, the stop rule: one pure function of a plan and of what was used."""

from __future__ import annotations

from dataclasses import dataclass

from scalestop.accounting.meter import Usage
from scalestop.planning.planned import Plan
from scalestop.planning.rule import Counter, Limit, StopReason, Verdict
from scalestop.units import human_count, human_flops, human_seconds

__all__ = ["StopDecision", "StopReason", "decide"]


@dataclass(frozen=True)
class StopDecision:
    """Whether to stop, why, and the numbers that decided it."""

    stop: bool
    """Whether training should end now."""
    reason: StopReason
    """Why; `NOT_STOPPED` to keep training."""
    message: str
    """The reason with its numbers, in one line."""
    counter: str | None = None
    """The counter that decided; a field of `Usage`, or `num_params`."""
    observed: float | None = None
    """Its value."""
    limit: float | None = None
    """What it was held against."""

    @property
    def overshoot(self) -> float | None:
        """How far the counter is past its limit, as a share of it; None where no counter met one."""
        if not self.stop or not self.limit or self.observed is None or self.counter == "num_params":
            return None
        return max(0.0, self.observed / self.limit - 1)


def decide(
    plan: Plan,
    usage: Usage,
    *,
    job_usage: Usage | None = None,
    largest_step: Usage | None = None,
    waiting_for: str | None = None,
) -> StopDecision:
    """Decide whether a run stops here (Algorithm 3).

    Call it after every optimizer step, and once with a fresh `Usage()` before the first one: an oversized model is
    then refused at zero cost. In order: a spent budget (FLOPs, then tokens, device time, wall time, money), the
    compute-optimal point, an oversized model.

    Args:
        plan: What `make_plan` returned.
        usage: What the run has used over its lifetime.
        job_usage: What this job has used, for limits that hold for the job alone; the lifetime's if None.
        largest_step: Growth of each counter over the largest step seen. With `overshoot="never"` the run stops
            where one more such step would pass a hard limit.
        waiting_for: What a compute-optimal stop has to wait for, in words, such as an unmet metric; None lets it be.
            Hard limits never wait.

    Returns:
        The decision. It depends on the arguments alone.
    """
    for limit in plan.limits:
        if not limit.hard:
            continue
        used = usage if limit.scope == "lifetime" or job_usage is None else job_usage
        value = getattr(used, limit.counter)
        margin = 0.0
        if plan.rule.overshoot == "never" and largest_step is not None:
            margin = getattr(largest_step, limit.counter)
        # the margin is added rather than taken off, so that exact ints stay exact; no margin is wanted at zero
        if value >= limit.amount or (margin and value + margin > limit.amount):
            reason = limit.reason if waiting_for is not None else plan.reason_at(limit, usage.tokens_non_padding)
            if reason is limit.reason:
                message = _limit_message(plan, usage, limit, value)
            else:
                message = _optimal_message(plan, usage)
            return StopDecision(True, reason, message, limit.counter, value, limit.amount)
    waiting = ""
    for limit in plan.limits:
        if limit.hard:
            continue
        value = getattr(usage, limit.counter)
        if value >= limit.amount:
            if waiting_for is None:
                message = _optimal_message(plan, usage)
                return StopDecision(True, limit.reason, message, limit.counter, value, limit.amount)
            waiting = f"; compute-optimal, but waiting for {waiting_for}"
    if plan.too_large and plan.rule.oversized == "stop" and plan.allocation is not None:
        factor = plan.rule.oversize_factor
        message = (
            f"{_size(plan)} is more than {factor:g}x the compute-optimal {human_count(plan.allocation.num_params)} "
            f"for {human_flops(plan.allocation.flops)} (law {plan.law}); "
            f"{plan.refusal or 'use a smaller model, or a larger budget'}"
        )
        bound = factor * plan.allocation.num_params
        return StopDecision(True, StopReason.MODEL_OVERSIZED, message, "num_params", plan.num_params, bound)
    return StopDecision(False, StopReason.NOT_STOPPED, f"keep training: {_progress(plan, usage)}{waiting}")


def _size(plan: Plan) -> str:
    return f"N {human_count(plan.num_params)} ({plan.n_counts})"


def _progress(plan: Plan, usage: Usage) -> str:
    parts = []
    if plan.target_tokens is not None:
        parts.append(f"{usage.tokens_non_padding / plan.target_tokens:.1%} of D_opt")
    if plan.flops_limit is not None:
        parts.append(f"{usage.flops / plan.flops_limit:.1%} of the FLOPs")
    return ", ".join(parts) or f"{human_count(usage.tokens_non_padding)} tokens"


def _tokens(plan: Plan, usage: Usage) -> str:
    seen = f"{human_count(usage.tokens_non_padding)} tokens"
    if plan.allocation is None:
        return seen
    target = plan.target_tokens or plan.allocation.num_tokens
    return f"{seen} of D_opt {human_count(target)} ({usage.tokens_non_padding / target:.1%})"


def _optimal_message(plan: Plan, usage: Usage) -> str:
    ratio = f"{plan.size_ratio:.3g} N_opt" if plan.size_ratio is not None else ""
    interval = ""
    if plan.target_interval is not None:
        low, high = (human_count(x) for x in plan.target_interval)
        interval = f" (90 % interval {low} to {high}, stop_at={plan.rule.stop_at})"
    what = "is compute-optimal" if plan.verdict is Verdict.RIGHT_SIZED else "has its own optimal tokens"
    spent = f"{human_flops(usage.flops)}"
    if plan.flops_limit is not None:
        spent += f" = {usage.flops / plan.flops_limit:.1%} of the budget"
    return f"{_size(plan)} = {ratio} {what}: {_tokens(plan, usage)}{interval}, {spent}"


def _limit_message(plan: Plan, usage: Usage, limit: Limit, value: float) -> str:
    share = f"{value / limit.amount:.1%}"
    scope = " of this job" if limit.scope == "job" else ""
    spent = _amount(limit.counter, value)
    if limit.reason is StopReason.COST_LIMIT and plan.speed is not None and plan.speed.usd_per_device_hour:
        spent = f"{value / 3600 * plan.speed.usd_per_device_hour:.2f} USD"
    nearby = f"; {_size(plan)}"
    if plan.size_ratio is not None:
        nearby += f" = {plan.size_ratio:.3g} N_opt, {_tokens(plan, usage)}"
    if plan.target_tokens is not None and usage.tokens_non_padding >= plan.target_tokens:
        nearby += ", compute-optimal too"
    return f"{spent} of the {limit.text} budget{scope} ({share}){nearby}"


def _amount(counter: Counter, value: float) -> str:
    if counter == "flops":
        return human_flops(value)
    if counter == "seconds":
        return human_seconds(value)
    if counter == "device_seconds":
        return f"{value / 3600:.3g} device-hours"
    return f"{human_count(value)} tokens"


def steps_to_next_check(plan: Plan, usage: Usage, largest_step: Usage, job_usage: Usage | None = None) -> int:
    """Return after how many optimizer steps a limit could first be reached, at the earliest.

    No limit can be met sooner while steps stay within twice the largest one seen when this was asked: what remains is
    divided by that. As half of the remainder is left each time, the checks grow with the logarithm of the steps.
    The answer never exceeds the steps this job has taken, so that a batch size that is still growing is seen early on,
    and one that was changed between jobs.

    Args:
        plan: The plan.
        usage: What the run has used, global.
        largest_step: Growth of each counter over the largest step seen; `Meter.largest_step`.
        job_usage: What this job has used; the lifetime's if None.

    Returns:
        At least 1.
    """
    steps = max(1, (job_usage or usage).optimizer_steps)
    for limit in plan.limits:
        used = usage if limit.scope == "lifetime" or job_usage is None else job_usage
        grows = getattr(largest_step, limit.counter)
        remaining = limit.amount - getattr(used, limit.counter)
        if limit.hard and plan.rule.overshoot == "never":
            remaining -= grows
        if not limit.hard and remaining <= 0:
            continue  # compute-optimal already and waiting for a metric: that is looked at when metrics change
        steps = min(steps, int(remaining // (2 * grows))) if grows > 0 else 1
    return max(1, steps)


def tokens_to_next_check(plan: Plan, usage: Usage, largest_step: Usage, job_usage: Usage | None = None) -> int | None:
    """Return how many processed tokens may still be added before a limit could be met; None if none counts tokens.

    On a single rank the count is known at every step, so this needs no bound on the next step: whoever has added this
    many tokens asks `decide`, and nobody needs to before. Limits in time are not covered.

    Args:
        plan: The plan.
        usage: What the run has used.
        largest_step: Growth of each counter over the largest step seen; used with `overshoot="never"`.
        job_usage: What this job has used; the lifetime's if None.

    Returns:
        At least 1.
    """
    found = None
    for limit in plan.limits:
        if limit.counter in ("seconds", "device_seconds"):
            continue
        used = usage if limit.scope == "lifetime" or job_usage is None else job_usage
        remaining = int(limit.amount) - getattr(used, limit.counter)
        if limit.hard and plan.rule.overshoot == "never":
            remaining -= getattr(largest_step, limit.counter)
        if not limit.hard and remaining <= 0:
            continue
        # no batch adds more non-padding tokens than tokens
        tokens = -(-remaining // plan.flops_per_token) if limit.counter == "flops" else remaining
        found = tokens if found is None else min(found, tokens)
    return None if found is None else max(1, found)
