"""The rule's settings."""

import pytest

from scalestop.errors import InputError
from scalestop.planning.rule import Limit, StopReason, StopRule


def test_defaults_are_algorithm_3():
    rule = StopRule()
    assert (rule.tolerance, rule.oversize_factor) == (0.1, 2.0)
    assert (rule.oversized, rule.undersized, rule.stop_at, rule.overshoot) == ("stop", "continue", "median", "allow")


@pytest.mark.parametrize("value", [-0.1, 1, float("nan")])
def test_tolerance(value):
    with pytest.raises(InputError) as error:
        StopRule(tolerance=value)
    assert str(error.value) == f"tolerance: a share of N_opt, at least 0 and below 1; got {value!r}"


@pytest.mark.parametrize("value", [0.5, 1.05, float("inf"), float("nan")])
def test_oversize_factor_starts_where_the_tolerance_ends(value):
    with pytest.raises(InputError) as error:
        StopRule(oversize_factor=value)
    assert str(error.value) == f"oversize_factor: at least 1 + tolerance = 1.1, and finite; got {value!r}"


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("oversized", "stop, warn, ignore"),
        ("undersized", "continue, stop"),
        ("stop_at", "earliest, median, latest"),
        ("overshoot", "allow, never"),
    ],
)
def test_choices(name, choices):
    with pytest.raises(InputError) as error:
        StopRule(**{name: "maybe"})
    assert str(error.value) == f"{name}: one of {choices}; got 'maybe'"


def test_reasons_are_their_names():
    assert all(reason.value == reason.name for reason in StopReason)
    assert len(StopReason) == 12


def test_only_the_optimum_is_no_hard_limit():
    hard = {reason for reason in StopReason if Limit(reason, "flops", 1).hard}
    assert set(StopReason) - hard == {StopReason.COMPUTE_OPTIMAL}
