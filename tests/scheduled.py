"""Models under a schedule: one that notes its rate at each step, and one whose schedule is given."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.optim import lr_scheduler as torch_lr
from toys import Toy

from scalestop.schedules.budget_lr import BudgetLR

PEAK = 0.01
STOP = 50  # steps of 64 tokens
BUDGET = f"{64 * STOP} tokens"


class Rated(Toy):
    """Notes at each optimizer step the rate it is taken with, and what had been trained on before it."""

    def __init__(self, clock=None, start=(0, 0), **options) -> None:
        super().__init__(lr=PEAK)
        self.options, self.clock = options, clock
        self.rates, self.before = [], []
        self.stepped_at, self._counted = start, 0

    def configure_optimizers(self):
        groups = [{"params": self.embedding.parameters()}, {"params": self.head.parameters(), "lr": PEAK / 4}]
        optimizer = torch.optim.SGD(groups, lr=self.lr)
        return [optimizer], [{"scheduler": BudgetLR(optimizer, **self.options), "interval": "step"}]

    def training_step(self, batch, batch_idx):
        if self.clock is not None:
            self.clock.now += self.clock.seconds_per_batch(self.trainer.global_step)
        return super().training_step(batch, batch_idx)

    def on_before_optimizer_step(self, optimizer):
        rate, other = (group["lr"] for group in optimizer.param_groups)
        assert other == pytest.approx(rate / 4)
        self.rates.append(rate)
        self.before.append(self.stepped_at)
        new, self._counted = self.batches[self._counted :], len(self.batches)
        tokens, non_padding = self.stepped_at
        self.stepped_at = (tokens + sum(b.tokens for b in new), non_padding + sum(b.non_padding for b in new))


class Own(Toy):
    """Under a schedule made by a function of the optimizer."""

    def __init__(self, make, **config) -> None:
        super().__init__()
        self.make, self.config = make, config

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr)
        made = self.make(optimizer)
        return [optimizer], [{"scheduler": made, "interval": "step", **self.config}] if made else []


def cosine(steps):
    return partial(torch_lr.CosineAnnealingLR, T_max=steps)
