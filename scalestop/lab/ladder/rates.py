"""How far the learning-rate rule is off: the smallest sizes at other rates, extrapolated to the target's width."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scalestop.lab.ladder.rung import Rung
from scalestop.lab.ladder.sizes import shape_near
from scalestop.lab.ladder.store import Ladder


@dataclass(frozen=True)
class RateCheck:
    """The rule against the best rate measured, or extrapolated, at one width."""

    width: int
    """Channels."""
    rule: float
    """The rate that the rule gives."""
    best: float
    """The lowest point of a parabola through loss against log rate; for `cost` None, the line through two widths."""
    cost: float | None
    """What the rule costs by that parabola, nats per token; None where nothing was measured."""
    at_edge: bool = False
    """Whether the best rate lies at or beyond the least or greatest that was tried."""

    def __str__(self) -> str:
        off = f"{self.rule / self.best:.2g} times the best, {self.best:.2g}"
        if self.cost is None:
            return (
                f"learning rate at width {self.width}, extrapolated to the target: the rule's {self.rule:.2g} is {off}"
            )
        edge = ", at the edge of what was tried" if self.at_edge else ""
        said = f"learning rate at width {self.width}: the rule's {self.rule:.2g} is {off}{edge}"
        return f"{said}; that costs {self.cost:.4f} nats"


def check_rates(ladder: Ladder) -> list[RateCheck]:
    """Return the rule against the swept rates, and, from two widths on, extrapolated to the target's width.

    Args:
        ladder: The ladder, its sweep trained; what is not done or has diverged is left out.
    """
    settings = ladder.settings
    checks = []
    for width in sorted({rung.width for rung in ladder.rungs if rung.kind == "sweep"}):
        losses = _losses(ladder, width)
        rule = settings.lr_scale / width**settings.lr_power
        if len(losses) >= 3 and any(math.isclose(rate, rule) for rate in losses):
            checks.append(_check(width, rule, losses))
    if len(checks) >= 2:
        first, last = checks[0], checks[-1]
        power = math.log(first.best / last.best) / math.log(last.width / first.width)
        best = settings.prior.optimal(float(ladder.target_flops))
        width = shape_near(float(best.num_params)).width
        rule = settings.lr_scale / width**settings.lr_power
        checks.append(RateCheck(width, rule, last.best * (last.width / width) ** power, None))
    return checks


def _losses(ladder: Ladder, width: int) -> dict[float, float]:
    """Return the loss by rate: the sweep's, and that of the independent pilot of the same budget and seed."""
    swept = [rung for rung in ladder.rungs if rung.kind == "sweep" and rung.width == width]
    alike = {(rung.budget, rung.num_params, rung.seed) for rung in swept}

    def belongs(rung: Rung) -> bool:
        return rung in swept or (
            rung.kind == "run" and not rung.held_out and (rung.budget, rung.num_params, rung.seed) in alike
        )

    records = {rung.lr: ladder.record(rung) for rung in ladder.rungs if belongs(rung)}
    return {rate: record.loss for rate, record in records.items() if record is not None and record.loss is not None}


def _check(width: int, rule: float, losses: dict[float, float]) -> RateCheck:
    rates = np.log(sorted(losses))
    values = np.array([losses[rate] for rate in sorted(losses)])
    square, linear, constant = (float(x) for x in np.polyfit(rates, values, 2))
    lowest = -linear / (2 * square) if square > 0 else math.nan
    if not rates[0] < lowest < rates[-1]:  # no valley, or not among the rates tried
        best = float(rates[int(values.argmin())])
        return RateCheck(width, rule, math.exp(best), losses[_nearest(losses, rule)] - float(values.min()), True)
    at_rule = square * math.log(rule) ** 2 + linear * math.log(rule) + constant
    cost = at_rule - (square * lowest**2 + linear * lowest + constant)
    return RateCheck(width, rule, math.exp(lowest), float(cost))


def _nearest(losses: dict[float, float], rate: float) -> float:
    return min(losses, key=lambda other: abs(math.log(other / rate)))
