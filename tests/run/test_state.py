"""What of a run outlives its process: taken up by another one, it is the same run, or says what is not the same."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
import torch
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
    state.curve.append((128, 2.5))
    state.steps.see_rate(0.01)
    state.planner.measured = 1e12
    return state


def test_another_process_goes_on_as_the_same_run():
    file = io.BytesIO()
    torch.save(trained("a").state_dict(alone), file)
    file.seek(0)
    again = state_of("b")
    assert again.load_state_dict(torch.load(file, weights_only=True)) == []
    assert (again.run, again.curve, again.steps.peak_rate, again.planner.measured) == ("a", [(128, 2.5)], 0.01, 1e12)
    assert (again.watch.usage.tokens, again.watch.usage.optimizer_steps) == (192, 3)
    assert again.state_dict(alone) == trained("a").state_dict(alone)


@pytest.mark.parametrize(
    ("changes", "texts"),
    [
        ({"num_params": 90}, ["num_params was 100 when this run was saved and is 90; counts go on from there"]),
        ({"law": replace(LAW, A=51.0)}, ["law was 'toy (", "' when this run was saved and is 'toy ("]),
        ({"count_tokens": len}, ["token_rule was 'by shape and mask' when this run was saved and is 'own function'"]),
    ],
)
def test_what_the_counts_rest_on_is_held_against_what_it_was(changes, texts):
    other = state_of("b", **changes)
    (line,) = other.load_state_dict(trained("a").state_dict(alone))
    assert all(text in line for text in texts)
    assert other.run == "a" and other.watch.usage.tokens == 192


def test_counts_that_one_rank_estimated_are_said_to_be():
    state = {**trained("a").state_dict(alone), "exact": False}
    assert state_of("b").load_state_dict(state) == [
        "the checkpoint was saved by one rank alone: its counts since the last reduction are estimates"
    ]
