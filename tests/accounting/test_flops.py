"""FLOPs per token by each method, against sums from the dims."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from scalestop.accounting.flops import flops_per_token, six_n
from scalestop.accounting.params import ParamCount, count_params
from scalestop.errors import InputError

COUNT = ParamCount(total=1000, body=600, embedding=300, head=100, trainable=1000, active=1000, body_trainable=600)


class TestSixN:
    @given(st.integers(1, 10**13))
    def test_a_bare_n(self, n):
        got = flops_per_token("6N", n)
        assert (got.model, got.forward, got.hardware, got.source) == (6 * n, 2 * n, None, "6N")

    def test_by_convention(self):
        assert flops_per_token("6N", COUNT, "total").model == 6000
        assert flops_per_token("6N", COUNT, "body").model == 3600
        assert flops_per_token("6N", COUNT, "active").model == 6000

    def test_what_the_convention_leaves_out_is_said(self):
        assert six_n(COUNT, "total").notes == (
            "N by the law's convention (total) is 1,000, in matmuls there are 700: embedding lookups, which cost none, "
            "are charged",
        )
        assert six_n(COUNT, "body").notes[0].endswith("in matmuls there are 700: the output head is left out")
        near = ParamCount(total=1000, body=980, embedding=20, head=0, trainable=1000, active=1000, body_trainable=980)
        assert six_n(near, "total").notes == ()

    def test_frozen(self):
        half = ParamCount(total=1000, body=600, embedding=300, head=100, trainable=500, active=1000, body_trainable=200)
        assert six_n(half, "total").model == 6 * 500 + 4 * 500
        assert six_n(half, "body").model == 6 * 200 + 4 * 400
        assert "400 frozen parameters at 4N" in six_n(half, "body").notes[1]

    def test_nothing_trains(self):
        still = ParamCount(total=1000, body=1000, embedding=0, head=0, trainable=0, active=1000)
        assert (six_n(still).model, six_n(still).forward) == (2000, 2000)

    def test_lora(self):
        """4N for the base and 6N for the adapters, of a real module."""
        d, rank = 16, 2
        model = nn.Sequential(
            nn.Linear(d, d, bias=False), nn.Linear(d, rank, bias=False), nn.Linear(rank, d, bias=False)
        )
        model[0].requires_grad_(False)
        assert six_n(count_params(model)).model == 4 * d * d + 6 * 2 * d * rank

    @given(n=st.integers(2, 16), frozen=st.booleans(), data=st.data())
    def test_mixture_of_experts(self, n, frozen, data):
        k = data.draw(st.integers(1, n))
        expert, rest = 50, 200
        total = n * expert + rest
        experts_train = 0 if frozen else n * expert
        count = ParamCount(
            total=total, body=total, embedding=0, head=0, trainable=rest + experts_train,
            active=k * expert + rest, body_trainable=rest + experts_train,
            inactive_trainable=0 if frozen else (n - k) * expert,
        )  # fmt: skip
        per_expert = 4 if frozen else 6
        for convention in ("total", "body", "active"):
            assert six_n(count, convention).model == 6 * rest + per_expert * k * expert

    @pytest.mark.parametrize("bad", [0, -5, True])
    def test_bad_n(self, bad):
        with pytest.raises(InputError, match="N must be an int above 0"):
            six_n(bad)

    def test_bad_convention(self):
        with pytest.raises(InputError, match="convention='all' is none of"):
            six_n(COUNT, "all")


class TestWithAttention:
    def test_adds_12_layers_width_context(self):
        got = flops_per_token("6N+attention", 1000, num_layers=3, d_attn=16, context=32)
        assert got.model == 6000 + 12 * 3 * 16 * 32
        assert got.forward == 2000 + 4 * 3 * 16 * 32
        assert got.notes[-1] == "attention: 3 layers, width 16 (arguments), context 32; full, not halved for causality"

    @pytest.mark.parametrize(
        "batch", [torch.zeros(4, 32), (torch.zeros(4, 32),), {"a": "x", "input_ids": torch.zeros(4, 32)}]
    )
    def test_context_from_the_batch(self, batch):
        got = flops_per_token("6N+attention", 1000, num_layers=3, d_attn=16, batch=batch)
        assert got.model == 6000 + 12 * 3 * 16 * 32

    def test_dims_from_the_module(self):
        module = nn.TransformerEncoderLayer(16, 2, 64)
        count = count_params(module)
        got = flops_per_token("6N+attention", count, "body", module=module, context=8)
        assert got.model == 6 * count.body + 12 * 16 * 8

    def test_missing(self):
        with pytest.raises(InputError, match="needs the context"):
            flops_per_token("6N+attention", 1000, num_layers=3, d_attn=16)
        with pytest.raises(InputError, match="dims were not found"):
            flops_per_token("6N+attention", 1000, module=nn.Linear(2, 2), context=8)


class TestMeasured:
    def test_per_token(self):
        model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 5, bias=False), nn.Linear(5, 7, bias=False))
        got = flops_per_token("measured", module=model, batch=torch.zeros(2, 3, dtype=torch.int64))
        assert (got.model, got.hardware, got.forward) == (6 * 55, 6 * 55, 2 * 55)
        assert got.source == "measured" and got.notes == ("forward on meta tensors, 6 tokens",)

    def test_recomputation_is_hardware(self):
        from torch.utils.checkpoint import checkpoint

        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.embed, self.layer = nn.Embedding(7, 4), nn.Linear(4, 4, bias=False)

            def forward(self, x):
                return checkpoint(lambda h: torch.relu(self.layer(h)), self.embed(x), use_reentrant=False)

        got = flops_per_token("measured", module=Model(), batch=torch.zeros(2, 3, dtype=torch.int64))
        assert (got.model, got.hardware) == (6 * 16, 8 * 16)
        assert "activations recomputed: 32 FLOPs per token beside the model's" in got.notes

    def test_rounds_to_whole_flops(self):
        """A pooled head: 2 rows of 3 tokens share 2 vectors, so a token's share is no whole number."""

        class Pooled(nn.Module):
            def __init__(self):
                super().__init__()
                self.embed, self.head = nn.Embedding(7, 5), nn.Linear(5, 1, bias=False)

            def forward(self, x):
                return self.head(self.embed(x).mean(1))

        got = flops_per_token("measured", module=Pooled(), batch=torch.zeros(2, 3, dtype=torch.int64))
        assert got.model == round(6 * 5 * 2 / 6) and got.forward == round(2 * 5 * 2 / 6)

    def test_operators_not_seen(self):
        class Odd(nn.Module):
            def __init__(self):
                super().__init__()
                self.embed, self.pair, self.head = nn.Embedding(7, 4), nn.Bilinear(4, 4, 4), nn.Linear(4, 7)

            def forward(self, x):
                return self.head(self.pair(self.embed(x), self.embed(x)))

        got = flops_per_token("measured", module=Odd(), batch=torch.zeros(2, 3, dtype=torch.int64))
        assert any("too low: FlopCounterMode has no formula for aten._trilinear" in note for note in got.notes)

    def test_needs(self):
        with pytest.raises(
            InputError, match=r"flops_per_token='measured' needs module and batch. Pass module=..., batch"
        ):
            flops_per_token("measured")


class TestNumberAndFunction:
    def test_number(self):
        assert flops_per_token(4.2e9).model == 4_200_000_000
        assert flops_per_token(7).source == "number"

    def test_function(self):
        got = flops_per_token(lambda module, batch: 3 * len(batch), module=nn.Linear(1, 1), batch=[1, 2])
        assert (got.model, got.source) == (6, "function")

    @pytest.mark.parametrize("bad", [0, -1.0, float("nan"), float("inf"), True])
    def test_bad_number(self, bad):
        with pytest.raises(InputError, match="FLOPs per token are a finite number above 0"):
            flops_per_token(bad)

    def test_bad_function(self):
        with pytest.raises(InputError, match="flops_per_token's function returned None"):
            flops_per_token(lambda module, batch: None)

    def test_unknown_method(self):
        with pytest.raises(
            InputError, match=r"flops_per_token='8N' is none of '6N', '6N\+attention', 'measured', a num"
        ):
            flops_per_token("8N", COUNT)

    def test_6n_without_n(self):
        with pytest.raises(InputError, match="flops_per_token='6N' needs params"):
            flops_per_token("6N")


class TestAnalyticAgainstMeasured:
    """6N + attention over the matmul parameters is what a transformer measures, to the FLOP."""

    def test_gpt2(self):
        transformers = pytest.importorskip("transformers")
        config = transformers.GPT2Config(
            vocab_size=64,
            n_positions=32,
            n_embd=24,
            n_layer=3,
            n_head=2,
            use_cache=False,
            bos_token_id=0,
            eos_token_id=1,
        )
        model = transformers.GPT2LMHeadModel(config)
        batch = {"input_ids": torch.randint(0, 64, (2, 32))}
        measured = flops_per_token("measured", module=model, batch=batch)
        weights = 3 * 12 * 24 * 24 + 24 * 64  # no biases, norms, or positions: they multiply no matrix
        got = flops_per_token("6N+attention", weights, module=model, batch=batch)
        assert measured.model == got.model
        total = flops_per_token("6N+attention", count_params(model), "total", module=model, batch=batch)
        biases_norms_positions = 3 * 13 * 24 + 2 * 24 + 32 * 24
        assert total.model - measured.model == 6 * biases_norms_positions

    def test_the_lab_model(self):
        tiny_gpt = pytest.importorskip("scalestop.lab.tiny_gpt")
        model = tiny_gpt.TinyGPT(width=32, depth=2, num_heads=2, tied=False)
        ids = torch.randint(0, 256, (2, 16))
        batch = {"input_ids": ids, "labels": ids}
        measured = flops_per_token("measured", module=model, batch=batch)
        analytic = 6 * (2 * 12 * 32 * 32 + 32 * 256) + 12 * 2 * 32 * 16
        assert measured.model == analytic
