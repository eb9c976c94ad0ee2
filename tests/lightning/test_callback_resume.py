"""Saving and taking up: no token lost or counted twice, whatever changes in between."""

from __future__ import annotations

import os
import re
import signal
import warnings

import pytest
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from toys import C_OPT, LAW, LENGTH, ResumableLoader, Toy, assert_counts, loader, stopping, train

from scalestop import ComputeOptimalStopping
from scalestop.errors import ScalestopWarning
from scalestop.laws import ParametricLaw
from scalestop.laws.base import LawInfo
from scalestop.planning.rule import StopReason
from scalestop.run.records import RunRecord

PER_STEP = 4 * LENGTH


def ragged():
    return loader(400, ragged=True, kind=ResumableLoader)


def keep_every(steps: int, folder) -> ModelCheckpoint:
    return ModelCheckpoint(folder, every_n_train_steps=steps, save_top_k=-1, filename="{step}")


@pytest.mark.parametrize(("accumulate", "budget"), [(1, 1.05 * C_OPT), (3, "4000 tokens")])
def test_resumed_anywhere_the_run_ends_where_the_unbroken_one_does(tmp_path, accumulate, budget):
    whole = stopping(budget)
    unbroken = train(
        [whole, keep_every(9, tmp_path / "kept")], tmp_path, data=ragged(), accumulate_grad_batches=accumulate
    )
    kept = sorted((tmp_path / "kept").glob("*.ckpt"))
    assert len(kept) >= 3 and whole.stop_reason in (StopReason.BUDGET_EXHAUSTED, StopReason.TOKEN_LIMIT)
    for path in kept:
        callback = stopping(budget)
        trainer = train(callback, tmp_path, data=ragged(), ckpt_path=path, accumulate_grad_batches=accumulate)
        assert trainer.global_step == unbroken.global_step
        assert callback.decision == whole.decision
        counted = {k: v for k, v in vars(callback.usage).items() if "seconds" not in k}
        assert counted == {k: v for k, v in vars(whole.usage).items() if "seconds" not in k}
        assert callback.usage.seconds > 0
        assert_counts(whole.usage, unbroken.toy.seen)


def test_checkpoint_at_the_stop_holds_the_stop(tmp_path):
    callback = stopping()
    trainer = train(callback, tmp_path)
    assert callback.checkpoint_path.name == f"scalestop-stop-step={trainer.global_step}.ckpt"
    state = torch.load(callback.checkpoint_path, weights_only=True)
    assert state["callbacks"][callback.state_key]["meter"]["tokens"] == callback.usage.tokens
    assert torch.equal(state["state_dict"]["head.weight"], trainer.toy.head.weight)


def test_no_checkpoint_where_none_is_wanted(tmp_path):
    for options in ({"save_checkpoint": False}, {}):
        callback = stopping(**options)
        train(callback, tmp_path, enable_checkpointing=bool(options))
        assert callback.checkpoint_path is None
    assert not list(tmp_path.rglob("scalestop*.ckpt"))


def test_spent_budget_resumes_to_zero_batches_and_a_raised_one_goes_on(tmp_path):
    first = stopping("640 tokens", oversized="ignore")
    train(first, tmp_path)
    again = stopping("640 tokens", oversized="ignore")
    trainer = train(again, tmp_path, ckpt_path=first.checkpoint_path)
    assert trainer.toy.seen.tokens == 0 and again.usage.tokens == 640
    assert RunRecord.load(first.record_path).loss is not None  # the spent run's record stands
    assert again.stop_reason is StopReason.TOKEN_LIMIT
    raised = stopping("960 tokens", oversized="ignore")
    trainer = train(raised, tmp_path, ckpt_path=first.checkpoint_path)
    assert trainer.toy.seen.tokens == 320 and raised.usage.tokens == 960
    assert raised.usage.optimizer_steps == trainer.global_step == 15


def test_larger_batches_after_a_resume_are_counted_as_they_are(tmp_path):
    first = stopping("640 tokens", oversized="ignore")
    train(first, tmp_path)
    second = stopping("2000 tokens", oversized="ignore")
    trainer = train(second, tmp_path, data=loader(batch_size=16), ckpt_path=first.checkpoint_path)
    assert second.usage.tokens == 640 + trainer.toy.seen.tokens == 640 + 6 * 256
    assert second.usage.optimizer_steps == 16


OTHER_LAW = ParametricLaw(LawInfo("toy", "total", "refitted"), E=1.0, A=51.0, B=200.0, alpha=0.5, beta=0.5)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_params": 271}, "num_params was 272 when this run was saved and is 271"),
        ({"law": "besiroglu"}, r"law was 'toy \(\w+\)' when this run was saved and is 'besiroglu"),
        ({"law": OTHER_LAW}, r"law was 'toy \(\w+\)' when this run was saved and is 'toy"),
        ({"count_tokens": lambda batch: 64}, "token_rule was 'by shape and mask' when this run was saved"),
        ({"flops_per_token": 2000}, "flops_per_token was 1632 when this run was saved and is 2000"),
    ],
)
def test_what_changed_is_reported_and_the_count_goes_on(tmp_path, options, text):
    first = stopping("640 tokens", oversized="ignore")
    train(first, tmp_path)
    second = ComputeOptimalStopping("704 tokens", **{"law": LAW, "oversized": "ignore", **options})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ScalestopWarning)
        train(second, tmp_path, ckpt_path=first.checkpoint_path)
    assert second.usage.tokens == 704
    told = [str(w.message) for w in caught if issubclass(w.category, ScalestopWarning)]
    told = [line for line in told if "when this run was saved" in line]
    assert any(re.search(text, line) for line in told)
    assert len(told) == (2 if "num_params" in options else 1)  # N is in the cost of a token as well


def test_unchanged_is_not_reported(tmp_path):
    first = stopping("640 tokens", oversized="ignore")
    train(first, tmp_path)
    train(stopping("704 tokens", oversized="ignore"), tmp_path, ckpt_path=first.checkpoint_path)  # warnings are errors


def test_state_is_read_with_weights_only_and_has_no_budget_in_its_key():
    assert stopping(1e9).state_key == stopping(2e9).state_key != stopping(1e9, name="x").state_key


class SavesEarly(Callback):
    """A user's own checkpointing, which has its turn before ours."""

    def __init__(self, at: int, path, hook: str = "on_train_batch_end") -> None:
        self.at, self.path = at, path
        setattr(self, hook, self._save)

    def _save(self, trainer, module, *args):
        if args[-1] == self.at:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("at", [4, 5, 6, 7])
def test_saved_before_our_turn_at_a_batch_and_within_an_accumulation_window(tmp_path, at):
    path = tmp_path / "early.ckpt"
    callback = stopping("1920 tokens", oversized="ignore")
    options = {"data": loader(kind=ResumableLoader), "accumulate_grad_batches": 3}
    train([SavesEarly(at, path), callback], tmp_path, **options)
    assert callback.usage.tokens == 1920
    state = torch.load(path, weights_only=True)["callbacks"][callback.state_key]["meter"]
    assert state["tokens"] == (at + 1) * PER_STEP and state["optimizer_steps"] == (at + 1) // 3
    again = stopping("1920 tokens", oversized="ignore")
    options["data"] = loader(kind=ResumableLoader)
    trainer = train(again, tmp_path, ckpt_path=path, **options)
    assert again.usage.tokens == (at + 1) * PER_STEP + trainer.toy.seen.tokens >= 1920


def test_saved_inside_a_batch_it_is_not_counted_as_lightning_trains_on_it_again(tmp_path):
    path = tmp_path / "inside.ckpt"

    class SavesInside(Toy):
        def training_step(self, batch, batch_idx):
            if batch_idx == 4:
                self.trainer.save_checkpoint(path)
            return super().training_step(batch, batch_idx)

    callback = stopping("640 tokens", oversized="ignore")
    train(callback, tmp_path, SavesInside())
    assert callback.usage.tokens == 640
    state = torch.load(path, weights_only=True)["callbacks"][callback.state_key]["meter"]
    assert state["tokens"] == 4 * PER_STEP


def test_preempted_by_sigterm_the_run_saves_its_state(tmp_path):
    class Preempted(Toy):
        def training_step(self, batch, batch_idx):
            if batch_idx == 6:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().training_step(batch, batch_idx)

    before = signal.getsignal(signal.SIGTERM)
    callback = stopping()
    module = Preempted()
    try:
        with pytest.raises(SystemExit):
            train(callback, tmp_path, module, ragged())
    finally:
        signal.signal(signal.SIGTERM, before)
    assert callback.checkpoint_path.name == "scalestop-preempted-step=7.ckpt"
    assert_counts(callback.usage, module.seen)
    again = stopping()
    trainer = train(again, tmp_path, data=ragged(), ckpt_path=callback.checkpoint_path)
    whole = stopping()
    unbroken = train(whole, tmp_path, data=ragged())
    assert trainer.global_step == unbroken.global_step
    assert_counts(again.usage, module.seen + trainer.toy.seen)
    assert again.usage.tokens == whole.usage.tokens


def test_broken_run_leaves_a_record_of_what_it_used(tmp_path):
    class Breaks(Toy):
        def training_step(self, batch, batch_idx):
            if batch_idx == 5:
                raise ZeroDivisionError
            return super().training_step(batch, batch_idx)

    callback = stopping()
    with pytest.raises(ZeroDivisionError):
        train(callback, tmp_path, Breaks())
    record = RunRecord.load(tmp_path / "scalestop.json")
    assert record.stop_reason == "NOT_STOPPED" and "ZeroDivisionError" in record.message
    assert record.num_tokens == 5 * PER_STEP


def test_resumed_run_overwrites_its_own_record_and_no_other(tmp_path):
    first = stopping("640 tokens", oversized="ignore")
    train(first, tmp_path)
    train(stopping("704 tokens", oversized="ignore"), tmp_path, ckpt_path=first.checkpoint_path)
    assert [p.name for p in tmp_path.glob("*.json")] == ["scalestop.json"]
    train(stopping(C_OPT), tmp_path)
    assert sorted(p.name for p in tmp_path.glob("*.json")) == ["scalestop-2.json", "scalestop.json"]
