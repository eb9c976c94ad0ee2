"""Copies without values: what stays, what is tried, and what is said when nothing runs."""

from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from scalestop.accounting.meta import find_loss, meta_batch, meta_copy, run_step
from scalestop.errors import InputError


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embed.weight
        self.embed.weight.requires_grad_(False)
        self.register_buffer("scale", torch.ones(3))
        self.kept = torch.ones(2)  # neither parameter nor buffer
        self.last = (torch.ones(1, requires_grad=True) * 2).sum()  # not a leaf: deepcopy alone refuses it

    def forward(self, x):
        return self.head(self.embed(x))


class TestCopy:
    def test_shapes_without_values(self):
        original = Tied().eval()
        copied = meta_copy(original)
        tensors = [*copied.parameters(), *copied.buffers(), copied.kept, copied.last]
        assert {t.device.type for t in tensors} == {"meta"}
        assert [tuple(t.shape) for t in tensors] == [(7, 4), (3,), (2,), ()]
        assert copied.head.weight is copied.embed.weight
        assert not copied.embed.weight.requires_grad
        assert copied.training and not original.training
        assert original.head.weight.device.type == "cpu"

    def test_weights_are_not_duplicated(self):
        """A petabyte of weights copies: none of it is anywhere."""
        huge = nn.Linear(2**24, 2**24, bias=False, device="meta")
        assert meta_copy(huge).weight.numel() == 2**48

    def test_wrappers_come_off(self):
        assert type(meta_copy(torch.compile(Tied()))) is Tied

    def test_something_that_does_not_copy(self):
        model = Tied()
        model.stream = (i for i in range(3))
        with pytest.raises(InputError, match=r"module=Tied cannot be copied .*generator.* choose flops_per_token='6N'"):
            meta_copy(model)

    def test_fsdp2(self):
        """Sharded modules refuse to be copied; the answer says when to measure instead."""
        import torch.distributed as dist
        from torch.distributed.fsdp import fully_shard
        from torch.testing._internal.distributed.fake_pg import FakeStore

        dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
        try:
            mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (2,))
            model = fully_shard(nn.Linear(4, 4), mesh=mesh)
            with pytest.raises(InputError, match="Measure before the module is wrapped or sharded"):
                meta_copy(model)
        finally:
            dist.destroy_process_group()

    def test_a_lightning_module_in_a_trainer(self):
        pl = pytest.importorskip("pytorch_lightning")

        class Lightning(pl.LightningModule):
            def __init__(self):
                super().__init__()
                self.model = Tied()
                self.out = nn.Linear(7, 7)

            def training_step(self, batch, batch_idx):
                loss = self.out(self.model(batch)).sum()
                self.log("loss", loss)
                return {"loss": loss}

        module = Lightning()
        trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", enable_progress_bar=False)
        module.trainer = trainer
        copied = meta_copy(module)
        assert run_step(copied, torch.zeros(2, 3, dtype=torch.int64, device="meta")) == "training_step"
        assert module.trainer is trainer


Row = namedtuple("Row", "ids name")


def test_batches():
    ids = torch.ones(2, 3, dtype=torch.int64)
    got = meta_batch({"a": ids, "b": [ids, (ids, "text")], "c": Row(ids, "x"), "d": 3})
    assert got["a"].device.type == got["b"][0].device.type == got["b"][1][0].device.type == "meta"
    assert got["b"][1][1] == "text" and got["c"].name == "x" and got["c"].ids.is_meta and got["d"] == 3
    assert not ids.is_meta


def test_hugging_face_batches_keep_their_attributes():
    transformers = pytest.importorskip("transformers")
    batch = transformers.BatchEncoding({"input_ids": torch.ones(2, 3, dtype=torch.int64)})
    assert meta_batch(batch).input_ids.is_meta
    assert not batch.input_ids.is_meta


class TestLoss:
    x = torch.tensor([1.0, 2.0])

    @pytest.mark.parametrize(
        "output",
        [
            torch.tensor(3.0),
            torch.tensor([1.0, 2.0]),
            {"loss": torch.tensor(3.0), "logits": torch.ones(5)},
            SimpleNamespace(loss=torch.tensor(3.0), logits=torch.ones(5)),
            (torch.tensor([1.0]), [torch.tensor([2.0]), {"n": torch.tensor(4)}], "text"),
        ],
    )
    def test_found(self, output):
        assert find_loss(output).item() == 3.0

    @pytest.mark.parametrize("output", [None, torch.tensor(3), "text", []])
    def test_none(self, output):
        with pytest.raises(InputError, match=r"the step returned .* without a float tensor to call its loss"):
            find_loss(output)


class TestStep:
    ids = torch.zeros(2, 3, dtype=torch.int64, device="meta")

    @pytest.mark.parametrize("batch", [ids, (ids, ids), {"x": ids}, {"x": ids, "name": "a"}, {"tokens": ids}])
    def test_forward(self, batch):
        assert run_step(meta_copy(Tied()), batch) == "forward"

    def test_ones_own(self):
        model = meta_copy(Tied())
        assert run_step(model, {"strange": [self.ids]}, lambda m, b: m(b["strange"][0]).sum()) == "step"

    def test_a_mask_that_is_looked_into(self):
        class Masked(Tied):
            def forward(self, input_ids, attention_mask=None):
                if attention_mask is not None and attention_mask.all():
                    attention_mask = None
                return super().forward(input_ids)

        batch = {"input_ids": self.ids, "attention_mask": torch.ones(2, 3, device="meta")}
        assert run_step(meta_copy(Masked()), batch) == "forward without its mask"
        assert batch["attention_mask"].ndim == 2

    def test_nothing_runs(self):
        class Values(Tied):
            def training_step(self, batch):
                return batch.sum().item()

            def forward(self, x):
                return float(x.max())

        with pytest.raises(InputError) as error:
            run_step(meta_copy(Values()), self.ids)
        text = str(error.value)
        assert "module=Values: no step ran on meta tensors of int64 tensor [2, 3]. Tried training_step: Runtime" in text
        assert "; forward: RuntimeError" in text
        assert "pass step=function(module, batch) that returns the loss" in text

    def test_manual_optimization_is_left_alone(self):
        class Manual(Tied):
            automatic_optimization = False

            def training_step(self, batch, batch_idx):
                raise AssertionError("would step optimizers")

        assert run_step(meta_copy(Manual()), self.ids) == "forward"
