"""One point of a run's curve: some optimizer steps in a row, summed up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class CurvePoint:
    """Some optimizer steps in a row, summed up at the last of them."""

    step: int
    """Optimizer steps so far."""
    tokens: int
    """Tokens trained on so far, padding left out, over all ranks."""
    flops: int
    """Training FLOPs so far."""
    loss: float | None
    """Mean training loss since the last point, nats per token; None if none was finite."""
    spread: float = 0.0
    """Sum of squared distances of the single losses from that mean."""
    count: int = 1
    """Finite losses in it: batches or steps, as the caller counts them."""
    rate: float | None = None
    """Learning rate of the last step; None if unknown."""
    grad_norm: float | None = None
    """Mean norm of the gradient, where it is logged."""
    nonfinite: int = 0
    """Losses in it that were not finite."""

    @property
    def error(self) -> float | None:
        """Standard error of the mean; None for fewer than two losses."""
        if self.count < 2:
            return None
        return math.sqrt(self.spread / (self.count - 1) / self.count)


def joined(first: CurvePoint, second: CurvePoint) -> CurvePoint:
    """Return two neighbouring points as one, at the later one's step."""
    if first.loss is None or second.loss is None:
        loss, spread = (second.loss, second.spread) if first.loss is None else (first.loss, first.spread)
        count = second.count if first.loss is None else first.count
    else:
        count = first.count + second.count
        loss = (first.loss * first.count + second.loss * second.count) / count
        spread = first.spread + second.spread + (second.loss - first.loss) ** 2 * first.count * second.count / count
    norms = [norm for norm in (first.grad_norm, second.grad_norm) if norm is not None]
    return replace(
        second,
        loss=loss,
        spread=spread,
        count=count,
        grad_norm=sum(norms) / len(norms) if norms else None,
        nonfinite=first.nonfinite + second.nonfinite,
    )


def window(losses: Sequence[float], **at: Any) -> CurvePoint:
    """Return the point of some single losses, for loops that have them at hand.

    Args:
        losses: Losses of steps or batches, nats per token.
        **at: The other fields of `CurvePoint`.
    """
    values = np.asarray(losses, dtype=np.float64)
    finite = values[np.isfinite(values)]
    return from_sums(
        float(finite.sum()), float((finite**2).sum()), len(finite), nonfinite=len(values) - len(finite), **at
    )


def from_sums(total: float, squares: float, count: int, *, nonfinite: int = 0, **at: Any) -> CurvePoint:
    """Return the point of sums that were kept where the loss lives.

    Args:
        total: Sum of the finite losses, nats per token.
        squares: Sum of their squares. Keep both as float64, or after subtracting a fixed loss: in float32 the
            difference of two large sums is lost.
        count: How many they are.
        nonfinite: How many losses were not finite.
        **at: The other fields of `CurvePoint`.
    """
    loss = total / count if count else None
    spread = max(0.0, squares - total * total / count) if count else 0.0
    return CurvePoint(loss=loss, spread=spread, count=max(count, 1), nonfinite=nonfinite, **at)
