"""The learning rate that is planned for a run: each share of it, as far as its schedule can be told beforehand."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from scalestop.accounting.meter import Usage
from scalestop.planning.plan import budget_limits
from scalestop.planning.planned import Plan
from scalestop.run.metrics import progress
from scalestop.schedules.budget_lr import BudgetLR
from scalestop.schedules.horizons import Scheduled

Rate = Callable[[float], float]


def planned_rate(scheduled: Sequence[Scheduled], plan: Plan) -> Rate | None:
    """Return the first param group's rate at each share of the planned run, 0 to 1.

    Known are `BudgetLR`, lambdas of the step, and torch's cosine annealing, linear, constant, polynomial, exponential
    and step schedules, alone or one after another in a `SequentialLR`.

    Args:
        scheduled: The run's schedulers.
        plan: The plan.

    Returns:
        None where it cannot be told: several schedulers, none, one of another kind, or no planned stop.
    """
    if len(scheduled) != 1 or not plan.stop_step or not plan.stop_tokens:
        return None
    (item,) = scheduled
    stop = plan.stop_step
    if isinstance(item.scheduler, BudgetLR):
        schedule, base = item.scheduler, float(item.scheduler.base_lrs[0])
        reach = 1.0
        if schedule.horizon is not None:
            end = Usage(tokens_non_padding=plan.stop_tokens, flops=plan.stop_tokens * plan.flops_per_token)
            reach = progress(budget_limits(schedule.horizon), end)
        return lambda share: base * schedule.factor_at(share * reach)
    by_call = _by_call(item.scheduler)
    if by_call is None or not math.isfinite(item.steps_per_call):
        return None
    return lambda share: by_call(math.floor(share * stop / item.steps_per_call))


def _by_call(scheduler: Any) -> Callable[[int], float] | None:
    """Return a scheduler's rate after so many calls of `step`."""
    kind = type(scheduler).__name__
    bases = getattr(scheduler, "base_lrs", None)
    if kind == "SequentialLR":
        parts = [_by_call(part) for part in scheduler._schedulers]
        milestones = [int(milestone) for milestone in scheduler._milestones]
        if None in parts:
            return None
        starts = [0, *milestones]

        def piecewise(calls: int) -> float:
            k = bisect_right(milestones, calls)
            part = parts[k]
            assert part is not None
            return part(calls - starts[k])

        return piecewise
    if not bases:
        return None
    base = float(bases[0])
    form = _FORMS.get(kind)
    if kind == "LambdaLR":
        function = scheduler.lr_lambdas[0]
        return lambda calls: base * float(function(calls))
    return None if form is None else lambda calls: form(scheduler, base, calls)


def _cosine(scheduler: Any, base: float, calls: int) -> float:
    return float(scheduler.eta_min + (base - scheduler.eta_min) * (1 + math.cos(math.pi * calls / scheduler.T_max)) / 2)


def _linear(scheduler: Any, base: float, calls: int) -> float:
    share = min(calls / scheduler.total_iters, 1.0)
    return float(base * (scheduler.start_factor + (scheduler.end_factor - scheduler.start_factor) * share))


_FORMS: dict[str, Callable[[Any, float, int], float]] = {
    "CosineAnnealingLR": _cosine,
    "LinearLR": _linear,
    "ConstantLR": lambda s, base, calls: base * (s.factor if calls < s.total_iters else 1.0),
    "PolynomialLR": lambda s, base, calls: base * (1 - min(calls / s.total_iters, 1.0)) ** s.power,
    "ExponentialLR": lambda s, base, calls: base * s.gamma**calls,
    "StepLR": lambda s, base, calls: base * s.gamma ** (calls // s.step_size),
    "MultiStepLR": lambda s, base, calls: base * s.gamma ** bisect_right(sorted(s.milestones.elements()), calls),
}
