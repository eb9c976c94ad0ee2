"""An ordinary step reads nothing back from a device: masks are summed there, and read when a decision needs them."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader
from toys import LENGTH, WORDS, ManualToy, Rows, Toy, loader, padded, stopping, train

from scalestop import ComputeOptimalStopping
from scalestop.accounting.losses import LossAccumulator
from scalestop.accounting.tokens import TokenAccumulator, TokenCount

STEPS = 200


class OnDevice(Toy):
    """Its batches stay on a device whose values nobody can read: `meta`. It trains on words of its own."""

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        return batch

    def training_step(self, batch, batch_idx):
        ids = torch.zeros(batch["input_ids"].shape, dtype=torch.int64)
        return self.loss((ids, ids))


class ManualOnDevice(ManualToy, OnDevice):
    """The same with two optimizers."""

    def training_step(self, batch, batch_idx):
        self.manual_backward(OnDevice.training_step(self, batch, batch_idx))
        for optimizer in self.optimizers():
            optimizer.step()
            optimizer.zero_grad()


def meta_batches():
    rows = Rows(64, ragged=True)
    batches = [padded([rows[4 * i + j] for j in range(4)]) for i in range(16)]
    return [{name: tensor.to("meta") for name, tensor in batch.items()} for batch in batches] * 20


class Reads(TorchDispatchMode):
    """Counts what would wait for a device, wherever the tensor lives."""

    NAMES = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.__name__.split(".")[0]
        target = (kwargs or {}).get("device")
        if name in self.NAMES or (name in ("_to_copy", "copy_") and str(target) == "cpu" and args[0].device != target):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


class Watched(ComputeOptimalStopping):
    """Counts the reads inside its own hooks, by optimizer step."""

    def on_train_batch_start(self, *args):
        self._watch_reads(super().on_train_batch_start, *args)

    def on_train_batch_end(self, *args):
        self._watch_reads(super().on_train_batch_end, *args)

    def _watch_reads(self, hook, *args):
        with Reads() as reads:
            hook(*args)
        vars(self).setdefault("reads", {}).setdefault(self.watch.meter.optimizer_steps, []).extend(reads.found)


@pytest.mark.parametrize("module", [OnDevice, ManualOnDevice])
@pytest.mark.filterwarnings("ignore:scalestop. max_steps:scalestop.ScalestopWarning")
def test_no_device_to_host_reads_on_ordinary_steps(tmp_path, monkeypatch, module):
    read_at = []

    def read(self):
        """What a transfer would bring; reading a `meta` tensor in earnest is an error."""
        read_at.append(callback.watch.meter.optimizer_steps)
        for pending in self._pending:
            assert all(tensor.device.type == "meta" and tensor.ndim == 0 for tensor in pending)
            assert len(pending) <= self.FOLD_EVERY
        return TokenCount(self.processed, self.processed, self.processed, self.samples)

    monkeypatch.setattr(TokenAccumulator, "read", read)
    callback = Watched("1e12 tokens", stopping().law, oversized="ignore", tokens_per_step=4 * LENGTH)
    data = DataLoader(meta_batches(), batch_size=None)
    steps = STEPS * (2 if module is ManualOnDevice else 1)
    train(callback, tmp_path, module(), data, max_steps=steps, log_every_n_steps=10**6)
    assert callback.watch.meter.optimizer_steps == STEPS
    assert all(not found for found in callback.reads.values()), callback.reads
    # after the first step, to hold the plan against it, and at the end
    assert sorted(set(read_at)) == [1, STEPS]


@pytest.mark.parametrize("accumulate", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_loss_is_read_where_a_point_is_due_and_nowhere_else(tmp_path, monkeypatch, accumulate):
    read_at = []

    def peek(self):
        read_at.append(callback.watch.meter.optimizer_steps)
        return plain_peek(self)

    plain_peek = LossAccumulator.peek
    monkeypatch.setattr(LossAccumulator, "peek", peek)
    steps = 2_060
    callback = Watched(
        f"{steps * accumulate * 64} tokens", stopping().law, oversized="ignore", tolerance=0.0, save_checkpoint=False
    )
    options = {"accumulate_grad_batches": accumulate, "log_every_n_steps": 10**6, "enable_checkpointing": False}
    train(callback, tmp_path, Toy(), loader(4 * 300), **options)
    stride = callback.curve.stride
    assert stride == 8 and callback.watch.meter.optimizer_steps == steps
    assert read_at == [*range(stride, steps, stride), steps]
    assert [point.count for point in callback.curve.points] == [8 * accumulate] * 257 + [4 * accumulate]
    # the first batch of all is counted before a step is taken
    assert {step for step, found in callback.reads.items() if found} <= {*read_at, 0}


def test_the_detector_detects():
    """Were the hooks to read a mask, this is what would be seen."""
    with Reads() as reads:
        int(torch.ones(3).sum())
        bool(torch.ones(()))
        torch.empty(3, device="meta").add(1)
    assert reads.found == ["_local_scalar_dense"] * 2
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.empty(3, device="meta").tolist()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", ["labels", "masks"])
def test_no_synchronisation_on_cuda(tmp_path, kind):
    """CUDA itself raises where a hook of ours waits for it, except where it looks."""

    class Strict(ComputeOptimalStopping):
        hooks = 0

        def on_train_batch_start(self, *args):
            self._strictly(super().on_train_batch_start, *args)

        def on_train_batch_end(self, *args):
            self._strictly(super().on_train_batch_end, *args)

        def _strictly(self, hook, *args):
            ordinary = 5 <= self.watch.meter.optimizer_steps < STEPS - 5
            torch.cuda.set_sync_debug_mode("error" if ordinary else "default")
            try:
                hook(*args)
                self.hooks += ordinary
            finally:
                torch.cuda.set_sync_debug_mode("default")

    rows = Rows(64, ragged=kind == "masks")
    batches = [padded([rows[4 * i + j] for j in range(4)]) for i in range(16)] * 20
    if kind == "labels":
        batches = [(batch["input_ids"], batch["labels"].clamp(0, WORDS - 1)) for batch in batches]
    callback = Strict("1e12 tokens", stopping().law, oversized="ignore")
    data = DataLoader(batches, batch_size=None)
    trainer = train(
        callback, tmp_path, data=data, accelerator="cuda", devices=1, max_steps=STEPS, log_every_n_steps=10**6
    )
    assert callback.hooks == 2 * (STEPS - 10)
    assert callback.usage.tokens == trainer.toy.seen.tokens
    assert callback.usage.tokens_in_loss == trainer.toy.seen.in_loss
