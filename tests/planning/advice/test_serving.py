"""A model that will be served, against brute force and the paper's own example."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalestop import ParametricLaw, Speed, get_law
from scalestop.errors import InputError
from scalestop.laws import LawInfo
from scalestop.planning.advice.serving import explain_demand, serve, tokens_for_loss

LAW = get_law("besiroglu")
# the constants of Hoffmann et al. 2022 with one more digit of alpha and beta, which Sardana et al. 2024 use
SARDANA = ParametricLaw(LawInfo("sardana", "total", "2401.00448"), E=1.69, A=406.4, B=410.7, alpha=0.336, beta=0.283)


def brute(law, loss, demand):
    """The least of 6ND + 2N·demand over sizes that reach the loss."""
    constants = law.constants
    sizes = np.geomspace(1e7, 1e13, 400_000)
    rest = loss - constants["E"] - constants["A"] / sizes ** constants["alpha"]
    sizes, rest = sizes[rest > 0], rest[rest > 0]
    tokens = (constants["B"] / rest) ** (1 / constants["beta"])
    cost = 6 * sizes * tokens + 2 * sizes * demand
    at = np.argmin(cost)
    return sizes[at], tokens[at], cost[at]


@pytest.mark.parametrize("demand", [0.0, 1e9, 1e11, 2e12, 1e14])
@pytest.mark.parametrize("loss", [2.05, 2.4])
def test_against_brute_force(loss, demand):
    found = serve(LAW, demand, loss=loss)
    size, tokens, cost = brute(LAW, loss, demand)
    assert found.lifetime_flops == pytest.approx(cost, rel=1e-6)
    assert found.lifetime_flops <= cost * (1 + 1e-9)
    assert (found.best.num_params, found.best.num_tokens) == pytest.approx((size, tokens), rel=3e-3)
    assert found.best.loss == pytest.approx(loss, abs=1e-9)


def test_no_demand_is_chinchilla():
    found = serve(LAW, 0, flops=1e22)
    best = LAW.optimal(1e22)
    assert (found.best.num_params, found.best.num_tokens) == (best.num_params, best.num_tokens)
    assert found.chinchilla_multiple == pytest.approx(1) and found.saved == found.extra_training == 0


@settings(max_examples=4, deadline=None)
@given(one=st.floats(1e6, 1e15), other=st.floats(1e6, 1e15))
def test_the_size_falls_as_the_demand_grows(one, other):
    less, more = (serve(LAW, demand, loss=2.2) for demand in sorted((one, other)))
    assert more.best.num_params <= less.best.num_params * (1 + 1e-9)
    assert more.chinchilla_multiple >= less.chinchilla_multiple * (1 - 1e-9) >= 1 - 1e-6
    assert 0 <= less.saved <= more.saved + 1e-9


def test_the_papers_example():
    """Sardana et al. 2024, figure 1: for 2T tokens a 7B model of a 13B's quality saves 1.7e22 FLOPs, 17 %."""
    budget = 6 * 13e9 * SARDANA.optimal_tokens(13e9)
    found = serve(SARDANA, 2e12, flops=budget)
    assert found.chinchilla.num_params == pytest.approx(13e9)
    assert found.best.num_params == pytest.approx(7e9, rel=0.01)
    assert found.chinchilla_lifetime_flops - found.lifetime_flops == pytest.approx(1.7e22, abs=0.05e22)
    assert found.saved == pytest.approx(0.17, abs=0.005)


def test_the_sizes_interval_is_each_draws_own_size():
    found = serve(LAW, 1e11, loss=2.4)  # inside the law's runs, so nothing drifts
    assert found.basis.outside is None
    drawn = LAW.drawn()
    losses = drawn.loss(found.best.num_params, found.best.num_tokens)
    grid = np.geomspace(found.best.num_params / 10, found.best.num_params * 10, 4000)
    sizes = []
    for i, loss in enumerate(losses):
        E, A, B, alpha, beta = (value[i] for value in drawn.constants.values())
        rest = loss - E - A / grid**alpha
        tokens = (B / np.where(rest > 0, rest, np.nan)) ** (1 / beta)
        sizes.append(grid[np.nanargmin(6 * grid * tokens + 2 * grid * 1e11)])
    assert found.params_interval == pytest.approx(tuple(np.quantile(sizes, [0.05, 0.95])), rel=2e-3)
    assert found.params_interval[0] < found.best.num_params < found.params_interval[1]
    assert serve(SARDANA, 1e12, loss=2.2).params_interval is None


@settings(max_examples=4, deadline=None)
@given(demand=st.floats(1e9, 1e14))
def test_the_demand_is_found_again(demand):
    best = serve(LAW, demand, loss=2.1).best
    assert explain_demand(LAW, best.num_params, best.num_tokens).demand == pytest.approx(demand, rel=1e-3)


def test_what_llamas_makers_expected_to_serve():
    """Over-trained models are explained by a demand; an undertrained one by none."""
    llama_7b, llama_3_8b = explain_demand(LAW, 6.7e9, 1e12).demand, explain_demand(LAW, 8.03e9, 15e12).demand
    assert 2.5e12 < llama_7b < 4e12 and llama_3_8b > 1e14
    assert explain_demand(LAW, 280e9, 300e9).demand < 0
    # by hand: I = 3 D (alpha A/N^alpha / (beta B/D^beta) - 1)
    ratio = 0.34781 * 482.00572 / 6.7e9**0.34781 / (0.36585 * 2085.4342 / 1e12**0.36585)
    assert llama_7b == pytest.approx(3e12 * (ratio - 1), rel=1e-4)


def test_tokens_for_a_loss():
    assert LAW.loss(7e9, tokens_for_loss(LAW, 7e9, 2.1)) == pytest.approx(2.1)
    assert tokens_for_loss(LAW, 1e6, 2.1) == np.inf


def test_what_it_says():
    found = serve(LAW, 2e12, loss=2.1, speed=Speed(989e12, 0.4, 8, 2.0))
    text = str(found)
    assert "2T tokens served" in text and "saved" in text and "8 devices" in text
    data = json.loads(json.dumps(found.to_dict()))
    assert data["saved"] == found.saved and data["basis"]["law"] == "besiroglu"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"demand": 1e12}, "loss: give the loss to reach, or flops"),
        ({"demand": 1e12, "loss": 2.0, "flops": 1e20}, "loss: give the loss to reach, or flops"),
        ({"demand": -1, "loss": 2.0}, "demand: must be positive"),
        ({"demand": 1e12, "loss": 1.5}, "loss: 1.5 is out of reach of law 'besiroglu'"),
        ({"demand": 1e12, "loss": 2.5, "law": get_law("kaplan")}, "the optimum of 'kaplan' is not the minimum"),
        ({"demand": 1e12, "loss": 2.5, "law": get_law("deepseek")}, "law: serving needs a loss"),
    ],
)
def test_bad_questions(words, said):
    with pytest.raises(InputError, match=said):
        serve(**({"law": LAW} | words))
