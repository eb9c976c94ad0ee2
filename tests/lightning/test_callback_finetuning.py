"""Parameters that are frozen and freed while a run is under way: each batch costs what trained on it."""

from __future__ import annotations

import pytest
from pytorch_lightning.callbacks import BackboneFinetuning, Callback, ModelCheckpoint
from toys import WIDTH, WORDS, N, Toy, loader, stopping, train

from scalestop.planning.rule import StopReason

BODY = WORDS * WIDTH
"""Parameters of the embedding, of `N` in all."""
FROZEN, FREE = 6 * (N - BODY) + 4 * BODY, 6 * N
"""FLOPs per token."""


class Priced(Toy):
    """Knows what each of its batches cost, from what trained in its training step."""

    def __init__(self, thaw_in_hook: int | None = None) -> None:
        super().__init__()
        self.backbone, self.flops, self.thaw_in_hook = self.embedding, [], thaw_in_hook

    def on_train_batch_start(self, batch, batch_idx):
        if self.global_step == self.thaw_in_hook:
            self.embedding.requires_grad_(True)

    def training_step(self, batch, batch_idx):
        costs = [6 if parameter.requires_grad else 4 for parameter in self.parameters()]
        sizes = [parameter.numel() for parameter in self.parameters()]
        self.flops.append(batch[0].numel() * sum(cost * size for cost, size in zip(costs, sizes, strict=True)))
        return super().training_step(batch, batch_idx)


class Freezes(Callback):
    """Freezes before training, where the other callbacks do, and thaws at some batch's start."""

    def __init__(self, until: int | None = None, again: int | None = None) -> None:
        self.until, self.again = until, again

    def setup(self, trainer, module, stage):
        module.embedding.requires_grad_(False)

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step in (self.until, self.again):
            module.embedding.requires_grad_(trainer.global_step == self.until)


def fit(folder, before, after, module=None, budget=f"{40 * 64} tokens", data=None, **options):
    """Callbacks before and after ours; each way round a change comes at another moment of the batch."""
    module = module or Priced()
    callback = stopping(budget, oversized="ignore", **options.pop("ours", {}))
    train([*before, callback, *after], folder, module, data if data is not None else loader(40), **options)
    return callback, module


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_backbone_finetuning_is_priced_batch_by_batch(tmp_path, capsys, first, accumulate):
    tuning = [BackboneFinetuning(unfreeze_backbone_at_epoch=2, verbose=False)]
    callback, module = fit(
        tmp_path,
        tuning if first else [],
        [] if first else tuning,
        accumulate_grad_batches=accumulate,
    )
    assert module.flops[0] == 64 * FROZEN and module.flops[-1] == 64 * FREE
    assert callback.usage.flops == sum(module.flops)
    assert callback.cost.model == FREE
    said = capsys.readouterr().out
    assert said.count("other parameters train") == 1
    step = 2 * -(-10 // accumulate) + 1
    assert f"other parameters train from step {step} on ({N} of {N}): a token costs {FREE:,} FLOPs" in said


def test_what_is_frozen_in_setup_is_frozen_in_the_plan(tmp_path):
    callback, module = fit(tmp_path, [], [Freezes()])
    assert callback.plan.flops_per_token == FROZEN
    assert callback.usage.flops == sum(module.flops) == 40 * 64 * FROZEN


def test_frozen_and_freed_again_and_again(tmp_path):
    callback, module = fit(tmp_path, [Freezes(until=5, again=17)], [])
    assert [cost // 64 for cost in module.flops] == [FROZEN] * 5 + [FREE] * 12 + [FROZEN] * 23
    assert callback.usage.flops == sum(module.flops)


def test_the_modules_own_hook_may_free_them(tmp_path):
    callback, module = fit(tmp_path, [Freezes()], [], Priced(thaw_in_hook=9))
    assert callback.usage.flops == sum(module.flops)


@pytest.mark.parametrize("freed", [True, False])
@pytest.mark.parametrize("overshoot", ["allow", "never"])
def test_the_stop_is_on_the_exact_step_at_whatever_price(tmp_path, freed, overshoot):
    """Dearer from the 13th step on, or cheaper from the 13th step on."""
    changes = Freezes(until=12) if freed else Freezes(until=0, again=12)
    budget = 40 * 64 * FROZEN + 1
    callback, module = fit(tmp_path, [changes], [], budget=f"{budget} FLOPs", ours={"overshoot": overshoot})
    assert callback.stop_reason is StopReason.BUDGET_EXHAUSTED
    assert callback.usage.flops == sum(module.flops)
    if overshoot == "allow":
        assert sum(module.flops[:-1]) < budget <= sum(module.flops)
    else:
        assert sum(module.flops) <= budget < sum(module.flops) + module.flops[-1]


def test_a_measured_price_is_measured_anew(tmp_path):
    callback, module = fit(tmp_path, [Freezes(until=10)], [], ours={"flops_per_token": "measured"})
    body, words = 2 * WORDS * WIDTH, 64
    # the head alone: forward and weights; with the embedding free its input's gradient too. Lookups multiply nothing
    assert callback.usage.flops == words * (10 * 2 * body // 2 * 2 + 30 * 2 * body // 2 * 3)
    assert module.seen.tokens == 40 * words


def test_a_price_that_was_given_stays(tmp_path):
    callback, _ = fit(tmp_path, [Freezes(until=10)], [], ours={"flops_per_token": 1000})
    assert callback.usage.flops == 40 * 64 * 1000


@pytest.mark.parametrize("first", [True, False])
def test_a_run_that_is_resumed_after_the_thaw_counts_on_and_warns_of_nothing(tmp_path, first):
    """ScalestopWarnings are errors in these tests. Lightning thaws no backbone that it resumes within an epoch."""

    def tuned(folder, steps, **more):
        tuning = [BackboneFinetuning(unfreeze_backbone_at_epoch=1, verbose=False)]
        saves = ModelCheckpoint(tmp_path / folder, filename="end", every_n_train_steps=15)
        after = [saves] if first else [*tuning, saves]
        return fit(tmp_path, tuning if first else [], after, budget=f"{64 * steps} tokens", **more)

    _, one = tuned("a", 15)
    callback, two = tuned("b", 30, ckpt_path=str(tmp_path / "a" / "end.ckpt"))
    assert one.flops == [64 * FROZEN] * 10 + [64 * FREE] * 5
    assert len(two.flops) == 15 and callback.usage.flops == sum(one.flops) + sum(two.flops)
