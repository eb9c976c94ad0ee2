"""Which law a run is given: chosen, named or none; and data that is no text."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from toys import LAW, PER_BATCH, N, Toy, loader, stopping, train

from scalestop import ComputeOptimalStopping, StopReason
from scalestop.errors import InputError
from scalestop.laws import Provenance


class Pictures(Toy):
    """A classifier of small pictures: 3 x 4 x 4 numbers to one of five classes."""

    def __init__(self):
        super().__init__()
        self.embedding = None
        self.head = nn.Linear(48, 5)

    def training_step(self, batch, batch_idx):
        pictures, classes = batch
        loss = nn.functional.cross_entropy(self.head(pictures.flatten(1)), classes)
        self.log("train_loss", loss)
        return loss


def pictures(**options):
    data = TensorDataset(torch.randn(64, 3, 4, 4), torch.randint(0, 5, (64,)))
    return DataLoader(data, batch_size=8, **options)


SIZE = 48 * 5 + 5


@pytest.mark.parametrize("law", ["auto", None])
def test_pictures_have_a_budget_and_no_law(tmp_path, capsys, law):
    callback = ComputeOptimalStopping(6 * SIZE * 800, law)
    trainer = train(callback, tmp_path, Pictures(), pictures())
    assert callback.law is None and callback.stop_reason is StopReason.BUDGET_EXHAUSTED
    assert (callback.usage.tokens, callback.usage.samples, trainer.global_step) == (800, 800, 100)
    said = capsys.readouterr().out
    assert "each sample counts as one token" in said and "the budget alone ends the run" in said


def test_pictures_under_a_named_law_are_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match=r"not token ids.*Pass count_tokens=function"):
        train(stopping(1e9, oversized="ignore"), tmp_path, Pictures(), pictures())


def test_the_nearest_law_only_advises_a_toy(tmp_path, capsys):
    """Over three factors of ten below its runs no law says that 272 parameters are too many for 100 steps."""
    flops = 6 * N * 100 * PER_BATCH
    callback = ComputeOptimalStopping(flops)
    trainer = train(callback, tmp_path, Toy(), loader())
    assert callback.law.name == "stdlib-bytes" and callback.plan.advisory
    assert callback.stop_reason is StopReason.BUDGET_EXHAUSTED and trainer.global_step == 100
    assert "scalestop ladder" in capsys.readouterr().out


def test_auto_takes_the_law_of_the_budgets_scale():
    assert ComputeOptimalStopping("1e21 FLOPs").law.name == "besiroglu"
    assert ComputeOptimalStopping("1e12 FLOPs").law.name == "stdlib-bytes"
    assert ComputeOptimalStopping("1e12 FLOPs", "besiroglu").law.name == "besiroglu"


def test_the_plan_says_where_text_and_recipe_are_not_those_of_the_law(tmp_path):
    """What module and datamodule say of themselves; what is no provenance, or cannot be read, is nobody's business."""
    fitted = Provenance(text_hash="a" * 64, tokenizer="bytes", context=16, optimizer="SGD")
    law = replace(LAW, info=replace(LAW.info, provenance=fitted))

    class Recipe(Toy):
        provenance = {"optimizer": "AdamW", "context": 16}  # noqa: RUF012

    class Riddle(Toy):
        @property
        def provenance(self):
            raise RuntimeError("not built yet")

    for module, lines in (
        (Recipe(), ("optimizer: AdamW here, SGD behind the law",)),
        (Riddle(), ()),
        (Toy(), ()),
    ):
        callback = stopping(law=law, verbose=False)
        train(callback, tmp_path, module)
        assert callback.plan.differences == lines
