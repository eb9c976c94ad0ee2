"""What of a run outlives its process: taken up by another one, it is the same run, or says what is not the same."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
import torch
from counting import LAW, N, count
from run_states import alone, state_of, trained

from scalestop.accounting.tokens import TokenCount
from scalestop.planning.rule import StopReason
from scalestop.run.final_loss import FinalLoss, LossNames
from scalestop.run.state import RunState
from scalestop.run.stopping import StopDecision


def test_another_process_goes_on_as_the_same_run():
    file = io.BytesIO()
    torch.save(trained("a").state_dict(alone), file)
    file.seek(0)
    again = state_of("b")
    assert again.load_state_dict(torch.load(file, weights_only=True)) == []
    assert (again.run, again.steps.peak_rate, again.planner.measured) == ("a", 0.01, 1e12)
    assert again.history.curve.validations == [(2, 128, {"val_loss": 2.5})]
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


# ---- counts of a run that is broken off


def on_two_ranks(run: str = "a") -> RunState:
    """Rank 0 of two that train on batches of one size; reduced after the third step, and two more taken since."""
    state = state_of(run)
    meter = state.watch.meter
    meter.world_size = 2
    state.watch._reduce = lambda values: [2 * value for value in values]
    for step in range(5):
        state.watch.begin_batch()
        state.watch.end_batch(count(64), True)
        if step == 2:
            state.watch.sync()
    return state


def recorded(state: RunState, **options):
    plan = state.planner.plan(64)
    decision = StopDecision(False, StopReason.NOT_STOPPED, "broken")
    return state.record(plan, decision, FinalLoss(None, None), LossNames(), seed=None, final_rate=None, **options)


def test_one_rank_alone_estimates_the_others_and_says_so():
    """Tokens and steps are of one moment: not the last reduction's 384 tokens beside five steps."""
    record = recorded(on_two_ranks(), broken_off=True)
    assert (record.num_tokens, record.usage["optimizer_steps"], record.flops) == (640, 5, 640 * 6 * N)
    assert record.exact is False and record.inexact_because.startswith("the run was broken off, and each rank's")


def test_counts_that_all_ranks_added_up_at_this_moment_are_exact():
    state = on_two_ranks()
    state.state_dict(lambda key, values: [3 * value for value in values])
    record = recorded(state, broken_off=True)
    assert (record.num_tokens, record.exact, record.inexact_because) == (384 + 3 * 128, True, "")
    state.watch.end_batch(count(64), True)  # a step later they are of the past
    later = recorded(state, broken_off=True)
    assert (later.num_tokens, later.exact) == (384 + 2 * 192, False)


def test_alone_on_one_rank_a_broken_run_is_exact():
    record = recorded(trained("a"), broken_off=True)
    assert (record.num_tokens, record.exact) == (192, True)


def test_counts_that_cannot_be_read_off_the_device_are_estimated():
    state = trained("a")
    state.watch.end_batch(TokenCount(64, torch.tensor(32), torch.tensor(32), 1), True)
    state.watch.read_masks()
    state.watch.end_batch(TokenCount(64, torch.tensor(32), torch.tensor(32), 1), True)

    def lost():
        raise RuntimeError("CUDA error: device-side assert triggered")

    state.watch.read_masks = lost
    record = recorded(state, broken_off=True)
    share = (3 * 64 + 32) / (4 * 64)
    assert record.num_tokens == 3 * 64 + 32 + round(64 * share) and record.usage["optimizer_steps"] == 5
    assert record.exact is False
    assert record.inexact_because == "counts still on the device could not be read (RuntimeError)"


def test_what_was_inexact_once_is_inexact_for_good():
    first = trained("a")
    first.inexact_because = "nobody counted the first ten steps"
    second = state_of("b")
    assert second.load_state_dict(first.state_dict(alone)) == ["nobody counted the first ten steps"]
    assert recorded(second).exact is False
    assert second.state_dict(alone)["exact"] is False


def test_counting_begins_at_what_was_there_before():
    state = state_of("a")
    state.begin_at(5000, 77, 9, "told")
    usage = state.watch.usage
    assert (usage.tokens, usage.tokens_non_padding, usage.flops, usage.optimizer_steps) == (5000, 5000, 77, 9)
    assert state.watch.job_usage.tokens == 0 and state.inexact_because == "told"
    state.watch.end_batch(count(64), True)
    assert (state.watch.usage.tokens, state.watch.usage.flops) == (5064, 77 + 64 * 6 * N)
    assert state.watch.job_usage.optimizer_steps == 1
