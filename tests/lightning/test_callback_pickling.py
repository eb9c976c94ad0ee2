"""Sent to another process: before, in the middle of and after training, alone and within its Trainer."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from pytorch_lightning.callbacks import Callback
from toys import ManualToy, Toy, loader, stopping, train

from scalestop.planning.rule import StopReason


def run(budget=640, **options):
    return stopping(f"{budget} tokens", oversized="ignore", **options)


def sent(thing):
    return pickle.loads(pickle.dumps(thing))


def test_before_training():
    """Spawning strategies send it to other processes."""
    there = sent(stopping(name="x"))
    assert there.budget == stopping().budget and there.name == "x" and there.plan is None


@pytest.mark.parametrize("send", [sent, copy.deepcopy, copy.copy])
@pytest.mark.parametrize("module", [Toy, ManualToy])
def test_after_training_it_knows_what_it_did(tmp_path, send, module):
    callback = run()
    train(callback, tmp_path, module(), validation=loader(8), val_check_interval=5)
    there = send(callback)
    assert (there.usage, there.decision, there.plan) == (callback.usage, callback.decision, callback.plan)
    assert there.stop_reason is StopReason.TOKEN_LIMIT and there.params == callback.params
    assert (there.record_path, there.checkpoint_path) == (callback.record_path, callback.checkpoint_path)
    assert not hasattr(there, "log")  # Lightning's, and with it the whole model
    assert callback.log is not None  # of the one here, as before


def test_it_leaves_the_model_behind(tmp_path):
    callback = run()
    before = len(pickle.dumps(callback))
    trainer = train(callback, tmp_path, Toy(width=4096))
    assert len(pickle.dumps(callback)) < before + 20_000 < 4 * trainer.toy.head.weight.numel()


def test_in_another_trainer_it_begins_anew(tmp_path):
    callback = run()
    train(callback, tmp_path)
    there = sent(callback)
    assert train(there, tmp_path / "other").toy.seen.tokens == there.usage.tokens == 640


def test_with_its_trainer_it_goes_on(tmp_path):
    callback = run()
    trainer = train(callback, tmp_path)
    there = sent(trainer)
    (ours,) = [c for c in there.callbacks if hasattr(c, "watch")]
    assert ours.usage == callback.usage
    module = there.lightning_module
    there.fit(module, loader())
    assert module.seen.tokens == ours.usage.tokens == 640  # what it saw before; spent is spent


class Sends(Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if batch_idx == 3:
            self.there = sent(next(c for c in trainer.callbacks if hasattr(c, "watch")))


def test_in_the_middle_of_training(tmp_path):
    callback, sends = run(), Sends()
    train([callback, sends], tmp_path)
    assert sends.there.usage.tokens == 4 * 64 and sends.there.stop_reason is StopReason.NOT_STOPPED
    assert callback.usage.tokens == 640  # undisturbed


# ---- modules that are unlike others


class NoOptimizer(Toy):
    """Moves its weights itself, or not at all."""

    def configure_optimizers(self):
        return None


def test_a_module_without_an_optimizer_ends_at_its_budget(tmp_path):
    callback = run()
    with pytest.warns(UserWarning, match="returned `None`, this fit will run with no optimizer"):
        trainer = train(callback, tmp_path, NoOptimizer())
    assert trainer.toy.seen.tokens == callback.usage.tokens == 640
    assert callback.usage.optimizer_steps == trainer.global_step == 10
    assert callback.stop_reason is StopReason.TOKEN_LIMIT


class Lazy(Toy):
    """A head that learns its width from the first batch."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.LazyLinear(16)


def test_a_lazy_layer_trains_where_n_is_given(tmp_path):
    callback = run(num_params=272)
    trainer = train(callback, tmp_path, Lazy())
    assert trainer.toy.seen.tokens == callback.usage.tokens == 640
    assert callback.usage.flops == 6 * 272 * 640 and callback.plan.num_params == 272
    assert callback.params is None and callback.record_path.exists()


def test_a_lazy_layer_is_named_where_it_is_not(tmp_path):
    with pytest.raises(ValueError, match=r"parameter 'head.weight' is lazy and has no shape yet"):
        train(run(), tmp_path, Lazy())
