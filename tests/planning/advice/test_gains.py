"""What the next factor buys, and the least for a target."""

import json

import numpy as np
import pytest

from scalestop import Speed, get_law
from scalestop.errors import InputError
from scalestop.laws.intervals import interval_of_gain
from scalestop.planning.advice.basis import signed
from scalestop.planning.advice.gains import least_for_loss, what_next

LAW = get_law("besiroglu")


def test_the_steps_by_hand():
    found = what_next(LAW, 8e8, 1.8e10, factors=(2.0,))
    compute, parameters, tokens = found.gains

    def loss(n, d):
        return 1.81686 + 482.00572 / n**0.34781 + 2085.4342 / d**0.36585

    assert found.start.loss == pytest.approx(loss(8e8, 1.8e10))
    assert parameters.gain == pytest.approx(loss(8e8, 1.8e10) - loss(1.6e9, 1.8e10))
    assert tokens.gain == pytest.approx(loss(8e8, 1.8e10) - loss(8e8, 3.6e10))
    assert compute.spot.flops == pytest.approx(2 * 6 * 8e8 * 1.8e10)
    assert compute.gain > max(parameters.gain, tokens.gain)
    assert found.reducible == pytest.approx(loss(8e8, 1.8e10) - 1.81686)
    assert compute.of_reducible == pytest.approx(compute.gain / found.reducible)
    assert compute.in_words == "a tenth of what is still reducible"


def test_the_gains_interval_is_that_of_the_draws_own_gains():
    found = what_next(LAW, 8e8, 1.8e10, factors=(2.0,)).gains[1]
    drawn = LAW.drawn()
    gains = drawn.loss(8e8, 1.8e10) - drawn.loss(1.6e9, 1.8e10)  # both inside the runs, so nothing drifts
    assert found.gain_interval == pytest.approx(tuple(np.quantile(gains, [0.05, 0.95])))
    assert found.gain_interval[0] < found.gain < found.gain_interval[1]


def test_far_outside_the_gain_is_less_sure():
    near, far = (interval_of_gain(LAW, (n, 20 * n), (2 * n, 20 * n)) for n in (1e9, 1e12))
    relative = [(high - low) / (high + low) for low, high in (near, far)]
    assert relative[1] > 2 * relative[0]
    assert interval_of_gain(get_law("kaplan"), (1e9, 2e10), (2e9, 2e10)) is None
    assert interval_of_gain(get_law("chinchilla-1"), (1e9, 2e10), (2e9, 2e10)) is None


def test_from_a_budget():
    found = what_next(LAW, flops=1e20)
    assert found.start.num_params == pytest.approx(LAW.optimal(1e20).num_params)
    assert [gain.what for gain in found.gains][:3] == ["2x compute", "2x parameters", "2x tokens"]
    assert "10x tokens" in str(found) and "still reducible" in str(found)
    assert json.loads(json.dumps(found.to_dict()))["gains"][0]["gain"] == found.gains[0].gain


def test_kaplan_has_no_irreducible_loss():
    found = what_next(get_law("kaplan"), 1e9, 1e10)
    assert found.reducible == found.start.loss
    assert found.gains[0].gain_interval is None and "no interval" in str(found)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({}, "flops: start from num_params with num_tokens, or from flops"),
        ({"num_params": 1e9}, "flops: start from"),
        ({"num_params": 1e9, "num_tokens": 1e10, "flops": 1e20}, "flops: start from"),
        ({"flops": 1e20, "factors": (1.0,)}, "factors: each above 1; got 1.0"),
    ],
)
def test_bad_starts(words, said):
    with pytest.raises(InputError, match=said):
        what_next(LAW, **words)


def test_the_least_for_a_loss_against_a_grid():
    found = least_for_loss(LAW, 2.2, Speed(989e12, 0.4, 8, 2.0))
    budgets = np.geomspace(1e21, 1e22, 20_000)
    best = LAW.optimal(budgets)
    assert found.best.flops == pytest.approx(
        budgets[np.argmax(LAW.loss(best.num_params, best.num_tokens) <= 2.2)], rel=2e-4
    )
    assert found.flops_interval[0] < found.best.flops < found.flops_interval[1]
    assert found.bill.usd == pytest.approx(found.best.flops / (989e12 * 0.4) / 3600 * 2)
    assert "loss 2.2 takes 3.88e21 FLOPs (90 %: " in str(found)


def test_a_loss_out_of_reach():
    found = least_for_loss(LAW, 1.8)
    assert found.best is None and "no compute goes below 1.817 by this law" in str(found)
    json.dumps(found.to_dict())
    with pytest.raises(InputError, match="law: a target loss needs a loss"):
        least_for_loss(get_law("deepseek"), 2.0)


def test_a_change_that_rounds_to_zero_has_no_sign():
    assert signed(-0.0004) == signed(0.0004) == "0.000"
    assert signed(-0.0004, (-0.01, 0.0001)) == "0.000 (90 %: -0.010 to 0.000)"
    far = what_next(get_law("besiroglu"), 1e15, 1e20)  # next to nothing is left to gain
    assert "-0.000" not in str(far) and "+0.000" not in str(far)
