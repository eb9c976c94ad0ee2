"""What every answer says of itself: the law behind it, its N, how far outside its runs the question lies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any

from scalestop.errors import InputError
from scalestop.laws import ScalingLaw
from scalestop.laws.base import Floats
from scalestop.laws.findings import describe_findings
from scalestop.laws.intervals import Pair, interval_of_loss
from scalestop.planning.budget import is_amount
from scalestop.units import human_difference

MOST = 1e60
"""Parameters, tokens and FLOPs from here on are refused."""


@dataclass(frozen=True)
class Basis:
    """The ground an answer stands on."""

    law: str
    """The law's name."""
    n_counts: str
    """Which parameters its N means: `total` or `body`."""
    outside: str | None
    """Which of N, D and C lie outside the runs it was fitted to, and by how many factors of ten; None if none does."""
    distance: float
    """The largest of these distances, in factors of ten; 0 inside."""
    has_interval: bool
    """Whether the law knows its uncertainty; without, no figure has an interval."""
    has_range: bool = True
    """Whether the law states where it was fitted; without, nothing is known to lie outside."""
    findings: str | None = None
    """What its fit should be doubted for."""

    def __str__(self) -> str:
        text = f"{self.law} (its N counts {self.n_counts} parameters); "
        inside = "inside the runs it was fitted to" if self.has_range else "it does not state the range of its runs"
        text += f"outside its runs: {self.outside}" if self.outside else inside
        if not self.has_interval:
            text += "; it has no known uncertainty, so its figures carry no interval"
        return f"{text}; {self.findings}" if self.findings else text


def basis_of(law: ScalingLaw, num_params: Floats | None, num_tokens: Floats | None, flops: Floats | None) -> Basis:
    """Return the basis of an answer about N, D and C of everything that was asked; the farthest counts."""
    values = {"num_params": num_params, "num_tokens": num_tokens, "flops": flops}
    return Basis(
        law=law.name,
        n_counts=law.info.n_counts,
        outside=law.info.valid.describe_outside(**values),
        distance=law.info.valid.farthest(**values),
        has_interval=law.uncertainty is not None,
        has_range=any(pair is not None for pair in asdict(law.info.valid).values()),
        findings=describe_findings(law.info.findings),
    )


@dataclass(frozen=True)
class Spot:
    """One model trained for one length, as a law sees it."""

    num_params: float
    """N, counted as the law counts it."""
    num_tokens: float
    """D, tokens."""
    flops: float
    """C = 6·N·D, FLOPs."""
    loss: float | None
    """Predicted loss, nats per token; None where the law predicts none."""
    loss_interval: Pair | None = None
    """90 % interval of the law's own loss there; None where the law does not know."""

    @property
    def tokens_per_param(self) -> float:
        """D/N."""
        return self.num_tokens / self.num_params


def spot_of(law: ScalingLaw, num_params: float, num_tokens: float) -> Spot:
    """Return what a law says of one model trained for one length."""
    return Spot(
        num_params=float(num_params),
        num_tokens=float(num_tokens),
        flops=6.0 * num_params * num_tokens,
        loss=float(law.loss(float(num_params), float(num_tokens))) if law.has_loss else None,
        loss_interval=interval_of_loss(law, num_params, num_tokens),
    )


def best_spot(law: ScalingLaw, flops: float) -> Spot:
    """Return the law's optimum of a compute budget."""
    num_params, num_tokens = law.optimal(float(flops))
    return spot_of(law, float(num_params), float(num_tokens))


@dataclass(frozen=True)
class Answer:
    """What all answers share."""

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as JSON-ready data, derived figures included."""
        found = _plain(self)
        assert isinstance(found, dict)
        return found


def _plain(value: Any) -> Any:
    """Return dataclasses as dictionaries of their fields and properties, all the way down."""
    if is_dataclass(value) and not isinstance(value, type):
        names = dict.fromkeys(field.name for field in fields(value))
        for each in reversed(type(value).__mro__):
            names |= dict.fromkeys(name for name, found in vars(each).items() if isinstance(found, property))
        return {name: _plain(getattr(value, name)) for name in names}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    # what is without bound has no number in JSON
    return None if isinstance(value, float) and not math.isfinite(value) else value


def need_loss(law: ScalingLaw, what: str) -> None:
    """Refuse a law that predicts no loss.

    Raises:
        InputError: Saying what needs one.
    """
    if not law.has_loss:
        raise InputError(
            f"law: {what} needs a loss, and {law.name!r} only allocates; use one that predicts it, such as 'besiroglu'"
        )


def amount(value: Any, argument: str) -> float:
    """Return a positive number below 1e60 as a float; beyond, the widths of intervals are no numbers any more.

    Raises:
        InputError: If it is none.
    """
    if not is_amount(value) or value >= MOST:
        raise InputError(f"{argument}: must be positive and below {MOST:g}; got {value!r}")
    return float(value)


def irreducible(law: ScalingLaw) -> float:
    """Return the loss that no compute removes by this law, nats per token; 0 for Kaplan's."""
    return float(law.constants.get("E") or 0.0)


def negated(pair: Pair | None) -> Pair | None:
    """Return the interval of the negative of what a pair is the interval of."""
    return None if pair is None else (-pair[1], -pair[0])


def signed(value: float, interval: Pair | None = None) -> str:
    """Return a difference of losses with its sign, none for what rounds to zero, and its interval in words."""
    shown = [human_difference(x) for x in (value, *(interval or ()))]
    return f"{shown[0]} (90 %: {shown[1]} to {shown[2]})" if interval else shown[0]


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows of text in aligned columns, the first to the left and the others to the right."""
    widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]

    def line(row: Sequence[str]) -> str:
        cells = zip(row, widths, strict=True)
        return "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(cells)).rstrip()

    return "\n".join(line(row) for row in (heads, *rows))


def block(rows: Mapping[str, str] | Sequence[tuple[str, str]], width: int = 10) -> str:
    """Return named lines, names in a column of their own; text of several lines keeps its indent."""
    rows = list(rows.items()) if isinstance(rows, Mapping) else rows
    width = max(width, *(len(name) for name, _ in rows))
    pad = "\n" + " " * (width + 2)
    return "\n".join(f"{name:<{width}}  {text.replace(chr(10), pad)}" for name, text in rows)
