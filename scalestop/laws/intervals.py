"""The intervals of a law's answers, all from its draws: the one place where they are made.

The fit, the law's file, the plan, the ladder and the closing line all ask here, so that one question has one answer.
A law that carries no draws answers None. There are two kinds of interval, as `Uncertainty.degrees` says:

- percentiles over the draws' answers, widened by the law's drift where a question lies outside the compute of its runs;
- the law's own answer give or take a quantile of Student's t times its standard deviation in logarithms: the root
  mean square distance of the draws' answers from it, and what the form gets wrong outside the runs and up the sides of
  the valley.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scalestop.laws.base import Floats, ScalingLaw
from scalestop.laws.uncertainty import Uncertainty, student_quantile, widened

Pair = tuple[float, float]
Array = NDArray[np.float64]

_MOST_SPREADS = 241
"""Points of a run's spread that are multiplied out with every draw."""
_AT_ONCE = 200_000
"""Answers (models x draws) that are held at one time."""
_SLACK = 1e-3
"""Rounding at the edge of the fitted range is no extrapolation."""


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
    Everywhere here `flops` is C in FLOPs, N is counted as the law counts it, and `level` is the share of draws inside.
    """
    if law.uncertainty is None:
        return OptimumIntervals()
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        # refits to runs that hardly determine a law may end where it overflows
        num_params, num_tokens = (np.asarray(values) for values in law.drawn().optimal(flops))
        ratio = num_tokens / num_params
    sd = law.uncertainty.drift_params * extrapolation(law, flops)
    best = law.optimal(flops)
    n, d = float(best.num_params), float(best.num_tokens)
    return OptimumIntervals(
        num_params=_ends(law.uncertainty, n, num_params, sd, level),
        num_tokens=_ends(law.uncertainty, d, num_tokens, sd, level),
        # what N_opt gains D_opt loses
        tokens_per_param=_ends(law.uncertainty, d / n, ratio, 2 * sd, level),
        loss=interval_of_loss(law, n, d, level),
    )


def interval_of_tokens(law: ScalingLaw, num_params: float, level: float = 0.9) -> Pair | None:
    """Return the interval of the tokens with which a model of this size is itself compute-optimal."""
    if law.uncertainty is None:
        return None
    tokens = float(law.optimal_tokens(float(num_params)))
    flops = 6 * num_params * tokens
    # N_opt off by a factor puts the budget of this size off by that factor to the power 1/a, and its tokens with it
    above, below = (float(law.optimal(flops * step).num_params) for step in (1.1, 1 / 1.1))
    a = np.log(above / below) / np.log(1.21)
    sd = law.uncertainty.drift_params * extrapolation(law, flops) / a
    return _ends(law.uncertainty, tokens, law.drawn().optimal_tokens(float(num_params)), sd, level)


def interval_of_loss(law: ScalingLaw, num_params: float, num_tokens: float, level: float = 0.9) -> Pair | None:
    """Return the interval of the law's own loss: how well its runs pin it down there. None without draws or loss."""
    return _one(loss_intervals(law, num_params, num_tokens, level))


def interval_of_run(law: ScalingLaw, num_params: float, num_tokens: float, level: float = 0.9) -> Pair | None:
    """Return where the losses of this share of runs of this size and length will end; None without draws or loss.

    Without the scatter of its runs it is the law's own interval.
    """
    return _one(loss_intervals(law, num_params, num_tokens, level, of_run=True))


def loss_intervals(
    law: ScalingLaw,
    num_params: Floats,
    num_tokens: Floats,
    level: float = 0.9,
    *,
    of_run: bool = False,
    unique_tokens: Floats | None = None,
) -> tuple[Array, Array] | None:
    """Return the ends of the interval of many models' losses, each of the shape asked for; None without draws or loss.

    Args:
        law: The law.
        num_params: N, counted as the law counts it; broadcasts against the others.
        num_tokens: D, tokens.
        level: Share of the distribution inside.
        of_run: Where one new run will lie, rather than the law.
        unique_tokens: Distinct tokens among them, for a law that knows what that means.
    """
    if law.uncertainty is None or not law.has_loss:
        return None
    given = (num_params, num_tokens) if unique_tokens is None else (num_params, num_tokens, unique_tokens)
    columns = np.broadcast_arrays(*(np.asarray(column, dtype=np.float64) for column in given))
    shape, points = columns[0].shape, np.stack([column.ravel() for column in columns])
    drawn, made = law.drawn(), []
    for part in np.array_split(points, max(1, points.shape[1] * len(law.uncertainty.draws) // _AT_ONCE), axis=1):
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            losses = np.broadcast_to(_loss(drawn, part[:, :, None]), (part.shape[1], len(law.uncertainty.draws)))
        ends = _centred_losses if law.uncertainty.degrees is not None else _percentile_losses
        made.append(ends(law, part, losses, level, of_run))
    low, high = np.concatenate(made, axis=1)
    return low.reshape(shape), high.reshape(shape)


def interval_of_gain(law: ScalingLaw, before: Pair, after: Pair, level: float = 0.9) -> Pair | None:
    """Return the interval of what going from one run to another takes off the law's loss; None without draws or loss.

    Both losses, of an (N, D) each, are each draw's own, so what the two have in common cancels. So does the form's
    drift, but for how much farther outside the law's runs one of them lies.
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
    """Return how far a budget lies outside the compute of a law's runs, in factors of e; 0 without a range of it."""
    above, below = _beyond(law, np.asarray(flops, dtype=np.float64))
    return float(above + below)


def interval_about(sure: Uncertainty, value: float, draws: Any, level: float) -> Pair:
    """Return the interval of any quantity of a law whose intervals are its own answer give or take.

    Args:
        sure: The law's uncertainty, with `degrees`.
        value: The law's own answer.
        draws: Each draw's answer, shape (M,). Where they and the law's are all positive, the interval is even in
            logarithms, else as they are.
        level: Share of the distribution inside.
    """
    assert sure.degrees is not None
    draws = np.asarray(draws, dtype=np.float64)
    draws = draws[np.isfinite(draws)]
    logs = value > 0 and bool(np.all(draws > 0))
    distance = np.log(draws / value) if logs else draws - value
    spread = sure.inflation * float(np.sqrt(np.mean(distance**2))) if len(draws) else 0.0
    half = student_quantile((1 + level) / 2, sure.degrees) * spread
    return (value * float(np.exp(-half)), value * float(np.exp(half))) if logs else (value - half, value + half)


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


def _one(ends: tuple[Array, Array] | None) -> Pair | None:
    return None if ends is None else (float(ends[0]), float(ends[1]))


def _loss(law: Any, points: Array) -> Array:
    """Return the loss at columns of N, D and perhaps unique tokens."""
    more = {} if len(points) == 2 else {"unique_tokens": points[2]}
    return np.asarray(law.loss(points[0], points[1], **more))


def _beyond(law: ScalingLaw, flops: Array) -> tuple[Array, Array]:
    """Return by how many factors of e each budget lies above and below the compute of a law's runs, at least 0."""
    if law.info.valid.flops is None:
        return np.zeros_like(flops), np.zeros_like(flops)
    low, high = law.info.valid.flops
    above, below = np.log(flops / high), np.log(low / flops)
    return np.where(above > _SLACK, above, 0.0), np.where(below > _SLACK, below, 0.0)


def _drift(law: ScalingLaw, points: Array) -> Array:
    """Return the standard deviation of log loss that the form adds outside the runs, shape (P,)."""
    assert law.uncertainty is not None
    upwards, downwards = law.uncertainty.drift, law.uncertainty.drift_below
    above, below = _beyond(law, 6 * points[0] * points[1])
    return np.asarray(upwards * above + (upwards if downwards is None else downwards) * below)


def _ends(sure: Uncertainty, value: float, draws: Any, log_sd: float, level: float) -> Pair | None:
    """Return the interval of one positive answer, off by a further log_sd besides the draws."""
    if sure.degrees is None:
        return percentile_interval(widened(draws, log_sd), level)
    half = _half_width(sure, np.log(value), np.log(draws)[None], np.asarray([log_sd**2]), level)[0]
    return value * float(np.exp(-half)), value * float(np.exp(half))


def _half_width(sure: Uncertainty, centre: Any, draws: Array, more: Array, level: float) -> Array:
    """Return the half-width of an interval in logarithms, shape (P,), about the law's answer, `more` variance besides.

    `draws` are each draw's answer, shape (P, M).
    """
    assert sure.degrees is not None
    distance = draws - np.asarray(centre)[..., None]
    spread = np.nanmean(np.where(np.isfinite(distance), distance, np.nan) ** 2, axis=1)
    quantile = student_quantile((1 + level) / 2, sure.degrees)
    return np.asarray(quantile * np.sqrt(sure.inflation**2 * spread + more))


def _centred_losses(law: ScalingLaw, points: Array, losses: Array, level: float, of_run: bool) -> Array:
    """Return (low, high) of the losses, shape (2, P), as the law's own loss give or take."""
    sure = law.uncertainty
    assert sure is not None
    own = _loss(law, points)
    variance = _drift(law, points) ** 2
    if sure.sides:
        best = law.optimal(6 * points[0] * points[1])
        valley = _loss(law, np.stack([np.asarray(best.num_params), np.asarray(best.num_tokens), *points[2:]]))
        variance = variance + (sure.sides * np.log(own / valley)) ** 2
    if of_run and sure.scatter_sd is not None:
        variance = variance + sure.scatter_sd**2
    half = _half_width(sure, np.log(own), np.log(losses), variance, level)
    return np.stack([own * np.exp(-half), own * np.exp(half)])


def _percentile_losses(law: ScalingLaw, points: Array, losses: Array, level: float, of_run: bool) -> Array:
    """Return (low, high) of the losses, shape (2, P), as percentiles: each draw's loss, off by each run's residual."""
    sure = law.uncertainty
    assert sure is not None
    scatter = np.exp(sure.scatter) if of_run and sure.scatter.size else np.ones(1)
    ends = []
    noise = sure.noise if of_run and sure.noise is not None else 0.0
    for row, sd in zip(losses, np.hypot(_drift(law, points), noise), strict=True):
        spread = widened(scatter, float(sd))
        if len(spread) > _MOST_SPREADS:
            spread = np.quantile(spread, (np.arange(_MOST_SPREADS) + 0.5) / _MOST_SPREADS)
        ends.append(percentile_interval(np.multiply.outer(row, spread), level) or (np.nan, np.nan))
    return np.array(ends).T
