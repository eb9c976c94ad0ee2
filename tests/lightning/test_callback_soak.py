"""A million steps through the hooks: memory stays, and the last are as fast as the first."""

from __future__ import annotations

import time
import tracemalloc

import pytest
import torch
from toys import Rows, Toy, padded, plain, stopping, train

STEPS, PARTS = 1_000_000, 10


class Soaks(Toy):
    """At its tenth step, takes the callback through a million more, as the Trainer would."""

    def __init__(self, callback) -> None:
        super().__init__()
        self.callback, self.memory, self.seconds = callback, [], []

    def on_train_batch_end(self, outputs, batch, batch_idx):
        if self.global_step != 10:
            return
        rows = Rows(64, ragged=True)
        batches = [plain(list(torch.zeros(4, 16 + i, dtype=torch.int64))) for i in range(4)]
        batches += [padded([rows[4 * i + j] for j in range(4)]) for i in range(4)]
        optimizer = self.trainer.optimizers[0]
        for parameter in self.parameters():
            parameter.grad = torch.zeros_like(parameter)
        hook = next(iter(optimizer._optimizer_step_post_hooks.values()))
        tracemalloc.start()
        for _ in range(PARTS):
            began = time.thread_time()
            for i in range(STEPS // PARTS):
                one = batches[i % 8]
                self.callback.on_train_batch_start(self.trainer, self, one, i)
                hook(optimizer, (), {})
                self.callback.on_train_batch_end(self.trainer, self, None, one, i)
            self.seconds.append(time.thread_time() - began)
            self.memory.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()


@pytest.mark.slow
def test_a_million_steps_leave_nothing_behind(tmp_path):
    callback = stopping("1e15 tokens", oversized="ignore", record=False, save_checkpoint=False, verbose=False)
    module = Soaks(callback)
    with pytest.warns(match="max_steps"):
        train(callback, tmp_path, module, max_steps=12, log_every_n_steps=10**7, enable_checkpointing=False)
    assert callback.usage.optimizer_steps == STEPS + 12
    assert module.memory[-1] - module.memory[0] < 2**20
    assert module.seconds[-1] < 2 * module.seconds[0]  # of this thread's own time
