"""Exact counts of real models, and shapes near a size."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalestop.errors import InputError
from scalestop.planning.advice.shapes import TransformerShape, shape_spread, shapes_near

GPT2 = TransformerShape("gpt2", 12, 768, 12, 12, 3072, 50257, 1024, True)
GPT2_XL = TransformerShape("gpt2", 48, 1600, 25, 25, 6400, 50257, 1024, True)
LLAMA_2_7B = TransformerShape("llama", 32, 4096, 32, 32, 11008, 32000, 4096, False)
LLAMA_3_8B = TransformerShape("llama", 32, 4096, 32, 8, 14336, 128256, 8192, False)


@pytest.mark.parametrize(
    ("shape", "total"),
    # what transformers counts for these models, tied weights once
    [(GPT2, 124_439_808), (GPT2_XL, 1_557_611_200), (LLAMA_2_7B, 6_738_415_616), (LLAMA_3_8B, 8_030_261_248)],
)
def test_published_models_are_counted_exactly(shape, total):
    assert shape.total == shape.count("total") == total


def test_gpt2_by_hand():
    d = 768
    block = (d * 3 * d + 3 * d) + (d * d + d) + (d * 4 * d + 4 * d) + (4 * d * d + d) + 2 * 2 * d
    assert GPT2.body == GPT2.count("body") == 12 * block + 2 * d == 85_056_000
    assert (GPT2.embedding, GPT2.head) == ((50257 + 1024) * d, 0)


def test_an_untied_head_and_grouped_heads_by_hand():
    assert LLAMA_3_8B.head == LLAMA_3_8B.embedding == 128256 * 4096
    block = 4096 * 4096 * 2 + 2 * 4096 * 1024 + 3 * 4096 * 14336 + 2 * 4096
    assert LLAMA_3_8B.body == 32 * block + 4096
    assert LLAMA_3_8B.head_dim == 128


@settings(max_examples=60, deadline=None)
@given(
    size=st.floats(5e7, 1e12),
    style=st.sampled_from(["gpt2", "llama"]),
    n_counts=st.sampled_from(["total", "body"]),
)
def test_shapes_near_a_size_are_near_and_buildable(size, style, n_counts):
    found = shapes_near(size, style, n_counts=n_counts)
    assert 1 <= len(found.shapes) <= 5
    for shape in found.shapes:
        assert abs(math.log(shape.count(n_counts) / size)) < math.log(1.5)
        assert shape.width % 64 == shape.feed_forward % 64 == 0
        assert shape.width == shape.num_heads * shape.head_dim and shape.head_dim in (64, 128)
        assert shape.num_heads % shape.num_kv_heads == 0
    assert [s.num_layers for s in found.shapes] == sorted({s.num_layers for s in found.shapes}, reverse=True)
    assert str(found) and found.to_dict()["shapes"]


def test_the_nearest_of_all_shapes_is_no_nearer_than_its_depth_allows():
    """Against every width at the depths listed."""
    for shape in shapes_near(1e9).shapes:
        off = abs(shape.total - 1e9)
        for width in itertools.chain(range(64, 1024, 64), range(1024, 2048, 128), range(2048, 4096, 256)):
            heads = width // (64 if width < 1024 else 128)
            step = 64 if width < 1024 else 256
            feed = -(-8 * width // 3 // step) * step
            kv = heads // math.gcd(heads, 4)
            other = TransformerShape("llama", shape.num_layers, width, heads, kv, feed, 32_000, 2048, False)
            assert abs(math.log(other.total / 1e9)) >= abs(math.log(shape.total / 1e9)) - 1e-12, (off, other)


def test_a_vocabulary_too_large_for_the_size_is_refused():
    with pytest.raises(
        InputError, match=r"num_params: no llama shape with a vocabulary of 128,000 is near 1M \(total\)"
    ):
        shapes_near(1e6, vocab_size=128_000)
    assert shapes_near(1e6, vocab_size=256).shapes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_heads": 5}, "num_heads: 5 must divide width 768"),
        ({"num_kv_heads": 5}, "num_kv_heads 5"),
        ({"num_layers": 0}, "num_layers: a positive whole number; got 0"),
        ({"style": "bert"}, "style: one of gpt2, llama; got 'bert'"),
    ],
)
def test_what_cannot_be_built_is_refused(changes, said):
    parts = dict(
        style="gpt2", num_layers=12, width=768, num_heads=12, num_kv_heads=12, feed_forward=3072, vocab_size=50257,
        context=1024, tied=True,
    )  # fmt: skip
    with pytest.raises(InputError, match=said):
        TransformerShape(**(parts | changes))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"num_params": -1}, "num_params: must be positive"),
        ({"num_params": 1e9, "n_counts": "all"}, "n_counts: 'total' or 'body'"),
        ({"num_params": 1e9, "queries_per_kv": 0}, "queries_per_kv: a positive whole number"),
        ({"num_params": 1e9, "vocab_size": 0}, "vocab_size: a positive whole number"),
        ({"num_params": 1e9, "style": "bert"}, "style: one of"),
    ],
)
def test_bad_arguments(words, said):
    with pytest.raises(InputError, match=said):
        shapes_near(**words)


def test_what_shape_matters_names_its_source():
    spread = shape_spread()
    assert spread.share == 0.03 and "2001.08361, figure 5" in str(spread) and "no interval" in str(spread)
