"""The points of a curve as the curve law reads them: averaged, after warm-up, and how far they may stray."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scalestop.laws.curves.rate_path import Array, RatePath

MOST_POINTS = 60
"""Points to which a curve is averaged before a fit; neighbours say the same."""

FIRST = 1.5
"""A fit begins at so many times the tokens of warm-up: before it the form does not hold."""

_EARLY = 0.48
"""A curve's departures shrink as its power term does: S1^-0.48."""

_FRESH = 0.5
"""And are larger soon after warm-up, which ends at w tokens: as (1 - w/t)^-0.5."""

_END_SHARE = 0.02


class Points(NamedTuple):
    """A curve, averaged over neighbours."""

    tokens: Array
    """Mean tokens of each group."""
    loss: Array
    """Mean loss of each, nats per token."""
    error: Array
    """Standard error of each, nats."""


def averaged(tokens: Array, loss: Array, error: Array | None = None, most: int = MOST_POINTS) -> Points:
    """Return at most `most` points, groups of neighbours that are alike in share and in log of tokens.

    Args:
        tokens: Growing.
        loss: Nats per token.
        error: Standard error of each; if None, from how much neighbours differ beyond the trend of three.
        most: Points to return at most.
    """
    if error is None:
        bends = loss[2:] - 2 * loss[1:-1] + loss[:-2]
        # the second difference of independent points has 6 times their variance; the median forgives a kink
        scatter = np.median(np.abs(bends)) / 0.6745 / math.sqrt(6) if len(bends) else 0.0
        error = np.full(len(loss), scatter)
    if len(tokens) > most:
        log = np.log(tokens / tokens[0]) / math.log(tokens[-1] / tokens[0])
        along = log + (tokens - tokens[0]) / (tokens[-1] - tokens[0])
        group = np.floor(along / 2 * (most - 1e-9)).astype(int)
        group = np.cumsum(np.diff(group, prepend=-1) != 0) - 1
    else:
        group = np.arange(len(tokens))
    size = np.bincount(group)
    return Points(
        np.bincount(group, tokens) / size,
        np.bincount(group, loss) / size,
        np.sqrt(np.bincount(group, error**2)) / size,
    )


def usable(path: RatePath, tokens: Array, least_share: float = 0.0) -> NDArray[np.bool_]:
    """Return which points a fit may use: those after warm-up, and after a share of the path."""
    first = max(FIRST * path.warm_tokens, least_share * path.tokens[-1])
    return (tokens >= first) & (tokens > 0)


def early(path: RatePath, tokens: Array) -> Array:
    """Return by how much more a curve may depart from its form at some points than at its end.

    As much more as there is still to be gained; and more again while warm-up is fresh. With it, errors at a fifth of
    the OLMo runs fall from 0.012 to 0.008 nats.
    """
    at = path.effective_tokens(np.append(tokens, path.tokens[-1]))
    fresh = 1 - np.minimum(path.warm_tokens / np.maximum(tokens, 1e-300), 0.99)
    return np.maximum(at[:-1] / at[-1], 1e-6) ** -_EARLY / fresh**_FRESH


class EndLoss(NamedTuple):
    """The loss at the end of a curve."""

    loss: float
    """Nats per token."""
    error: float
    """Its standard error, nats."""


def end_of_curve(tokens: Array, loss: Array, error: Array | None = None, share: float = _END_SHARE) -> EndLoss:
    """Return the loss at a curve's end: the mean over its last part, with its standard error.

    Args:
        tokens: Growing.
        loss: Nats per token.
        error: Standard error of each point; None takes it from the scatter of neighbours.
        share: Part of the run to average over, where the loss hardly moves: a fiftieth.
    """
    tail = tokens >= tokens[-1] * (1 - share)
    points = averaged(tokens, loss, error, most=len(tokens))
    inside = int(tail.sum())
    return EndLoss(float(loss[tail].mean()), float(np.sqrt(np.sum(points.error[tail] ** 2)) / inside))
