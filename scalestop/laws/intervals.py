"""The intervals of a law's answers, all from its draws: the one place where they are made.

The fit, the law's file, the plan, the ladder and the closing line all ask here, so that one question has one answer.
The intervals are percentiles over the draws that the law carries, widened by its drift where a question lies outside
the compute of its runs; a law that carries no draws answers None.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from scalestop.laws.base import ScalingLaw
from scalestop.laws.uncertainty import widened

Pair = tuple[float, float]


@dataclass(frozen=True)
class OptimumIntervals:
    """How sure a law is of the optimum of one budget. Each is (low, high); None where the law does not know."""

    num_params: Pair | None = None
    """N_opt."""
    num_tokens: Pair | None = None
    """D_opt, tokens."""
    tokens_per_param: Pair | None = None
    """D_opt/N_opt."""
    loss: Pair | None = None
    """The law's own loss at its optimum, nats per token. One run scatters around it besides; see `interval_of_run`."""


def interval_of_optimum(law: ScalingLaw, flops: float, level: float = 0.9) -> OptimumIntervals:
    """Return the intervals of N_opt, D_opt, their ratio and the law's loss there.

    The loss is each draw's at the law's own optimum, so it is the loss of one model, the one that will be trained.

    Args:
        law: The law.
        flops: C in FLOPs.
        level: Share of the draws inside.
    """
    if law.uncertainty is None:
        return OptimumIntervals()
    num_params, num_tokens = (np.asarray(values) for values in law.drawn().optimal(flops))
    sd = law.uncertainty.drift_params * extrapolation(law, flops)
    best = law.optimal(flops)
    return OptimumIntervals(
        num_params=percentile_interval(widened(num_params, sd), level),
        num_tokens=percentile_interval(widened(num_tokens, sd), level),
        # what N_opt gains D_opt loses
        tokens_per_param=percentile_interval(widened(num_tokens / num_params, 2 * sd), level),
        loss=interval_of_loss(law, float(best.num_params), float(best.num_tokens), level),
    )


def interval_of_tokens(law: ScalingLaw, num_params: float, level: float = 0.9) -> Pair | None:
    """Return the interval of the tokens with which a model of this size is itself compute-optimal.

    Args:
        law: The law.
        num_params: N, counted as the law counts it.
        level: Share of the draws inside.
    """
    if law.uncertainty is None:
        return None
    flops = 6 * num_params * float(law.optimal_tokens(float(num_params)))
    # N_opt off by a factor puts the budget of this size off by that factor to the power 1/a, and its tokens with it
    above, below = (float(law.optimal(flops * step).num_params) for step in (1.1, 1 / 1.1))
    a = np.log(above / below) / np.log(1.21)
    sd = law.uncertainty.drift_params * extrapolation(law, flops) / a
    return percentile_interval(widened(law.drawn().optimal_tokens(float(num_params)), sd), level)


def interval_of_loss(law: ScalingLaw, num_params: float, num_tokens: float, level: float = 0.9) -> Pair | None:
    """Return the interval of the law's own loss: how well its runs pin it down there. None without draws or loss.

    Args:
        law: The law.
        num_params: N, counted as the law counts it.
        num_tokens: D, tokens.
        level: Share of the draws inside.
    """
    if law.uncertainty is None or not law.has_loss:
        return None
    sd = law.uncertainty.drift * extrapolation(law, 6 * num_params * num_tokens)
    return percentile_interval(widened(law.drawn().loss(float(num_params), float(num_tokens)), sd), level)


def interval_of_run(law: ScalingLaw, num_params: float, num_tokens: float, level: float = 0.9) -> Pair | None:
    """Return where the losses of this share of runs of this size and length will end; None without draws or loss.

    Without the scatter of its runs it is the law's own interval; see `Uncertainty.of_new_run`.

    Args:
        law: The law.
        num_params: N, counted as the law counts it.
        num_tokens: D, tokens.
        level: Share of the distribution inside.
    """
    if law.uncertainty is None or not law.has_loss:
        return None
    losses = np.asarray(law.drawn().loss(float(num_params), float(num_tokens)))
    return law.uncertainty.of_new_run(losses, level, extrapolation(law, 6 * num_params * num_tokens))


def interval_of_gain(law: ScalingLaw, before: Pair, after: Pair, level: float = 0.9) -> Pair | None:
    """Return the interval of what going from one run to another takes off the law's loss; None without draws or loss.

    Both losses are each draw's own, so what the two have in common cancels. So does the form's drift, but for how much
    farther outside the law's runs one of them lies.

    Args:
        law: The law.
        before: N and D of the one run.
        after: N and D of the other.
        level: Share of the draws inside.
    """
    if law.uncertainty is None or not law.has_loss:
        return None
    drawn = law.drawn()
    first, second = (np.asarray(drawn.loss(float(n), float(d))) for n, d in (before, after))
    there, here = (extrapolation(law, 6 * n * d) for n, d in (after, before))
    ratios = widened(second / first, law.uncertainty.drift * abs(there - here))
    # a few points of drift for each draw: the draw's first loss is repeated for them
    gains = np.repeat(first, len(ratios) // len(first)) * (1 - ratios)
    return percentile_interval(gains, level)


def interval_over_draws(
    law: ScalingLaw, ask: Callable[[ScalingLaw], Any], level: float = 0.9, *, drift_at: float | None = None
) -> Pair | None:
    """Return the interval of any figure that a law's draws give; None without draws.

    Args:
        law: The law.
        ask: Asks the law of arrays, and gives one figure a draw.
        level: Share of the draws inside.
        drift_at: C in FLOPs, for a figure that drifts outside the law's runs as N_opt does; None for no drift, which
            there is too narrow.
    """
    if law.uncertainty is None:
        return None
    sd = 0.0 if drift_at is None else law.uncertainty.drift_params * extrapolation(law, drift_at)
    return percentile_interval(widened(ask(law.drawn()), sd), level)


def extrapolation(law: ScalingLaw, flops: float) -> float:
    """Return how far a budget lies outside the compute of a law's runs, above or below, in factors of e; 0 inside.

    Args:
        law: The law; one that states no range of compute gives 0.
        flops: C in FLOPs.
    """
    return abs(law.info.valid.distance("flops", flops)) * float(np.log(10))


def percentile_interval(values: Any, level: float) -> Pair | None:
    """Return the central interval that holds `level` of the values; None for None.

    Draws that are not finite are left out: where runs hardly determine a law, a refit may end where it overflows.
    """
    if values is None:
        return None
    values = np.asarray(values, dtype=np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
