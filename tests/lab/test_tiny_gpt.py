"""The model: exact counts, causality, its schedule, and that it learns under a real Trainer."""

import math

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from scalestop import ComputeOptimalStopping
from scalestop.errors import InputError
from scalestop.lab.data import TextData
from scalestop.lab.dims import GPTDims
from scalestop.lab.tiny_gpt import TinyGPT, _rotary_angles, _rotate, default_lr
from scalestop.laws import ParametricLaw
from scalestop.laws.base import LawInfo

LAW = ParametricLaw(LawInfo("toy", "total", "made up"), E=1.0, A=50.0, B=100.0, alpha=0.4, beta=0.4)


def tiny(**options):
    pl.seed_everything(1, verbose=False)
    return TinyGPT(**{"width": 16, "depth": 2, "num_heads": 2, **options})


def fit(tmp_path, model, data, **options):
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(default_root_dir=tmp_path, **{"logger": False, "accelerator": "cpu", **quiet, **options})
    trainer.fit(model, data)
    return trainer


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.integers(1, 4), st.integers(1, 4), st.booleans(), st.sampled_from([256, 300]))
def test_closed_form_count_is_the_modules(channels, heads, depth, tied, vocab_size):
    dims = GPTDims(2 * channels * heads, depth, heads, tied, vocab_size)
    model = TinyGPT(width=dims.width, depth=depth, num_heads=heads, tied=tied, vocab_size=vocab_size)
    assert sum(weight.numel() for weight in model.parameters()) == dims.num_params
    assert model.embedding.weight.numel() == dims.embedding


@pytest.mark.parametrize("num_params", [10e3, 50e3, 200_000])
def test_sized_by_a_count(num_params):
    model = TinyGPT(num_params=int(num_params))
    assert sum(weight.numel() for weight in model.parameters()) == model.dims.num_params
    assert model.dims.num_params == pytest.approx(num_params, rel=0.18)


def test_two_sizes_are_an_error():
    with pytest.raises(InputError, match="num_params 1000 and width 16 both say how large the model is; give"):
        TinyGPT(num_params=1000, width=16)


def test_half_a_size_is_an_error():
    with pytest.raises(InputError, match="num_heads missing beside width, depth; give all three, or num_params alone"):
        TinyGPT(width=16, depth=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.0}, "lr is 0.0; it must be positive and finite"),
        ({"warmup": 0.6, "decay": 0.5}, r"warmup and decay: together at most the whole run; got 0.6 \+ 0.5"),
        ({"decay_shape": "steep"}, "shape: one of linear, 1-sqrt, cosine, square; got 'steep'"),
        ({"floor": 2.0}, "floor: a share, between 0 and 1; got 2.0"),
    ],
)
def test_bad_optimization_is_named(options, message):
    with pytest.raises(InputError, match=message):
        tiny(**options)


def test_no_position_sees_what_comes_later():
    model = tiny()
    ids = torch.randint(256, (2, 20))
    changed = ids.clone()
    changed[:, 12:] = (changed[:, 12:] + 1) % 256
    before, after = model(ids), model(changed)
    assert torch.allclose(before[:, :12], after[:, :12], atol=1e-5)
    assert not torch.allclose(before[:, 12:], after[:, 12:], atol=1e-2)


def test_forward_agrees_with_a_slow_reference():
    """Every head, query and key in loops; rotation by sines and cosines."""
    model = tiny(depth=1)
    block, ids = model.blocks[0], torch.randint(256, (1, 7))
    hidden = model.embedding(ids)[0]

    def norm(x, weight):
        return (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt() * weight

    def turned(vector, position):
        out = vector.clone()
        for pair in range(4):
            angle = position * 1000.0 ** (-2 * pair / 8)
            x, y = vector[2 * pair], vector[2 * pair + 1]
            out[2 * pair] = x * math.cos(angle) - y * math.sin(angle)
            out[2 * pair + 1] = x * math.sin(angle) + y * math.cos(angle)
        return out

    rows = norm(hidden, block.attention_norm.weight) @ block.qkv.weight.T
    mixed = torch.zeros(7, 16)
    for head in range(2):
        query, key, value = (rows[:, part * 16 + head * 8 : part * 16 + head * 8 + 8] for part in range(3))
        for i in range(7):
            scores = torch.stack([turned(query[i], i) @ turned(key[j], j) / math.sqrt(8) for j in range(i + 1)])
            mixed[i, head * 8 : head * 8 + 8] = scores.softmax(0) @ value[: i + 1]
    hidden = hidden + mixed @ block.attention_out.weight.T
    up = norm(hidden, block.mlp_norm.weight) @ block.up.weight.T
    hidden = hidden + (up * 0.5 * (1 + torch.erf(up / math.sqrt(2)))) @ block.down.weight.T
    expected = norm(hidden, model.norm.weight) @ model.embedding.weight.T
    assert torch.allclose(model(ids)[0], expected, atol=1e-4)


def test_rotation_keeps_lengths_and_sees_distances_only():
    rotation = _rotary_angles(64, 8, torch.device("cpu"))
    vectors = torch.randn(2, 1, 1, 8)
    turned = _rotate(vectors.expand(2, 64, 1, 8), rotation)
    assert torch.allclose(turned.norm(dim=-1), vectors.expand(2, 64, 1, 8).norm(dim=-1), atol=1e-5)
    near_start, near_end = (turned[0, 5 + k, 0] @ turned[1, 2 + k, 0] for k in (0, 50))
    assert near_start == pytest.approx(near_end.item(), abs=1e-4)


def test_longer_text_than_before_is_fine():
    model = tiny()
    ids = torch.randint(256, (1, 300))
    short = model(ids[:, :10])
    assert torch.allclose(model(ids)[:, :10], short, atol=1e-5)
    assert torch.allclose(model(ids[:, :10]), short)


def test_starts_near_a_uniform_guess():
    ids = torch.randint(256, (8, 64))
    loss = TinyGPT(num_params=50_000).loss({"input_ids": ids, "labels": ids.roll(-1)})
    assert loss.item() == pytest.approx(math.log(256), abs=0.3)


def test_loss_is_the_mean_over_labels_that_count():
    model = tiny()
    ids, labels = torch.randint(256, (2, 5)), torch.randint(256, (2, 5))
    labels[0, :3] = -100
    log_probs = F.log_softmax(model(ids), -1)
    wanted = [-log_probs[b, t, labels[b, t]] for b in range(2) for t in range(5) if labels[b, t] >= 0]
    assert model.loss({"input_ids": ids, "labels": labels}).item() == pytest.approx(
        torch.stack(wanted).mean().item(), rel=1e-5
    )


def test_only_matrices_decay():
    optimizer = tiny(weight_decay=0.3, warmup=0.0, decay=0.0).configure_optimizers()
    decayed = {weight.ndim: group["weight_decay"] for group in optimizer.param_groups for weight in group["params"]}
    assert decayed == {2: 0.3, 1: 0.0}
    counted = sum(weight.numel() for group in optimizer.param_groups for weight in group["params"])
    assert counted == tiny().dims.num_params


@pytest.mark.parametrize("accumulate", [1, 3])
def test_rate_follows_the_width_and_the_batch_unless_given(tmp_path, accumulate):
    def peak(model, batch_size, **options):
        trainer = fit(
            tmp_path, model, TextData(batch_size=batch_size, context=64, val_tokens=1024), max_steps=1, **options
        )
        return trainer.optimizers[0].param_groups[0]["lr"]

    constant = {"warmup": 0.0, "decay": 0.0}
    for batch_size in (2, 10):
        found = peak(tiny(**constant), batch_size, accumulate_grad_batches=accumulate)
        assert found == pytest.approx(0.2 / 16 * (batch_size * 64 * accumulate / 640) ** 0.2)
        assert found == default_lr(16, batch_size * 64 * accumulate)
    assert peak(tiny(lr=1e-3, **constant), 2) == 1e-3
    assert default_lr(16) == 0.2 / 16

    class Own(TinyGPT):
        def __init__(self, note):
            super().__init__(width=16, depth=1, num_heads=2, **constant)
            self.note = note

    assert peak(Own("mine"), 5) == default_lr(16, 5 * 64)


def test_learns_and_ends_with_the_rate_decayed(tmp_path):
    model = tiny()
    before = pl.Trainer(logger=False, accelerator="cpu", enable_progress_bar=False, enable_checkpointing=False)
    data = TextData(batch_size=4, context=64, val_tokens=8192)
    untrained = before.validate(model, data, verbose=False)[0]["val_loss"]
    stopping = ComputeOptimalStopping(f"{60 * data.tokens_per_batch} tokens", LAW, tolerance=0.0, oversized="ignore")
    options = {"val_check_interval": 30, "num_sanity_val_steps": 0, "max_epochs": -1}
    trainer = fit(tmp_path, model, data, callbacks=[stopping], **options)
    assert untrained == pytest.approx(math.log(256), abs=0.3)
    assert trainer.callback_metrics["val_loss"] < 3.6
    assert trainer.callback_metrics["train_loss"] < 4.0
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.0


class Rates(pl.Callback):
    def __init__(self):
        self.rates = []

    def on_train_batch_start(self, trainer, *_):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_the_budget_is_the_clock(tmp_path):
    model, data, rates = tiny(), TextData(batch_size=2, context=32), Rates()
    budget = 6 * model.dims.num_params * data.tokens_per_batch * 40
    stopping = ComputeOptimalStopping(f"{budget} FLOPs", LAW, oversized="ignore", undersized="continue")
    trainer = fit(tmp_path, model, data, max_epochs=-1, limit_val_batches=0, callbacks=[stopping, rates])
    assert trainer.global_step == 40
    shares = [rate / model.lr for rate in rates.rates]
    assert shares[0] < 0.1 and shares[4:20] == [1.0] * 16
    assert shares[20:] == pytest.approx([1 - step / 20 for step in range(20)], abs=0.01)


def test_without_a_budget_the_rate_is_constant(tmp_path):
    model, rates = tiny(), Rates()
    fit(tmp_path, model, TextData(batch_size=2, context=32), max_steps=5, limit_val_batches=0, callbacks=[rates])
    assert rates.rates == [model.lr] * 5


def test_val_loss_is_the_mean_over_tokens(tmp_path):
    model, data = tiny(), TextData(context=64, val_tokens=64 * 19, val_batch_size=8)  # batches of 8, 8 and 3
    trainer = pl.Trainer(logger=False, accelerator="cpu", enable_progress_bar=False, enable_checkpointing=False)
    logged = trainer.validate(model, data, verbose=False)[0]["val_loss"]
    batches = list(data.val_dataloader())
    assert [len(batch["labels"]) for batch in batches] == [8, 8, 3]
    with torch.no_grad():
        total = sum(model.loss(batch).item() * len(batch["labels"]) for batch in batches)
    assert logged == pytest.approx(total / 19, rel=1e-5)


def test_checkpoint_loads_without_arguments(tmp_path):
    model = tiny(tied=False)
    trainer = fit(tmp_path, model, TextData(context=32, batch_size=2), max_steps=2, limit_val_batches=0)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    loaded = TinyGPT.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    assert loaded.dims == model.dims
    assert torch.equal(loaded.head.weight, model.head.weight)


def test_tied_stays_tied_through_a_checkpoint(tmp_path):
    trainer = fit(tmp_path, tiny(), TextData(context=32, batch_size=2), max_steps=2, limit_val_batches=0)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    loaded = TinyGPT.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    assert loaded.head.weight is loaded.embedding.weight


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_same_logits_on_a_gpu():
    model, ids = tiny(), torch.randint(256, (2, 64))
    expected = model(ids)
    assert torch.allclose(model.cuda()(ids.cuda()).cpu(), expected, atol=2e-2)
