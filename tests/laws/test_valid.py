"""How far outside its runs a law is asked."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalestop.errors import InputError
from scalestop.laws import ValidRange
from scalestop.laws.valid import factors_of_ten

RANGE = ValidRange(num_params=(1e6, 1e9), num_tokens=(1e9, 1e11), flops=(6e18, 3e21))


def test_says_how_far_outside_in_factors_of_ten():
    valid = ValidRange(num_params=(1e6, 1e9), num_tokens=(1e9, 1e11), flops=(6e18, 3e21))
    assert valid.outside(num_params=1e4, num_tokens=2e13, flops=6e12) == (
        "N = 1e+04 parameters is 2.0 factors of ten below the fitted range 1e+06 to 1e+09",
        "D = 2e+13 tokens is 2.3 factors of ten above the fitted range 1e+09 to 1e+11",
        "C = 6e+12 FLOPs is 6.0 factors of ten below the fitted range 6e+18 to 3e+21",
    )


def test_just_outside_is_not_called_zero():
    valid = ValidRange(num_params=(1e6, 1e9))
    assert valid.outside(num_params=1.05e9) == (
        "N = 1.05e+09 parameters is under 0.1 factors of ten above the fitted range 1e+06 to 1e+09",
    )


@given(st.floats(1e6, 1e9))
def test_silent_inside(value):
    assert ValidRange(num_params=(1e6, 1e9)).outside(num_params=value) == ()


@pytest.mark.parametrize("value", [0.99e6, 1.01e9])
def test_one_percent_outside_is_outside(value):
    assert len(ValidRange(num_params=(1e6, 1e9)).outside(num_params=value)) == 1


def test_silent_where_the_source_is():
    assert ValidRange().outside(num_params=1.0, num_tokens=1.0, flops=1.0) == ()
    assert ValidRange(num_params=(1, 2)).outside(num_params=None, flops=1e9) == ()


@pytest.mark.parametrize("pair", [(0, 1), (2, 1), (1, float("inf")), (1,), (1, 2, 3), 5, "ab", (float("nan"), 1)])
def test_no_range(pair):
    with pytest.raises(InputError) as error:
        ValidRange(flops=pair)
    assert str(error.value) == (f"flops: a range is (smallest, largest), both positive and finite; got {pair!r}")


@given(st.floats(-12, 12))
def test_distance_is_signed_and_counts_factors_of_ten(exponent):
    inside = 1e7
    value = inside * 10.0**exponent
    expected = min(exponent + 1, 0) + max(exponent - 2, 0)  # 1e7 is one factor of ten above 1e6, two below 1e9
    assert RANGE.distance("num_params", value) == pytest.approx(expected, abs=5e-4)


def test_of_an_array_the_farthest_counts():
    values = np.array([[1e3, 1e8], [1e10, 1e7]])
    assert RANGE.distance("num_params", values) == pytest.approx(-3)
    assert RANGE.outside(num_params=values) == RANGE.outside(num_params=1e3)
    assert RANGE.farthest(num_params=values, flops=6e26) == pytest.approx(np.log10(6e26 / 3e21))
    assert RANGE.farthest(num_params=1e8, num_tokens=None) == 0


def test_one_line_says_the_unit_of_distance_once():
    assert RANGE.describe_outside(flops=6e12, num_params=1e4, num_tokens=1e10) == (
        "C is 6.0 factors of ten below 6e18 to 3e21 FLOPs, N 2.0 below 1M to 1B parameters"
    )
    assert RANGE.describe_outside(flops=1e20, num_params=1e7) is None


@pytest.mark.parametrize(
    ("distance", "words"),
    [(6.78, "6.8 factors of ten"), (-0.31, "0.3 factors of ten"), (0.02, "under 0.1 factors of ten")],
)
def test_words(distance, words):
    assert factors_of_ten(distance) == words
