"""What a run reports while it trains: progress, speed, cost, time left. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable

from scalestop.accounting.meter import Usage
from scalestop.laws import ScalingLaw
from scalestop.planning.planned import Plan
from scalestop.planning.rule import Limit
from scalestop.units import pf_days


def progress(limits: Iterable[Limit], usage: Usage) -> float:
    """Return how far a run is towards its nearest stop: 0 at the start, 1 at the stop.

    Limits of a single job do not count: a job that ends is no run that ends.

    Args:
        limits: The run's limits.
        usage: What the run has used.
    """
    shares = (getattr(usage, limit.counter) / limit.amount for limit in limits if limit.scope == "lifetime")
    return max(shares, default=0.0)


def run_metrics(plan: Plan, law: ScalingLaw | None, usage: Usage, job_usage: Usage | None = None) -> dict[str, float]:
    """Return the counts and their shares, under the names they are logged by.

    Args:
        plan: The plan.
        law: The law behind it; None if there is none.
        usage: What the run has used.
        job_usage: What this job has used, for limits that hold for the job alone; the lifetime's if None.

    Returns:
        `tokens` (D), `flops`, `pf_days`, `tokens_per_param`, `device_hours`; `budget_used` (share of the limit that
        is nearest), `optimum_reached` (share of D_opt), `loss_predicted` (nats/token) and `usd` where they exist.
    """
    values: dict[str, float] = {
        "tokens": usage.tokens_non_padding,
        "flops": usage.flops,
        "pf_days": pf_days(usage.flops),
        "tokens_per_param": usage.tokens_non_padding / plan.num_params,
        "device_hours": usage.device_seconds / 3600,
    }
    spent = [_used(limit, usage, job_usage) / limit.amount for limit in plan.limits if limit.hard]
    if spent:
        values["budget_used"] = max(spent)
    if plan.allocation is not None:
        values["optimum_reached"] = usage.tokens_non_padding / (plan.target_tokens or plan.allocation.num_tokens)
    if law is not None and law.has_loss and usage.tokens_non_padding:
        values["loss_predicted"] = float(law.loss(float(plan.num_params), float(usage.tokens_non_padding)))
    if plan.speed is not None and plan.speed.usd_per_device_hour is not None:
        values["usd"] = usage.device_seconds / 3600 * plan.speed.usd_per_device_hour
    return values


def delivered(
    plan: Plan, window: Usage, usage: Usage, num_devices: int, peak: float | None, job_usage: Usage | None = None
) -> dict[str, float]:
    """Return the speed of a stretch of the run against paper, and the time left at that speed.

    Args:
        plan: The plan.
        window: What was used in the stretch.
        usage: What the run has used in all.
        num_devices: Devices that train together.
        peak: Peak FLOP/s of one device; None if unknown, and then there is no MFU.
        job_usage: What this job has used, for limits that hold for the job alone; the lifetime's if None.

    Returns:
        `mfu` = model FLOP/s over peak times devices (Chowdhery et al. 2022, appendix B), where the peak is known;
        `eta_seconds` to the nearest stop, where the stretch made progress towards one.
    """
    values: dict[str, float] = {}
    if window.seconds <= 0:
        return values
    if peak is not None and window.flops:
        values["mfu"] = window.flops / window.seconds / (peak * num_devices)
    left = math.inf
    for limit in plan.limits:
        rate = getattr(window, limit.counter) / window.seconds
        remaining = limit.amount - _used(limit, usage, job_usage)
        if rate > 0:
            left = min(left, max(0.0, remaining / rate))
    if math.isfinite(left):
        values["eta_seconds"] = left
    return values


def _used(limit: Limit, usage: Usage, job_usage: Usage | None) -> float:
    return float(getattr(usage if limit.scope == "lifetime" or job_usage is None else job_usage, limit.counter))
