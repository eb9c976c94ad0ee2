"""A run's learning-rate schedules as one: told the time, held against the plan, brought down for a branch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from scalestop.accounting.meter import Usage
from scalestop.planning.plan import budget_limits
from scalestop.planning.planned import Plan
from scalestop.run.gate import Gate
from scalestop.run.metrics import progress
from scalestop.schedules.budget_lr import begin_branch
from scalestop.schedules.horizons import Scheduled, budget_schedules, decay_note, horizon_conflicts
from scalestop.schedules.planned_rate import planned_rate
from scalestop.schedules.undecayed import UndecayedPenalty


class RunSchedules:
    """The schedulers of a run, as its trainer drives them.

    Args:
        scheduled: The schedulers.
        name: Who tells the time, where several runs are watched in one trainer.
        penalty: What an undecayed learning rate costs, where records tell.
    """

    def __init__(
        self, scheduled: Sequence[Scheduled] = (), name: str = "", penalty: UndecayedPenalty | None = None
    ) -> None:
        self._scheduled, self._name, self._penalty = list(scheduled), name, penalty
        self._budget_schedules = [found for item in self._scheduled for found in budget_schedules(item.scheduler)]

    @property
    def follow_the_budget(self) -> bool:
        """Whether any of them does."""
        return bool(self._budget_schedules)

    def tell_time(self, plan: Plan, usage: Callable[[], Usage]) -> None:
        """Set the clock of each `BudgetLR`.

        Args:
            plan: The plan.
            usage: Tells what the run has used, the same on every rank.
        """
        if not self._budget_schedules:
            return
        used = usage()
        for schedule in self._budget_schedules:
            limits = plan.limits if schedule.horizon is None else budget_limits(schedule.horizon)
            schedule.advance(progress(limits, used), self._name)

    def begin_branch(self, plan: Plan, usage: Usage) -> bool:
        """Let each decay begin where the checkpoint stands; see `budget_lr.begin_branch`."""
        return begin_branch(self._budget_schedules, progress(plan.limits, usage))

    def planned_rate(self, plan: Plan) -> Callable[[float], float] | None:
        """Return the rate at each share of the planned run; see `planned_rate`."""
        return planned_rate(self._scheduled, plan)

    def notes(self, plan: Plan) -> list[str]:
        """Return what the plan should say of the rate at its stop."""
        note = decay_note(self._scheduled, plan, self._penalty)
        return [note] if note else []

    def conflicts(self, plan: Plan, gate: Gate) -> list[str]:
        """Return what in the schedules stands in the plan's way, or in the way of a gate that has to open."""
        lines = horizon_conflicts(self._scheduled, plan)
        waits = gate.conditions and plan.target_tokens is not None
        if waits and any(schedule.floor == 0 for schedule in self._budget_schedules):
            lines.append(
                "until: past the compute-optimal point BudgetLR's rate is 0, so a metric that is not good enough there "
                "cannot get better; give BudgetLR a floor, such as 0.1"
            )
        return lines
