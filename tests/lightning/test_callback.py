"""The callback in real runs of a real Trainer: plan, stop, reasons, state of the Trainer around it."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader
from toys import (
    C_OPT,
    D_OPT,
    LENGTH,
    SAFE,
    ManualToy,
    N,
    Rows,
    Stream,
    Toy,
    assert_counts,
    loader,
    plain,
    stopping,
    train,
)

from scalestop.errors import InputError, ScalestopWarning
from scalestop.planning.rule import StopReason

PER_STEP = 4 * LENGTH


def test_plan_is_printed_before_training_and_the_run_stops_where_it_says(tmp_path, capsys):
    callback = stopping()
    trainer = train(callback, tmp_path)
    printed = capsys.readouterr().out
    assert callback.stop_reason is StopReason.COMPUTE_OPTIMAL
    assert trainer.global_step == callback.plan.stop_step == -(-callback.plan.target_tokens // PER_STEP)
    assert f"COMPUTE_OPTIMAL after step {trainer.global_step}, at " in printed
    assert printed.index("scalestop: plan") < printed.index("scalestop: COMPUTE_OPTIMAL: N 272")
    assert_counts(callback.usage, trainer.toy.seen)


def test_oversized_model_ends_before_its_first_step(tmp_path):
    callback = stopping(C_OPT / 100)
    trainer = train(callback, tmp_path, validation=loader(8))
    assert callback.stop_reason is StopReason.MODEL_OVERSIZED
    assert trainer.global_step == 0 and trainer.toy.seen.tokens == 0


@pytest.mark.parametrize("choice", ["warn", "ignore"])
def test_oversized_model_may_train_on(tmp_path, recwarn, choice):
    callback = stopping(C_OPT / 100, oversized=choice)
    if choice == "warn":
        with pytest.warns(ScalestopWarning, match="training on"):
            train(callback, tmp_path)
    else:
        train(callback, tmp_path)
    assert callback.stop_reason is StopReason.BUDGET_EXHAUSTED
    assert callback.usage.flops >= C_OPT / 100


def test_undersized_model_spends_the_budget_or_stops_at_its_own_optimum(tmp_path):
    spend, own = stopping(3 * C_OPT), stopping(3 * C_OPT, undersized="stop")
    train(spend, tmp_path)
    train(own, tmp_path)
    assert spend.stop_reason is StopReason.BUDGET_EXHAUSTED and spend.usage.flops >= 3 * C_OPT
    assert own.stop_reason is StopReason.COMPUTE_OPTIMAL
    assert D_OPT <= own.usage.tokens < D_OPT + PER_STEP


def test_never_overshoots(tmp_path):
    limit = 10 * PER_STEP + 1
    callback = stopping(f"{limit} tokens", oversized="ignore", overshoot="never")
    train(callback, tmp_path)
    assert callback.usage.tokens == 10 * PER_STEP
    allowed = stopping(f"{limit} tokens", oversized="ignore")
    train(allowed, tmp_path)
    assert allowed.usage.tokens == 11 * PER_STEP
    assert allowed.decision.overshoot == pytest.approx(11 * PER_STEP / limit - 1)


class StepWatcher(Toy):
    """Notes the batches after which the weights had moved."""

    def __init__(self) -> None:
        super().__init__()
        self.moved: list[int] = []
        self._before = None

    def on_train_batch_start(self, batch, batch_idx):
        self._before = self.head.weight.detach().clone()

    def on_train_batch_end(self, outputs, batch, batch_idx):
        if not torch.equal(self._before, self.head.weight):
            self.moved.append(self.seen.tokens)


@pytest.mark.parametrize("batches_an_epoch", [4, 10])
def test_stops_fall_on_real_steps_under_accumulation(tmp_path, batches_an_epoch):
    """A stop inside a window would throw its gradients away; an epoch's short last window is a step too."""
    module = StepWatcher()
    callback = stopping(f"{22 * PER_STEP} tokens", oversized="ignore")
    data = loader(4 * batches_an_epoch)
    train(callback, tmp_path, module, data, accumulate_grad_batches=4)
    assert module.moved[-1] == module.seen.tokens == callback.usage.tokens >= 22 * PER_STEP
    assert module.moved[-2] < 22 * PER_STEP
    assert callback.usage.optimizer_steps == len(module.moved)
    # windows of 4, 4, ... or of 4, 4, 2, 4, 4, 2, ...
    assert module.seen.tokens == PER_STEP * 24
    assert callback.usage.optimizer_steps == {4: 6, 10: 7}[batches_an_epoch]


def test_manual_optimization_with_two_optimizers_counts_each_batch_once(tmp_path):
    callback = stopping()
    trainer = train(callback, tmp_path, ManualToy())
    assert_counts(callback.usage, trainer.toy.seen)
    assert callback.usage.optimizer_steps == callback.plan.stop_step == trainer.global_step // 2


def test_manual_accumulation_stops_on_a_step(tmp_path):
    callback = stopping(f"{10 * PER_STEP} tokens", oversized="ignore")
    trainer = train(callback, tmp_path, ManualToy(every=4))
    assert callback.usage.optimizer_steps == 3
    assert trainer.toy.seen.tokens == callback.usage.tokens == 12 * PER_STEP


class Sometimes(Toy):
    """Skips every third batch by returning None."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return None if batch_idx % 3 == 2 else loss


def test_skipped_steps_are_no_steps_but_their_tokens_count(tmp_path):
    callback = stopping(f"{15 * PER_STEP} tokens", oversized="ignore")
    trainer = train(callback, tmp_path, Sometimes())
    # batches 0 .. 14 make 15; batch 14 is skipped, so the stop waits for the step of batch 15
    assert_counts(callback.usage, trainer.toy.seen)
    assert trainer.toy.seen.tokens == 16 * PER_STEP
    assert callback.usage.optimizer_steps == 11


class Overflowing(Toy):
    """Gradients that overflow on every second batch."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return loss * (float("inf") if batch_idx % 2 else 1.0)


def test_steps_skipped_by_the_gradient_scaler_are_no_steps(tmp_path):
    from pytorch_lightning.plugins import MixedPrecision

    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    callback = stopping(f"{10 * PER_STEP} tokens", oversized="ignore")
    plugin = MixedPrecision("16-mixed", "cpu", scaler=scaler)
    trainer = train(callback, tmp_path, Overflowing(), plugins=[plugin])
    assert_counts(callback.usage, trainer.toy.seen)
    assert trainer.toy.seen.tokens == 11 * PER_STEP  # batch 9 is skipped
    assert callback.usage.optimizer_steps == 6


# ---- what stands in the way


@pytest.mark.parametrize(
    ("options", "text", "end"),
    [
        ({"min_steps": 21}, "min_steps=21 vetoes the planned stop at step 10: training would go on to step 21", 21),
        ({"min_steps": 11, "limit_train_batches": 15}, r"min_epochs=1 \(min_steps sets it\) vetoes", 15),
        ({"min_epochs": 3}, "min_epochs=3 vetoes the planned stop at step 10: training would go on to step 21", 21),
        ({"max_steps": 4}, "max_steps=4 ends the run at step 4, before the planned stop at step 10", 4),
        ({"max_epochs": 1}, r"max_epochs=1 \(7 steps each\) ends the run at step 7.* \(70% of the way\)", 7),
    ],
)
def test_settings_in_the_way_are_named_before_training(tmp_path, options, text, end):
    callback = stopping(f"{10 * PER_STEP} tokens", oversized="ignore")
    with pytest.warns(ScalestopWarning, match=text):
        trainer = train(callback, tmp_path, **{"limit_train_batches": 7, **options})
    assert trainer.global_step == end


def test_stop_held_back_by_min_steps_saves_the_end_as_well(tmp_path):
    callback = stopping(f"{10 * PER_STEP} tokens", oversized="ignore")
    with pytest.warns(ScalestopWarning, match="min_steps"):
        train(callback, tmp_path, data=loader(48), min_steps=30)
    assert callback.usage.tokens == 30 * PER_STEP
    saved = sorted(path.name for path in tmp_path.rglob("scalestop-*.ckpt"))
    assert saved == ["scalestop-stop-step=10.ckpt", "scalestop-stop-step=30.ckpt"]


def test_data_that_ends_early_is_said_at_the_end(tmp_path, capsys):
    callback = stopping(f"{10 * PER_STEP} tokens", oversized="ignore")
    train(callback, tmp_path, data=DataLoader(Stream(4), batch_size=None), max_epochs=1)
    assert callback.stop_reason is StopReason.NOT_STOPPED
    assert "the Trainer ended the run before any limit was met (256 tokens)" in capsys.readouterr().out


# ---- several lives


def test_another_model_in_the_same_trainer_is_another_run(tmp_path):
    callback = stopping(f"{20 * PER_STEP} tokens", oversized="ignore")
    trainer = train(callback, tmp_path)
    assert callback.usage.tokens == 20 * PER_STEP
    other = Toy(width=8)
    trainer.fit(other, loader(32))
    assert callback.params.total == sum(p.numel() for p in other.parameters())
    assert callback.usage.tokens == other.seen.tokens == 20 * PER_STEP
    assert callback.usage.flops == 6 * callback.params.total * callback.usage.tokens


def test_fit_twice_goes_on_and_testing_between_counts_nothing(tmp_path):
    callback = stopping(f"{20 * PER_STEP} tokens", oversized="ignore")
    with pytest.warns(ScalestopWarning, match="max_epochs=1"):
        trainer = train(callback, tmp_path, data=loader(32), max_epochs=1, enable_checkpointing=False)
    first = callback.usage
    assert first.tokens == 8 * PER_STEP
    other = stopping("192 tokens", oversized="ignore")
    train(other, tmp_path)
    path = other.checkpoint_path  # with other counts, which testing must not take up
    trainer.test(trainer.toy, loader(8), verbose=False)
    trainer.validate(trainer.toy, loader(8), verbose=False)
    trainer.test(trainer.toy, loader(8), ckpt_path=path, verbose=False, **SAFE)
    assert callback.usage == first
    trainer.fit_loop.max_epochs = -1
    trainer.fit(trainer.toy, loader(32))
    assert callback.usage.tokens == trainer.toy.seen.tokens == 20 * PER_STEP
    trainer.fit(trainer.toy, loader(32))
    assert callback.usage.tokens == trainer.toy.seen.tokens == 20 * PER_STEP  # spent: no batch more


def test_another_trainer_is_another_run(tmp_path):
    callback = stopping(f"{5 * PER_STEP} tokens", oversized="ignore")
    train(callback, tmp_path)
    second = train(callback, tmp_path)
    assert second.global_step == 5 and callback.usage.tokens == 5 * PER_STEP


def test_two_callbacks_stop_at_the_first_and_know_themselves_apart(tmp_path):
    short = stopping(f"{5 * PER_STEP} tokens", oversized="ignore", name="short")
    long = stopping(f"{9 * PER_STEP} tokens", oversized="ignore", name="long")
    trainer = train([short, long], tmp_path, enable_checkpointing=True)
    assert trainer.global_step == 5
    assert (short.stop_reason, long.stop_reason) == (StopReason.TOKEN_LIMIT, StopReason.NOT_STOPPED)
    assert {p.name for p in tmp_path.glob("scalestop*.json")} == {"scalestop-short.json", "scalestop-long.json"}
    # the first one's checkpoint is saved before the second one's turn at that batch; Lightning resumes after it
    state = torch.load(short.checkpoint_path, weights_only=True)["callbacks"]
    assert state[long.state_key]["meter"]["tokens"] == state[short.state_key]["meter"]["tokens"] == 5 * PER_STEP
    assert state[long.state_key]["meter"]["optimizer_steps"] == 5


def test_two_callbacks_without_names_are_refused_by_lightning(tmp_path):
    with pytest.raises(RuntimeError, match="state_key"):
        train([stopping(1e9), stopping(2e9)], tmp_path)


# ---- batches


def test_unusual_batch_is_an_error_on_the_first_batch(tmp_path):
    data = DataLoader(torch.rand(100, 3, 8, 8), batch_size=4)
    with pytest.raises(InputError, match="count_tokens"):
        train(stopping(), tmp_path, data=data)


def test_count_tokens_function_rules(tmp_path):
    def rule(batch):
        return 10 * batch[0].shape[0]

    callback = stopping("400 tokens", oversized="ignore", count_tokens=rule)
    trainer = train(callback, tmp_path)
    assert trainer.global_step == 10 and callback.usage.tokens == 400 and callback.usage.samples == 40


class Late(Toy):
    """Turns words in texts into ids on the way to the model."""

    def on_before_batch_transfer(self, batch, dataloader_idx):
        return plain([torch.tensor([ord(c) % 16 for c in text]) for text in batch])


def test_batches_made_on_the_way_to_the_model_are_counted_there(tmp_path, capsys):
    texts = [f"{number:016d}" for number in range(400)]
    callback = stopping()
    trainer = train(callback, tmp_path, Late(), DataLoader(texts, batch_size=4, collate_fn=list))
    assert_counts(callback.usage, trainer.toy.seen)
    assert (
        f"COMPUTE_OPTIMAL after step {trainer.global_step}, at" in capsys.readouterr().out.split("COMPUTE_OPTIMAL: ")[0]
    )


def test_the_callback_leaves_batches_and_their_order_as_they_were(tmp_path):
    """The same batches in the same order as without the callback, random augmentation included."""

    class Noisy(Rows):
        def __getitem__(self, index):
            return (super().__getitem__(index) + torch.randint(0, 2, (LENGTH,))) % 16

    class Keeps(Toy):
        def training_step(self, batch, batch_idx):
            self.kept = getattr(self, "kept", [])
            self.kept.append(batch[0].clone())
            return super().training_step(batch, batch_idx)

    kept = []
    for callbacks in ([], [stopping(f"{5 * PER_STEP} tokens", oversized="ignore")]):
        torch.manual_seed(0)
        data = DataLoader(Noisy(80), batch_size=4, shuffle=True, collate_fn=plain)
        kept.append(train(callbacks, tmp_path, Keeps(), data, max_steps=5).toy.kept)
    assert len(kept[0]) == len(kept[1]) == 5
    assert all(torch.equal(a, b) for a, b in zip(*kept, strict=True))


def test_n_of_the_record_is_the_models(tmp_path):
    callback = stopping()
    train(callback, tmp_path)
    assert callback.params.total == N
