"""One run over all the processes it takes: what a checkpoint holds of it, and its record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from scalestop.planning.planned import Plan
from scalestop.run.final_loss import FinalLoss
from scalestop.run.history import History
from scalestop.run.planner import RunPlanner
from scalestop.run.records import RunRecord, build_record, law_fingerprint
from scalestop.run.steps import StepSensor
from scalestop.run.stopping import StopDecision
from scalestop.run.watch import RunWatch

if TYPE_CHECKING:
    from scalestop.accounting.flops import FlopsPerToken
    from scalestop.accounting.sizing import Sizing

SumAtSave = Callable[[str, list[int]], list[int] | None]
"""Adds up ints over the ranks at a checkpoint under a key of that moment; None if some rank did not answer."""


@dataclass
class RunState:
    """A run's identity and its loss curve, and the parts that know the rest of what it keeps."""

    run: str
    """Identity of the run, the same on every rank; survives resumes."""
    name: str | None
    """The callback's name, where there are several."""
    sizing: Sizing
    """What the model is; a resume with another one is told."""
    watch: RunWatch
    """Keeps the counts."""
    planner: RunPlanner
    """Keeps the measured speed."""
    steps: StepSensor = field(default_factory=StepSensor)
    """Keeps the peak of the learning rate."""
    curve: list[tuple[int, float]] = field(default_factory=list)
    """Validation loss against tokens."""
    history: History = field(default_factory=History)
    """The whole curve, and what watches it."""

    def reprice(self, cost: FlopsPerToken) -> None:
        """Charge another price for tokens, before any is counted in this job."""
        meter = self.watch.meter
        meter.flops_per_token = self.planner.flops_per_token = cost.model
        meter.forward_flops_per_token = cost.forward or cost.model // 3

    def state_dict(self, sum_at_save: SumAtSave) -> dict[str, Any]:
        """Return the run as it is now, counts global over ranks: plain data, so that weights_only loading takes it.

        Args:
            sum_at_save: How ranks add up their counts when nobody knows whether all of them save.
        """
        # the ranks' own counts differ: the key is of what they all share, at this moment alone
        key = f"scalestop/{self.run}/{self.name}/{self.watch.batches}/{self.watch.reductions}"
        return {
            **self.watch.state_dict(lambda values: sum_at_save(key, values)),
            "run": self.run,
            "curve": [[tokens, loss] for tokens, loss in self.curve],
            "history": self.history.state_dict(),
            "peak_lr": self.steps.peak_rate,
            "measured_flops_per_second": self.planner.measured,
            "fingerprint": self._fingerprint(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> list[str]:
        """Go on from a saved run, and return what to warn of."""
        self.watch.meter.load_state_dict(state["meter"])
        self.run, self.steps.peak_rate = state["run"], state["peak_lr"]
        self.planner.measured = state["measured_flops_per_second"]
        self.curve = [(int(tokens), float(loss)) for tokens, loss in state["curve"]]
        if "history" in state:  # a checkpoint from before it was kept has none
            self.history.load_state_dict(state["history"], self.watch.meter.optimizer_steps)
        lines = []
        if not state["exact"]:
            lines.append(
                "the checkpoint was saved by one rank alone: its counts since the last reduction are estimates"
            )
        for name, now in self._fingerprint().items():
            before = state["fingerprint"].get(name)
            if before != now:
                lines.append(f"{name} was {before!r} when this run was saved and is {now!r}; counts go on from there")
        return lines

    def _fingerprint(self) -> dict[str, Any]:
        """Return what a run's counts rest on, as plain data: a resume under another one is told."""
        aims = self.planner.aims
        return {
            "num_params": self.sizing.size(aims.convention),
            "n_counts": aims.convention,
            "law": law_fingerprint(aims.settled_law) if aims.settled_law is not None else None,
            "flops_per_token": self.sizing.cost.model if self.sizing.cost else None,
            "token_rule": self.sizing.token_rule,
        }

    def record(
        self,
        plan: Plan,
        decision: StopDecision,
        loss: FinalLoss,
        *,
        seed: int | None,
        final_rate: float | None,
    ) -> RunRecord:
        """Return the run's record.

        Args:
            plan: The plan.
            decision: What ended the run.
            loss: Final loss, and what it is.
            seed: Seed of the run; None if it was given none.
            final_rate: The learning rate at the end.
        """
        peak = self.steps.peak_rate
        assert self.sizing.params is not None
        return build_record(
            plan=plan,
            params=self.sizing.params,
            usage=self.watch.usage,
            decision=decision,
            loss=loss.loss,
            loss_name=loss.name,
            loss_error=loss.error,
            curve=self.curve,
            points=self.history.curve.state_dict(),
            foretold=[asdict(one) for one in self.history.foretold],
            run=self.run,
            seed=seed,
            late_by=self.watch.late_by,
            lr_final_share=final_rate / peak if final_rate is not None and peak > 0 else None,
        )
