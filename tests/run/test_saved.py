"""The format of what a checkpoint holds: earlier versions are read, later and broken ones refused with advice."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from run_states import alone, state_of, trained

from scalestop.errors import InputError
from scalestop.run.saved import SCHEMA, read_state

FIRST = Path(__file__).parents[1] / "data" / "state-schema-0.ckpt"
"""Of the first release: 12 steps of 64 tokens, two validations."""


def first_release() -> dict:
    (state,) = torch.load(FIRST, weights_only=True)["callbacks"].values()
    return state


def test_what_is_written_is_read_as_it_is():
    state = trained("a").state_dict(alone)
    assert state["schema"] == SCHEMA
    assert read_state(state) == state


def test_the_state_of_the_first_release_is_read():
    before = first_release()
    assert "schema" not in before
    state = state_of("b", num_params=272)
    told = state.load_state_dict(before)
    assert [line.split(" was ")[0] for line in told] == ["flops_per_token"]  # nothing is priced here
    usage = state.watch.usage
    assert (usage.tokens, usage.flops, usage.optimizer_steps, usage.samples) == (768, 768 * 6 * 272, 12, 48)
    assert (usage.validation_tokens, state.steps.peak_rate, state.inexact_because) == (256, 0.01, "")
    assert [one.tokens for one in state.history.curve.validations] == [320, 640] and state.run == before["run"]


def test_the_curve_of_version_1_is_taken_over():
    state = {**trained("a").state_dict(alone), "schema": 1, "curve": [[64, 3.0], [128, 2.5]]}
    del state["history"]
    again = state_of("b")
    assert again.load_state_dict({**state, "curve_stride": 2, "curve_seen": 5}) == []
    curve = again.history.curve
    assert [(one.tokens, one.metrics) for one in curve.validations] == [
        (64, {"val_loss": 3.0}),
        (128, {"val_loss": 2.5}),
    ]
    assert (curve.every, curve.seen) == (2, 5) and not curve.points


@pytest.mark.parametrize("of", ["now", "first release"])
@pytest.mark.parametrize("name", ["meter", "exact", "run", "peak_lr", "measured_flops_per_second", "fingerprint"])
def test_a_missing_part_is_named(of, name):
    state = trained("a").state_dict(alone) if of == "now" else first_release()
    del state[name]
    with pytest.raises(InputError, match=f"^checkpoint: the callback's state lacks {name}; take another"):
        state_of("b").load_state_dict(state)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": SCHEMA + 1}, f"has schema {SCHEMA + 1}, this scalestop reads up to {SCHEMA}; update scalestop, or"),
        ({"schema": "two"}, "has schema 'two', which is no version; take another checkpoint"),
        ({"schema": -1}, "has schema -1, which is no version"),
        ({"schema": True}, "has schema True, which is no version"),
        ({"meter": [1]}, r"meter in the callback's state cannot be \[1\]; take another"),
        ({"run": None}, "run in the callback's state cannot be None"),
        ({"exact": 1}, "exact in the callback's state cannot be 1"),
        ({"peak_lr": "x"}, "peak_lr in the callback's state cannot be 'x'"),
        ({"peak_lr": True}, "peak_lr in the callback's state cannot be True"),
        ({"history": 5}, "history in the callback's state cannot be 5"),
        ({"history": {}}, "the callback's state is damaged: history: cannot be read: KeyError.*; take another"),
        ({"schema": 1, "curve": 5}, "curve in the callback's state holds no pairs of numbers; take another"),
        ({"schema": 1, "curve": [[1]]}, "curve in the callback's state holds no pairs of numbers"),
        ({"schema": 1, "curve": [[float("inf"), 2.0]]}, "curve in the callback's state holds no pairs of numbers"),
        ({"meter": {}}, "the callback's state is damaged: meter state: missing .*; take another checkpoint"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(changes, message):
    state = {**trained("a").state_dict(alone), **changes}
    with pytest.raises(InputError, match=message):
        state_of("b").load_state_dict(state)


def test_a_counter_that_is_no_count_is_refused():
    state = trained("a").state_dict(alone)
    state["meter"]["tokens"] = -1
    with pytest.raises(InputError, match="is damaged: meter state: tokens must be a count; got -1"):
        state_of("b").load_state_dict(state)


@pytest.mark.parametrize("state", [None, 5, "text", [1]])
def test_what_is_no_state_at_all_is_refused(state):
    with pytest.raises(InputError, match=f"state is a {type(state).__name__}, no mapping"):
        read_state(state)
