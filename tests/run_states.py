"""A run's state by hand: one of no steps, one of three, and what one rank asks of the others."""

from __future__ import annotations

from counting import LAW, Clock, N, count

from scalestop.accounting.meter import Meter
from scalestop.accounting.sizing import Sizing
from scalestop.accounting.tokens import TokenAccumulator
from scalestop.planning.budget import Budget
from scalestop.planning.rule import StopRule
from scalestop.planning.speed import Speed
from scalestop.run.aims import Aims
from scalestop.run.gate import Gate
from scalestop.run.planner import RunPlanner
from scalestop.run.state import RunState
from scalestop.run.watch import RunWatch


def state_of(run: str, law=LAW, num_params: int = N, count_tokens=None) -> RunState:
    aims = Aims(Budget.parse("1e9 FLOPs"), None, law, StopRule(), Gate(), Speed()).settle(num_params)
    watch = RunWatch(Meter(6 * num_params), TokenAccumulator(), Clock())
    sizing = Sizing(num_params, "6N", None, count_tokens)
    return RunState(run, None, sizing, watch, RunPlanner(aims, num_params, 6 * num_params, 1))


def alone(key, values):
    """One rank needs nobody's counts."""
    raise AssertionError("asked")


def trained(run: str) -> RunState:
    state = state_of(run)
    for _ in range(3):
        state.watch.begin_batch()
        state.watch.end_batch(count(64), True)
    state.history.curve.add_validation(2, 128, {"val_loss": 2.5})
    state.steps.see_rate(0.01)
    state.planner.measured = 1e12
    return state
