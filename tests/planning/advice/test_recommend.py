from __future__ import annotations

import json
import math

import numpy as np
import pytest

from scalestop import InputError, Speed, get_law
from scalestop.planning.advice import data_wall, hold_against, recommend, serve, serve_within
from scalestop.planning.advice.recommend import OTHERS

LAW = get_law("besiroglu")
H100S = Speed(9.89e14, 0.4, 8, 2.5)


def test_a_budget_gets_its_optimum_with_hours_and_money():
    found = recommend("1e21 FLOPs", LAW, speed=H100S)
    n, d = LAW.optimal(1e21)
    assert (found.train.num_params, found.train.num_tokens) == pytest.approx((n, d))
    assert found.decision == "Train 2.78B parameters on 59.9B tokens (21.5 per total parameter)."
    # 1e21 / (0.4 · 9.89e14 · 3600) = 702.2 device-hours, at 2.5 USD
    assert found.bill.device_hours == pytest.approx(702.2, rel=1e-3) and found.bill.usd == pytest.approx(1755, rel=1e-3)
    assert found.shape.count("total") == pytest.approx(n, rel=0.1)
    assert found.first is None
    low, high = found.flat
    assert low < 1 < high


def test_the_page_puts_the_decision_first_and_holds_each_part():
    found = recommend("1e21 FLOPs", LAW, speed=H100S)
    assert [s.title for s in found.sections] == ["Decision", "Why", "Alternatives", "The next 2x", "Risks", "Commands"]
    text = str(found)
    assert text.splitlines()[0] == f"decision      {found.decision}"
    assert all(line == line.rstrip() for line in text.splitlines())
    for words in ("702 device-hours", "2x compute", "a tenth of what is still reducible", "watch: task:", "--seal"):
        assert words in text
    json.dumps(found.to_dict(), allow_nan=False)


def test_alternatives_are_judged_by_the_same_law():
    found = recommend("1e21 FLOPs", LAW)
    for rival in found.alternatives[1:]:
        spot = rival.spot
        assert 6 * spot.num_params * spot.num_tokens == pytest.approx(1e21)
        assert rival.change == pytest.approx(float(LAW.loss(spot.num_params, spot.num_tokens)) - found.train.loss)
        assert rival.change >= 0
    assert {f"law {name}" for name in OTHERS} <= {rival.what for rival in found.alternatives}


@pytest.mark.parametrize("demand", [2e12, *(pytest.param(demand, marks=pytest.mark.slow) for demand in (1e10, 1e14))])
def test_serving_within_a_budget_spends_it_and_has_the_least_lifetime_compute_for_its_loss(demand):
    found = serve_within(LAW, demand, 1e21)
    assert found.best.flops == pytest.approx(1e21, rel=1e-3)

    # brute force: every other size of the same loss costs more over its lifetime
    for factor in (0.7, 0.9, 1.1, 1.5):
        size = found.best.num_params * factor
        left = found.best.loss - LAW.E - LAW.A / size**LAW.alpha
        if left > 0:
            tokens = (LAW.B / left) ** (1 / LAW.beta)
            assert 6 * size * tokens + 2 * size * demand > found.lifetime_flops


@pytest.mark.slow
def test_the_more_is_served_the_smaller_the_model_and_no_demand_is_the_optimum():
    sizes = [serve_within(LAW, demand, 1e21).best.num_params for demand in (0, 1e10, 1e12, 1e14)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == pytest.approx(float(LAW.optimal(1e21).num_params))
    assert serve_within(LAW, 0, 1e21).best == serve(LAW, 0, flops=1e21).best


def test_a_demand_makes_the_decision():
    found = recommend("1e21 FLOPs", LAW, demand=2e12)
    assert found.train == found.serving.best
    assert "2T tokens served" in str(found)
    optimum = next(rival for rival in found.alternatives if rival.what == "compute-optimal")
    assert optimum.change < 0  # it has the lower loss and costs more to serve


def test_few_unique_tokens_make_the_decision():
    found = recommend("1e22 FLOPs", LAW, unique_tokens=25e9)
    assert found.train == data_wall(LAW, 1e22, 25e9).best
    assert "10.1 passes over them" in str(found)
    assert any(item.topic == "repetition" for item in found.checks.items)
    plenty = recommend("1e21 FLOPs", LAW, unique_tokens=1e12)
    assert plenty.train == recommend("1e21 FLOPs", LAW).train


def test_far_from_its_runs_a_law_of_your_own_comes_first():
    found = recommend("1e14 FLOPs", LAW)
    assert found.first.startswith(
        "fit a law of your own nearer to this budget (scalestop ladder --target '1e14 FLOPs')"
    )
    assert "First: fit a law" in str(found).splitlines()[0]


def test_the_commands_name_the_law_as_it_was_given_and_quote_it():
    found = recommend("1e21 FLOPs", LAW, law_argument="my laws/law.json")
    assert found.commands[0].startswith(
        "scalestop plan --budget '1e21 FLOPs' --law 'my laws/law.json' --params 2.782e+09"
    )
    assert 'law="my laws/law.json"' in found.commands[3]


def test_runs_are_held_against_the_law():
    n, d = np.array([1e9, 2e9, 4e9]), np.array([2e10, 4e10, 8e10])
    exact = np.asarray(LAW.loss(n, d))
    found = hold_against(LAW, n, d, exact * [1.01, 1.0, 0.98])
    assert found.mean_miss == pytest.approx(-0.01 / 3) and found.worst_miss == pytest.approx(-0.02)
    assert found.largest_flops == 6 * 4e9 * 8e10 and found.num_runs == 3
    assert found.inside is not None and hold_against(LAW, n, d, exact * 2).inside == 0
    assert hold_against(get_law("kaplan"), n, d, exact).inside is None
    with pytest.raises(InputError, match=r"^runs: there is none$"):
        hold_against(LAW, [], [], [])


def test_what_cannot_be_recommended_is_refused():
    with pytest.raises(InputError, match=r"^peak: a budget in time or money is no compute yet"):
        recommend("12h", LAW)
    with pytest.raises(InputError, match=r"^law: a recommendation needs a loss"):
        recommend("1e21 FLOPs", "deepseek")
    with pytest.raises(InputError, match=r"^law: a recommendation needs a law"):
        recommend("1e21 FLOPs", None)


def test_time_on_devices_is_a_budget():
    found = recommend("72h", LAW, speed=H100S)
    assert found.flops == pytest.approx(72 * 3600 * 8 * 0.4 * 9.89e14)
    assert math.isclose(found.train.flops, found.flops, rel_tol=1e-9)


def test_a_model_served_so_much_that_it_leaves_the_laws_runs_needs_another_law_first():
    assert recommend("1e21 FLOPs", LAW, demand=1e25).first.startswith("fit a law of your own nearer")


def test_a_model_too_small_for_the_vocabulary_has_no_shape():
    assert recommend("1e12 FLOPs", "stdlib-bytes").shape is None
    assert recommend("1e12 FLOPs", "stdlib-bytes", vocab_size=256, context=128).shape is not None
