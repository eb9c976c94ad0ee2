"""The marginal unit: what a run's next FLOP brings, over what the frontier's next FLOP would."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from scalestop.errors import InputError
from scalestop.laws.base import ScalingLaw
from scalestop.laws.curves.rate_path import Array

_STEP = 3e-3


class MarginalReturn(NamedTuple):
    """Fall of the loss per further FLOP of a run, over that of the frontier at the same spend.

    Above 1 the run is the better place for the next unit; below it a larger model from the start is.
    """

    ratio: float
    """The run's over the frontier's."""
    low: float
    """Lower end of its interval."""
    high: float
    """Upper end of its interval."""
    run: float
    """Nats per FLOP of the run."""
    frontier: float
    """Nats per FLOP of the frontier."""
    level: float = 0.9
    """Share of the distribution inside the interval."""


def frontier_slope(law: ScalingLaw, flops: float) -> float:
    """Return -dL*/dC, L* the loss of the law's optimum at C, nats per FLOP."""

    def loss(log_c: float) -> float:
        best = law.optimal(math.exp(log_c))
        return float(law.loss(best.num_params, best.num_tokens))

    return -_derivative(loss, math.log(flops)) / flops


def law_slope(law: ScalingLaw, num_params: float, num_tokens: float, flops_per_token: float | None = None) -> float:
    """Return -(dL/dD) / (FLOPs per token) of the law at fixed N, nats per FLOP.

    By the envelope theorem it equals `frontier_slope` at 6·N·D where N is the law's optimum there: the loss along the
    frontier changes as if N stood still, for there dL/dN along 6·N·D = C is 0.

    Args:
        law: The law.
        num_params: N, counted as the law counts it.
        num_tokens: D, tokens.
        flops_per_token: What a token costs; 6·N if None.
    """
    slope = _derivative(lambda log_d: float(law.loss(num_params, math.exp(log_d))), math.log(num_tokens)) / num_tokens
    return -slope / (6 * num_params if flops_per_token is None else flops_per_token)


def marginal_return(
    nats_per_token: float,
    deviation: float,
    flops_per_token: float,
    flops: float,
    law: ScalingLaw,
    *,
    level: float = 0.9,
) -> MarginalReturn:
    """Hold a run's slope against the frontier's.

    The interval is of the ratio: the run's slope is normal, the frontier's is log-normal around its value with the
    spread of the law's bootstrap draws; a law without draws counts as certain.

    Args:
        nats_per_token: Fall of the run's final loss per token that its stop is moved out, as `Followed.slope` gives it.
        deviation: Its standard deviation.
        flops_per_token: What a token of this run costs, FLOPs.
        flops: What the run will have spent at that stop, FLOPs.
        law: The law that knows the frontier.
        level: Share of the distribution inside the interval.
    """
    for name, value in (("flops_per_token", flops_per_token), ("flops", flops)):
        if not (value > 0 and math.isfinite(value)):
            raise InputError(f"{name}: above 0 and finite; got {value!r}")
    run, spread = nats_per_token / flops_per_token, deviation / flops_per_token
    frontier = frontier_slope(law, flops)
    ratio = run / frontier
    score = NormalDist().inv_cdf((1 + level) / 2)
    width = math.hypot(spread / frontier, ratio * _spread_of_frontier(law, flops))
    return MarginalReturn(ratio, ratio - score * width, ratio + score * width, run, frontier, level)


def _spread_of_frontier(law: ScalingLaw, flops: float) -> float:
    """Standard deviation of the log of the frontier's slope over the law's draws."""
    if law.uncertainty is None:
        return 0.0
    drawn = law.drawn()

    def loss(log_c: float) -> Array:
        best = drawn.optimal(math.exp(log_c))
        return np.asarray(drawn.loss(best.num_params, best.num_tokens), dtype=np.float64)

    at = math.log(flops)
    slopes = loss(at - _STEP) - loss(at + _STEP)
    slopes = slopes[np.isfinite(slopes) & (slopes > 0)]
    if len(slopes) < 10:
        return 0.0
    low, high = np.quantile(np.log(slopes), [0.05, 0.95])
    return float(high - low) / (2 * 1.6449)


def _derivative(function: Callable[[float], float], at: float) -> float:
    """Central differences at two widths, their leading error taken out (Richardson): good to some 1e-9 of a slope."""
    wide = (function(at + 2 * _STEP) - function(at - 2 * _STEP)) / (4 * _STEP)
    narrow = (function(at + _STEP) - function(at - _STEP)) / (2 * _STEP)
    return float((4 * narrow - wide) / 3)
