"""A run that has ended: its closing line, and its record out of what it was, what it used and what came out."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any

from scalestop.accounting.meter import Usage
from scalestop.laws import ScalingLaw
from scalestop.planning.allocation import interval_of_run
from scalestop.planning.planned import Plan
from scalestop.run.records import DECAYED_SHARE, RunRecord
from scalestop.run.stopping import StopDecision

if TYPE_CHECKING:
    from scalestop.accounting.params import ParamCount


def describe_end(
    plan: Plan,
    law: ScalingLaw | None,
    usage: Usage,
    decision: StopDecision,
    loss: float | None,
    late_by: int | None = None,
    also: Sequence[str] = (),
) -> str:
    """Return a run's closing line: reason, numbers, loss against prediction.

    Args:
        plan: What was planned.
        law: The law behind it, for the loss it predicts at this N and D; None if there is none.
        usage: What was used.
        decision: The stop; one with `NOT_STOPPED` says that something else ended the run.
        loss: Final loss, nats per token.
        late_by: Steps by which the stop may have come late; None if it is on the exact step.
        also: What else there is to say, such as how forecasts came out.
    """
    predicted = None
    if law is not None and law.has_loss and usage.tokens_non_padding:
        predicted = float(law.loss(float(plan.num_params), float(usage.tokens_non_padding)))
    message = decision.message
    if not decision.stop:
        message = f"the Trainer ended the run before any limit was met ({message.removeprefix('keep training: ')})"
    parts = [f"{decision.reason}: {message}"]
    if loss is not None and not math.isfinite(loss):
        parts.append(f"loss {loss}: the run diverged")
    elif loss is not None:
        against = f" against {predicted:.3f} predicted ({loss - predicted:+.3f}" if predicted is not None else ""
        span = None
        if law is not None and law.uncertainty is not None and law.uncertainty.knows_scatter and against:
            span = interval_of_run(law, plan.num_params, usage.tokens_non_padding)
        if span is not None:
            inside = "inside" if span[0] <= loss <= span[1] else "OUTSIDE"
            against += f", {inside} the 90 % of runs {span[0]:.3f} to {span[1]:.3f}"
        parts.append(f"loss {loss:.3f}{against}" + (")" if against else ""))
    if decision.overshoot:
        parts.append(f"{decision.overshoot:.2%} past the limit")
    if late_by:
        parts.append(f"up to {late_by:,} steps late, as a step took over twice the tokens of any before it")
    parts += [*also, f"{usage.optimizer_steps:,} steps"]
    return "; ".join(parts)


def build_record(
    *,
    plan: Plan,
    params: ParamCount | None,
    usage: Usage,
    decision: StopDecision,
    loss: float | None,
    loss_name: str | None,
    loss_error: float | None = None,
    curve: Sequence[tuple[int, float]] = (),
    points: Mapping[str, Any] | None = None,
    foretold: Sequence[Mapping[str, float]] = (),
    run: str = "",
    seed: int | None = None,
    lr_final_share: float | None = None,
    late_by: int | None = None,
    now: float | None = None,
    inexact_because: str = "",
) -> RunRecord:
    """Return the record of a run that has ended; see `RunRecord` for each field.

    `now` is the end of the run in seconds since 1970; the clock's time if None.
    """
    ended = datetime.now(UTC).timestamp() if now is None else now
    diverged = f"; {loss_name} was {loss}" if loss is not None and not math.isfinite(loss) else ""
    return RunRecord(
        num_params=plan.num_params,
        n_counts=plan.n_counts,
        num_tokens=usage.tokens_non_padding,
        flops=usage.flops,
        loss=loss,
        loss_name=loss_name,
        loss_error=loss_error,
        stop_reason=str(decision.reason),
        message=decision.message + diverged,
        law=plan.law,
        budget=str(plan.budget),
        params={name: value for name, value in asdict(params).items() if name != "notes"} if params else {},
        plan=plan_summary(plan),
        usage=asdict(usage),
        curve=tuple(curve),
        points=points or {},
        foretold=tuple(foretold),
        run=run,
        seed=seed,
        lr_final_share=lr_final_share,
        lr_decayed=None if lr_final_share is None else lr_final_share <= DECAYED_SHARE * 1.001,
        overshoot=decision.overshoot,
        late_by=late_by,
        started=datetime.fromtimestamp(ended - usage.seconds, UTC).isoformat(timespec="seconds"),
        exact=not inexact_because,
        inexact_because=inexact_because,
        versions=versions(),
    )


def law_fingerprint(law: ScalingLaw) -> str:
    """Return a law's name with a digest of its constants: a refitted law of the same name is another law."""
    return f"{law.name} ({law.digest})"


def plan_summary(plan: Plan) -> dict[str, Any]:
    """Return the plan's numbers for a record."""
    best = plan.allocation
    return {
        "flops": best.flops if best else None,
        "optimal_params": best.num_params if best else None,
        "optimal_tokens": best.num_tokens if best else None,
        "optimal_loss": best.loss if best else None,
        "target_tokens": plan.target_tokens,
        "target_interval": plan.target_interval,
        "flops_per_token": plan.flops_per_token,
        "tokens_per_step": plan.tokens_per_step,
        "stop_step": plan.stop_step,
        "stop_tokens": plan.stop_tokens,
        "stop_reason": str(plan.stop_reason),
        "loss_at_stop": plan.loss_at_stop,
        # 90 % of runs, where the law knows their scatter; the scoreboard holds the run against it
        "loss_interval": plan.loss_interval if plan.loss_interval_of_run else None,
        "verdict": str(plan.verdict) if plan.verdict else None,
        "rule": asdict(plan.rule),
        "warnings": list(plan.warnings),
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages a run depends on, without importing any."""
    found = {"python": platform.python_version()}
    for package in ("scalestop", "torch", "pytorch-lightning", "lightning", "numpy"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
