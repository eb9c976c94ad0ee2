"""When a gate should open: metrics that a stop waits for, held against what tasks and laws foretell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from scalestop.errors import InputError
from scalestop.fitting.solve.newton import Array
from scalestop.fitting.tasks.task_fit import FARTHEST, TaskFit
from scalestop.laws import ScalingLaw
from scalestop.units import human_count


@dataclass(frozen=True)
class GateForecast:
    """When a gate should open, for a model of one size."""

    num_params: int
    """N."""
    tokens: float | None
    """D by which half of the draws have opened it; None if they do not within the tokens looked at."""
    interval: tuple[float | None, float | None]
    """D by which 5 % and 95 % of the draws have; None where they do not."""
    never: float
    """Share of the draws in which it stays shut, however long this model trains."""
    doubts: tuple[str, ...] = ()
    """What speaks against the forecast: a metric that is not predictable."""

    def __str__(self) -> str:
        if self.tokens is None:
            text = f"should not open at this size: shut in {self.never:.0%} of the draws however long it trains"
        else:
            low, high = ("never" if end is None else human_count(end) for end in self.interval)
            text = f"should open at {human_count(self.tokens)} tokens (90 %: {low} to {high})"
        return "; ".join((text, *self.doubts))


def when_open(conditions: Iterable[Any], known: Mapping[str, TaskFit | ScalingLaw], num_params: float) -> GateForecast:
    """Return when all conditions of a gate should hold.

    Args:
        conditions: The gate's, each with its `metric`, `comparison` (>=, <=, > or <) and `bound`, such as
            `scalestop.run.gate.Gate.parse({"val_accuracy": ">= 0.4"}).conditions`.
        known: What foretells each metric, by its name: a task, or for a loss the law of it.
        num_params: N of the model.

    Raises:
        InputError: If nothing foretells a metric, or a bound is on the side where training does not lead.
    """
    needed = list(conditions)
    if not needed:
        raise InputError("until: the gate has no conditions, so it is open from the start")
    if missing := [bound.metric for bound in needed if bound.metric not in known]:
        have = ", ".join(sorted(known)) or "none"
        raise InputError(f"until: nothing foretells {', '.join(missing)}; there are forecasts for: {have}")
    if not (np.isfinite(num_params) and num_params > 0):
        raise InputError(f"num_params: must be positive and finite; got {num_params!r}")
    opened = [_first(known[bound.metric], bound, num_params) for bound in needed]
    # each forecast's draws in an order of their own: what one metric got wrong says little of the next
    size = min(map(len, opened))
    shuffled = [np.random.default_rng(i).permutation(values)[:size] for i, values in enumerate(opened)]
    last = np.max(shuffled, axis=0)
    low, middle, high = (_finite(np.quantile(last, share, method="higher")) for share in (0.05, 0.5, 0.95))
    doubts = tuple(
        f"{bound.metric} is not predictable: {'; '.join(fit.doubts)}"
        for bound in needed
        if isinstance(fit := known[bound.metric], TaskFit) and fit.doubts
    )
    return GateForecast(int(num_params), middle, (low, high), float(np.mean(~np.isfinite(last))), doubts)


def _first(foretold: TaskFit | ScalingLaw, bound: Any, num_params: float) -> Array:
    """Return the tokens at which a condition first holds by each draw; infinite where it never does."""
    if isinstance(foretold, TaskFit):
        return foretold.first_tokens(bound.bound, num_params, bound.comparison)
    if not foretold.has_loss:
        raise InputError(f"{bound.metric}: law {foretold.name!r} predicts no loss")
    if bound.comparison not in ("<=", "<"):
        raise InputError(
            f"{bound.metric}: a loss falls with training, so a gate {bound.comparison} {bound.bound:g} is no end to "
            f"wait for"
        )
    law = foretold if foretold.uncertainty is None else foretold.drawn()
    start = foretold.info.valid.num_tokens or (1e6, 1e12)
    tokens = np.geomspace(start[0], start[1] * FARTHEST, 500)
    met = np.column_stack([np.atleast_1d(law.loss(float(num_params), float(d))) for d in tokens]) <= bound.bound
    return np.where(met.any(axis=1), tokens[met.argmax(axis=1)], np.inf)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
