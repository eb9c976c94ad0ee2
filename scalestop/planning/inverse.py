"""The allocation asked backwards: which budget has this optimum?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from scalestop.errors import InputError
from scalestop.laws import ScalingLaw
from scalestop.laws.repeated import bisect
from scalestop.planning.budget import Budget
from scalestop.units import format_quantity


def flops_of(budget: Budget, law: ScalingLaw) -> int:
    """Return the FLOPs of a budget in FLOPs or tokens; the smaller where both are set.

    Args:
        budget: The budget. One in tokens asks for the model those tokens are optimal for.
        law: The law that says which that is.

    Raises:
        InputError: If the budget is in time or money alone.
    """
    candidates = []
    if budget.flops is not None:
        candidates.append(budget.flops)
    if budget.tokens is not None:
        candidates.append(max(1, round(_inverse(lambda flops: law.optimal(flops).num_tokens, budget.tokens))))
    if not candidates:
        limits = " or ".join(format_quantity(q.value, q.dimension) for q in budget.limits())
        raise InputError(
            f"budget: {limits!r} is no amount of compute by itself; give FLOPs or tokens, or a device's peak FLOP/s "
            f"and its utilisation (MFU), with which time and money become FLOPs"
        )
    return min(candidates)


def flops_for_params(num_params: float, law: ScalingLaw) -> float:
    """Return the C of which this size is N_opt, FLOPs; 1e300 where no budget below that has it."""
    return _inverse(lambda flops: law.optimal(flops).num_params, num_params)


def _inverse(rising: Callable[[float], Any], value: float) -> float:
    """Find C with rising(C) = value, by bisection in log C; N_opt and D_opt both grow with C."""
    # no optimum needs fewer FLOPs than six for each token, or for each parameter
    low = np.log(6.0 * value)
    found = bisect(lambda x: value - float(rising(float(np.exp(x)))), low, min(low + 100, np.log(1e300)))
    return float(np.exp(found))
