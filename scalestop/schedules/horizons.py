"""Where a user's own learning-rate schedule ends, and whether it will have decayed where the run stops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from scalestop.accounting.meter import Usage
from scalestop.planning.plan import budget_limits
from scalestop.planning.planned import Plan
from scalestop.planning.rule import StopReason
from scalestop.run.metrics import progress
from scalestop.run.records import DECAYED_SHARE
from scalestop.schedules.budget_lr import BudgetLR
from scalestop.schedules.undecayed import UndecayedPenalty
from scalestop.units import human_count

CLOSE = 0.05
"""A horizon within this share of the stop is the same horizon."""


@dataclass(frozen=True)
class Scheduled:
    """A scheduler as the Trainer drives it."""

    scheduler: Any
    """The torch scheduler."""
    steps_per_call: float
    """Optimizer steps from one `scheduler.step()` to the next; infinite or not a number if unknown."""


def budget_schedules(scheduler: Any) -> list[BudgetLR]:
    """Return the `BudgetLR` that a scheduler is or, as a chain or a sequence, holds."""
    if isinstance(scheduler, BudgetLR):
        return [scheduler]
    return [found for part in getattr(scheduler, "_schedulers", ()) for found in budget_schedules(part)]


def planned_steps(scheduled: Scheduled) -> int | None:
    """Return the optimizer step at which a scheduler's own horizon lies; None for one that has none or hides it.

    Known are torch's cosine annealing, one-cycle, falling linear, polynomial, chains and sequences of those, and
    lambdas made by `functools.partial` with a number of training steps, as transformers' schedules are.
    """
    calls = _planned_calls(scheduled.scheduler)
    if calls is None:
        return None
    steps = calls * scheduled.steps_per_call
    return round(steps) if math.isfinite(steps) else None


def _planned_calls(scheduler: Any) -> int | None:
    kind = type(scheduler).__name__
    if kind in ("CosineAnnealingWarmRestarts", "ConstantLR"):
        return None
    if kind == "LinearLR" and scheduler.end_factor >= scheduler.start_factor:
        return None  # a warm-up
    for name in ("T_max", "total_steps", "total_iters"):
        if isinstance(getattr(scheduler, name, None), Integral):
            return int(getattr(scheduler, name))
    parts = getattr(scheduler, "_schedulers", None)
    if parts:
        milestones = getattr(scheduler, "_milestones", None)
        if milestones:
            last = _planned_calls(parts[-1])
            return None if last is None else int(milestones[-1]) + last
        return max((calls for part in parts if (calls := _planned_calls(part)) is not None), default=None)
    for function in getattr(scheduler, "lr_lambdas", ()):
        words = getattr(function, "keywords", None) or {}
        if isinstance(words.get("num_training_steps"), Integral):
            return int(words["num_training_steps"])
        stretches = [words.get(f"num_{part}_steps") for part in ("warmup", "stable", "decay")]
        if all(isinstance(steps, Integral) for steps in stretches):
            return sum(map(int, stretches))  # type: ignore[arg-type]
    return None


def horizon_conflicts(scheduled: Sequence[Scheduled], plan: Plan) -> list[str]:
    """Say where a schedule ends elsewhere than the planned run, if that has a stop step to compare with."""
    lines: list[str] = []
    stop, tokens = plan.stop_step, plan.stop_tokens
    if not stop or not tokens or _ends_with_a_job(plan):
        return lines
    for item in scheduled:
        steps = planned_steps(item)
        if steps is not None and abs(steps / stop - 1) > CLOSE:
            lines.append(
                f"{type(item.scheduler).__name__} is made for {steps:,} steps, the run stops at about {stop:,}: the "
                f"learning rate will not end where the run ends; return scalestop.BudgetLR instead"
            )
        for schedule in budget_schedules(item.scheduler):
            share = _horizon_share(schedule, plan)
            if share is not None and share > 1 + CLOSE:
                end = human_count(tokens / share)
                lines.append(
                    f"BudgetLR's horizon {schedule.horizon} is reached at {end} tokens, the run stops at "
                    f"{human_count(tokens)}: from there on it trains at the floor of the learning rate"
                )
    return lines


def _ends_with_a_job(plan: Plan) -> bool:
    """Whether the stop that is forecast ends one job of a longer run."""
    return any(limit.scope == "job" and limit.reason is plan.stop_reason for limit in plan.limits)


def _horizon_share(schedule: BudgetLR, plan: Plan) -> float | None:
    """How far the planned stop is on the way to the schedule's own horizon; None without one."""
    if schedule.horizon is None or plan.stop_tokens is None:
        return None
    usage = Usage(tokens_non_padding=plan.stop_tokens, flops=plan.stop_tokens * plan.flops_per_token)
    return progress(budget_limits(schedule.horizon), usage)


def rate_at_stop(scheduled: Sequence[Scheduled], plan: Plan) -> float | None:
    """Return the learning rate at the planned stop as a share of its peak; None where it cannot be told beforehand.

    Without a scheduler the rate stays at its peak. One of the user's own that is made for more steps than the run has
    is taken to fall evenly to nothing: near enough to say whether it will have decayed.
    """
    if not scheduled:
        return 1.0
    for item in scheduled:
        for schedule in budget_schedules(item.scheduler):
            share = _horizon_share(schedule, plan)
            return schedule.factor_at(1.0 if share is None else share)
        steps = planned_steps(item)
        if steps is not None and plan.stop_step:
            return max(0.0, 1 - plan.stop_step / steps)
    return None


def decay_note(scheduled: Sequence[Scheduled], plan: Plan, penalty: UndecayedPenalty | None) -> str | None:
    """Say that the learning rate will not have decayed where the run stops, and what that costs by earlier runs.

    Returns a line for the plan; None if the rate will have decayed, or nobody can tell.
    """
    rate = rate_at_stop(scheduled, plan)
    ends = plan.stop_reason is not StopReason.MODEL_OVERSIZED and not _ends_with_a_job(plan)
    if rate is None or rate <= DECAYED_SHARE or not ends:
        return None
    cost = "" if penalty is None else f": expect {penalty} against a decayed one"
    return f"the learning rate will not have decayed at the stop{cost}; scalestop.BudgetLR would see to that"
