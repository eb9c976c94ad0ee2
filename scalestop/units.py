"""Quantities with units: what people write, read exactly.

Everything inside scalestop is in FLOPs, tokens, seconds and US dollars. PF-days, GPU-hours and their kin exist only
here, at the edge. Amounts are read with rational arithmetic, so `"0.5 PF-days"` is exactly 43200000000000000000 FLOPs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from scalestop.errors import InputError, shown

SECONDS_PER_DAY = 86_400
FLOPS_PER_PF_DAY = 10**15 * SECONDS_PER_DAY
"""1 PF-day = 1e15 FLOP/s for one day = 8.64e19 FLOPs (Kaplan et al. 2020, section 1.1)."""


class Dimension(StrEnum):
    """What a quantity measures; the value is the unit it is held in."""

    FLOPS = "FLOPs"
    TOKENS = "tokens"
    DEVICE_SECONDS = "GPU-seconds"
    SECONDS = "s"
    USD = "USD"
    FLOPS_PER_SECOND = "FLOP/s"


@dataclass(frozen=True)
class Quantity:
    """An exact amount of one dimension, in that dimension's base unit."""

    value: Fraction
    dimension: Dimension

    def __str__(self) -> str:
        return format_quantity(self.value, self.dimension)


_SI = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18, "Z": 10**21, "Y": 10**24}
_SI_WORDS = {
    "kilo": 10**3,
    "mega": 10**6,
    "giga": 10**9,
    "tera": 10**12,
    "peta": 10**15,
    "exa": 10**18,
    "zetta": 10**21,
    "yotta": 10**24,
}
_COUNT_WORDS = {
    **_SI,
    **_SI_WORDS,
    "K": 10**3,
    "m": 10**6,
    "b": 10**9,
    "B": 10**9,
    "t": 10**12,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
_SECONDS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), SECONDS_PER_DAY),
}
_NUMBER = r"[+-]?(?:\d[\d_]*(?:,\d{3})*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_CLOCK = re.compile(r"\s*" + "".join(rf"(?:(?P<{u}>\d+(?:\.\d+)?)\s*{u}[a-z]*\s*)?" for u in "dhms"))
"""A time of several units, the largest first, such as 1d12h or 1h 30min."""
_AMOUNT = re.compile(rf"\s*(?P<number>{_NUMBER})(?P<rest>.*)", re.DOTALL)
_DOLLARS = re.compile(rf"\s*\$\s*(?P<number>{_NUMBER})(?P<rest>.*)", re.DOTALL)
_FLOP_SCALE = rf"(?P<scale>[kKMGTPEZYB]?|{'|'.join(_SI_WORDS)}|thousand|million|billion|trillion)"
_FLOPS = re.compile(rf"{_FLOP_SCALE}[ -]?(?:FLOPs?|flops?|Flops?)")
_FLOPS_PER_SECOND = re.compile(
    rf"{_FLOP_SCALE}[ -]?(?:(?:FLOPs?|flops?|Flops?)(?: ?/ ?(?:s|sec|second)| per second)|FLOPS)"
)
_PF_TIME = re.compile(
    r"(?P<scale>giga|tera|peta|exa|[GTPEZ])(?:F|FLOPs?|FLOPs?/s)[ -]?(?P<time>days?|hours?|h|d|years?)", re.IGNORECASE
)
_TOKENS = re.compile(r"(?P<scale>[kKMGTPEbBmt]|(?i:thousand|million|billion|trillion))?\s*(?i:tokens?|toks?)")
_DEVICE_TIME = re.compile(r"(?:GPU|TPU|device|accelerator|chip)s?[ -]?(?P<time>[a-z]+)", re.IGNORECASE)
_USD = re.compile(r"(?P<scale>[kKmMbB]?)\s*(?i:USD|US dollars?|dollars?)")
_YEAR = 365 * SECONDS_PER_DAY
MAX_EXPONENT = 300
"""Amounts of 1e300 and beyond are refused: what is derived from them would not fit a float."""


def parse_quantity(text: str, *, argument: str, examples: tuple[str, str, str]) -> Quantity:
    """Read one amount with its unit.

    Args:
        text: What the user wrote, e.g. `"3.2 EFLOPs"`, `"0.5 PF-days"`, `"2B tokens"`, `"8 GPU-hours"`, `"12h"`,
            `"500 USD"`, `"312 TFLOP/s"`. A bare number counts FLOPs.
        argument: Name of the argument, for the error message.
        examples: Three valid forms, for the error message.

    Returns:
        The exact amount. Its sign is not judged here.

    Raises:
        InputError: If the text is no number with one known unit.
    """

    def refuse(why: str) -> InputError:
        written = ", ".join(repr(e) for e in examples)
        return InputError(f"{argument}: cannot use {shown(text)}: {why}. Write for example {written}.")

    if not isinstance(text, str):
        raise refuse("it is no text")
    if (clock := _clock_seconds(text)) is not None:
        return Quantity(clock, Dimension.SECONDS)
    match = _AMOUNT.fullmatch(text) or _DOLLARS.fullmatch(text)
    if match is None:
        raise refuse("it does not begin with a finite number")
    written = match["number"].replace(",", "").replace("_", "").lower()
    # judged before the number is built: 10**999999999 would fill the memory
    if len(written) > 1000 or abs(int(written.partition("e")[2] or 0)) > 1000:
        raise refuse("the number has too many digits")
    number = Fraction(written)

    def amount(value: Fraction, dimension: Dimension) -> Quantity:
        if abs(value) >= 10**MAX_EXPONENT:
            raise refuse(f"it is not below 1e{MAX_EXPONENT}")
        return Quantity(value, dimension)

    if text.lstrip().startswith("$"):
        if (rest := match["rest"].strip()) not in {"", "USD"}:
            raise refuse(f"unknown unit {shown(rest)} after dollars")
        return amount(number, Dimension.USD)
    unit = match["rest"].strip()
    if not unit:
        return amount(number, Dimension.FLOPS)
    if unit in _COUNT_WORDS and unit not in _SECONDS:
        raise refuse(f"{unit!r} says how many but not of what; add a unit such as FLOPs or tokens")
    if re.search(r"(?<![A-Za-z\d])\d", unit) or re.search(r"\b(and|plus)\b|[+;&,]", unit):
        raise refuse("two amounts or units are mixed; give one, or a list of them")
    if found := _FLOPS.fullmatch(unit):
        return amount(number * _COUNT_WORDS[found["scale"]], Dimension.FLOPS)
    if found := _PF_TIME.fullmatch(unit):
        time = found["time"].lower()
        seconds = _YEAR if time.startswith("y") else _SECONDS[time]
        return amount(number * _SI[found["scale"][0].upper()] * seconds, Dimension.FLOPS)
    if found := _FLOPS_PER_SECOND.fullmatch(unit):
        return amount(number * _COUNT_WORDS[found["scale"]], Dimension.FLOPS_PER_SECOND)
    if found := _TOKENS.fullmatch(unit):
        scale = found["scale"] or ""
        return amount(number * _COUNT_WORDS[scale.lower() if len(scale) > 1 else scale], Dimension.TOKENS)
    if (found := _DEVICE_TIME.fullmatch(unit)) and found["time"].lower() in _SECONDS:
        return amount(number * _SECONDS[found["time"].lower()], Dimension.DEVICE_SECONDS)
    if unit in _SECONDS:
        return amount(number * _SECONDS[unit], Dimension.SECONDS)
    if found := _USD.fullmatch(unit):
        return amount(number * _COUNT_WORDS[found["scale"]], Dimension.USD)
    if len(re.findall(r"flops?|tokens?|days?|hours?|usd", unit, re.IGNORECASE)) > 1:
        raise refuse("two units are mixed; give one amount with one unit")
    raise refuse(f"unknown unit {shown(unit)}")


def _clock_seconds(text: str) -> Fraction | None:
    """Return a time of two units or more, seconds; None if the text is none."""
    match = _CLOCK.fullmatch(text[:100])
    parts = {unit: amount for unit, amount in (match.groupdict().items() if match else ()) if amount is not None}
    words = re.findall(r"[a-z]+", text)
    if len(parts) < 2 or not all(word in _SECONDS or word == "m" for word in words):
        return None
    sizes = {"d": SECONDS_PER_DAY, "h": 3600, "m": 60, "s": 1}
    return sum((Fraction(amount) * sizes[unit] for unit, amount in parts.items()), Fraction(0))


def parse_count(value: str | float, argument: str) -> int:
    """Read a count such as `"1.3B"`, `"524288"`, `"1e9"` or `"70B"`; a number is taken as it is.

    Args:
        value: What was given. K, M, B and T (or thousand to trillion) say how many.
        argument: Name of the argument, for the error message.

    Returns:
        The nearest whole number.

    Raises:
        InputError: If it is no positive number, or of another unit.
    """
    text = value if isinstance(value, str) else repr(value)
    examples = ("1300000000", "1.3e9", "1.3B")
    try:  # a count is tokens to the parser of quantities: both take K, M, B, T
        count = round(parse_quantity(f"{text} tokens", argument=argument, examples=examples).value)
    except InputError:
        raise InputError(
            f"{argument}: cannot read {shown(value)} as a count. Write for example {', '.join(map(repr, examples))}."
        ) from None
    if count <= 0:
        raise InputError(f"{argument}: must be positive; got {shown(value)}")
    return count


def format_quantity(value: Fraction | int | float, dimension: Dimension) -> str:
    """Write an amount so that `parse_quantity` reads it back: counts exactly, times and money to the same float.

    Counts come out in scientific notation with every digit kept; times in the largest unit that is exact.
    """
    if dimension is Dimension.USD:
        return f"{_plain(value)} USD"
    if dimension in (Dimension.SECONDS, Dimension.DEVICE_SECONDS):
        units = ("h", 3600), ("min", 60), ("s", 1)
        names = {"h": "hours", "min": "minutes", "s": "seconds"}
        for unit, seconds in units:
            shown = _plain(float(value) / seconds)
            if float(Fraction(shown) * seconds) == float(value) and (unit == "s" or float(value) >= seconds):
                return f"{shown} {unit}" if dimension is Dimension.SECONDS else f"{shown} GPU-{names[unit]}"
    return f"{exact_scientific(int(value)) if value == int(value) else repr(float(value))} {dimension}"


def _plain(value: Fraction | int | float) -> str:
    number = float(value)
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)


def exact_scientific(value: int) -> str:
    """Return an int as text with every digit kept: 12345 -> '12345', 43200000000000000000 -> '4.32e19'."""
    if abs(value) < 1_000_000:
        return str(value)
    sign, digits = ("-", str(-value)) if value < 0 else ("", str(value))
    mantissa = digits.rstrip("0")
    exponent = len(digits) - 1
    return f"{sign}{mantissa[0]}{'.' + mantissa[1:] if len(mantissa) > 1 else ''}e{exponent}"


def human_count(value: float, digits: int = 3) -> str:
    """Return a count for people: 1234567 -> '1.23M', 7.235e10 -> '72.4B'. At 1e15 and beyond: '5.76e+17'."""
    value = float(value)
    for scale, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        # rounded first, so that 999,999 reads 1M rather than 1000k
        rounded = float(f"{value:.{digits}g}")
        if scale <= abs(rounded) < 1e15:
            return f"{rounded / scale:.{digits}g}{suffix}"
    return f"{value:.{digits}g}"


def human_flops(value: float, digits: int = 3) -> str:
    """Return FLOPs for people: 3.2e18 -> '3.2e18 FLOPs'."""
    if abs(value) < 1e6:
        return f"{value:.{max(digits, 6)}g} FLOPs"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}e{int(exponent)} FLOPs"


def human_difference(value: float, digits: int = 3) -> str:
    """Return a difference with its sign, and none for what rounds to zero: 0.0123 -> '+0.012', -0.0001 -> '0.000'."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text


def human_seconds(value: float) -> str:
    """Return a duration for people: 75 -> '1 min 15 s', 93784 -> '26.1 h'."""
    if value < 60:
        return f"{value:.3g} s"
    if round(value) < 3600:
        minutes, seconds = divmod(round(value), 60)
        return f"{minutes} min {seconds} s" if seconds else f"{minutes} min"
    return f"{value / 3600:.3g} h" if value < 2 * SECONDS_PER_DAY else f"{value / SECONDS_PER_DAY:.3g} days"


def pf_days(flops: float) -> float:
    """Convert FLOPs to PF-days."""
    return flops / FLOPS_PER_PF_DAY
