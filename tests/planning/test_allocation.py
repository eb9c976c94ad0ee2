"""Algorithms 1 and 2: allocation, its consistency check, prediction."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalestop.errors import InputError
from scalestop.laws import LawInfo, ParametricLaw, Uncertainty, get_law, list_laws
from scalestop.planning.allocation import allocate, percentile_interval, predict_loss

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
    assert allocation.params_interval is allocation.tokens_interval is allocation.loss_interval is None
    assert str(allocation) == (
        "8.64e19 FLOPs by law besiroglu: N_opt 793M (total), D_opt 18.2B tokens, 22.9 tokens/param, "
        "predicted loss 2.572 nats/token"
    )


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
    warnings = allocate(1e12).warnings
    assert warnings[0] == (
        "law besiroglu: C = 1e+12 FLOPs is 6.8 orders of magnitude below the fitted range 6e+18 to 3e+21"
    )
    assert len(warnings) == 3  # compute, size and tokens


@pytest.mark.parametrize("name", sorted(list_laws()))
@given(tokens=st.integers(10**7, 10**13))
def test_a_budget_in_tokens_asks_for_the_model_they_are_optimal_for(name, tokens):
    allocation = allocate(f"{tokens} tokens", name)
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
    assert predict_loss(1.75e11, 3e11, "kaplan") == pytest.approx(1.661, abs=5e-4)
    assert predict_loss(np.array([1e8, 1e9]), 1e10, "chinchilla").shape == (2,)
    with pytest.raises(InputError, match="law 'deepseek' allocates compute but predicts no loss"):
        predict_loss(1e9, 1e10, "deepseek")


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


def test_percentile_interval():
    assert percentile_interval(np.arange(101.0), 0.9) == pytest.approx((5, 95))
    assert percentile_interval(None, 0.9) is None
