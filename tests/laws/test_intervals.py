"""Intervals from draws, against each draw computed on its own, and against a simulated drift."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t as student

from scalestop.laws import DataConstrainedLaw, LawInfo, ParametricLaw, Uncertainty, ValidRange, get_law
from scalestop.laws.intervals import (
    OptimumIntervals,
    extrapolation,
    interval_about,
    interval_of_loss,
    interval_of_optimum,
    interval_of_run,
    interval_of_tokens,
    loss_intervals,
    percentile_interval,
)
from scalestop.laws.uncertainty import student_quantile, widened

CONSTANTS = {"E": 1.8, "A": 480.0, "B": 2085.0, "alpha": 0.348, "beta": 0.366}


def law_with(drift=0.0, drift_params=0.0, scatter=(), cls=ParametricLaw, **fixed):
    rng = np.random.default_rng(1)
    draws = np.array(list(CONSTANTS.values())) * np.exp(rng.normal(0, 0.02, (200, 5)))
    uncertainty = Uncertainty(
        draws,
        names=tuple(CONSTANTS),
        method="parametric",
        num_runs=9,
        data_hash="",
        scatter=scatter,
        drift=drift,
        drift_params=drift_params,
    )
    info = LawInfo("fitted", "total", "a test", valid=ValidRange(flops=(1e18, 1e20)))
    return cls(info, uncertainty, **CONSTANTS, **fixed)


def each(law, quantity):
    """The quantity by one law for each draw."""
    rows = (dict(zip(CONSTANTS, map(float, row), strict=True)) for row in law.uncertainty.draws)
    return np.array([quantity(ParametricLaw(law.info, **row)) for row in rows])


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_inside_its_runs_an_interval_is_a_percentile_over_the_draws(level):
    law = law_with(drift=0.5, drift_params=0.5)  # which inside do nothing
    found = interval_of_optimum(law, 1e19, level)
    best = law.optimal(1e19)
    tails = [50 - 50 * level, 50 + 50 * level]
    for interval, quantity in (
        (found.num_params, lambda one: one.optimal(1e19).num_params),
        (found.num_tokens, lambda one: one.optimal(1e19).num_tokens),
        (found.tokens_per_param, lambda one: one.optimal(1e19).num_tokens / one.optimal(1e19).num_params),
        (found.loss, lambda one: one.loss(*best)),
        (interval_of_tokens(law, 2e8, level), lambda one: one.optimal_tokens(2e8)),
        (interval_of_loss(law, 1e9, 3e9, level), lambda one: one.loss(1e9, 3e9)),
        (interval_of_run(law, 1e9, 3e9, level), lambda one: one.loss(1e9, 3e9)),
    ):
        assert interval == pytest.approx(tuple(np.percentile(each(law, quantity), tails)), rel=1e-9)


@pytest.mark.parametrize("flops", [1e22, 1e16])
def test_outside_its_runs_it_is_wider_by_the_drift_above_as_below(flops):
    """Against drawing the drift at random, 500 times for each draw."""
    law = law_with(drift=0.01, drift_params=0.1)
    factor_e = np.log(100)
    assert extrapolation(law, flops) == pytest.approx(factor_e, rel=1e-6)
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((200, 500))
    best = law.optimal(flops)
    found = interval_of_optimum(law, flops)
    for interval, quantity, sd in (
        (found.num_params, lambda one: one.optimal(flops).num_params, 0.1),
        (found.num_tokens, lambda one: one.optimal(flops).num_tokens, 0.1),
        (found.loss, lambda one: one.loss(*best), 0.01),
    ):
        expected = np.quantile(each(law, quantity)[:, None] * np.exp(sd * factor_e * noise), [0.05, 0.95])
        assert interval == pytest.approx(tuple(expected), rel=0.02)


def test_tokens_of_a_size_drift_as_the_budget_of_that_size_does():
    """N_opt off by a factor f puts the C whose N_opt is this size at C·f^(-1/a); its tokens are C/6N."""
    law = law_with(drift_params=0.1)
    size = float(law.optimal(1e22).num_params)
    rng = np.random.default_rng(0)
    off = np.exp(0.1 * np.log(100) * rng.standard_normal((200, 500)))
    # where N_opt is off by f, this size is the optimum that the law itself gives for size/f: C of that, over 6N
    budgets = each(law, lambda one: 6 * one.optimal_tokens(size) * size)[:, None] * off ** (-1 / law.a)
    expected = np.quantile(budgets / (6 * size), [0.05, 0.95])
    assert interval_of_tokens(law, size) == pytest.approx(tuple(expected), rel=0.03)


def test_a_run_scatters_besides():
    scatter = np.random.default_rng(3).normal(0, 0.03, 50)
    law = law_with(drift=0.01, scatter=scatter)
    size, tokens = law.optimal(1e22)
    rng = np.random.default_rng(0)
    losses = each(law, lambda one: one.loss(size, tokens))[:, None] * np.exp(
        0.01 * np.log(100) * rng.standard_normal((200, 500)) + rng.choice(scatter, (200, 500))
    )
    assert interval_of_run(law, size, tokens) == pytest.approx(tuple(np.quantile(losses, [0.05, 0.95])), rel=0.005)
    # within the runs' compute: the plain product of draws and residuals
    inside = np.outer(each(law, lambda one: one.loss(1e9, 3e9)), np.exp(scatter))
    assert interval_of_run(law, 1e9, 3e9) == pytest.approx(tuple(np.quantile(inside, [0.05, 0.95])), rel=1e-9)


def test_many_residuals_are_thinned_and_say_the_same():
    scatter = np.random.default_rng(3).standard_t(3, 2000) * 0.01
    law = law_with(scatter=scatter)
    inside = np.outer(each(law, lambda one: one.loss(1e9, 3e9)), np.exp(scatter))
    assert interval_of_run(law, 1e9, 3e9) == pytest.approx(tuple(np.quantile(inside, [0.05, 0.95])), rel=1e-3)


def test_a_law_that_knows_nothing_answers_none():
    law = replace(law_with(), uncertainty=None)
    assert interval_of_optimum(law, 1e19) == OptimumIntervals()
    assert interval_of_run(law, 1e9, 3e9) is interval_of_loss(law, 1e9, 3e9) is interval_of_tokens(law, 1e9) is None
    allocates = get_law("chinchilla-2")
    assert interval_of_optimum(allocates, 1e24).loss is interval_of_run(allocates, 1e9, 3e9) is None
    assert interval_of_optimum(allocates, 1e24).num_params is not None


def test_a_range_that_is_not_stated_is_never_left():
    law = replace(law_with(drift=1.0), info=LawInfo("fitted", "total", "a test"))
    assert extrapolation(law, 1e40) == 0


def test_other_forms_serve_too():
    law = law_with(cls=DataConstrainedLaw, R_D=15.0, R_N=5.0, unique_tokens=1e9)
    low, high = interval_of_tokens(law, 1e9)
    assert low < law.optimal_tokens(1e9) < high


def test_percentile_interval():
    assert percentile_interval(np.arange(101.0), 0.9) == pytest.approx((5, 95))
    assert percentile_interval([1.0, np.inf, np.nan, 1.0], 0.9) == (1.0, 1.0)
    assert percentile_interval([np.nan], 0.9) is percentile_interval(None, 0.9) is None


def test_widening_keeps_the_median_and_has_the_spread_asked_for():
    wide = np.log(widened(np.full(3, 2.0), 0.3))
    assert np.median(wide) == pytest.approx(np.log(2))
    assert np.std(wide) == pytest.approx(0.3, rel=0.02)
    assert widened([1.0, 2.0], 0).tolist() == [1.0, 2.0]


def give_or_take(**changes):
    """A law whose intervals are its own answer give or take."""
    law = law_with()
    fields = {"degrees": 12.0, "inflation": 1.3, "drift": 0.002, "drift_below": 0.01, "drift_params": 0.08, **changes}
    return replace(law, uncertainty=replace(law.uncertainty, **fields))


def distance(law, quantity):
    """Root mean square distance of each draw's answer from the law's, in logarithms."""
    return np.sqrt(np.mean(np.log(each(law, quantity) / quantity(law)) ** 2))


@pytest.mark.parametrize(
    ("flops", "above", "below"), [(1e19, 0.0, 0.0), (1e22, np.log(100), 0.0), (1e16, 0.0, np.log(100))]
)
def test_an_interval_may_be_the_laws_own_answer_give_or_take(flops, above, below):
    """Half-width: Student's quantile of the draws' stretched distance, the drift outside the runs, a run's noise."""
    law = give_or_take(noise=0.004)
    best = law.optimal(flops)
    quantile = student.ppf(0.95, 12)
    drift = 0.002 * above + 0.01 * below
    for interval, quantity, more, power in (
        (interval_of_loss(law, *best), lambda one: one.loss(*best), drift, 1),
        (interval_of_run(law, *best), lambda one: one.loss(*best), np.hypot(drift, 0.004), 1),
        (interval_of_optimum(law, flops).loss, lambda one: one.loss(*best), drift, 1),
        (
            interval_of_optimum(law, flops).num_params,
            lambda one: one.optimal(flops).num_params,
            0.08 * (above + below),
            1,
        ),
        (
            interval_of_optimum(law, flops).tokens_per_param,
            lambda one: one.optimal(flops).num_tokens / one.optimal(flops).num_params,
            0.08 * (above + below),
            2,
        ),
    ):
        half = quantile * np.hypot(1.3 * distance(law, quantity), power * more)
        assert np.log(interval) == pytest.approx(np.log(quantity(law)) + np.array([-half, half]), abs=1e-5)


def test_what_n_opt_gains_d_opt_loses():
    law = give_or_take()
    found, best = interval_of_optimum(law, 1e22), law.optimal(1e22)
    ratio = np.array(found.num_params) / best.num_params
    assert np.array(found.num_tokens) / best.num_tokens == pytest.approx(1 / ratio[::-1], rel=1e-9)


def test_up_the_sides_of_the_valley_a_loss_is_less_sure():
    law, flat = give_or_take(sides=0.2), give_or_take()
    size = float(law.optimal(1e19).num_params)
    at = 8 * size, 1e19 / 6 / (8 * size)
    excess = np.log(law.loss(*at) / law.loss(*law.optimal(1e19)))
    assert excess > 0.02
    half, without = (np.log(interval_of_loss(one, *at)[1] / one.loss(*at)) for one in (law, flat))
    assert half == pytest.approx(np.hypot(without, student.ppf(0.95, 12) * 0.2 * excess), rel=1e-4)
    best = law.optimal(1e19)
    assert interval_of_loss(law, *best) == pytest.approx(interval_of_loss(flat, *best), rel=1e-9)


def test_the_level_is_students():
    law = give_or_take()
    for level in (0.5, 0.8, 0.99):
        low, high = interval_of_loss(law, 1e9, 3e9, level)
        wide = interval_of_loss(law, 1e9, 3e9)
        expected = student.ppf((1 + level) / 2, 12) / student.ppf(0.95, 12)
        assert np.log(high / low) / np.log(wide[1] / wide[0]) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("degrees", [5, 8, 20, 300])
def test_students_quantiles(degrees):
    for share in (0.05, 0.5, 0.75, 0.95, 0.995):
        assert student_quantile(share, degrees) == pytest.approx(student.ppf(share, degrees), rel=1.5e-3, abs=1e-9)


def test_any_quantity_has_an_interval_about_it():
    sure = give_or_take().uncertainty
    draws = np.random.default_rng(0).normal(0, 0.1, 500)
    assert interval_about(sure, 0.05, draws, 0.9) == pytest.approx(
        0.05 + np.array([-1, 1]) * student.ppf(0.95, 12) * 1.3 * np.sqrt(np.mean((draws - 0.05) ** 2)), rel=1e-4
    )
    low, high = interval_about(sure, 2.0, 2 * np.exp(draws), 0.9)
    assert low * high == pytest.approx(4)


@pytest.mark.parametrize("law", [law_with(drift=0.01, scatter=[-0.01, 0.02]), give_or_take(noise=0.01, sides=0.2)])
def test_many_models_at_once_have_the_intervals_of_each(law):
    sizes, tokens = np.array([[1e8], [1e9], [1e11]]), np.array([1e9, 1e12])
    for of_run, one in ((False, interval_of_loss), (True, interval_of_run)):
        low, high = loss_intervals(law, sizes, tokens, of_run=of_run)
        assert low.shape == high.shape == (3, 2)
        for i in range(3):
            for j in range(2):
                expected = one(law, float(sizes[i, 0]), float(tokens[j]))
                assert (low[i, j], high[i, j]) == pytest.approx(expected, rel=1e-12)
