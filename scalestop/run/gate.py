"""A gate: metrics that a compute-optimal stop has to wait for."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from scalestop.errors import InputError

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_CONDITION = re.compile(r"\s*(>=|<=|>|<)\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*")


@dataclass(frozen=True)
class Condition:
    """One metric's bound, such as val_accuracy >= 0.4."""

    metric: str
    """Name under which the metric is logged."""
    comparison: str
    """One of >=, <=, >, <."""
    bound: float
    """What it is compared with."""

    def met(self, value: float) -> bool:
        """Whether a value satisfies the condition."""
        return _COMPARE[self.comparison](value, self.bound)

    def __str__(self) -> str:
        return f"{self.metric} {self.comparison} {self.bound:g}"


@dataclass(frozen=True)
class Gate:
    """Conditions that must all hold; none is always open."""

    conditions: tuple[Condition, ...] = ()
    """The conditions."""

    @classmethod
    def parse(cls, until: Mapping[str, str] | None) -> Gate:
        """Read `{"val_accuracy": ">= 0.4"}`.

        Raises:
            InputError: If a condition is no comparison with a number.
        """
        if until is None:
            return cls()
        if not isinstance(until, Mapping):
            raise InputError(f'until: expected a mapping such as {{"val_accuracy": ">= 0.4"}}; got {until!r}')
        found = []
        for metric, text in until.items():
            match = _CONDITION.fullmatch(str(text))
            if match is None:
                raise InputError(
                    f"until: {metric}: cannot read {text!r}; write a comparison with a number, such as '>= 0.4'"
                )
            found.append(Condition(metric, match[1], float(match[2])))
        return cls(tuple(found))

    def missing(self, metrics: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the metrics that are not there."""
        return tuple(c.metric for c in self.conditions if c.metric not in metrics)

    def require(self, metrics: Mapping[str, Any]) -> None:
        """Raise where a metric that should be there by now is not.

        Args:
            metrics: Everything that was logged.

        Raises:
            InputError: Naming the missing ones, and those there are.
        """
        if missing := self.missing(metrics):
            ours = ("scalestop/", "budget", "forecast")
            known = ", ".join(sorted(name for name in metrics if not name.startswith(ours))) or "none"
            raise InputError(
                f"until: no metric {', '.join(map(repr, missing))} is logged by the end of the first validation, or by "
                f"the optimum where there is no validation; logged are: {known}"
            )

    def waiting_for(self, metrics: Mapping[str, Any]) -> str | None:
        """Say which conditions do not hold yet; None if all do.

        Args:
            metrics: Latest values, numbers or 0-d tensors. One that is missing is waited for.
        """
        unmet = []
        for condition in self.conditions:
            if condition.metric not in metrics:
                unmet.append(f"{condition} (not logged yet)")
                continue
            value = float(metrics[condition.metric])
            if not condition.met(value):
                unmet.append(f"{condition} (now {value:.4g})")
        return " and ".join(unmet) or None
