"""One run over all the processes it takes: what a checkpoint holds of it, and its record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from scalestop.accounting.meter import Meter, Usage
from scalestop.errors import InputError
from scalestop.planning.planned import Plan
from scalestop.run.ended import build_record, law_fingerprint
from scalestop.run.final_loss import FinalLoss, LossNames
from scalestop.run.history import History
from scalestop.run.planner import RunPlanner
from scalestop.run.records import RunRecord
from scalestop.run.saved import SCHEMA, read_state
from scalestop.run.steps import StepSensor
from scalestop.run.stopping import StopDecision
from scalestop.run.watch import RunWatch

if TYPE_CHECKING:
    from scalestop.accounting.flops import FlopsPerToken
    from scalestop.accounting.sizing import Sizing

SumAtSave = Callable[[str, list[int]], list[int] | None]
"""Adds up ints over the ranks at a checkpoint under a key of that moment; None if some rank did not answer."""


_ALONE = "the checkpoint was saved by one rank alone: its counts since the last reduction are estimates"
_APART = "the ranks' data ran out at different steps: counts are those of the last reduction"
_BROKEN_OFF = "the run was broken off, and each rank's count since the last reduction was taken to be the first one's"


@dataclass
class RunState:
    """A run's identity and its curve, and the parts that know the rest of what it keeps."""

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
    history: History = field(default_factory=History)
    """The run's curve, and what watches it."""
    inexact_because: str = ""
    """Why the counts are not exact over the run's whole life; empty if they are."""
    _saved: tuple[int, dict[str, Any]] | None = None

    def reprice(self, cost: FlopsPerToken) -> None:
        """Charge another price for the tokens to come."""
        self.planner.flops_per_token = cost.model
        self.watch.meter.reprice(cost.model, cost.forward)

    def begin_at(self, tokens: int, flops: int, steps: int, inexact_because: str = "") -> None:
        """Count on from what was trained before anybody counted.

        Args:
            tokens: Tokens trained on, over all ranks; none of them padding, as far as anybody knows.
            flops: What they cost, FLOPs.
            steps: Optimizer steps.
            inexact_because: Why these are no exact counts.
        """
        counts = {"tokens": tokens, "tokens_non_padding": tokens, "tokens_in_loss": tokens, "flops": flops}
        meter = self.watch.meter
        before = meter.state_dict(dict.fromkeys(meter.pending, 0))
        meter.load_state_dict({**before, **counts, "optimizer_steps": steps})
        self.watch.begin_job()
        self.inexact_because = inexact_because

    def state_dict(self, sum_at_save: SumAtSave) -> dict[str, Any]:
        """Return the run as it is now, counts global over ranks: plain data, so that weights_only loading takes it.

        Args:
            sum_at_save: How ranks add up their counts when nobody knows whether all of them save.
        """
        # the ranks' own counts differ: the key is of what they all share, at this moment alone
        key = f"{self.name}/{self.watch.moment}"
        counts = self.watch.state_dict(lambda values: sum_at_save(key, values))
        self._saved = (self.watch.batches, counts)
        why = self.inexact_because or ("" if counts["exact"] else _ALONE)
        return {
            **counts,
            "schema": SCHEMA,
            "exact": not why,
            "inexact_because": why,
            "run": self.run,
            "history": self.history.state_dict(),
            "peak_lr": self.steps.peak_rate,
            "measured_flops_per_second": self.planner.measured,
            "fingerprint": self._fingerprint(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> list[str]:
        """Go on from a saved run, and return what to warn of.

        Raises:
            InputError: If it is none, or one of a later version; see `read_state`.
        """
        state = read_state(state)
        try:
            self.watch.meter.load_state_dict(state["meter"])
            self.history.load_state_dict(state["history"], self.watch.meter.optimizer_steps)
        except InputError as error:
            raise InputError(f"checkpoint: the callback's state is damaged: {error}; take another checkpoint") from None
        self.run, self.steps.peak_rate = state["run"], state["peak_lr"]
        self.planner.measured = state["measured_flops_per_second"]
        lines = []
        self.inexact_because = state["inexact_because"]
        if not state["exact"]:
            self.inexact_because = self.inexact_because or _ALONE
            lines.append(self.inexact_because)
        mine, saved = self._fingerprint(), state["fingerprint"]
        trainable = mine.pop("trainable")
        if saved.get("trainable", trainable) != trainable:
            mine.pop("flops_per_token")  # a run may freeze and free parameters on its way, and resume as it began
        for name, now in mine.items():
            before = saved.get(name, now)
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
            "trainable": self.sizing.params.trainable if self.sizing.params else None,
        }

    def counts_alone(self) -> tuple[Usage, str]:
        """Return what the run has used by now as this rank knows without asking the others, and why that is inexact.

        For a run that was broken off, where there is no telling which ranks are still there.
        """
        watch = self.watch
        several = watch.meter.world_size > 1
        if several and self._saved is not None and self._saved[0] == watch.batches:
            counts = self._saved[1]  # of this very moment, and all ranks may have added to it
        else:
            try:
                counts = watch.state_dict(lambda values: None)
            except Exception as error:  # what is still on the accelerator cannot be read after an error there
                why = f"counts still on the device could not be read ({type(error).__name__})"
                usage = watch.estimate()
                whole = {name: round(value) for name, value in asdict(usage).items() if "seconds" not in name}
                return replace(usage, **whole), self.inexact_because or why
        meter = Meter(watch.meter.flops_per_token)
        meter.load_state_dict(counts["meter"])
        return meter.usage, self.inexact_because or ("" if counts["exact"] else _BROKEN_OFF)

    def record(
        self,
        plan: Plan,
        decision: StopDecision,
        loss: FinalLoss,
        names: LossNames,
        *,
        seed: int | None,
        final_rate: float | None,
        broken_off: bool = False,
    ) -> RunRecord:
        """Return the run's record.

        Args:
            plan: The plan.
            decision: What ended the run.
            loss: Final loss, and what it is.
            names: Tells which validation metric is the loss.
            seed: Seed of the run; None if it was given none.
            final_rate: The learning rate at the end.
            broken_off: Whether the run was broken off, so that the ranks' counts may not have been added up.
        """
        peak = self.steps.peak_rate
        usage, why = self.counts_alone() if broken_off else (self.watch.usage, self.inexact_because)
        if self.watch.apart:
            why = why or _APART
        return build_record(
            plan=plan,
            params=self.sizing.params,
            usage=usage,
            decision=decision,
            loss=loss.loss,
            loss_name=loss.name,
            loss_error=loss.error,
            curve=names.validations(self.history.curve),
            points=self.history.curve.state_dict(),
            foretold=[asdict(one) for one in self.history.foretold],
            run=self.run,
            seed=seed,
            late_by=self.watch.late_by,
            lr_final_share=final_rate / peak if final_rate is not None and peak > 0 else None,
            inexact_because=why,
        )
