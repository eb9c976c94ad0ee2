"""The stop rule's settings, its reasons, and the limits that a plan derives from a budget."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from numbers import Real
from typing import Literal, get_args

from scalestop.errors import InputError, shown


class StopReason(StrEnum):
    """Why a run ends, or that it goes on."""

    NOT_STOPPED = "NOT_STOPPED"
    """Nothing asks for a stop."""
    COMPUTE_OPTIMAL = "COMPUTE_OPTIMAL"
    """The model has about the optimal size and has seen its optimal tokens."""
    BUDGET_EXHAUSTED = "BUDGET_EXHAUSTED"
    """The FLOPs are spent."""
    MODEL_OVERSIZED = "MODEL_OVERSIZED"
    """The model is too large for the budget; known before the first step."""
    TOKEN_LIMIT = "TOKEN_LIMIT"
    """The budget's tokens are used."""
    DEVICE_TIME_LIMIT = "DEVICE_TIME_LIMIT"
    """The budget's device-hours are used."""
    TIME_LIMIT = "TIME_LIMIT"
    """The budget's wall time is over."""
    COST_LIMIT = "COST_LIMIT"
    """The budget's money is spent."""
    OFF_COURSE = "OFF_COURSE"
    """The run's own curve says that it will end above what the law expects of its N and D."""
    DIVERGED = "DIVERGED"
    """The loss is no number, or has jumped and does not come back."""
    CAMPAIGN_SPENT = "CAMPAIGN_SPENT"
    """The budget that the run shares with others is spent."""
    MARGINAL_RETURN = "MARGINAL_RETURN"
    """The next unit of compute is better spent on a larger model from the start."""


class Verdict(StrEnum):
    """How a model's size compares with the optimum of its budget."""

    RIGHT_SIZED = "right-sized"
    """N within the tolerance of N_opt."""
    OVERSIZED = "oversized"
    """N above it."""
    UNDERSIZED = "undersized"
    """N below it."""


Oversized = Literal["stop", "warn", "ignore"]
Undersized = Literal["continue", "stop"]
StopAt = Literal["earliest", "median", "latest"]
Overshoot = Literal["allow", "never"]


@dataclass(frozen=True)
class StopRule:
    """Settings of Algorithm 3."""

    tolerance: float = 0.1
    """N counts as optimal within this relative distance of N_opt."""
    oversize_factor: float = 2.0
    """A model larger than this many N_opt is oversized."""
    oversized: Oversized = "stop"
    """What an oversized model gets: `stop` before its first step, `warn` and train on, or `ignore`."""
    undersized: Undersized = "continue"
    """What a model below N_opt gets: `continue` to the end of the budget (Algorithm 3 to the letter), or `stop` at
    the tokens with which a model of its size is itself optimal."""
    stop_at: StopAt = "median"
    """Where in the 90 % interval of D_opt to stop, for a law with bootstrap draws: its lower end (`earliest`), the
    law's own estimate (`median`), or its upper end (`latest`)."""
    overshoot: Overshoot = "allow"
    """`allow` stops at the first step at or past a hard limit; `never` before the step that would pass it, going by the
    largest step so far. The first step is always taken."""

    def __post_init__(self) -> None:
        for name in ("tolerance", "oversize_factor"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Real):
                raise InputError(
                    f"{name}: a number, such as {type(self).__dataclass_fields__[name].default}; got {shown(value)}"
                )
        if not 0 <= self.tolerance < 1:
            raise InputError(f"tolerance: a share of N_opt, at least 0 and below 1; got {shown(self.tolerance)}")
        if not 1 + self.tolerance <= self.oversize_factor < math.inf:
            raise InputError(
                f"oversize_factor: at least 1 + tolerance = {1 + self.tolerance:g}, and finite; "
                f"got {shown(self.oversize_factor)}"
            )
        choices = (("oversized", Oversized), ("undersized", Undersized), ("stop_at", StopAt), ("overshoot", Overshoot))
        for name, choice in choices:
            if getattr(self, name) not in get_args(choice):
                raise InputError(f"{name}: one of {', '.join(get_args(choice))}; got {shown(getattr(self, name))}")


Counter = Literal["flops", "tokens", "tokens_non_padding", "device_seconds", "seconds"]
"""The fields of `Usage` that a limit can be set on."""


@dataclass(frozen=True)
class Limit:
    """One counter's limit, and the reason that reaching it gives."""

    reason: StopReason
    """What a stop here is called."""
    counter: Counter
    """The field of `Usage` held against `amount`."""
    amount: float
    """The limit, in the counter's unit: an exact int for FLOPs and tokens, seconds for times."""
    scope: Literal["lifetime", "job"] = "lifetime"
    """Whether the count runs over the run's lifetime, resumes included, or over this job alone."""
    text: str = ""
    """The limit as the user wrote it."""

    @property
    def hard(self) -> bool:
        """Whether this is a spending limit, rather than the compute-optimal point."""
        return self.reason is not StopReason.COMPUTE_OPTIMAL
