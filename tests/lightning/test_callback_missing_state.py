"""Checkpoints without counts: from before the callback, of another name, of another release, or broken."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from toys import ManualToy, N, ResumableLoader, Toy, loader, stopping, train

from scalestop.errors import InputError, ScalestopWarning
from scalestop.lightning.branch import decay_to
from scalestop.planning.rule import StopReason
from scalestop.run.records import RunRecord

FIRST = Path(__file__).parents[1] / "data" / "state-schema-0.ckpt"
"""Of the first release: 12 steps of 64 tokens, two validations, one epoch of ten batches and two more."""
STEPS, BUDGET = 20, 1600


def run(budget=BUDGET, **options):
    return stopping(f"{budget} tokens", oversized="ignore", **options)


def before(folder, callbacks=(), module=None, data=None, **options):
    """A checkpoint of 20 steps, 1,280 tokens, made without the callback, or with the one of another name."""
    saver = ModelCheckpoint(folder / "before", filename="last", every_n_train_steps=1)
    train([*callbacks, saver], folder, module, data or loader(kind=ResumableLoader), max_steps=STEPS, **options)
    return folder / "before" / "last.ckpt"


def resume(callback, folder, path, module=None, data=None, **options):
    return train(
        [callback], folder, module, data or loader(kind=ResumableLoader), ckpt_path=path, **options
    ).toy  # warnings are errors


def test_a_checkpoint_without_counts_is_said_loudly(tmp_path):
    callback = run()
    with pytest.warns(ScalestopWarning) as caught:
        toy = resume(callback, tmp_path, before(tmp_path))
    (said,) = [str(w.message) for w in caught if w.category is ScalestopWarning]
    assert said == (
        "scalestop: the checkpoint of step 20 holds no counts of this callback: the tokens behind it are unknown and "
        "count as 0, so the whole budget is spent on top of them; initial_tokens= (and initial_flops=) says what it "
        "was trained on, on_missing_state='estimate' counts it; on_missing_state='error' refuses such a checkpoint"
    )
    assert toy.seen.tokens == callback.usage.tokens == BUDGET
    record = RunRecord.load(callback.record_path)
    assert record.exact is False
    assert record.inexact_because == "what was trained before step 20 is unknown and counts as 0"


def test_another_name_is_named(tmp_path):
    with pytest.warns(ScalestopWarning, match="max_steps"):
        path = before(tmp_path, [run(10_000, name="old")])
    with pytest.warns(ScalestopWarning, match=r"\(only those of name='old'\).*the name= of the callback that it was"):
        resume(run(name="new"), tmp_path, path)


def test_it_can_be_refused(tmp_path):
    path, callback, toy = before(tmp_path), run(on_missing_state="error"), Toy()
    with pytest.raises(InputError, match=r"^on_missing_state: the checkpoint of step 20 holds no counts"):
        resume(callback, tmp_path, path, toy)
    assert toy.seen.tokens == 0 and callback.record_path is None


@pytest.mark.parametrize("every", [1, 3])
def test_an_estimate_is_exact_where_batches_are_of_one_size(tmp_path, every, capsys):
    path = before(tmp_path, accumulate_grad_batches=every)
    callback = run(2 * every * 1280, on_missing_state="estimate")
    toy = resume(callback, tmp_path, path, accumulate_grad_batches=every)
    used = every * STEPS * 64
    assert toy.seen.tokens == used and callback.usage.tokens == 2 * used
    assert callback.usage.flops == 6 * N * 2 * used and callback.usage.optimizer_steps == 2 * STEPS
    words = f"the {used:,} tokens before step 20 are an estimate: {every * STEPS} batches of the first one's 64 tokens"
    assert f"scalestop: {words}\n" in capsys.readouterr().out
    record = RunRecord.load(callback.record_path)
    assert (record.exact, record.inexact_because, record.num_tokens) == (False, words, 2 * used)
    assert record.usage["optimizer_steps"] == 2 * STEPS


def test_an_estimate_knows_several_optimizers(tmp_path):
    path = before(tmp_path, module=ManualToy())  # two of them: ten batches
    callback = run(on_missing_state="estimate")
    toy = resume(callback, tmp_path, path, ManualToy())
    assert callback.usage.optimizer_steps == 25 and callback.usage.tokens == 640 + toy.seen.tokens == BUDGET


def test_an_estimate_of_padded_batches_pays_for_the_padding(tmp_path):
    def ragged():
        return loader(400, ragged=True, kind=ResumableLoader)

    path = before(tmp_path, data=ragged())
    callback = run(3000, on_missing_state="estimate")
    toy = resume(callback, tmp_path, path, data=ragged())
    first, seen = toy.batches[0], toy.seen
    assert callback.usage.tokens_non_padding == 20 * first.non_padding + seen.non_padding >= 3000
    assert callback.usage.flops == 6 * N * (20 * first.tokens + seen.tokens)


def test_a_budget_that_was_spent_before_ends_at_the_first_step(tmp_path):
    callback = run(1000, on_missing_state="estimate")
    toy = resume(callback, tmp_path, before(tmp_path))
    assert len(toy.batches) == 1 and callback.stop_reason is StopReason.TOKEN_LIMIT
    assert callback.usage.tokens == 1280 + 64


def test_a_job_budget_is_of_this_job_alone(tmp_path):
    callback = run(10_000, on_missing_state="estimate", job_budget="640 tokens")
    assert resume(callback, tmp_path, before(tmp_path)).seen.tokens == 640
    assert callback.usage.tokens == 1280 + 640


def test_counts_of_other_weights_do_not_go_on(tmp_path):
    """A second fit of one callback goes on from its counts, unless a checkpoint without any takes the model's place."""
    path, callback = before(tmp_path), run(10_000)
    with pytest.warns(ScalestopWarning, match="max_steps"):
        trainer = train(callback, tmp_path, data=loader(kind=ResumableLoader), max_steps=30)
    trainer.fit_loop.epoch_loop.max_steps = 50
    with pytest.warns(ScalestopWarning) as caught:
        trainer.fit(trainer.toy, loader(kind=ResumableLoader), ckpt_path=path)
    assert any("the checkpoint of step 20 holds no counts of this callback" in str(said.message) for said in caught)
    assert callback.usage.tokens == 30 * 64
    assert RunRecord.load(callback.record_path).exact is False


@pytest.mark.parametrize(("given", "flops"), [({}, 1280 * 6 * N), ({"initial_flops": "5e6 FLOPs"}, 5_000_000)])
@pytest.mark.parametrize("tokens", [1280, "1280 tokens"])
def test_the_user_may_say_what_it_was(tmp_path, tokens, given, flops):
    callback = run(initial_tokens=tokens, **given)
    toy = resume(callback, tmp_path, before(tmp_path))
    assert toy.seen.tokens == BUDGET - 1280 and callback.usage.tokens == BUDGET
    assert callback.usage.flops == flops + 6 * N * toy.seen.tokens
    assert callback.usage.optimizer_steps == STEPS + len(toy.batches)
    record = RunRecord.load(callback.record_path)
    assert record.exact is True and record.num_tokens == BUDGET


def test_weights_without_a_checkpoint_may_have_a_past_too(tmp_path):
    callback = run(initial_tokens=1280)
    assert train(callback, tmp_path).toy.seen.tokens == BUDGET - 1280


def test_a_past_that_is_spent_trains_nothing(tmp_path):
    callback = run(initial_tokens=BUDGET)
    assert resume(callback, tmp_path, before(tmp_path)).seen.tokens == 0
    assert callback.stop_reason is StopReason.TOKEN_LIMIT


def test_counts_in_the_checkpoint_count_and_nothing_else(tmp_path):
    first = run(640)
    train(first, tmp_path)
    again = run(initial_tokens=10**9, on_missing_state="error")
    train(again, tmp_path, ckpt_path=first.checkpoint_path)
    assert again.usage.tokens == BUDGET


def test_what_was_estimated_stays_so_over_a_resume(tmp_path):
    first = run(on_missing_state="estimate")
    resume(first, tmp_path, before(tmp_path))
    second = run(2 * BUDGET)
    with pytest.warns(ScalestopWarning, match="tokens before step 20 are an estimate"):
        resume(second, tmp_path, first.checkpoint_path)
    assert second.usage.tokens == 2 * BUDGET and RunRecord.load(second.record_path).exact is False


def test_no_callbacks_at_all_in_the_checkpoint(tmp_path):
    content = torch.load(before(tmp_path), weights_only=True)
    del content["callbacks"]
    torch.save(content, tmp_path / "bare.ckpt")
    with pytest.warns(ScalestopWarning, match="the checkpoint of step 20 holds no counts of this callback"):
        resume(run(), tmp_path, tmp_path / "bare.ckpt")


def test_no_progress_in_the_checkpoint_falls_back_on_steps(tmp_path):
    content = torch.load(before(tmp_path), weights_only=True)
    del content["callbacks"]
    content["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["processed"] = 0
    torch.save(content, tmp_path / "bare.ckpt")
    callback = run(on_missing_state="estimate")
    toy = resume(callback, tmp_path, tmp_path / "bare.ckpt")
    assert callback.usage.tokens == 1280 + toy.seen.tokens == BUDGET


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_missing_state": "guess"}, "on_missing_state: one of 'warn', 'error', 'estimate'; got 'guess'"),
        ({"initial_tokens": 0}, "initial_tokens: a count above 0 or text such as '2B tokens'; got 0"),
        ({"initial_tokens": -5}, "initial_tokens: .* got -5"),
        ({"initial_tokens": "1e18 FLOPs"}, "initial_tokens: .* got '1e18 FLOPs'"),
        ({"initial_tokens": "2B tokens or 3h"}, "initial_tokens: .* got '2B tokens or 3h'"),
        ({"initial_tokens": True}, "initial_tokens: .* got True"),
        ({"initial_tokens": 5, "initial_flops": float("nan")}, "initial_flops: .* '1e18 FLOPs'; got nan"),
        ({"initial_flops": 1e9}, "initial_flops: give initial_tokens as well"),
    ],
)
def test_what_cannot_be_is_refused_at_construction(options, message):
    with pytest.raises(InputError, match=f"^{message}"):
        run(**options)


# ---- other releases, and what is broken


def test_a_checkpoint_of_the_first_release_goes_on_to_the_exact_step(tmp_path):
    callback = run(1920)
    trainer = train(callback, tmp_path, data=loader(40, kind=ResumableLoader), ckpt_path=FIRST)  # nothing is warned of
    assert callback.usage.tokens == 768 + trainer.toy.seen.tokens == 1920
    assert callback.usage.optimizer_steps == trainer.global_step == 30
    assert callback.usage.flops == 6 * N * 1920 and RunRecord.load(callback.record_path).exact is True


def damaged(folder, **changes):
    content = torch.load(FIRST, weights_only=True)
    (key,) = content["callbacks"]
    content["callbacks"][key].update(changes)
    torch.save(content, folder / "damaged.ckpt")
    return folder / "damaged.ckpt"


def test_a_state_of_a_later_release_is_refused_before_training(tmp_path):
    toy = Toy()
    with pytest.raises(InputError, match="has schema 99, this scalestop reads up to 2; update scalestop, or take"):
        resume(run(), tmp_path, damaged(tmp_path, schema=99), toy)
    assert toy.seen.tokens == 0


def cut(folder, size):
    (folder / "cut.ckpt").write_bytes(FIRST.read_bytes()[:size])
    return folder / "cut.ckpt"


@pytest.mark.parametrize(
    ("size", "text"), [(0, "is empty: whatever wrote it was cut off"), (3000, "ends in the middle, after 3,000 bytes")]
)
def test_a_checkpoint_that_was_cut_off_is_named(tmp_path, size, text):
    with pytest.raises(Exception) as raised:
        resume(run(), tmp_path, cut(tmp_path, size))
    (note,) = raised.value.__notes__
    assert note.startswith("scalestop: checkpoint: ") and text in note and note.endswith("; take another checkpoint")
    with pytest.raises(InputError, match=text):
        decay_to(cut(tmp_path, size), 9000)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 99}, r"damaged\.ckpt: the callback's state has schema 99"),
        ({"meter": {}}, r"damaged\.ckpt has lost its count of tokens"),
        ({"meter": 5}, r"damaged\.ckpt: meter in the callback's state cannot be 5"),
    ],
)
def test_a_branch_names_what_is_wrong_with_its_trunk(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        decay_to(damaged(tmp_path, **changes), 9000)


@pytest.mark.parametrize("content", [[1, 2], {"callbacks": 5}, torch.zeros(3)])
def test_a_branch_of_what_is_no_checkpoint_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "odd.ckpt")
    with pytest.raises(InputError, match=r"odd\.ckpt is no checkpoint of a Lightning Trainer"):
        decay_to(tmp_path / "odd.ckpt", 9000)


def test_counts_of_the_first_release_are_those_of_its_model(tmp_path):
    callback = run(768)
    toy = resume(callback, tmp_path, FIRST)
    assert toy.seen.tokens == 0  # spent to the token
    assert callback.usage.tokens == 768
