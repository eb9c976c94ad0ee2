"""The curve of a run: at most 512 points, whatever its length.

A point sums up the steps since the last one, so the training loss in it is a mean with a standard error and not one
batch's. When the points are full, neighbours are joined and points come half as often. Nothing here reads a device: the
caller keeps the sums where the loss lives, asks `is_due` with a step count, and reads them when a point is due.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from scalestop.errors import InputError
from scalestop.laws.curves.rate_path import Array, RatePath
from scalestop.run.curve_point import CurvePoint, joined

MOST_POINTS = 512
"""Points kept of training, and of validation, at most."""

COLUMNS = ("step", "tokens", "flops", "loss", "spread", "count", "rate", "grad_norm", "nonfinite")
"""Fields of a point, in the order in which it is built."""

_FIRST_POINTS = 256
_STRIDE = 16


class Validation(NamedTuple):
    """Every metric of one validation."""

    step: int
    """Optimizer steps so far."""
    tokens: int
    """Tokens trained on so far."""
    metrics: Mapping[str, float]
    """By name, such as `val_loss`."""


class CurveArrays(NamedTuple):
    """A curve as arrays, one entry per point with a finite loss."""

    tokens: Array
    """Tokens in the middle of each point's window."""
    loss: Array
    """Nats per token."""
    error: Array
    """Standard error, nats; that of neighbours of the same size where a point has none of its own."""


@dataclass
class Curve:
    """The points so far, and when the next one is due.

    Args:
        stride: Optimizer steps from one point to the next, a power of two.
    """

    stride: int = _STRIDE
    """Optimizer steps from one point to the next."""
    points: list[CurvePoint] = field(default_factory=list)
    """Training, oldest first."""
    validations: list[Validation] = field(default_factory=list)
    """Validation, oldest first: the last one, and every so many before it."""
    every: int = 1
    """Which validations are kept: every second, fourth, ... of a long run."""
    seen: int = 0
    """Validations so far."""

    def __post_init__(self) -> None:
        if self.stride < 1 or self.stride & (self.stride - 1):
            raise InputError(
                f"stride: a power of two, so that it can double and stay on the same steps; got {self.stride}"
            )

    @classmethod
    def for_steps(cls, planned: float | None) -> Curve:
        """Return an empty curve that gets 256 to 512 points in a run of so many steps; None where that is unknown."""
        if planned is None or not planned > 0 or not math.isfinite(planned):
            return cls()
        return cls(1 << max(0, math.floor(math.log2(planned / _FIRST_POINTS)))) if planned >= _FIRST_POINTS else cls(1)

    def is_due(self, step: int) -> bool:
        """Whether a point is due after this optimizer step: integer arithmetic and nothing else."""
        return step % self.stride == 0

    def add(self, point: CurvePoint) -> None:
        """Append a point, and join neighbours where there are too many.

        Raises:
            InputError: If the run has been there before.
        """
        if self.points and point.step <= self.points[-1].step:
            raise InputError(
                f"step: points come one after another, the last at {self.points[-1].step}; got {point.step}"
            )
        self.points.append(point)
        full = len(self.points) >= MOST_POINTS and point.step % (2 * self.stride) == 0
        if full or len(self.points) > MOST_POINTS:
            self._thin()

    def _thin(self) -> None:
        self.stride *= 2
        grouped: dict[int, CurvePoint] = {}
        for point in self.points:  # by step, so that joints fall on multiples of the new stride also after a resume
            key = -(-point.step // self.stride)
            grouped[key] = joined(grouped[key], point) if key in grouped else point
        self.points = list(grouped.values())

    def add_validation(self, step: int, tokens: int, metrics: Mapping[str, float]) -> None:
        """Append a validation, in the place of one at the same step; of more than 512, every other is dropped."""
        last = self.validations[-1] if self.validations else None
        again = last is not None and last.step >= step
        if again or (last is not None and (self.seen - 1) % self.every):
            self.validations.pop()  # in the second case it was there as the last one only
        self.validations.append(Validation(int(step), int(tokens), {k: float(v) for k, v in metrics.items()}))
        self.seen += not again
        if len(self.validations) > MOST_POINTS:
            last = self.validations[-1]
            self.validations = self.validations[::2]
            self.every *= 2
            if self.validations[-1] is not last:
                self.validations.append(last)

    # ---- what others read

    def training(self) -> CurveArrays:
        """Return the training loss in the middle of its windows."""
        ends = np.array([0, *(point.tokens for point in self.points)], dtype=np.float64)
        known = np.array([point.loss is not None for point in self.points], dtype=bool)
        middle = (ends[1:] + ends[:-1]) / 2
        loss = np.array([math.nan if point.loss is None else point.loss for point in self.points])
        error = np.array([math.nan if point.error is None else point.error for point in self.points])
        # a window of two losses knows its own scatter badly: neighbours share theirs
        count = np.array([point.count for point in self.points], dtype=np.float64)
        single = _smoothed(error * np.sqrt(count))
        return CurveArrays(middle[known], loss[known], (single / np.sqrt(count))[known])

    def validation(self, name: str) -> CurveArrays:
        """Return one validation metric; its error is unknown and stands as 0: validation data stay the same."""
        found = [(one.tokens, one.metrics[name]) for one in self.validations if name in one.metrics]
        tokens, loss = np.array(found, dtype=np.float64).reshape(-1, 2).T
        finite = np.isfinite(loss)
        return CurveArrays(tokens[finite], loss[finite], np.zeros(int(finite.sum())))

    def final_training_loss(self, share: float = 0.02) -> tuple[float, float] | None:
        """Return the mean training loss over the last part of the run and its standard error; None without points.

        Args:
            share: Part of the tokens to average over; at least the last point.
        """
        if not self.points:
            return None
        first = self.points[-1].tokens * (1 - share)
        chosen = [point for point in self.points if point.tokens > first and point.loss is not None]
        if not chosen:
            return None
        total = chosen[0]
        for point in chosen[1:]:
            total = joined(total, point)
        assert total.loss is not None
        return total.loss, total.error if total.error is not None else math.nan

    def path(self, planned: RatePath | None = None) -> RatePath:
        """Return the rate so far, and as planned from here on.

        Args:
            planned: The planned rate over the whole run, tokens and steps counted from the run's start, in the unit of
                the optimizer; what it says of the past gives way to what was.

        Raises:
            InputError: If no point knows its rate and nothing is planned.
        """
        known = [point for point in self.points if point.rate is not None]
        if not known:
            if planned is None:
                raise InputError("curve: no point knows its learning rate, and none is planned")
            return planned
        tokens = np.array([0.0, *(point.tokens for point in known)])
        steps = np.array([0.0, *(point.step for point in known)])
        rate = np.array([point.rate for point in known], dtype=np.float64)
        # from the first step to the first point the rate goes on as it does after it, and not below zero
        slope = (rate[1] - rate[0]) / max(tokens[2] - tokens[1], 1.0) if len(rate) > 1 else 0.0
        rate = np.concatenate([[max(0.0, rate[0] - slope * tokens[1])], rate])
        if planned is not None:
            ahead = planned.tokens > tokens[-1]
            tokens = np.concatenate([tokens, planned.tokens[ahead]])
            # steps go on from where the run is, at the planned pace
            here = float(planned.plain_steps(known[-1].tokens))
            steps = np.concatenate([steps, known[-1].step + planned.steps[ahead] - here])
            rate = np.concatenate([rate, planned.rate[ahead]])
        if len(tokens) < 2 or not (rate > 0).any():
            raise InputError("curve: a learning rate above 0 somewhere is needed")
        return RatePath(tokens, steps, rate)

    # ---- state

    def state_dict(self) -> dict[str, Any]:
        """Return plain data, one list for each column: as a checkpoint keeps it, and a record."""
        names = sorted({name for one in self.validations for name in one.metrics})
        return {
            "stride": self.stride,
            "training": {name: [getattr(point, name) for point in self.points] for name in COLUMNS},
            "validation": {
                "step": [one.step for one in self.validations],
                "tokens": [one.tokens for one in self.validations],
                "metrics": {name: [one.metrics.get(name) for one in self.validations] for name in names},
                "every": self.every,
                "seen": self.seen,
            },
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], *, until_step: int | None = None) -> Curve:
        """Read what `state_dict` returned; a resume goes on from there.

        Args:
            state: The state.
            until_step: Drop what lies after this optimizer step, where the run goes on from an earlier one.

        Raises:
            InputError: If it is something else.
        """
        try:
            curve = cls(int(state["stride"]))
            for row in zip(*(state["training"][name] for name in COLUMNS), strict=True):
                step, tokens, flops, loss, spread, count, rate, norm, nonfinite = row
                point = CurvePoint(
                    int(step),
                    int(tokens),
                    int(flops),
                    _number(loss),
                    float(spread),
                    int(count),
                    _number(rate),
                    _number(norm),
                    int(nonfinite),
                )
                if until_step is None or point.step <= until_step:
                    curve.points.append(point)
            kept = state["validation"]
            curve.every, curve.seen = max(1, int(kept["every"])), int(kept["seen"])
            for k, (step, tokens) in enumerate(zip(kept["step"], kept["tokens"], strict=True)):
                if until_step is None or step <= until_step:
                    found = {str(name): column[k] for name, column in kept["metrics"].items()}
                    metrics = {name: float(value) for name, value in found.items() if value is not None}
                    curve.validations.append(Validation(int(step), int(tokens), metrics))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            raise InputError(f"curve: cannot be read: {error!r}") from None
        return curve


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _smoothed(values: Array, reach: int = 8) -> Array:
    """Return the root mean square of each value and its neighbours, unknown ones left out; 0 where all are."""
    known = np.isfinite(values)
    kernel = np.ones(min(2 * reach + 1, max(len(values), 1)))
    square = np.convolve(np.where(known, values, 0.0) ** 2, kernel, mode="same")[: len(values)]
    count = np.convolve(known.astype(np.float64), kernel, mode="same")[: len(values)]
    return np.sqrt(square / np.maximum(count, 1.0))
