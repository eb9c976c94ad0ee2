"""From a parameter count to a shape and back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalestop.errors import InputError
from scalestop.lab.dims import GPTDims, dims_below, dims_for


@settings(deadline=None)
@given(st.floats(1e4, 1e11), st.booleans())
def test_size_is_near_what_was_asked(num_params, tied):
    dims = dims_for(num_params, tied)
    assert dims.num_params == pytest.approx(num_params, rel=0.13 if num_params >= 1e6 else 0.27)
    assert dims.width % (2 * dims.num_heads) == 0


@settings(deadline=None)
@given(st.floats(2e3, 1e11), st.booleans())
def test_a_size_has_one_depth(num_params, tied):
    if tied or num_params > 3e3:
        assert dims_for(num_params, tied).depth == round(3 * max(1, num_params / 1.5e5) ** 0.2)


def test_parts_add_up():
    dims = GPTDims(width=32, depth=3, num_heads=2, tied=False)
    assert dims.embedding == dims.head == 256 * 32
    assert dims.body == 3 * (12 * 32 * 32 + 2 * 32) + 32
    assert dims.num_params == dims.embedding + dims.body + dims.head
    assert GPTDims(width=32, depth=3, num_heads=2).head == 0


def test_large_models_have_heads_of_64():
    dims = dims_for(1.3e9, vocab_size=50_257)
    assert dims.width / dims.num_heads == 64
    assert 12 <= dims.depth <= 24


@pytest.mark.parametrize("num_params", [0, -5, 100, float("nan"), float("inf")])
def test_impossible_size_names_the_smallest(num_params):
    with pytest.raises(InputError, match=r"num_params is .*the smallest model has 1,628: ask for at least that"):
        dims_for(num_params)


def test_heads_must_fit():
    with pytest.raises(InputError, match=r"num_heads 3 does not fit width 32: .* make width a multiple of 6"):
        GPTDims(width=32, depth=1, num_heads=3)


def test_zero_depth_is_named():
    with pytest.raises(InputError, match="depth is 0; it must be at least 1"):
        GPTDims(width=32, depth=0, num_heads=2)


@settings(deadline=None)
@given(st.floats(1.3e4, 1e10), st.booleans())
def test_dims_below_come_within_a_tenth_and_never_exceed(num_params, tied):
    dims = dims_below(num_params, tied)
    assert dims.num_params <= num_params
    assert dims.num_params >= 0.9 * num_params or (not tied and num_params < 3.5e4 and dims.width < 32)
    assert abs(dims.depth - dims_for(num_params, tied).depth) <= 1
    assert dims.width < 32 or 8 <= dims.width / dims.num_heads <= 128


@pytest.mark.parametrize("num_params", [1500, 2000, 5000])
def test_dims_below_go_down_to_the_smallest_sizes(num_params):
    assert dims_below(num_params).num_params <= num_params


def test_dims_below_refuse_what_no_model_has():
    with pytest.raises(InputError, match=r"num_params is 100; .* the smallest model has 1,628: ask for at least that"):
        dims_below(100)
