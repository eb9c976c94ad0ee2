"""Which law plans a run."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalestop.errors import InputError
from scalestop.laws import ValidRange, get_law
from scalestop.planning.budget import Budget
from scalestop.planning.choice import (
    ADVICE_BEYOND,
    AUTO_LAWS,
    LawChoice,
    advice,
    choose_law,
    compute_of,
    need_law,
    resolve_law,
)
from scalestop.planning.speed import Speed


def factors(law, flops):
    """Factors of ten between a budget and a law's runs, written out."""
    low, high = get_law(law).info.valid.flops
    return max(np.log10(low / flops), np.log10(flops / high), 0)


@given(st.floats(3, 30))
def test_the_nearest_in_factors_of_ten(exponent):
    flops = round(10**exponent)
    choice = choose_law(flops)
    distances = {name: factors(name, flops) for name in AUTO_LAWS}
    assert distances[choice.name] == pytest.approx(min(distances.values()), abs=1e-3)
    assert choice.distance == pytest.approx(distances[choice.name], abs=1e-3)
    if abs(choice.distance - ADVICE_BEYOND) > 1e-3:
        assert choice.advisory == (choice.distance > ADVICE_BEYOND)


@pytest.mark.parametrize(
    ("budget", "name", "reason", "advisory"),
    [
        ("1e12 FLOPs", "stdlib-bytes", "1e12 FLOPs lies within its runs, 3e10 to 1e12 FLOPs", False),
        ("1e21 FLOPs", "besiroglu", "1e21 FLOPs lies within its runs, 1.4e18 to 1.3e22 FLOPs", False),
        (
            "1e14 FLOPs",
            "stdlib-bytes",
            "of the built-in laws its runs are nearest to 1e14 FLOPs: 3e10 to 1e12 FLOPs, 2.0 factors of ten away",
            False,
        ),
        (
            "1e6 FLOPs",
            "stdlib-bytes",
            "of the built-in laws its runs are nearest to 1e6 FLOPs: 3e10 to 1e12 FLOPs, 4.5 factors of ten away",
            True,
        ),
        (
            "1e26 FLOPs",
            "besiroglu",
            "of the built-in laws its runs are nearest to 1e26 FLOPs: 1.4e18 to 1.3e22 FLOPs, 3.9 factors of ten away",
            True,
        ),
        # tokens alone: the compute of the model that each law would give them
        ("2M tokens", "stdlib-bytes", "7.12e11 FLOPs lies within its runs, 3e10 to 1e12 FLOPs", False),
        ("20B tokens", "besiroglu", "1.05e20 FLOPs lies within its runs, 1.4e18 to 1.3e22 FLOPs", False),
    ],
)
def test_what_it_says(budget, name, reason, advisory):
    choice = choose_law(budget)
    assert (choice.name, choice.reason, choice.how, choice.advisory) == (name, reason, "auto", advisory)


def test_tokens_of_a_model_are_compute():
    assert choose_law("1M tokens", 10**5).name == "stdlib-bytes"
    assert choose_law("20B tokens", 10**9).name == "besiroglu"


def test_time_alone_goes_by_the_size_until_a_speed_is_known():
    small, large = choose_law("12h", 50_000), choose_law("12h", 10**9)
    assert (small.name, small.reason) == ("stdlib-bytes", "N 50k lies within its runs, 4.41k to 164k parameters")
    assert (large.name, large.distance) == ("besiroglu", 0)
    neither = choose_law("12h")
    assert (neither.name, neither.distance, neither.advisory) == ("besiroglu", None, False)
    assert neither.reason == "the default: neither the budget's compute nor the model's size is known yet"
    assert choose_law("1s", 10**9, speed=Speed(measured_flops_per_second=1e12)).name == "stdlib-bytes"


def test_compute_is_counted_in_the_laws_currency():
    law = get_law("besiroglu")
    assert compute_of(Budget.parse("1e18 FLOPs"), law) == 1e18
    assert compute_of(Budget.parse("1e18 FLOPs"), law, 10**8, flops_per_token=12 * 10**8) == pytest.approx(5e17)
    assert compute_of(Budget.parse("1e18 FLOPs or 1B tokens"), law, 10**8) == 6e17
    assert compute_of(Budget.parse("12h"), law, 10**8) is None
    speed = Speed(measured_flops_per_second=1e12, num_devices=2)
    assert compute_of(Budget.parse("1h or 1e30 FLOPs"), law, speed=speed) == 7.2e15


class TestResolve:
    def test_auto(self):
        assert resolve_law("auto", "1e12 FLOPs") == choose_law("1e12 FLOPs")

    def test_a_name_a_file_and_a_law_are_obeyed(self, tmp_path):
        law = get_law("chinchilla")
        for given_law in ("chinchilla", law, str(law.save(tmp_path / "mine.json"))):
            choice = resolve_law(given_law, "1e28 FLOPs")
            assert (choice.law, choice.how, choice.advisory) == (law, "named", False)
            assert choice.distance == pytest.approx(np.log10(1e28 / 3e21), abs=1e-3)

    def test_a_nearer_law_is_mentioned_where_the_named_one_is_far_off(self):
        assert resolve_law("besiroglu", "1e12 FLOPs").reason == (
            "named by the user, and obeyed; law 'auto' would take stdlib-bytes, whose runs are nearer"
        )
        for law, budget in (("besiroglu", "1e28 FLOPs"), ("chinchilla", "1e22 FLOPs"), ("kaplan", "1e10 FLOPs")):
            assert resolve_law(law, budget).reason == "named by the user"

    def test_a_law_that_states_no_range_has_no_distance(self):
        law = get_law("besiroglu")
        bare = replace(law, info=replace(law.info, valid=ValidRange()))
        assert resolve_law(bare, "1e28 FLOPs", 10**9).distance is None

    def test_none_is_no_law(self):
        choice = resolve_law(None, "12h")
        assert (choice.law, choice.name, choice.how) == (None, "none", "none")
        with pytest.raises(InputError, match="law: a forecast needs a law; name one"):
            need_law(choice, "a forecast")

    def test_a_choice_stays(self):
        choice = choose_law("1e12 FLOPs")
        assert resolve_law(choice, "1e24 FLOPs") is choice

    def test_what_is_no_law(self):
        with pytest.raises(InputError, match="no law and no file is called 'automatic'"):
            resolve_law("automatic", "1e12 FLOPs")
        with pytest.raises(InputError, match="law: expected a name, a path or a ScalingLaw; got int"):
            resolve_law(5, "1e12 FLOPs")


def test_advice_is_given_by_a_law_that_only_advises():
    assert advice(choose_law("1e12 FLOPs"), 1e12) is None
    assert advice(LawChoice(None, "", "none", advisory=True), 1e12) is None
    assert "scalestop ladder --target '1e26 FLOPs'" in advice(choose_law("1e26 FLOPs"), 1e26)
    assert "scalestop ladder --target 'YOUR BUDGET'" in advice(choose_law("1e26 FLOPs"), None)
