"""The frontier: the loss at each compute's optimum, asked forwards and backwards."""

from __future__ import annotations

import math
from collections.abc import Callable

from scalestop.laws import ScalingLaw
from scalestop.laws.intervals import interval_of_loss
from scalestop.planning.advice.basis import MOST

_STEP, _MOST_STEPS = 10**0.2, 30
"""How far an end of an interval is looked for: six factors of ten to either side."""


def frontier_loss(law: ScalingLaw, flops: float) -> float:
    """Return the loss of the law's optimum of a budget, nats per token."""
    num_params, num_tokens = law.optimal(float(flops))
    return float(law.loss(num_params, num_tokens))


def flops_for_loss(law: ScalingLaw, loss: float) -> float | None:
    """Return the least compute whose optimum has this loss, FLOPs; None where none below 1e60 has.

    Args:
        law: A law that predicts a loss, which falls as its budget grows.
        loss: Target, nats per token.
    """
    return _first(lambda flops: frontier_loss(law, flops), loss)


def interval_of_flops(law: ScalingLaw, loss: float) -> tuple[float | None, float | None] | None:
    """Return between which budgets the law's 90 % interval of the frontier's loss holds a target.

    Args:
        law: The law; one without draws gives None.
        loss: Target, nats per token.

    Returns:
        The budget at which the low end of the interval reaches the target, and the one at which the high end does,
        FLOPs; an end that does not within six factors of ten is None.
    """
    start = flops_for_loss(law, loss) if law.uncertainty is not None and law.has_loss else None
    if start is None:
        return None
    return _crossing(law, loss, start, 0), _crossing(law, loss, start, 1)


def _crossing(law: ScalingLaw, loss: float, start: float, which: int) -> float | None:
    """Return the budget nearest to `start` at which one end of the frontier's interval is the target.

    The low end reaches it before the law does, the high end after. Far outside its runs the interval widens faster
    than the loss falls, so the high end may never reach it.
    """

    def reached(flops: float) -> bool:
        pair = interval_of_loss(law, *(float(x) for x in law.optimal(flops)))
        assert pair is not None
        return pair[which] <= loss

    step = _STEP if which else 1 / _STEP
    here = start
    for _ in range(_MOST_STEPS):
        there = here * step
        if reached(there) == bool(which):
            for _ in range(10):
                middle = math.sqrt(here * there)
                here, there = (here, middle) if reached(middle) == bool(which) else (middle, there)
            return there
        here = there
    return None


def is_minimum(law: ScalingLaw, flops: float) -> bool:
    """Whether the law's optimum of a budget is where its loss is least; Kaplan's is not, by design."""
    size, tokens = (float(x) for x in law.optimal(float(flops)))
    least = float(law.loss(size, tokens)) * (1 + 1e-12)
    return all(least <= float(law.loss(size * step, tokens / step)) * (1 + 1e-12) + 1e-12 for step in (1.02, 1 / 1.02))


def _first(falling: Callable[[float], float], value: float) -> float | None:
    """Return the least x from 1e3 up with falling(x) <= value, by bisection in log x."""
    low, high = math.log(1e3), math.log(MOST)
    if not falling(MOST) <= value:
        return None
    for _ in range(60):
        middle = (low + high) / 2
        if falling(math.exp(middle)) <= value:
            high = middle
        else:
            low = middle
    return math.exp(high)
