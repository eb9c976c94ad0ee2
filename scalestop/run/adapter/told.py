"""What users read of the callback."""

from __future__ import annotations

from pathlib import Path

from scalestop.accounting.flops import FlopsPerToken
from scalestop.accounting.meter import Usage
from scalestop.accounting.params import ParamCount
from scalestop.accounting.sizing import Sizing
from scalestop.planning.planned import Plan
from scalestop.planning.rule import StopReason
from scalestop.run.curve import Curve
from scalestop.run.live import LiveRun
from scalestop.run.reporter import Reporter
from scalestop.run.state import RunState
from scalestop.run.stopping import StopDecision
from scalestop.run.watch import RunWatch


class Told:
    """What a run's parts know, under the names that users ask for."""

    _sizing: Sizing
    _reporter: Reporter
    _state: RunState | None
    _live: LiveRun | None

    @property
    def plan(self) -> Plan | None:
        """What the run will do; None before `fit`."""
        return self._live.plan if self._live is not None else None

    @property
    def watch(self) -> RunWatch | None:
        """The counts and the rule at work; None before `fit`."""
        return self._state.watch if self._state is not None else None

    @property
    def usage(self) -> Usage:
        """What the run has used so far: exact on one rank; over several, as of the last reduction."""
        return self.watch.usage if self.watch is not None else Usage()

    @property
    def decision(self) -> StopDecision:
        """The latest decision of the stop rule, with its numbers and its message."""
        if self.watch is None:
            return StopDecision(False, StopReason.NOT_STOPPED, "not started")
        return self.watch.decision

    @property
    def stop_reason(self) -> StopReason:
        """Why the run stopped; `NOT_STOPPED` if it has not."""
        return self.decision.reason

    @property
    def params(self) -> ParamCount | None:
        """The model's parameters by role; None before `fit`."""
        return self._sizing.params

    @property
    def cost(self) -> FlopsPerToken | None:
        """What a token costs, and how that was found; None before `fit`."""
        return self._sizing.cost

    @property
    def curve(self) -> Curve | None:
        """The run's curve so far: training loss in windows, rate, counts, validations; None before `fit`."""
        return self._state.history.curve if self._state is not None else None

    @property
    def record_path(self) -> Path | None:
        """Where the record was written; None if it was not."""
        return self._reporter.record_path

    @property
    def checkpoint_path(self) -> Path | str | None:
        """Where the checkpoint of the stop was saved; None if it was not."""
        return self._live.checkpoint_path if self._live is not None else None
