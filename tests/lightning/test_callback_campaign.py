"""Runs that share one budget: charged as they go, and ended when it is spent."""

from __future__ import annotations

import os
import pickle

import pytest
from toys import PER_BATCH, Toy, loader, stopping, train

from scalestop import Campaign, ScalestopWarning, StopReason


def run(folder, campaign, tokens, name, **options):
    callback = stopping(f"{tokens} tokens", oversized="ignore", campaign=campaign, verbose=False, **options)
    train(callback, folder / name, data=loader(), log_every_n_steps=5)
    return callback


def test_three_runs_of_one_budget(tmp_path):
    shared = Campaign.create(tmp_path / "shared.jsonl", "4800 tokens")
    first = run(tmp_path, shared.path, 3200, "first")
    assert first.stop_reason is StopReason.TOKEN_LIMIT and shared.status().spent("tokens") == 3200
    second = run(tmp_path, shared, 3200, "second")
    assert second.stop_reason is StopReason.CAMPAIGN_SPENT
    assert second.usage.tokens == 1600 and second.usage.optimizer_steps * PER_BATCH == 1600  # at a step it looks at
    assert "4800 tokens" in second.decision.message or "4.8k tokens" in second.decision.message
    third = run(tmp_path, shared, 3200, "third")
    assert third.stop_reason is StopReason.CAMPAIGN_SPENT and third.usage.tokens == 0
    status = shared.status()
    assert status.is_spent and status.spent("tokens") == 4800 and len(status.accounts) == 3
    assert status.spent("flops") == first.usage.flops + second.usage.flops
    assert pickle.loads(pickle.dumps(second)).stop_reason is StopReason.CAMPAIGN_SPENT


def test_a_ledger_that_cannot_be_written_ends_no_run(tmp_path):
    shared = Campaign.create(tmp_path / "shared.jsonl", "4800 tokens")
    callback = stopping("3200 tokens", oversized="ignore", campaign=shared, verbose=False)
    os.remove(shared.path)
    os.mkdir(shared.path)
    with pytest.warns(ScalestopWarning, match="the campaign could not be told: "):
        train(callback, tmp_path, log_every_n_steps=5)
    assert callback.stop_reason is StopReason.TOKEN_LIMIT


class Breaks(Toy):
    def training_step(self, batch, batch_idx):
        if batch_idx == 17:
            raise RuntimeError("out of memory")
        return super().training_step(batch, batch_idx)


def test_what_a_broken_run_used_is_charged_to_the_last_step(tmp_path):
    shared = Campaign.create(tmp_path / "shared.jsonl", "4800 tokens")
    callback = stopping("3200 tokens", oversized="ignore", campaign=shared, verbose=False)
    with pytest.raises(RuntimeError, match="out of memory"):
        train(callback, tmp_path, Breaks(), log_every_n_steps=5)
    assert shared.status().spent("tokens") == 17 * PER_BATCH
