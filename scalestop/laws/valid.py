"""Where a law was fitted, and how far from there a question is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from scalestop.errors import InputError
from scalestop.units import human_count, human_flops

_LABELS = {"num_params": ("N", "parameters"), "num_tokens": ("D", "tokens"), "flops": ("C", "FLOPs")}


@dataclass(frozen=True)
class ValidRange:
    """Where a law was fitted. Each pair is (smallest, largest); None where the source does not say."""

    num_params: tuple[float, float] | None = None
    """Parameters, counted as the law counts N."""
    num_tokens: tuple[float, float] | None = None
    """Tokens."""
    flops: tuple[float, float] | None = None
    """Training FLOPs, 6·N·D."""

    def __post_init__(self) -> None:
        for field in fields(self):
            pair = getattr(self, field.name)
            if pair is None:
                continue
            try:
                smallest, largest = (float(bound) for bound in pair)
            except (TypeError, ValueError, OverflowError):
                smallest = largest = math.nan
            if not 0 < smallest <= largest < math.inf:
                raise InputError(
                    f"{field.name}: a range is (smallest, largest), both positive and finite; got {pair!r}"
                )
            object.__setattr__(self, field.name, (smallest, largest))

    def distance(self, name: str, value: Any) -> float:
        """Return how many factors of ten a value lies outside: below 0 under the range, above 0 over it, 0 inside.

        Args:
            name: `num_params`, `num_tokens` or `flops`.
            value: The value, or an array of them, of which the farthest counts; None and a range that is not stated
                are 0.
        """
        found = self._farthest(name, value)
        return found[0] if found else 0.0

    def farthest(self, **values: Any) -> float:
        """Return the largest distance of any of `num_params`, `num_tokens`, `flops`, in factors of ten, at least 0."""
        return max((abs(self.distance(name, value)) for name, value in values.items()), default=0.0)

    def outside(self, **values: Any) -> tuple[str, ...]:
        """Say, one line each, which of `num_params`, `num_tokens`, `flops` lie outside, and by how much.

        Args:
            **values: The values to hold against the ranges, numbers or arrays, of which the farthest is named; None
                is skipped.
        """
        return tuple(
            f"{symbol} = {at:.3g} {unit} is {factors_of_ten(distance)} {'below' if distance < 0 else 'above'} "
            f"the fitted range {low:.3g} to {high:.3g}"
            for (symbol, unit), (low, high), distance, at in self._outlying(values)
        )

    def describe_outside(self, **values: Any) -> str | None:
        """Say the same in one line: 'C is 6.8 factors of ten below 6e18 to 3e21 FLOPs, N 2.8 below 44M to 16.1B'."""
        parts: list[str] = []
        for (symbol, unit), (low, high), distance, _ in self._outlying(values):
            if symbol == "C":
                pair = f"{human_flops(low).removesuffix(' FLOPs')} to {human_flops(high)}"
            else:
                pair = f"{human_count(low)} to {human_count(high)} {unit}"
            far = factors_of_ten(distance)
            # said in full once, and in short after that
            far = f" is {far}" if not parts else f" {far.removesuffix(' factors of ten')}"
            parts.append(f"{symbol}{far} {'below' if distance < 0 else 'above'} {pair}")
        return ", ".join(parts) or None

    def _outlying(
        self, values: Mapping[str, Any]
    ) -> Iterator[tuple[tuple[str, str], tuple[float, float], float, float]]:
        """Yield symbol and unit, range, signed distance and value of what lies outside."""
        for name, value in values.items():
            if found := self._farthest(name, value):
                yield _LABELS[name], getattr(self, name), *found

    def _farthest(self, name: str, value: Any) -> tuple[float, float] | None:
        """Return the signed distance of the farthest value and that value; None if all lie inside."""
        pair = getattr(self, name)
        if pair is None or value is None:
            return None
        low, high = pair
        values = np.asarray(value, dtype=np.float64).ravel()
        values = values[values > 0]
        if not len(values):
            return None
        # a hair of slack, so that rounding at the edge of the fitted range is no extrapolation
        under, over = values.min(), values.max()
        below = math.log10(low / under) if under < low * 0.999 else 0.0
        above = math.log10(over / high) if over > high * 1.001 else 0.0
        if below == above == 0:
            return None
        return (-below, float(under)) if below > above else (above, float(over))


def factors_of_ten(distance: float) -> str:
    """Return a distance in words: 6.78 -> '6.8 factors of ten', 0.02 -> 'under 0.1 factors of ten'."""
    size = abs(distance)
    return f"{size:.1f} factors of ten" if size >= 0.05 else "under 0.1 factors of ten"
