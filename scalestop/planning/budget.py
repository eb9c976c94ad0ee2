"""What a run may spend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from numbers import Integral, Real
from typing import Any, TypeAlias

from scalestop.errors import InputError, shown
from scalestop.units import MAX_EXPONENT, Dimension, Quantity, format_quantity, parse_quantity

_EXAMPLES = ("1e18 FLOPs", "0.5 PF-days", "2B tokens")
_WRITE = f"Write for example {', '.join(map(repr, _EXAMPLES))}."
_JOIN = " or "


@dataclass(frozen=True)
class Budget:
    """What a run may spend: one limit, or several of which the first one reached ends it.

    Write it as people do, with `Budget.parse("3.2 EFLOPs")`, or by field. `str(budget)` reads back to an equal budget.
    """

    flops: int | None = None
    """Training compute, FLOPs."""
    tokens: int | None = None
    """Tokens trained on (padding left out), global over ranks."""
    device_seconds: float | None = None
    """Accelerator time, device-seconds: wall time times devices."""
    seconds: float | None = None
    """Wall time of training, seconds."""
    usd: float | None = None
    """Money, US dollars; needs a price per device-hour."""

    def __post_init__(self) -> None:
        if all(getattr(self, f.name) is None for f in fields(self)):
            raise InputError(f"budget: no limit given. {_WRITE}")
        for name in ("flops", "tokens"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _count(value, name))
        for name in ("device_seconds", "seconds", "usd"):
            value = getattr(self, name)
            if value is not None:
                if not is_amount(value):
                    raise InputError(f"{name}: must be positive and below 1e{MAX_EXPONENT}; got {shown(value)}")
                object.__setattr__(self, name, float(value))

    @classmethod
    def parse(cls, budget: BudgetLike) -> Budget:
        """Read a budget.

        Args:
            budget: `"1e18 FLOPs"`, `"3.2 EFLOPs"`, `"0.5 PF-days"`, `"2B tokens"`, `"8 GPU-hours"`, `"12h"`,
                `"500 USD"`; a plain number of FLOPs; several joined by `" or "`, or in a list, of which the first one
                reached counts; or a Budget.

        Raises:
            InputError: Naming the text, if it is a rate, negative, zero, not finite, of no or of mixed units.
        """
        if isinstance(budget, Budget):
            return budget
        if isinstance(budget, str):
            parts = budget.split(_JOIN)
            return cls._of([cls._limit(part) for part in parts], budget)
        if isinstance(budget, Sequence) and not isinstance(budget, bytes):
            if any(isinstance(item, Sequence) and not isinstance(item, str) for item in budget):
                raise InputError(f"budget: a list of limits, not of lists; got {shown(budget)}")
            return cls._of([limit for item in budget for limit in cls.parse(item).limits()], budget)
        if isinstance(budget, Real) and not isinstance(budget, bool):
            return cls(flops=_count(budget, "budget"))
        raise InputError(
            f"budget: expected a text, a number of FLOPs or a Budget; got {type(budget).__name__} {shown(budget)}. "
            f"{_WRITE}"
        )

    @classmethod
    def _of(cls, limits: Sequence[Quantity], given: object) -> Budget:
        values: dict[str, Any] = {}
        for limit in limits:
            name = _FIELD[limit.dimension]
            if name in values:
                raise InputError(
                    f"budget: {shown(given)} gives two limits in {limit.dimension}; give one of each kind. {_WRITE}"
                )
            values[name] = int(limit.value) if name in ("flops", "tokens") else float(limit.value)
        return cls(**values)

    @staticmethod
    def _limit(text: str) -> Quantity:
        amount = parse_quantity(text, argument="budget", examples=_EXAMPLES)
        if amount.dimension is Dimension.FLOPS_PER_SECOND:
            raise InputError(
                f"budget: {text!r} is a rate, compute per second; a budget is an amount. (FLOPS in capitals reads as a "
                f"rate.) {_WRITE}"
            )
        value = amount.value
        if value <= 0:
            raise InputError(f"budget: {text!r} is not positive. {_WRITE}")
        if amount.dimension in (Dimension.FLOPS, Dimension.TOKENS):
            value = Fraction(round(value))
            if value == 0:
                raise InputError(f"budget: {text!r} is less than one. {_WRITE}")
        return Quantity(value, amount.dimension)

    def limits(self) -> tuple[Quantity, ...]:
        """Return the limits that are set."""
        return tuple(
            Quantity(Fraction(getattr(self, name)), dimension)
            for dimension, name in _FIELD.items()
            if getattr(self, name) is not None
        )

    def __str__(self) -> str:
        return _JOIN.join(format_quantity(limit.value, limit.dimension) for limit in self.limits())


BudgetLike: TypeAlias = str | float | Budget | Sequence[str | float | Budget]
"""What `Budget.parse` reads."""

_FIELD = {
    Dimension.FLOPS: "flops",
    Dimension.TOKENS: "tokens",
    Dimension.DEVICE_SECONDS: "device_seconds",
    Dimension.SECONDS: "seconds",
    Dimension.USD: "usd",
}


def is_amount(value: Any) -> bool:
    """Whether a value is a number above 0 and below 1e300."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        return 0 < float(value) < 10**MAX_EXPONENT
    except OverflowError:  # an int beyond every float
        return False


def _count(value: Any, name: str) -> int:
    count = 0 if not is_amount(value) else int(value) if isinstance(value, Integral) else round(value)
    if count <= 0:
        raise InputError(
            f"{name}: must be a positive, finite count below 1e{MAX_EXPONENT}; got {shown(value)}. {_WRITE}"
        )
    return count
