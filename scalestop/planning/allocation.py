"""Algorithms 1 and 2: the compute-optimal allocation of a budget, and the loss a law predicts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scalestop.errors import InputError
from scalestop.laws import DEFAULT_LAW, Optimum, ScalingLaw, get_law
from scalestop.laws.base import Floats
from scalestop.planning.budget import Budget, BudgetLike
from scalestop.units import format_quantity, human_count, human_flops

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
    """90 % interval of N_opt, for a law with bootstrap draws."""
    tokens_interval: tuple[float, float] | None = None
    """90 % interval of D_opt, for a law with bootstrap draws."""
    loss_interval: tuple[float, float] | None = None
    """90 % interval of the law's own loss there, for a law with bootstrap draws. One run scatters around it
    besides: `Plan.loss_interval` is that of a run."""

    def __str__(self) -> str:
        loss = "" if self.loss is None else f", predicted loss {self.loss:.3f} nats/token"
        return (
            f"{human_flops(self.flops)} by law {self.law}: N_opt {human_count(self.num_params)} ({self.n_counts}), "
            f"D_opt {human_count(self.num_tokens)} tokens, {self.tokens_per_param:.3g} tokens/param{loss}"
        )


def allocate(budget: BudgetLike, law: str | Path | ScalingLaw = DEFAULT_LAW) -> Allocation:
    """Split a compute budget into model size and tokens (Algorithm 1).

    Args:
        budget: Anything `Budget.parse` reads. A budget in tokens asks for the model those tokens are optimal for.
        law: A law, its name, or its file.

    Returns:
        N_opt, D_opt, the predicted loss where the law has one, and warnings: that 6·N_opt·D_opt misses the budget by
        over 10 %, or that the law is used outside the range it was fitted on.

    Raises:
        InputError: If the budget is in time or money (those become FLOPs only with a device's speed; see `make_plan`).
    """
    law = get_law(law)
    flops = flops_of(Budget.parse(budget), law)
    num_params, num_tokens = (float(x) for x in law.optimal(float(flops)))
    loss = float(law.loss(num_params, num_tokens)) if law.has_loss else None
    intervals = interval_of_optimum(law, float(flops))
    return Allocation(
        num_params=num_params,
        num_tokens=num_tokens,
        flops=flops,
        loss=loss,
        tokens_per_param=num_tokens / num_params,
        law=law.name,
        n_counts=law.info.n_counts,
        warnings=_warnings(law, flops, num_params, num_tokens),
        **intervals,
    )


def flops_of(budget: Budget, law: ScalingLaw) -> int:
    """Return the FLOPs of a budget in FLOPs or tokens; the smaller where both are set."""
    candidates = []
    if budget.flops is not None:
        candidates.append(budget.flops)
    if budget.tokens is not None:
        candidates.append(_flops_for_tokens(budget.tokens, law))
    if not candidates:
        limits = " or ".join(format_quantity(q.value, q.dimension) for q in budget.limits())
        raise InputError(
            f"budget: {limits!r} is no amount of compute by itself; give FLOPs or tokens, or a device's peak FLOP/s "
            f"and its utilisation (MFU), with which time and money become FLOPs"
        )
    return min(candidates)


def _flops_for_tokens(tokens: int, law: ScalingLaw) -> int:
    """Find C with D_opt(C) = tokens; D_opt grows with C, so bisect in log C."""
    low, high = np.log(6.0 * tokens), np.log(6.0 * tokens) + 100
    for _ in range(100):
        middle = (low + high) / 2
        if float(law.optimal(float(np.exp(middle))).num_tokens) < tokens:
            low = middle
        else:
            high = middle
    return max(1, round(float(np.exp((low + high) / 2))))


def predict_loss(num_params: Floats, num_tokens: Floats, law: str | Path | ScalingLaw = DEFAULT_LAW) -> Floats:
    """Return the loss that a law predicts, in nats per token (Algorithm 2).

    Args:
        num_params: N, counted as the law counts it; a number or an array.
        num_tokens: D, tokens; a number or an array. The two broadcast.
        law: A law, its name, or its file.

    Raises:
        InputError: If the law predicts no loss.
    """
    return get_law(law).loss(num_params, num_tokens)


def interval_of_run(law: ScalingLaw, num_params: float, num_tokens: float) -> tuple[float, float] | None:
    """Return where 90 % of runs of this size and length will end; None for a law without draws.

    Without the scatter of its runs it is the law's own interval; see `Uncertainty.of_new_run`.

    Args:
        law: The law.
        num_params: N, counted as the law counts it.
        num_tokens: D, tokens.
    """
    if law.uncertainty is None or not law.has_loss:
        return None
    return law.uncertainty.of_new_run(np.asarray(law.drawn().loss(float(num_params), float(num_tokens))))


def interval_of_optimum(law: ScalingLaw, flops: float, level: float = 0.9) -> dict[str, tuple[float, float] | None]:
    """Return percentile intervals of N_opt, D_opt and the law's loss there, over its bootstrap draws.

    Args:
        law: The law; one without draws gives None throughout.
        flops: C in FLOPs.
        level: Share of the draws inside.
    """
    names = "params_interval", "tokens_interval", "loss_interval"
    drawn = optimum_draws(law, flops)
    if drawn is None:
        return dict.fromkeys(names)
    optima, losses = drawn
    columns = (optima.num_params, optima.num_tokens, losses)
    return {name: percentile_interval(column, level) for name, column in zip(names, columns, strict=True)}


def optimum_draws(law: ScalingLaw, flops: float) -> tuple[Optimum, Floats | None] | None:
    """Return N_opt and D_opt by every bootstrap draw, shape (draws,), and each draw's loss at the law's own optimum."""
    if law.uncertainty is None:
        return None
    drawn = law.drawn()
    optima = drawn.optimal(flops)
    if not law.has_loss:
        return optima, None
    best = law.optimal(flops)
    return optima, drawn.loss(best.num_params, best.num_tokens)


def percentile_interval(values: Floats | None, level: float) -> tuple[float, float] | None:
    """Return the central interval that holds `level` of the values; None for None."""
    if values is None:
        return None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _warnings(law: ScalingLaw, flops: int, num_params: float, num_tokens: float) -> tuple[str, ...]:
    lines = []
    spent = 6 * num_params * num_tokens
    if abs(spent - flops) / flops > CONSISTENCY_TOLERANCE:
        lines.append(
            f"law {law.name} is inconsistent: 6·N_opt·D_opt = {spent:.3g} FLOPs, but the budget is {flops:.3g} FLOPs "
            f"({spent / flops:.3g} of it)"
        )
    outside = law.info.valid.outside(flops=flops, num_params=num_params, num_tokens=num_tokens)
    lines += [f"law {law.name}: {line}" for line in outside]
    return tuple(lines)
