"""Attention dims and their cost, against sums written out by hand."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from scalestop.accounting.attention import AttentionDims, attention_dims
from scalestop.errors import InputError


def by_hand(d_attn, contexts):
    """Scores q·k and weighted sum of v, multiply and add, forward once and backward twice, summed layer by layer."""
    return sum(3 * (2 * d_attn * context + 2 * d_attn * context) for context in contexts)


@pytest.mark.parametrize(
    ("dims", "context", "contexts"),
    [
        (AttentionDims(3, 64), 128, [128, 128, 128]),
        (AttentionDims(4, 64, windows=(32, 32)), 128, [128, 128, 32, 32]),
        (AttentionDims(2, 64, windows=(32, 32)), 16, [16, 16]),
    ],
)
def test_flops_per_token(dims, context, contexts):
    assert dims.flops_per_token(context) == by_hand(dims.d_attn, contexts)


def config_of(**fields):
    module = nn.Linear(2, 2)
    module.config = SimpleNamespace(**fields)
    return nn.Sequential(module)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"n_layer": 12, "n_head": 12, "n_embd": 768}, (12, 768, ())),
        ({"num_hidden_layers": 4, "num_attention_heads": 8, "hidden_size": 64, "head_dim": 16}, (4, 128, ())),
        (
            {"num_hidden_layers": 3, "num_attention_heads": 4, "hidden_size": 64, "sliding_window": 7,
             "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
            (3, 64, (7, 7)),
        ),
        (
            {"num_hidden_layers": 4, "num_attention_heads": 4, "hidden_size": 64,
             "layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"]},
            (1, 64, ()),
        ),
        ({"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64, "sliding_window": 7}, (2, 64, (7, 7))),
        (
            {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64, "sliding_window": 7,
             "use_sliding_window": False},
            (2, 64, ()),
        ),
        (
            {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64, "qk_nope_head_dim": 16,
             "qk_rope_head_dim": 8, "v_head_dim": 12},
            (2, 4 * (24 + 12) // 2, ()),
        ),
    ],
)  # fmt: skip
def test_from_a_config(fields, expected):
    got = attention_dims(config_of(**fields))
    assert (got.num_layers, got.d_attn, got.windows) == expected
    assert got.source == "config of Linear"


def test_from_mha_modules():
    layer = nn.TransformerEncoderLayer(16, 4, 32)
    got = attention_dims(nn.TransformerEncoder(layer, 3, enable_nested_tensor=False))
    assert got == AttentionDims(3, 16, source="nn.MultiheadAttention modules")


def test_a_model_that_does_not_attend_is_charged_for_no_attention():
    transformers = pytest.importorskip("transformers")
    config = transformers.MambaConfig(vocab_size=64, hidden_size=32, state_size=4, num_hidden_layers=2)
    with pytest.raises(InputError, match="choose flops_per_token='measured'"):
        attention_dims(transformers.MambaForCausalLM(config))


def test_from_attributes():
    module = nn.Linear(2, 2)
    module.num_layers, module.d_model = 5, 96
    assert attention_dims(nn.Sequential(module)) == AttentionDims(5, 96, source="attributes of Linear")
    holder = nn.Linear(2, 2)
    holder.dims = SimpleNamespace(depth=2, width=48)
    assert attention_dims(holder) == AttentionDims(2, 48, source="attributes of Linear")


def test_the_lab_model():
    tiny_gpt = pytest.importorskip("scalestop.lab.tiny_gpt")
    got = attention_dims(tiny_gpt.TinyGPT(width=32, depth=3, num_heads=2))
    assert (got.num_layers, got.d_attn) == (3, 32)


def test_arguments_override():
    assert attention_dims(num_layers=2, d_attn=8) == AttentionDims(2, 8)
    assert attention_dims(config_of(n_layer=12, n_head=12, n_embd=768), d_attn=100).d_attn == 100


def test_not_found():
    with pytest.raises(InputError, match=r"num_layers and d_attn: the attention's dims were not found in Linear"):
        attention_dims(nn.Linear(2, 2))
    with pytest.raises(InputError, match=r"d_attn: the attention's dims were not found in no module"):
        attention_dims(num_layers=2)
    with pytest.raises(InputError, match="num_layers and d_attn"):
        attention_dims(nn.LSTM(4, 4, num_layers=2))


def test_refused():
    with pytest.raises(InputError, match="is an encoder-decoder"):
        attention_dims(config_of(num_layers=2, num_heads=2, d_model=8, is_encoder_decoder=True))
    with pytest.raises(InputError, match=r"differ in width \(8, 16\)"):
        attention_dims(nn.ModuleList([nn.MultiheadAttention(8, 2), nn.MultiheadAttention(16, 2)]))
    with pytest.raises(InputError, match="num_layers=0"):
        attention_dims(num_layers=0, d_attn=3)
    with pytest.raises(InputError, match=r"context=1\.5"):
        AttentionDims(1, 1).flops_per_token(1.5)
    with pytest.raises(InputError, match="windows: 2 of them for num_layers=1"):
        AttentionDims(1, 1, windows=(2, 2))


class TestTransformers:
    def test_real_configs(self):
        transformers = pytest.importorskip("transformers")
        with torch.device("meta"):
            gpt2 = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=2, n_embd=48, n_head=3))
            mistral = transformers.MistralForCausalLM(
                transformers.MistralConfig(
                    vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                    num_key_value_heads=2, head_dim=16, sliding_window=5,
                )
            )  # fmt: skip
            t5 = transformers.T5ForConditionalGeneration(
                transformers.T5Config(vocab_size=64, d_model=16, d_ff=16, num_layers=1, num_heads=2, d_kv=8)
            )
        assert (attention_dims(gpt2).num_layers, attention_dims(gpt2).d_attn) == (2, 48)
        got = attention_dims(mistral)
        assert (got.num_layers, got.d_attn, got.windows) == (2, 64, (5, 5))
        with pytest.raises(InputError, match="encoder-decoder"):
            attention_dims(t5)
