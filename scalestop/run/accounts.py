"""Who has spent what of a campaign, what is held for whom, and what is left."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from scalestop.display import data_frame, html_card
from scalestop.planning.budget import Budget
from scalestop.units import format_quantity

COUNTERS = ("flops", "tokens", "device_seconds", "seconds", "usd")
"""What a budget may limit, in its fields' order and units."""


@dataclass(frozen=True)
class Account:
    """What one run has spent of a campaign, and what is held for it."""

    run: str
    """Identity of the run."""
    spent: Mapping[str, float]
    """By counter of `Budget`; FLOPs and tokens are exact ints."""
    reserved: Mapping[str, float]
    """What was granted to it; empty once it has ended."""
    at: float
    """When it was last heard of, seconds since 1970."""

    def held(self, counter: str) -> float:
        """What is still held for it: granted, and not spent yet."""
        return max(0, self.reserved.get(counter, 0) - self.spent.get(counter, 0))


@dataclass(frozen=True)
class CampaignStatus:
    """A campaign at one moment."""

    budget: Budget
    """What all runs together may spend. `seconds` counts the training time of each run, added up."""
    accounts: tuple[Account, ...]
    """One for each run, in the order in which they came."""

    def spent(self, counter: str) -> float:
        """What all runs have spent."""
        return summed(account.spent.get(counter, 0) for account in self.accounts)

    def left(self, run: str | None = None) -> dict[str, float]:
        """Return what may still be spent, by counter of the budget; below zero where the budget was passed.

        Args:
            run: For whom: what is held for others is not for it. None for a run that has not come yet.
        """
        found = {}
        for counter in limited(self.budget):
            held = summed(account.held(counter) for account in self.accounts if account.run != run)
            found[counter] = getattr(self.budget, counter) - self.spent(counter) - held
        return found

    @property
    def is_spent(self) -> bool:
        """Whether any of the budget's limits is reached, whatever is held."""
        return any(self.spent(counter) >= getattr(self.budget, counter) for counter in limited(self.budget))

    def to_frame(self) -> Any:
        """Return the runs as a pandas DataFrame, one row each.

        Raises:
            InputError: If pandas is not installed.
        """
        names = limited(self.budget)
        return data_frame(
            {"run": a.run}
            | {f"{name}_spent": a.spent.get(name, 0) for name in names}
            | {f"{name}_held": a.held(name) for name in names}
            for a in self.accounts
        )

    def _repr_html_(self) -> str:
        return html_card("Campaign", [(line[:6].strip(), line[6:].strip()) for line in str(self).splitlines()])

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {
            "budget": str(self.budget),
            "spent": {counter: self.spent(counter) for counter in limited(self.budget)},
            "left": self.left(),
            "is_spent": self.is_spent,
            "runs": [
                {"run": a.run, "spent": dict(a.spent), "reserved": dict(a.reserved), "at": a.at} for a in self.accounts
            ],
        }

    def __str__(self) -> str:
        names = limited(self.budget)
        lines = [f"budget  {self.budget}"]
        for counter in names:
            limit, left = getattr(self.budget, counter), self.left()[counter]
            spent = self.spent(counter)
            line = f"spent   {amount_of(counter, spent)} ({spent / limit:.1%})"
            held = summed(account.held(counter) for account in self.accounts)
            lines.append(
                line + (f", {amount_of(counter, held)} held" if held else "") + f", left {amount_of(counter, left)}"
            )
        rows = [("run", *(f"{name} spent" for name in names), *(f"{name} held" for name in names), "last heard of")]
        for a in self.accounts:
            spent_held = [f"{value:.4g}" for value in (*map(lambda c: a.spent.get(c, 0), names), *map(a.held, names))]
            rows.append((a.run, *spent_held, time.strftime("%Y-%m-%d %H:%M", time.localtime(a.at))))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        if self.accounts:
            lines += ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join(lines)


@dataclass(frozen=True)
class CampaignAnswer:
    """Whether a run may go on, and what is left for it."""

    granted: bool
    """Whether it may start, or go on."""
    message: str
    """Why, with the numbers, in one line."""
    left: Mapping[str, float]
    """What it may still spend, by counter of the campaign's budget."""


def limited(budget: Budget) -> list[str]:
    """Return the counters that a budget limits."""
    return [counter for counter in COUNTERS if getattr(budget, counter) is not None]


def amount_of(counter: str, value: float) -> str:
    """Return an amount of a counter as people write it."""
    dimension = next(limit.dimension for limit in Budget(**{counter: 1}).limits())
    return format_quantity(value if counter in ("flops", "tokens") else float(f"{value:.6g}"), dimension)


def amounts(left: Mapping[str, float]) -> str:
    """Return several amounts as people write them."""
    return ", ".join(amount_of(counter, value) for counter, value in left.items())


def summed(values: Iterator[float] | Any) -> float:
    """Add up: ints stay exact, whatever their size."""
    found = list(values)
    return sum(found) if all(isinstance(value, int) for value in found) else math.fsum(found)
