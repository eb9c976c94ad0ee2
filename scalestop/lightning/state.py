"""One run over all the processes it takes: what a checkpoint holds of it, and its record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from scalestop.lightning import trainer as _trainer
from scalestop.lightning.planner import RunPlanner
from scalestop.lightning.sizing import Sizing
from scalestop.lightning.steps import StepSensor
from scalestop.planning.planned import Plan
from scalestop.run.records import RunRecord, build_record
from scalestop.run.stopping import StopDecision
from scalestop.run.watch import RunWatch

_SAVE_TOGETHER_SECONDS = 20.0
"""How long a rank that saves waits for the others' counts before it saves an estimate."""


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

    def state_dict(self) -> dict[str, Any]:
        """Return the run as it is now, counts global over ranks: plain data, so that weights_only loading takes it."""
        # the ranks' own counts differ: the key is of what they all share, at this moment alone
        key = f"scalestop/{self.run}/{self.name}/{self.watch.batches}/{self.watch.reductions}"
        return {
            **self.watch.state_dict(lambda values: _trainer.sum_through_store(key, values, _SAVE_TOGETHER_SECONDS)),
            "run": self.run,
            "curve": [[tokens, loss] for tokens, loss in self.curve],
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
        return self.sizing.fingerprint(self.planner.aims.law)

    def record(
        self, trainer: Any, plan: Plan, decision: StopDecision, loss: float | None, loss_name: str | None
    ) -> RunRecord:
        """Return the run's record.

        Args:
            trainer: The Trainer, for the seed and the final learning rate.
            plan: The plan.
            decision: What ended the run.
            loss: Final loss, nats per token.
            loss_name: Metric that it is.
        """
        final, peak = _trainer.learning_rate(trainer), self.steps.peak_rate
        assert self.sizing.params is not None
        return build_record(
            plan=plan,
            params=self.sizing.params,
            usage=self.watch.usage,
            decision=decision,
            loss=loss,
            loss_name=loss_name,
            curve=self.curve,
            run=self.run,
            seed=_trainer.seed(),
            late_by=self.watch.late_by,
            lr_final_share=final / peak if final is not None and peak > 0 else None,
        )
