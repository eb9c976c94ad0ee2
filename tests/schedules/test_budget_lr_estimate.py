"""The clock between two looks, where masks are still on an accelerator."""

from __future__ import annotations

import torch
from counting import Clock, plan_of

from scalestop.accounting.meter import Meter
from scalestop.accounting.tokens import TokenAccumulator, TokenCount
from scalestop.run.metrics import progress
from scalestop.run.watch import RunWatch


def on_device(tokens: int, non_padding: int) -> TokenCount:
    """As counted from a mask that nobody has waited for."""
    return TokenCount(tokens, torch.tensor(non_padding), torch.tensor(non_padding), 1)


def test_padding_not_read_yet_is_no_progress():
    plan = plan_of("1000 tokens")
    watch = RunWatch(Meter(plan.flops_per_token), TokenAccumulator(), Clock())
    watch.start()
    told, looks = [], 0
    while not watch.decision.stop:
        watch.begin_batch()
        if watch.end_batch(on_device(100, 25), stepped=True):
            watch.look(plan)
            looks += 1
        told.append(progress(plan.limits, watch.estimate()))
    assert told == [25 * step / 1000 for step in range(1, 41)]
    assert looks < 15  # the masks were read that seldom
