"""A Lightning Trainer as the host of a run under watch."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from scalestop.accounting.meter import Usage
from scalestop.lightning import trainer as _trainer
from scalestop.lightning.loggers import log_end, log_start
from scalestop.lightning.saving import checkpoint_directory, save_checkpoint
from scalestop.planning.planned import Plan
from scalestop.run.records import RunRecord
from scalestop.run.state import RunState
from scalestop.schedules.run_schedules import RunSchedules
from scalestop.schedules.undecayed import UndecayedPenalty


class TrainerHost:
    """Answers what a `LiveRun` asks, out of a Trainer; see `scalestop.run.host.Host`.

    Args:
        trainer: The Trainer, set up.
        callback: Logs through it.
        state: The run.
        save_checkpoint: Whether to save checkpoints; None saves unless the Trainer has checkpointing disabled.
        penalty: What an undecayed learning rate costs, where records tell.
        shows_forecast: Whether the progress bar shows the forecast of the final loss.
    """

    def __init__(
        self,
        trainer: Any,
        callback: Any,
        state: RunState,
        save_checkpoint: bool | None,
        penalty: UndecayedPenalty | None,
        shows_forecast: bool = False,
    ) -> None:
        self._trainer, self._callback, self._state = trainer, callback, state
        self._name, self._gate = state.name, state.planner.aims.gate
        self._save_checkpoint = save_checkpoint
        self._bar = {"budget_used": "budget"} | ({"loss_forecast": "forecast"} if shows_forecast else {})
        self.schedules = RunSchedules(_trainer.schedules(trainer), state.name or "", penalty)
        """The run's learning-rate schedules."""
        self.folder = _trainer.log_directory(trainer)
        """The run's log directory."""

    # ---- what there is to read

    @property
    def log_every(self) -> int:
        """Optimizer steps between logged metrics; 0 for none."""
        return int(self._trainer.log_every_n_steps)

    @property
    def keeps_time(self) -> bool:
        """Whether any schedule follows the budget."""
        return self.schedules.follow_the_budget

    @property
    def epoch_metrics_are_due(self) -> bool:
        """Whether metrics come from the training epoch alone, as nothing is validated, and the first one is over."""
        return self._trainer.current_epoch > 0 and not self._trainer.enable_validation

    @property
    def passes(self) -> float:
        """How often the training data have been passed by now; 0 if they never end."""
        return (self._trainer.fit_loop.epoch_loop.total_batch_idx + 1) / self._trainer.num_training_batches

    def metrics(self) -> Mapping[str, Any]:
        """Return the latest value of every logged metric."""
        metrics: Mapping[str, Any] = self._trainer.callback_metrics
        return metrics

    def learning_rate(self) -> float | None:
        """Return the first param group's learning rate."""
        return _trainer.learning_rate(self._trainer)

    def planned_rate(self, plan: Plan) -> Callable[[float], float] | None:
        """Return that rate at each share of the planned run, as far as the schedules tell."""
        return self.schedules.planned_rate(plan)

    def seed(self) -> int | None:
        """Return the seed given to `seed_everything`."""
        return _trainer.seed()

    def notes(self, plan: Plan) -> list[str]:
        """Return what the plan should say of the rate at its stop."""
        return self.schedules.notes(plan)

    def conflicts(self, plan: Plan) -> list[str]:
        """Return what in the Trainer, a schedule or the gate stands in the plan's way."""
        return [*_trainer.conflicts(self._trainer, plan), *self.schedules.conflicts(plan, self._gate)]

    # ---- ranks

    def broadcast(self, value: Any) -> Any:
        """Return the first rank's value on every rank."""
        return self._trainer.strategy.broadcast(value)

    def sum_over_ranks(self, values: Sequence[int]) -> Sequence[int]:
        """Add up ints over the ranks."""
        return _trainer.sum_over_ranks(self._trainer, values)

    # ---- what is done to it

    def tell_time(self, plan: Plan, usage: Callable[[], Usage]) -> None:
        """Set the clock of each `BudgetLR`."""
        self.schedules.tell_time(plan, usage)

    def stop(self) -> None:
        """End training after this step."""
        self._trainer.should_stop = True

    def log(self, values: Mapping[str, float]) -> None:
        """Log under `scalestop/` to every logger; the progress bar shows the budget, and what else was asked."""
        metrics = {self._prefix + key: float(value) for key, value in values.items()}
        options: dict[str, Any] = {"logger": False, "on_step": True, "on_epoch": False, "batch_size": 1}
        step = _trainer.logging_step(self._trainer)
        calls = [partial(logger.log_metrics, metrics, step=step) for logger in self._trainer.loggers]
        calls.append(partial(self._callback.log_dict, metrics, **options))
        for key, word in self._bar.items():
            if key in values:
                bar = f"{word}_{self._name}" if self._name else word
                calls.append(partial(self._callback.log, bar, float(values[key]), prog_bar=True, **options))
        troubles = []
        for call in calls:
            try:
                call()
            except Exception as error:  # the others still get theirs
                troubles.append(error)
        if troubles:
            raise troubles[0]

    def keep_plan(self, plan: Plan) -> list[str]:
        """Have the loggers keep a plan as the run's settings."""
        return log_start(self._trainer.loggers, plan, self._prefix) if self._trainer.is_global_zero else []

    def keep_record(self, record: RunRecord, files: Sequence[Path | str]) -> list[str]:
        """Have the loggers keep how the run ended, with its files."""
        if not self._trainer.is_global_zero:
            return []
        step = _trainer.logging_step(self._trainer)
        return log_end(self._trainer.loggers, record, step=step, files=files, prefix=self._prefix)

    @property
    def _prefix(self) -> str:
        return f"scalestop/{self._name}/" if self._name else "scalestop/"

    def save(self, what: str) -> Path | str | None:
        """Save a checkpoint beside Lightning's own; every rank must call it."""
        wanted = self._save_checkpoint
        if wanted is None:
            wanted = self._trainer.checkpoint_callback is not None
        if not wanted or self._trainer.fast_dev_run:
            return None
        run = self._state.run
        folder = checkpoint_directory(self._trainer)
        stem = f"scalestop-{self._name}-{what}" if self._name else f"scalestop-{what}"
        return save_checkpoint(
            self._trainer,
            folder if folder is not None else self.folder / "checkpoints" / run[:8],
            f"{stem}-step={self._trainer.global_step}",
            run,
        )


class Ranks:
    """Adds up ints over a Trainer's ranks; alone once it has been sent to another process."""

    def __init__(self, trainer: Any) -> None:
        self.bind(trainer)

    def bind(self, trainer: Any) -> None:
        """Ask the ranks of this Trainer from now on."""
        self._trainer = weakref.ref(trainer)

    def __call__(self, values: Sequence[int]) -> Sequence[int]:
        """Add up ints, element by element. A collective where there are several."""
        trainer = self._trainer()
        return values if _trainer.world_size(trainer) == 1 else _trainer.sum_over_ranks(trainer, values)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the Trainer behind."""
        return {}
