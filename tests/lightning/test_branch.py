"""Decay branches: one trunk, several annealed models."""

from __future__ import annotations

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from scheduled import PEAK, Rated
from toys import LAW, ResumableLoader, Toy, loader, stopping, train

from scalestop.errors import InputError
from scalestop.lightning.branch import decay_to
from scalestop.planning.rule import StopReason
from scalestop.run.records import RunRecord
from scalestop.schedules.budget_lr import budget_factor


def data():
    return loader(kind=ResumableLoader)


@pytest.fixture(scope="module")
def trunk(tmp_path_factory):
    """100 steps of 64 tokens, checkpoints every 10; its decay is its last 20."""
    folder = tmp_path_factory.mktemp("trunk")
    saves = ModelCheckpoint(folder / "saved", filename="{step}", every_n_train_steps=10, save_top_k=-1)
    callback = stopping("6400 tokens", tolerance=0.0, oversized="ignore")
    train([callback, saves], folder, Rated(decay=0.2), data())
    return folder, callback


def saved(trunk, step):
    return trunk[0] / "saved" / f"step={step}.ckpt"


def anneal(trunk, step, tokens, module=None, **options):
    callback = decay_to(saved(trunk, step), tokens, law=LAW, **options)
    module = module or Rated(decay=0.2, shape="linear")
    train(callback, trunk[0], module, data(), ckpt_path=saved(trunk, step))
    return callback, module


@pytest.mark.parametrize(("step", "tokens"), [(40, 3200), (60, "6.4k tokens"), (70, 4481)])
def test_a_branch_ends_at_its_tokens_and_at_the_floor(trunk, step, tokens):
    callback, module = anneal(trunk, step, tokens)
    end = callback.plan.budget.tokens
    assert callback.stop_reason is StopReason.TOKEN_LIMIT
    assert end <= callback.usage.tokens < end + 64
    steps = range(step, -(-end // 64))
    expected = [PEAK * min(1.0, (end - 64 * at) / (end - 64 * step)) for at in steps]
    assert module.rates == pytest.approx(expected)
    assert module.trainer.optimizers[0].param_groups[0]["lr"] == 0.0
    record = RunRecord.load(callback.record_path)
    assert record.lr_decayed and record.num_tokens == callback.usage.tokens


def test_branches_and_trunk_each_have_a_record(trunk):
    of_trunk = trunk[1]
    one, _ = anneal(trunk, 40, 3200)
    other, _ = anneal(trunk, 40, 4800)
    paths = [callback.record_path for callback in (of_trunk, one, other)]
    assert len({*paths}) == 3
    runs = [RunRecord.load(path) for path in paths]
    assert [run.num_tokens for run in runs] == [6400, 3200, 4800] and len({run.run for run in runs}) == 3


def test_a_branch_sees_what_the_trunk_would_have_seen(trunk):
    """The same data as the trunk from the same step: the two part by the rate alone."""
    callback, module = anneal(trunk, 50, 6400, Rated(decay=0.2))
    assert module.seen.tokens == 50 * 64 and callback.usage.optimizer_steps == 100
    of_trunk = [PEAK * budget_factor(step / 100, decay=0.2) for step in range(50, 100)]
    assert module.rates[0] == of_trunk[0] and module.rates[25] < of_trunk[25]


def test_an_interrupted_branch_goes_on_as_the_same_run(trunk):
    whole, straight = anneal(trunk, 40, 4800)
    first, early = anneal(trunk, 40, 4800, job_budget="640 tokens")
    again, late = Rated(decay=0.2, shape="linear"), decay_to(first.checkpoint_path, 4800, law=LAW)
    train(late, trunk[0], again, data(), ckpt_path=first.checkpoint_path)
    assert [*early.rates, *again.rates] == pytest.approx(straight.rates)
    assert late.usage.tokens == whole.usage.tokens == 4800
    assert RunRecord.load(first.record_path).num_tokens == 4800  # its own record, brought up to date
    assert first.record_path == late.record_path != whole.record_path


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((40, 0), {}, "tokens: must be a positive, finite count"),
        ((40, "1e18 FLOPs"), {}, "tokens: the tokens at which the branch ends; got '1e18 FLOPs'"),
        ((40, "2B tokens or 3h"), {}, "tokens: the tokens at which the branch ends; got"),
        ((40, 2560), {}, "has seen 2.56k tokens, the branch is to end at 2.56k; take an earlier checkpoint"),
        ((40, 9000), {"budget": 1e18}, "decay_to: budget: a branch ends at its tokens and nowhere else"),
        ((41, 9000), {}, "checkpoint: there is no .*step=41.ckpt"),
    ],
)
def test_what_cannot_be_is_named_at_once(trunk, arguments, options, message):
    step, tokens = arguments
    with pytest.raises(InputError, match=message):
        decay_to(saved(trunk, step), tokens, **options)


def test_a_checkpoint_without_counts_is_named(tmp_path):
    trainer = train([], tmp_path, Toy(), max_steps=2)
    trainer.save_checkpoint(tmp_path / "plain.ckpt")
    with pytest.raises(InputError, match=r"holds no counts; the trunk too must be trained with scalestop.Compute"):
        decay_to(tmp_path / "plain.ckpt", 9000)


def test_what_shows_only_in_the_run_is_named_before_its_first_step(trunk, tmp_path):
    with pytest.raises(InputError, match="not on its plateau; take a checkpoint from after the warm-up"):
        anneal(trunk, 90, 9000)
    plain = stopping("640 tokens", tolerance=0.0, oversized="ignore")
    train(plain, tmp_path, Toy())
    with pytest.raises(InputError, match=r"returns no scalestop\.BudgetLR"):
        train(decay_to(plain.checkpoint_path, 9000, law=LAW), tmp_path, Toy(), ckpt_path=plain.checkpoint_path)
    with pytest.raises(InputError, match="give the trunk's checkpoint to fit, as ckpt_path"):
        train(decay_to(saved(trunk, 40), 9000), tmp_path, Rated())


def test_a_branch_that_is_refused_leaves_the_trunks_record_alone(tmp_path):
    plain = stopping("640 tokens", tolerance=0.0, oversized="ignore")
    train(plain, tmp_path, Toy())
    before = plain.record_path.read_text()
    with pytest.raises(InputError, match=r"returns no scalestop\.BudgetLR"):
        train(decay_to(plain.checkpoint_path, 9000, law=LAW), tmp_path, Toy(), ckpt_path=plain.checkpoint_path)
    assert plain.record_path.read_text() == before
    assert [path.name for path in tmp_path.glob("*.json")] == ["scalestop.json"]


def test_the_checkpoint_may_be_one_that_cannot_be_read_by_itself(tmp_path):
    (tmp_path / "shards").mkdir()
    assert decay_to(tmp_path / "shards", 9000).budget.tokens == 9000
    torch.save({"callbacks": {}, "odd": torch.nn.Linear(1, 1)}, tmp_path / "pickled.ckpt")
    assert decay_to(tmp_path / "pickled.ckpt", 9000).budget.tokens == 9000
