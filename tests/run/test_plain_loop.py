"""The core without Lightning: the example stops where the callback stops on the same data."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from toys import C_OPT, LAW, WIDTH, WORDS, Toy, stopping, train

from scalestop.planning.rule import StopReason

PATH = Path(__file__).parents[2] / "examples" / "plain_loop.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("plain_loop", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def batches(count: int = 200):
    generator = torch.Generator().manual_seed(3)
    for _ in range(count):
        rows, length = torch.randint(1, 6, (2,), generator=generator).tolist()
        ids = torch.randint(0, WORDS, (rows, 8 * length), generator=generator)
        yield ids, ids.roll(-1, 1)


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        (f"{round(1.15 * C_OPT)} FLOPs", StopReason.COMPUTE_OPTIMAL),
        (f"{3 * C_OPT} FLOPs", StopReason.BUDGET_EXHAUSTED),
        (f"{C_OPT // 100} FLOPs", StopReason.MODEL_OVERSIZED),
    ],
)
def test_same_stop_as_the_callback(example, tmp_path, capsys, budget, reason):
    model = nn.Sequential(nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, WORDS))
    decision, usage = example.train(model, batches(), budget, LAW)
    callback = stopping(budget)
    trainer = train(callback, tmp_path, Toy(), DataLoader(list(batches()), batch_size=None))
    assert decision == callback.decision and decision.reason is reason
    assert usage.optimizer_steps == trainer.global_step
    assert (usage.tokens, usage.flops, usage.samples) == (
        callback.usage.tokens, callback.usage.flops, callback.usage.samples,
    )  # fmt: skip
    assert f"{reason}: " in capsys.readouterr().out


def test_it_is_short():
    code = PATH.read_text().split('"""', 2)[2].splitlines()
    assert sum(bool(line.strip()) for line in code) <= 34
