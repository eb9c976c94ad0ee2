"""Every shape of loop that Lightning runs, against a recount of the batches that reached the model."""

from __future__ import annotations

import pytest
from pytorch_lightning.utilities import CombinedLoader
from torch.utils.data import DataLoader
from toys import (
    C_OPT,
    LENGTH,
    ManualToy,
    Rows,
    Stream,
    Toy,
    assert_counts,
    loader,
    plain,
    reference_stop,
    stopping,
    train,
)

from scalestop.accounting.meter import Usage
from scalestop.planning.rule import StopReason

PER_STEP = 4 * LENGTH


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"accumulate_grad_batches": 3},
        {"limit_train_batches": 7},
        {"limit_train_batches": 0.1, "accumulate_grad_batches": 2},
        {"reload_dataloaders_every_n_epochs": 1, "limit_train_batches": 9},
        {"max_epochs": 1000},
    ],
    ids=str,
)
def test_map_style_data(tmp_path, options, ragged):
    callback, module = stopping("2000 tokens", oversized="ignore"), Toy()
    train(callback, tmp_path, module, loader(200, ragged=ragged, shuffle=True), **options)
    assert_counts(callback.usage, module.seen)
    per_epoch = {7: 7, 0.1: 5, 9: 9}.get(options.get("limit_train_batches"), 50)
    every = options.get("accumulate_grad_batches", 1)
    ends = [(i % per_epoch + 1) % every == 0 or i % per_epoch == per_epoch - 1 for i in range(len(module.batches))]
    assert len(module.batches) == reference_stop(module.batches, ends, 2000)
    assert callback.usage.optimizer_steps == sum(ends)
    assert callback.stop_reason is StopReason.TOKEN_LIMIT


@pytest.mark.parametrize("ragged", [False, True])
def test_data_without_length(tmp_path, capsys, ragged):
    callback, module = stopping("2000 tokens", oversized="ignore"), Toy()
    train(callback, tmp_path, module, DataLoader(Stream(ragged=ragged), batch_size=None))
    assert_counts(callback.usage, module.seen)
    assert len(module.batches) == reference_stop(module.batches, [True] * len(module.batches), 2000)
    assert callback.plan.tokens_per_step == module.batches[0].tokens
    plan = capsys.readouterr().out.split("TOKEN_LIMIT: ")[0]
    assert (
        f"TOKEN_LIMIT after step {-(-2000 // module.batches[0].tokens)}, at" in plan
        and "the first step took" not in plan
    )


def test_tokens_per_step_can_be_given(tmp_path, capsys):
    callback = stopping("2000 tokens", oversized="ignore", tokens_per_step=PER_STEP)
    train(callback, tmp_path, data=DataLoader(Stream(), batch_size=None))
    assert "TOKEN_LIMIT after step 32" in capsys.readouterr().out.split("the first step")[0]


@pytest.mark.filterwarnings("ignore:.*the training loss has jumped")  # where one ends before the other
@pytest.mark.parametrize("mode", ["min_size", "max_size", "max_size_cycle"])
def test_several_loaders_at_once(tmp_path, mode):
    data = CombinedLoader({"a": loader(40), "b": loader(64, batch_size=2, ragged=True)}, mode)
    callback, module = stopping("2500 tokens", oversized="ignore"), Toy()
    train(callback, tmp_path, module, data)
    assert_counts(callback.usage, module.seen)
    assert len(module.batches) == reference_stop(module.batches, [True] * len(module.batches), 2500)


def test_loaders_one_after_the_other_are_lightnings_error_not_ours(tmp_path):
    with pytest.raises(ValueError, match="sequential"):
        train(stopping(), tmp_path, data=CombinedLoader([loader(8), loader(8)], "sequential"))


@pytest.mark.parametrize(
    "options", [{"val_check_interval": 3}, {"val_check_interval": 0.5}, {"num_sanity_val_steps": 2}]
)
def test_validation_in_between_changes_nothing(tmp_path, options):
    alone, among = stopping(), stopping()
    train(alone, tmp_path)
    trainer = train(among, tmp_path, data=loader(48), validation=loader(8), **options)
    assert_counts(among.usage, trainer.toy.seen)
    assert among.usage.validation_tokens == trainer.toy.seen_in_validation.tokens > 0
    assert (among.stop_reason, trainer.global_step) == (alone.stop_reason, alone.usage.optimizer_steps)


def test_granted_stop_still_validates_so_the_final_loss_is_known(tmp_path):
    callback = stopping()
    trainer = train(callback, tmp_path, validation=loader(8))
    assert "val_loss" in trainer.callback_metrics
    assert callback.usage.validation_tokens == trainer.toy.seen_in_validation.tokens == 2 * PER_STEP


def test_masks_count_for_d_and_padding_for_flops(tmp_path, capsys):
    callback = stopping(C_OPT)
    trainer = train(callback, tmp_path, data=loader(400, ragged=True))
    seen = trainer.toy.seen
    assert_counts(callback.usage, seen)
    assert seen.in_loss < seen.non_padding < seen.tokens
    first = trainer.toy.batches[0]
    assert (
        f"{1 - first.non_padding / first.tokens:.0%} of the first step's tokens were padding" in capsys.readouterr().out
    )
    assert callback.stop_reason is StopReason.BUDGET_EXHAUSTED and seen.non_padding < callback.plan.target_tokens


def test_last_short_batch_of_an_epoch(tmp_path):
    callback = stopping("2000 tokens", oversized="ignore")
    trainer = train(callback, tmp_path, data=loader(10))  # 4, 4 and 2 rows
    assert_counts(callback.usage, trainer.toy.seen)
    assert trainer.global_step == 38 and callback.usage.tokens == 12 * 160 + 2 * 64


def test_manual_optimization_on_ragged_data_without_length(tmp_path):
    callback = stopping("2000 tokens", oversized="ignore")
    trainer = train(callback, tmp_path, ManualToy(every=3), DataLoader(Stream(ragged=True), batch_size=None))
    assert_counts(callback.usage, trainer.toy.seen)
    assert callback.usage.optimizer_steps * 2 == trainer.global_step


class TakesApart(Toy):
    """A training step that empties its batch; the count was taken before."""

    def training_step(self, batch, batch_idx):
        ids, labels = batch
        self.take_in((ids, labels))
        batch.clear()
        return self.loss((ids, labels))


def test_batch_is_counted_while_it_is_whole(tmp_path):
    data = DataLoader(Rows(200), batch_size=4, collate_fn=lambda rows: list(plain(rows)))
    callback = stopping("640 tokens", oversized="ignore")
    trainer = train(callback, tmp_path, TakesApart(), data)
    assert_counts(callback.usage, trainer.toy.seen)


def test_epoch_skipped_by_the_module_is_not_counted(tmp_path):
    class Skips(Toy):
        def on_train_batch_start(self, batch, batch_idx):
            return -1 if batch_idx == 3 else None

    callback = stopping("640 tokens", oversized="ignore")
    trainer = train(callback, tmp_path, Skips(), loader(40))
    assert_counts(callback.usage, trainer.toy.seen)
    assert trainer.toy.seen.tokens == 640


def test_before_fit_there_is_nothing():
    callback = stopping()
    assert callback.usage == Usage() and callback.plan is None
    assert callback.stop_reason is StopReason.NOT_STOPPED and callback.decision.message == "not started"
