"""Algorithms 1 and 2: allocation, its consistency check, prediction."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalestop.errors import InputError, ScalestopWarning
from scalestop.laws import LawInfo, ParametricLaw, Uncertainty, get_law, list_laws
from scalestop.laws.intervals import interval_of_optimum
from scalestop.planning.allocation import allocate, predict_loss, spread

CONSTANTS = {"E": 1.8, "A": 480.0, "B": 2085.0, "alpha": 0.348, "beta": 0.366}


def law_with_draws(spread=0.05):
    rng = np.random.default_rng(1)
    draws = np.array(list(CONSTANTS.values())) * np.exp(rng.normal(0, spread, (200, 5)))
    info = LawInfo(name="fitted", n_counts="total", source="a test")
    uncertainty = Uncertainty(draws, names=tuple(CONSTANTS), method="parametric", num_runs=9, data_hash="")
    return ParametricLaw(info, uncertainty, **CONSTANTS)


def test_one_pf_day():
    allocation = allocate("1 PF-day")
    assert allocation.flops == 86_400_000_000_000_000_000
    assert allocation.num_params == pytest.approx(7.93e8, rel=1e-3)
    assert allocation.num_tokens == pytest.approx(1.816e10, rel=3e-4)
    assert allocation.loss == pytest.approx(2.572, abs=5e-4)
    assert allocation.tokens_per_param == pytest.approx(allocation.num_tokens / allocation.num_params)
    assert (allocation.law, allocation.n_counts, allocation.warnings) == ("besiroglu", "total", ())
    assert allocation.law_reason == "8.64e19 FLOPs lies within its runs, 1.4e18 to 1.3e22 FLOPs"
    for interval, value in (
        (allocation.params_interval, allocation.num_params),
        (allocation.tokens_interval, allocation.num_tokens),
        (allocation.loss_interval, allocation.loss),
    ):
        assert interval[0] < value < interval[1]
    assert str(allocation) == (
        "8.64e19 FLOPs by law besiroglu: N_opt 793M (90 %: 743M to 841M) (total), D_opt 18.2B (90 %: 17.1B to 19.4B) "
        "tokens, 22.9 tokens/param, predicted loss 2.572 (90 %: 2.569 to 2.574) nats/token"
    )
    bare = allocate("1 PF-day", "kaplan")
    assert bare.params_interval is bare.tokens_interval is bare.loss_interval is None
    assert "90 %" not in str(bare)


def test_a_law_without_a_loss():
    allocation = allocate("1 PF-day", "chinchilla-1")
    assert allocation.loss is None
    assert "loss" not in str(allocation)


@pytest.mark.parametrize("name", sorted(list_laws()))
@given(flops=st.floats(1e9, 1e28))
def test_only_the_taught_version_misses_its_own_budget(name, flops):
    """Algorithm 1's 10 % check: 6·N_opt·D_opt against C."""
    inconsistent = [line for line in allocate(flops, name).warnings if "inconsistent" in line]
    assert len(inconsistent) == (name == "kaplan-presentation")


def test_the_consistency_warning_names_both_numbers():
    assert allocate("1 PF-day", "kaplan-presentation").warnings[0] == (
        "law kaplan-presentation is inconsistent: 6·N_opt·D_opt = 5.76e+18 FLOPs, but the budget is 8.64e+19 FLOPs "
        "(0.0667 of it)"
    )


def test_outside_its_range_a_law_says_how_far():
    assert allocate(1e12, "besiroglu").warnings == (
        "law besiroglu, outside its runs: C is 6.1 factors of ten below 1.4e18 to 1.3e22 FLOPs, N 2.9 below 57.3M to "
        "16.2B parameters, D 2.5 below 819M to 318B tokens",
    )
    assert allocate(1e12).warnings == ()


@pytest.mark.parametrize("name", sorted(list_laws()))
@given(tokens=st.integers(10**7, 10**13))
def test_a_budget_in_tokens_asks_for_the_model_they_are_optimal_for(name, tokens):
    allocation = allocate(f"{tokens} tokens", get_law(name))
    assert allocation.num_tokens == pytest.approx(tokens, rel=1e-6)
    assert get_law(name).optimal_tokens(allocation.num_params) == pytest.approx(tokens, rel=1e-6)


def test_of_two_limits_the_smaller_counts():
    assert allocate("1e18 FLOPs or 1e15 tokens").flops == 10**18
    assert allocate("1e25 FLOPs or 2B tokens") == allocate("2B tokens")


@pytest.mark.parametrize("budget", ["12h", "8 GPU-hours", "500 USD"])
def test_time_and_money_are_no_compute(budget):
    with pytest.raises(InputError) as error:
        allocate(budget)
    assert "is no amount of compute by itself; give FLOPs or tokens, or a device's peak FLOP/s" in str(error.value)


def test_predict_loss():
    assert predict_loss(1e9, 2e10) == get_law("besiroglu").loss(1e9, 2e10)
    assert predict_loss(np.array([1e8, 1e9]), 1e10, "chinchilla").shape == (2,)
    with pytest.warns(ScalestopWarning):  # GPT-3's size, a hundred times over the law's
        assert predict_loss(1.75e11, 3e11, "kaplan") == pytest.approx(1.661, abs=5e-4)
    with pytest.raises(InputError, match="law 'deepseek' allocates compute but predicts no loss"):
        predict_loss(1e9, 1e10, "deepseek")


def test_outside_the_runs_a_prediction_warns_of_what_is_outside_and_how_far():
    with pytest.warns(ScalestopWarning) as caught:
        losses = predict_loss(np.array([1e9, 1e12]), np.array([2e10, 1e11]))
    assert [str(warning.message) for warning in caught] == [
        "predict_loss: law besiroglu, outside its runs: N is 1.8 factors of ten above 57.3M to 16.2B parameters, C 1.7 "
        "above 1.4e18 to 1.3e22 FLOPs"
    ]
    assert caught[0].filename == __file__
    assert losses == pytest.approx(get_law("besiroglu").loss(np.array([1e9, 1e12]), np.array([2e10, 1e11])))
    with pytest.warns(ScalestopWarning, match=r"D is 6\.9 factors of ten below"):
        predict_loss(1e9, 100)


@pytest.mark.parametrize("flops", [1e12, 1e15, 1e18, 1e21, 1e24])
def test_an_allocation_has_the_intervals_of_the_law_itself(flops):
    """One interval for one thing: what plans show is what the law's draws say."""
    allocation = allocate(flops)
    found = interval_of_optimum(get_law(allocation.law), flops)
    assert (allocation.params_interval, allocation.tokens_interval, allocation.loss_interval) == (
        found.num_params,
        found.num_tokens,
        found.loss,
    )


def test_no_law_allocates_nothing():
    with pytest.raises(InputError, match="law: an allocation needs a law; name one"):
        allocate("1e18 FLOPs", None)


def test_spread():
    assert spread(7.93e8, (7.4e8, 8.41e8)) == "793M (90 %: 740M to 841M)"
    assert spread(2.5718, (2.5692, 2.5742), ".3f") == "2.572 (90 %: 2.569 to 2.574)"
    assert spread(7.93e8, None) == "793M"


def test_intervals_are_percentiles_over_the_draws():
    """Against sorting the draws' optima, each computed on its own."""
    law = law_with_draws()
    allocation = allocate(1e20, law)
    optima = []
    for row in law.uncertainty.draws:
        one = ParametricLaw(law.info, **dict(zip(CONSTANTS, map(float, row), strict=True)))
        optima.append((*one.optimal(1e20), one.loss(allocation.num_params, allocation.num_tokens)))
    for index, interval in enumerate(
        (allocation.params_interval, allocation.tokens_interval, allocation.loss_interval)
    ):
        inside = [interval[0] <= optimum[index] <= interval[1] for optimum in optima]
        assert sum(inside) == 180
    assert allocation.params_interval[0] < allocation.num_params < allocation.params_interval[1]
