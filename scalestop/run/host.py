"""What a run under watch asks of whatever trains it. Each adapter answers for its own framework."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from scalestop.accounting.meter import Usage
from scalestop.planning.planned import Plan
from scalestop.run.records import RunRecord


class Host(Protocol):
    """A trainer, as a run under watch sees it. Nothing in here may depend on which trainer it is."""

    @property
    def log_every(self) -> int:
        """Optimizer steps between logged metrics; 0 for none."""

    @property
    def keeps_time(self) -> bool:
        """Whether any learning-rate schedule follows the budget, so that `tell_time` does something."""

    @property
    def epoch_metrics_are_due(self) -> bool:
        """Whether metrics come from the training epoch alone, as nothing is validated, and the first one is over."""

    @property
    def passes(self) -> float:
        """How often the training data have been passed by now, the pass under way as a share; 0 if they never end."""

    def metrics(self) -> Mapping[str, Any]:
        """Return the latest value of every metric that was logged."""

    def learning_rate(self) -> float | None:
        """Return the first param group's learning rate; None if there is none."""

    def planned_rate(self, plan: Plan) -> Callable[[float], float] | None:
        """Return that rate at each share of the planned run, 0 to 1; None where no schedule tells it."""

    def seed(self) -> int | None:
        """Return the seed that the run was given; None if it was given none."""

    def broadcast(self, value: Any) -> Any:
        """Return the first rank's value on every rank. A collective."""

    def sum_over_ranks(self, values: Sequence[int]) -> Sequence[int]:
        """Add up ints over the ranks, element by element. A collective."""

    def notes(self, plan: Plan) -> list[str]:
        """Return what the plan should say of the trainer's settings."""

    def conflicts(self, plan: Plan) -> list[str]:
        """Return which of the trainer's settings stand in the plan's way."""

    def tell_time(self, plan: Plan, usage: Callable[[], Usage]) -> None:
        """Set the clock of the learning-rate schedules that follow the budget.

        Args:
            plan: The plan.
            usage: Tells what the run has used, the same on every rank; asked only where a schedule wants to know.
        """

    def stop(self) -> None:
        """End training after this step."""

    def log(self, values: Mapping[str, float]) -> None:
        """Log metrics under this run's prefix, to each logger whatever another one raises.

        Raises:
            Exception: What the first one of them raised; the run goes on.
        """

    def keep_plan(self, plan: Plan) -> list[str]:
        """Have the loggers keep a plan as the run's settings, and return what went wrong."""

    def keep_record(self, record: RunRecord, files: Sequence[Path | str]) -> list[str]:
        """Have the loggers keep how the run ended, with its files, and return what went wrong."""

    def save(self, what: str) -> Path | str | None:
        """Save a checkpoint where the run keeps its own, if checkpoints are wanted; every rank calls it.

        Nothing is written over, and a save that fails leaves no file. Whatever happens on one rank, all ranks are at
        the same collective afterwards, and all of them raise or none does.

        Args:
            what: Word in the file's name.

        Returns:
            Where it was saved, a URL as text; None if none is wanted.

        Raises:
            Exception: Whatever the storage raises; the run goes on.
        """
