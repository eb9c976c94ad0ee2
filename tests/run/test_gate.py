"""Conditions on metrics."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scalestop.errors import InputError
from scalestop.run.gate import Condition, Gate


@pytest.mark.parametrize(
    ("text", "met", "unmet"),
    [(">= 0.4", 0.4, 0.3999), ("<=1e-3", 0.001, 0.002), ("> -1", 0, -1), ("  <  .5 ", 0.4, 0.5)],
)
def test_conditions_as_people_write_them(text, met, unmet):
    gate = Gate.parse({"m": text})
    assert gate.waiting_for({"m": met}) is None
    assert gate.waiting_for({"m": unmet}) == f"{gate.conditions[0]} (now {unmet:.4g})"


def test_all_must_hold_and_the_unmet_are_named():
    gate = Gate.parse({"a": ">= 1", "b": "< 2", "c": "> 3"})
    assert gate.waiting_for({"a": 1, "b": 5.0}) == "b < 2 (now 5) and c > 3 (not logged yet)"
    assert gate.missing({"a": 1, "b": 5.0}) == ("c",)


def test_open_without_conditions():
    for nothing in (None, {}):
        gate = Gate.parse(nothing)
        assert gate.waiting_for({}) is None and gate.missing({}) == ()


def test_tensors_are_numbers():
    assert Gate.parse({"m": ">= 0.5"}).waiting_for({"m": torch.tensor(0.75)}) is None


@pytest.mark.parametrize("comparison", [">=", "<=", ">", "<"])
def test_not_a_number_is_never_met(comparison):
    assert not Condition("m", comparison, 0.0).met(math.nan)


@pytest.mark.parametrize("text", ["0.4", "== 0.4", ">= high", "", ">= 0.4 or so", ">= 1 2"])
def test_unreadable_conditions_are_refused(text):
    with pytest.raises(InputError, match=r"until: m: cannot read .* write a comparison with a number"):
        Gate.parse({"m": text})


def test_not_a_mapping_is_refused():
    with pytest.raises(InputError, match="expected a mapping"):
        Gate.parse("val_accuracy >= 0.4")


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_comparisons_are_those_of_numbers(value, bound):
    for text, truth in ((">=", value >= bound), ("<=", value <= bound), (">", value > bound), ("<", value < bound)):
        assert Gate.parse({"m": f"{text} {bound!r}"}).waiting_for({"m": value}) is None or not truth
        assert (Gate.parse({"m": f"{text} {bound!r}"}).waiting_for({"m": value}) is None) == truth
