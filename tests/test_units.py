"""Amounts as people write them: exactness, round trips, refusals."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalestop.errors import InputError
from scalestop.units import (
    FLOPS_PER_PF_DAY,
    Dimension,
    Quantity,
    exact_scientific,
    format_quantity,
    human_count,
    human_flops,
    human_seconds,
    parse_count,
    parse_quantity,
    pf_days,
)

EXAMPLES = ("1e18 FLOPs", "0.5 PF-days", "2B tokens")


def parse(text):
    return parse_quantity(text, argument="budget", examples=EXAMPLES)


def test_a_pf_day_is_the_papers():
    """Kaplan et al. 2020, section 1.1: 10^15 x 24 x 3600 = 8.64e19 floating point operations."""
    assert FLOPS_PER_PF_DAY == 86_400_000_000_000_000_000
    assert pf_days(8.64e19) == 1.0


@pytest.mark.parametrize(
    ("text", "value", "dimension"),
    [
        ("1e18", 10**18, "FLOPs"),
        ("1e18 FLOPs", 10**18, "FLOPs"),
        ("1e18FLOPs", 10**18, "FLOPs"),
        (" 1 FLOP ", 1, "FLOPs"),
        ("3.2 EFLOPs", 32 * 10**17, "FLOPs"),
        ("3.2 exaFLOPs", 32 * 10**17, "FLOPs"),
        ("3.2 E FLOPs", 32 * 10**17, "FLOPs"),
        ("2 million FLOPs", 2 * 10**6, "FLOPs"),
        ("5ZFLOPs", 5 * 10**21, "FLOPs"),
        ("1 YFLOP", 10**24, "FLOPs"),
        ("0.5 PF-days", 432 * 10**17, "FLOPs"),
        ("1 PF-day", 864 * 10**17, "FLOPs"),
        ("1 petaflop/s-day", 864 * 10**17, "FLOPs"),
        ("1 PFLOP/s-days", 864 * 10**17, "FLOPs"),
        ("3 TF-hours", 3 * 10**12 * 3600, "FLOPs"),
        ("2e9 tokens", 2 * 10**9, "tokens"),
        ("2B tokens", 2 * 10**9, "tokens"),
        ("2b toks", 2 * 10**9, "tokens"),
        ("1.5T tokens", 15 * 10**11, "tokens"),
        ("300 billion tokens", 3 * 10**11, "tokens"),
        ("2 Million Tokens", 2 * 10**6, "tokens"),
        ("1,000,000 tokens", 10**6, "tokens"),
        ("1_000 tokens", 1000, "tokens"),
        ("8 GPU-hours", 28_800, "GPU-seconds"),
        ("8 device hours", 28_800, "GPU-seconds"),
        ("2 TPU-days", 172_800, "GPU-seconds"),
        ("12h", 43_200, "s"),
        ("90 min", 5400, "s"),
        ("0.1 s", Fraction(1, 10), "s"),
        ("500 USD", 500, "USD"),
        ("$500", 500, "USD"),
        ("$ 1,250.50", Fraction(2501, 2), "USD"),
        ("5k USD", 5000, "USD"),
        ("312 TFLOP/s", 312 * 10**12, "FLOP/s"),
        ("1 PFLOPS", 10**15, "FLOP/s"),
        ("1e15 FLOPs per second", 10**15, "FLOP/s"),
        ("1e15 Flop / s", 10**15, "FLOP/s"),
        ("-3 tokens", -3, "tokens"),
    ],
)
def test_what_people_write(text, value, dimension):
    amount = parse(text)
    assert (amount.value, amount.dimension.value) == (value, dimension)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it does not begin with a finite number"),
        ("lots", "it does not begin with a finite number"),
        ("nan FLOPs", "it does not begin with a finite number"),
        ("inf", "it does not begin with a finite number"),
        ("2B", "'B' says how many but not of what; add a unit such as FLOPs or tokens"),
        ("2 million", "'million' says how many but not of what; add a unit such as FLOPs or tokens"),
        ("3 E", "'E' says how many but not of what; add a unit such as FLOPs or tokens"),
        ("1e18 FLOPs 2B tokens", "two amounts or units are mixed; give one, or a list of them"),
        ("1e18 FLOPs and tokens", "two amounts or units are mixed; give one, or a list of them"),
        ("1e18 FLOPs, 12h", "two amounts or units are mixed; give one, or a list of them"),
        ("1,5e18 FLOPs", "two amounts or units are mixed; give one, or a list of them"),
        ("3 FLOPs/token", "two units are mixed; give one amount with one unit"),
        ("1 FLOPs tokens", "two units are mixed; give one amount with one unit"),
        ("2e18 floops", "unknown unit 'floops'"),
        ("2g tokens", "unknown unit 'g tokens'"),
        ("2e tokens", "unknown unit 'e tokens'"),
        ("100 H100-hours", "unknown unit 'H100-hours'"),
        ("3 GPU-fortnights", "unknown unit 'GPU-fortnights'"),
        ("$500 tokens", "unknown unit 'tokens' after dollars"),
        ("1e300 FLOPs", "it is not below 1e300"),
        ("1e999999999999 FLOPs", "the number has too many digits"),
        ("1e-999999999999 FLOPs", "the number has too many digits"),
    ],
)
def test_refusals_say_what_was_got_and_what_to_write(text, why):
    with pytest.raises(InputError) as error:
        parse(text)
    assert str(error.value) == (
        f"budget: cannot use {text!r}: {why}. Write for example '1e18 FLOPs', '0.5 PF-days', '2B tokens'."
    )


@given(st.text(max_size=30) | st.from_regex(r"[0-9]{1,4}(\.[0-9]+)? ?[A-Za-z$/-]{0,12}", fullmatch=True))
def test_any_text_is_read_or_refused(text):
    message = ""
    try:
        parse(text)
    except InputError as error:
        message = str(error)
    assert message == "" or message.startswith(f"budget: cannot use {text!r}: ")


@given(st.integers(-(10**60), 10**60), st.sampled_from([Dimension.FLOPS, Dimension.TOKENS, Dimension.FLOPS_PER_SECOND]))
def test_counts_round_trip_exactly(value, dimension):
    assert parse(format_quantity(value, dimension)) == Quantity(Fraction(value), dimension)


@given(
    st.floats(0, 1e299, exclude_min=True),
    st.sampled_from([Dimension.SECONDS, Dimension.DEVICE_SECONDS, Dimension.USD, Dimension.FLOPS_PER_SECOND]),
)
def test_measures_round_trip_to_the_same_float(value, dimension):
    amount = parse(format_quantity(value, dimension))
    assert (float(amount.value), amount.dimension) == (value, dimension)


@given(st.integers(-(10**80), 10**80))
def test_exact_scientific_keeps_every_digit(value):
    assert Fraction(exact_scientific(value)) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"),
        (999_999, "999999"),
        (10**6, "1e6"),
        (4_320_000, "4.32e6"),
        (-(10**9), "-1e9"),
        (123 * 10**17, "1.23e19"),
    ],
)
def test_exact_scientific(value, text):
    assert exact_scientific(value) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (Quantity(Fraction(10**18), Dimension.FLOPS), "1e18 FLOPs"),
        (Quantity(Fraction(2 * 10**9), Dimension.TOKENS), "2e9 tokens"),
        (Quantity(Fraction(43_200), Dimension.SECONDS), "12 h"),
        (Quantity(Fraction(90), Dimension.SECONDS), "1.5 min"),
        (Quantity(Fraction(30), Dimension.SECONDS), "30 s"),
        (Quantity(Fraction(28_800), Dimension.DEVICE_SECONDS), "8 GPU-hours"),
        (Quantity(Fraction(1, 2), Dimension.USD), "0.5 USD"),
        (Quantity(Fraction(3, 2), Dimension.FLOPS_PER_SECOND), "1.5 FLOP/s"),
    ],
)
def test_a_quantity_as_text(amount, text):
    assert str(amount) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (12.3456, "12.3"),
        (999.9, "1k"),
        (1_234_567, "1.23M"),
        (999_999, "1M"),
        (7.235e10, "72.4B"),
        (1.4e12, "1.4T"),
        (5.76e17, "5.76e+17"),
        (-2e9, "-2B"),
    ],
)
def test_counts_for_people(value, text):
    assert human_count(value) == text


def test_a_difference_has_its_sign_and_none_for_what_rounds_to_zero():
    from scalestop.units import human_difference

    assert human_difference(0.0123) == "+0.012" and human_difference(-1.5, 1) == "-1.5"
    assert human_difference(-0.0004) == human_difference(0.0004) == human_difference(-0.0) == "0.000"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 FLOPs"),
        (12, "12 FLOPs"),
        (999_999, "999999 FLOPs"),
        (10**6, "1e6 FLOPs"),
        (3.2e18, "3.2e18 FLOPs"),
        (5.76e23, "5.76e23 FLOPs"),
        (9.999e20, "1e21 FLOPs"),
    ],
)
def test_flops_for_people(value, text):
    assert human_flops(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.25, "0.25 s"),
        (59, "59 s"),
        (60, "1 min"),
        (75, "1 min 15 s"),
        (3599.4, "59 min 59 s"),
        (3599.9, "1 h"),
        (7200, "2 h"),
        (93_784, "26.1 h"),
        (86_400 * 3, "3 days"),
    ],
)
def test_seconds_for_people(value, text):
    assert human_seconds(value) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1d12h", 129_600), ("1 day 12 hours", 129_600), ("1h30m", 5400), ("1h 30min 15s", 5415), ("0.5d6h", 64_800)],
)
def test_a_time_of_several_units(text, seconds):
    found = parse_quantity(text, argument="time", examples=("1h", "2h", "3h"))
    assert (found.value, found.dimension) == (seconds, Dimension.SECONDS)


@pytest.mark.parametrize(
    "text", ["12h1d", "1d1d", "1d12", "1dozen 12h", "1h and 2s", "1d12h tokens", "-1d12h", "1d-2h"]
)
def test_what_is_no_time_of_several_units(text):
    with pytest.raises(InputError):
        parse_quantity(text, argument="time", examples=("1h", "2h", "3h"))


@pytest.mark.parametrize(
    ("given", "count"),
    [("1B", 10**9), ("70B", 70 * 10**9), ("1.4T", 1_400_000_000_000), ("1e9", 10**9), (7, 7), ("32k", 32_000)],
)
def test_a_count(given, count):
    assert parse_count(given, "n") == count


@pytest.mark.parametrize("given", ["0", "-1B", "1 FLOPs", "", "B", "1e400", "nan", True, None])
def test_no_count(given):
    with pytest.raises(InputError, match=r"^n: "):
        parse_count(given, "n")
