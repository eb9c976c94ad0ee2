"""What experiment trackers are told of a run: its settings when it starts, what came out when it ends."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TypeAlias

from scalestop.planning.planned import Plan
from scalestop.run.records import RunRecord

Value: TypeAlias = str | int | float | bool
"""What every tracker can keep."""


def hyperparameters(plan: Plan) -> dict[str, Value]:
    """Return a plan as settings: what was asked, and what it was taken to mean. What is not known is left out."""
    best = plan.allocation
    found: dict[str, Value | None] = {
        "budget": str(plan.budget),
        "law": plan.law,
        "num_params": plan.num_params,
        "n_counts": plan.n_counts,
        "flops_per_token": plan.flops_per_token,
        "optimal_params": best.num_params if best else None,
        "optimal_tokens": best.num_tokens if best else None,
        "optimal_loss": best.loss if best else None,
        "verdict": str(plan.verdict) if plan.verdict else None,
        "tokens_per_step": plan.tokens_per_step,
        "planned_stop": str(plan.stop_reason),
        "planned_step": plan.stop_step,
        "planned_tokens": plan.stop_tokens,
        "planned_loss": plan.loss_at_stop,
        **{f"rule/{name}": value for name, value in asdict(plan.rule).items()},
    }
    return {name: value for name, value in found.items() if value is not None}


def outcome(record: RunRecord) -> dict[str, Value]:
    """Return how a run ended: reason, message, final loss, its distance from the plan's, and every total.

    What is not known is left out, and so is a loss that is not finite: trackers refuse or hide one, and `diverged`
    says it.
    """
    usage = {name: value for name, value in record.usage.items() if isinstance(value, int | float)}
    found: dict[str, Value | None] = {
        "stop_reason": record.stop_reason,
        "message": record.message,
        "final_loss": record.loss,
        "loss_name": record.loss_name,
        "diverged": record.loss is not None and not math.isfinite(record.loss),
        "overshoot": record.overshoot,
        "lr_decayed": record.lr_decayed,
        "exact": record.exact,
        "run": record.run,
    }
    planned = record.plan.get("loss_at_stop")
    if record.loss is not None and isinstance(planned, int | float):
        found["loss_against_plan"] = record.loss - planned
        interval = record.plan.get("loss_interval")
        if interval is not None and record.plan.get("stop_reason") == record.stop_reason:
            found["loss_inside_interval"] = interval[0] <= record.loss <= interval[1]
    found |= {f"total/{name}": value for name, value in usage.items()}
    return {
        name: value
        for name, value in found.items()
        if value is not None and not (isinstance(value, float) and not math.isfinite(value))
    }
