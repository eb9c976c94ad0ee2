"""Algorithms 1 and 2: the compute-optimal allocation of a budget, and the loss a law predicts."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scalestop.display import html_card
from scalestop.errors import ScalestopWarning
from scalestop.laws import DEFAULT_LAW, ScalingLaw, get_law
from scalestop.laws.base import Floats
from scalestop.laws.intervals import interval_of_optimum, interval_of_run
from scalestop.planning.budget import Budget, BudgetLike
from scalestop.planning.choice import AUTO, LawChoice, LawLike, advice, need_law, resolve_law
from scalestop.planning.inverse import flops_of
from scalestop.units import human_count, human_flops, parse_count

__all__ = ["Allocation", "allocate", "flops_of", "interval_of_run", "predict_loss"]

CONSISTENCY_TOLERANCE = 0.1
"""Algorithm 1 warns where 6·N_opt·D_opt misses C by more than this share."""


@dataclass(frozen=True)
class Allocation:
    """The best way to spend a compute budget, according to one law."""

    num_params: float
    """N_opt, counted as the law counts N."""
    num_tokens: float
    """D_opt, tokens."""
    flops: int
    """The budget C, FLOPs."""
    loss: float | None
    """Predicted loss there, nats per token; None where the law predicts none."""
    tokens_per_param: float
    """D_opt/N_opt, by the law's N."""
    law: str
    """The law's name."""
    n_counts: str
    """Which parameters N means: `total` or `body`."""
    warnings: tuple[str, ...] = ()
    """Why to be careful: an inconsistent law, or a budget outside the range the law was fitted on."""
    params_interval: tuple[float, float] | None = None
    """90 % interval of N_opt, for a law with draws."""
    tokens_interval: tuple[float, float] | None = None
    """90 % interval of D_opt, for a law with draws."""
    loss_interval: tuple[float, float] | None = None
    """90 % interval of the law's own loss there, for a law with draws. One run scatters around it besides:
    `Plan.loss_interval` is that of a run."""
    law_reason: str = ""
    """Why this law."""

    def __repr__(self) -> str:
        return f"Allocation({self})"

    def _repr_html_(self) -> str:
        rows = [
            ("budget", human_flops(self.flops)),
            ("law", self.law + (f" ({self.law_reason})" if self.law_reason else "")),
            ("N_opt", f"{spread(self.num_params, self.params_interval)} ({self.n_counts})"),
            ("D_opt", f"{spread(self.num_tokens, self.tokens_interval)} tokens, {self.tokens_per_param:.3g} per param"),
        ]
        if self.loss is not None:
            rows.append(("loss", f"{spread(self.loss, self.loss_interval, '.3f')} nats/token, predicted"))
        return html_card("Allocation", [*rows, *(("note", line) for line in self.warnings)])

    def __str__(self) -> str:
        loss = ""
        if self.loss is not None:
            loss = f", predicted loss {spread(self.loss, self.loss_interval, '.3f')} nats/token"
        return (
            f"{human_flops(self.flops)} by law {self.law}: N_opt {spread(self.num_params, self.params_interval)} "
            f"({self.n_counts}), D_opt {spread(self.num_tokens, self.tokens_interval)} tokens, "
            f"{self.tokens_per_param:.3g} tokens/param{loss}"
        )


def allocate(budget: BudgetLike, law: LawLike = AUTO) -> Allocation:
    """Split a compute budget into model size and tokens (Algorithm 1).

    Args:
        budget: Anything `Budget.parse` reads. A budget in tokens asks for the model those tokens are optimal for.
        law: A law, its name, its file, or `"auto"`: the built-in law whose runs are nearest to the budget.

    Returns:
        N_opt, D_opt and the predicted loss where the law has one, with their intervals where the law knows its
        uncertainty; and warnings: that 6·N_opt·D_opt misses the budget by over 10 %, or that the law is used outside
        the range it was fitted on.

    Raises:
        InputError: If the budget is in time or money (those become FLOPs only with a device's speed; see `make_plan`).
    """
    budget = Budget.parse(budget)
    choice = resolve_law(law, budget)
    found = need_law(choice, "an allocation")
    return allocation_of(flops_of(budget, found), found, choice)


def allocation_of(flops: int, law: ScalingLaw, choice: LawChoice) -> Allocation:
    """Return the allocation of C in FLOPs by a law; the choice says why it is this one, and whether it only advises."""
    num_params, num_tokens = (float(x) for x in law.optimal(float(flops)))
    intervals = interval_of_optimum(law, float(flops))
    lines, spent = [], 6 * num_params * num_tokens
    if abs(spent - flops) / flops > CONSISTENCY_TOLERANCE:
        lines.append(
            f"law {law.name} is inconsistent: 6·N_opt·D_opt = {spent:.3g} FLOPs, but the budget is {flops:.3g} FLOPs "
            f"({spent / flops:.3g} of it)"
        )
    lines += filter(
        None, (outside(law, flops=flops, num_params=num_params, num_tokens=num_tokens), advice(choice, flops))
    )
    return Allocation(
        num_params=num_params,
        num_tokens=num_tokens,
        flops=flops,
        loss=float(law.loss(num_params, num_tokens)) if law.has_loss else None,
        tokens_per_param=num_tokens / num_params,
        law=law.name,
        n_counts=law.info.n_counts,
        warnings=tuple(lines),
        params_interval=intervals.num_params,
        tokens_interval=intervals.num_tokens,
        loss_interval=intervals.loss,
        law_reason=choice.reason,
    )


def predict_loss(
    num_params: Floats | str, num_tokens: Floats | str, law: str | Path | ScalingLaw = DEFAULT_LAW
) -> Floats:
    """Return the loss that a law predicts, in nats per token (Algorithm 2).

    Warns where N, D or 6·N·D lies outside what the law was fitted on, and by how many factors of ten.

    Args:
        num_params: N, counted as the law counts it; a number such as `"70B"`, or an array.
        num_tokens: D, tokens; a number such as `"1.4T"`, or an array. The two broadcast.
        law: A law, its name, or its file.

    Raises:
        InputError: If the law predicts no loss.
    """
    found = get_law(law)
    num_params = parse_count(num_params, "num_params") if isinstance(num_params, str) else num_params
    num_tokens = parse_count(num_tokens, "num_tokens") if isinstance(num_tokens, str) else num_tokens
    losses = found.loss(num_params, num_tokens)
    flops = 6 * np.asarray(num_params, dtype=np.float64) * np.asarray(num_tokens, dtype=np.float64)
    if line := outside(found, num_params=num_params, num_tokens=num_tokens, flops=flops):
        warnings.warn(f"predict_loss: {line}", ScalestopWarning, stacklevel=2)
    return losses


def outside(law: ScalingLaw, **values: Floats | None) -> str | None:
    """Say in one line which of `num_params`, `num_tokens`, `flops` lie outside the law's range; None if none does."""
    line = law.info.valid.describe_outside(**values)
    return f"law {law.name}, outside its runs: {line}" if line else None


def spread(value: float, interval: tuple[float, float] | None, digits: str | None = None) -> str:
    """Return a value with its 90 % interval, in words: '793M (90 %: 755M to 836M)'; alone without one.

    `digits` is a format for the numbers, such as `.3f`; None writes counts.
    """
    shown, *ends = (human_count(x) if digits is None else f"{x:{digits}}" for x in (value, *(interval or ())))
    return f"{shown} (90 %: {ends[0]} to {ends[1]})" if ends else shown
