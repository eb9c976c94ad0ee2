"""Budgets: everything people write, exactly; everything else, refused with three valid forms."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalestop.errors import InputError
from scalestop.planning.budget import Budget

FORMS = "Write for example '1e18 FLOPs', '0.5 PF-days', '2B tokens'."


@pytest.mark.parametrize(
    ("given_budget", "expected"),
    [
        ("1e18 FLOPs", Budget(flops=10**18)),
        ("3.2 EFLOPs", Budget(flops=3_200_000_000_000_000_000)),
        ("0.5 PF-days", Budget(flops=43_200_000_000_000_000_000)),
        ("2e9 tokens", Budget(tokens=2_000_000_000)),
        ("2B tokens", Budget(tokens=2_000_000_000)),
        (1e18, Budget(flops=10**18)),
        (10**30 + 1, Budget(flops=10**30 + 1)),
        (np.int64(7), Budget(flops=7)),
        (np.float32(8), Budget(flops=8)),
        (Fraction(9), Budget(flops=9)),
        ("8 GPU-hours", Budget(device_seconds=28_800.0)),
        ("12h", Budget(seconds=43_200.0)),
        ("500 USD", Budget(usd=500.0)),
        ("1e18 FLOPs or 2B tokens or 12h", Budget(flops=10**18, tokens=2 * 10**9, seconds=43_200.0)),
        (["1e18 FLOPs", "2B tokens"], Budget(flops=10**18, tokens=2 * 10**9)),
        ([1e18, Budget(usd=3.0)], Budget(flops=10**18, usd=3.0)),
    ],
)
def test_parse(given_budget, expected):
    assert Budget.parse(given_budget) == expected


def test_counts_are_exact_ints():
    """12345678901234567891 has no float; a detour through one would show."""
    budget = Budget.parse("12345678901234567891 FLOPs")
    assert budget.flops == 12345678901234567891
    assert type(budget.flops) is int
    assert type(Budget(tokens=np.int64(5)).tokens) is int
    assert Budget.parse("0.1 PF-days").flops == 8_640_000_000_000_000_000


def test_a_budget_passes_through():
    budget = Budget(flops=1)
    assert Budget.parse(budget) is budget


counts = st.none() | st.integers(1, 10**40)
measures = st.none() | st.floats(1e-6, 1e12)


@given(counts, counts, measures, measures, measures)
def test_text_round_trip(flops, tokens, device_seconds, seconds, usd):
    values = (flops, tokens, device_seconds, seconds, usd)
    if all(value is None for value in values):
        return
    budget = Budget(*values)
    assert Budget.parse(str(budget)) == budget


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "1e15 FLOP/s",
            "'1e15 FLOP/s' is a rate, compute per second; a budget is an amount. (FLOPS in capitals reads as a rate.)",
        ),
        (
            "2 EFLOPS",
            "'2 EFLOPS' is a rate, compute per second; a budget is an amount. (FLOPS in capitals reads as a rate.)",
        ),
        ("-1e18 FLOPs", "'-1e18 FLOPs' is not positive."),
        ("0 tokens", "'0 tokens' is not positive."),
        ("-2h", "'-2h' is not positive."),
        ("0.4 tokens", "'0.4 tokens' is less than one."),
        ("NaN FLOPs", "cannot use 'NaN FLOPs': it does not begin with a finite number."),
        ("inf", "cannot use 'inf': it does not begin with a finite number."),
        ("2B", "cannot use '2B': 'B' says how many but not of what; add a unit such as FLOPs or tokens."),
        ("3 FLOPs tokens", "cannot use '3 FLOPs tokens': two units are mixed; give one amount with one unit."),
        (
            "1 EFLOPs 2B tokens",
            "cannot use '1 EFLOPs 2B tokens': two amounts or units are mixed; give one, or a list of them.",
        ),
        ("1h or 2h", "'1h or 2h' gives two limits in s; give one of each kind."),
        ("1e18 FLOPs or ", "cannot use '': it does not begin with a finite number."),
    ],
)
def test_refused_text(text, why):
    with pytest.raises(InputError) as error:
        Budget.parse(text)
    assert str(error.value) == f"budget: {why} {FORMS}"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (0, "must be a positive, finite count below 1e300; got 0."),
        (-1.0, "must be a positive, finite count below 1e300; got -1.0."),
        (float("nan"), "must be a positive, finite count below 1e300; got nan."),
        (float("inf"), "must be a positive, finite count below 1e300; got inf."),
        (True, "expected a text, a number of FLOPs or a Budget; got bool True."),
        (None, "expected a text, a number of FLOPs or a Budget; got NoneType None."),
        (b"1e18", "expected a text, a number of FLOPs or a Budget; got bytes b'1e18'."),
    ],
)
def test_refused_values(value, why):
    with pytest.raises(InputError) as error:
        Budget.parse(value)
    assert str(error.value) == f"budget: {why} {FORMS}"


def test_an_int_beyond_every_float_is_refused():
    with pytest.raises(InputError, match="must be a positive, finite count below 1e300"):
        Budget.parse(10**400)


def test_no_limit():
    with pytest.raises(InputError) as error:
        Budget()
    assert str(error.value) == f"budget: no limit given. {FORMS}"
    with pytest.raises(InputError, match="no limit given"):
        Budget.parse([])


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), "12h", True])
@pytest.mark.parametrize("name", ["device_seconds", "seconds", "usd"])
def test_measures_are_validated(name, value):
    with pytest.raises(InputError) as error:
        Budget(**{name: value})
    assert str(error.value) == f"{name}: must be positive and below 1e300; got {value!r}"


@pytest.mark.parametrize("value", [0, -1, 0.2, float("nan"), "5", False])
@pytest.mark.parametrize("name", ["flops", "tokens"])
def test_counts_are_validated(name, value):
    with pytest.raises(InputError) as error:
        Budget(**{name: value})
    assert str(error.value).startswith(f"{name}: must be a positive, finite count below 1e300; got {value!r}. ")


@pytest.mark.parametrize("text", ["9e299 b USD", "9e299 d", "9e299 k tokens", "9e299 PF-years", "9e299 GPU-days"])
def test_an_amount_beyond_every_float_is_refused_whatever_its_unit(text):
    with pytest.raises(InputError, match="not below 1e300"):
        Budget.parse(text)
