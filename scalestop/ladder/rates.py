"""How far the learning-rate rule is off: the smallest sizes at other rates, extrapolated to the target's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scalestop.ladder.rung import Rung
from scalestop.ladder.store import Ladder


@dataclass(frozen=True)
class RateCheck:
    """The rule against the best rate measured at one size."""

    width: int
    """Channels."""
    rule: float
    """The rate that the rule gives."""
    best: float
    """The lowest point of a parabola through loss against log rate; the best rate tried where there is none."""
    cost: float
    """What the rule costs against it, nats per token."""
    at_edge: bool = False
    """Whether the best rate lies at or beyond the least or greatest that was tried."""

    @property
    def ratio(self) -> float:
        """The rule's rate over the best."""
        return self.rule / self.best

    def __str__(self) -> str:
        edge = ", at the edge of what was tried" if self.at_edge else ""
        return (
            f"learning rate at width {self.width}: the rule's {self.rule:.2g} is {self.ratio:.2g} times the best, "
            f"{self.best:.2g}{edge}; that costs {self.cost:.4f} nats"
        )


@dataclass(frozen=True)
class RateForecast:
    """What the checks say of the rule at the target's size.

    The rule's shape is taken as it is and its scale is measured: two neighbouring sizes cannot tell an exponent, and a
    line through them would multiply their noise.
    """

    flops: int
    """The target's compute, FLOPs."""
    width: int
    """The target's width, channels."""
    rule: float
    """The rate that the rule gives there."""
    best: float
    """The rate that the checks' mean gives there."""
    extremes: tuple[float, float]
    """The same by the lowest check alone, and by the highest."""

    def __str__(self) -> str:
        low, high = self.extremes
        return (
            f"learning rate at the target's width {self.width}, by the mean of these: {self.best:.2g} ({low:.2g} to "
            f"{high:.2g} by single sizes) against the rule's {self.rule:.2g}"
        )


def check_rates(ladder: Ladder) -> list[RateCheck]:
    """Return the rule against the swept rates, for each width that was swept.

    Args:
        ladder: The ladder, its sweep trained; what is not done or has diverged is left out.
    """
    checks = []
    for width in sorted({rung.width for rung in ladder.rungs if rung.kind == "sweep"}):
        losses, rule = _losses(ladder, width)
        if len(losses) >= 3 and any(math.isclose(rate, rule) for rate in losses):
            checks.append(_check(width, rule, losses))
    return checks


def forecast_rate(checks: Sequence[RateCheck], target: Rung) -> RateForecast:
    """Return what the checks say of the rule at the target's size.

    Args:
        checks: What `check_rates` found; at least one.
        target: The target run as the ladder would train it.
    """
    scales = [1 / check.ratio for check in checks]
    mean = math.exp(sum(map(math.log, scales)) / len(scales))
    rule = target.lr
    return RateForecast(target.flops, target.width, rule, rule * mean, (rule * min(scales), rule * max(scales)))


def _losses(ladder: Ladder, width: int) -> tuple[dict[float, float], float]:
    """Return the mean loss over seeds by rate, and the rule's rate.

    Those of the sweep, and of the independent pilots of the same budget, size and seeds.
    """
    swept = [rung for rung in ladder.rungs if rung.kind == "sweep" and rung.width == width]
    alike = {(rung.budget, rung.num_params, rung.seed) for rung in swept}

    def belongs(rung: Rung) -> bool:
        return rung in swept or (
            rung.kind == "run" and not rung.held_out and (rung.budget, rung.num_params, rung.seed) in alike
        )

    found: dict[float, list[float]] = {}
    for rung in ladder.rungs:
        record = ladder.record(rung) if belongs(rung) else None
        if record is not None and record.loss is not None:
            found.setdefault(rung.lr, []).append(record.loss)
    most = max(map(len, found.values()), default=0)
    means = {rate: sum(losses) / len(losses) for rate, losses in found.items() if len(losses) == most}
    return means, ladder.settings.lr(width, swept[0].tokens_per_step)


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
