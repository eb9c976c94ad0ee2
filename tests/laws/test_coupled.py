"""The coupled law: its optimum against brute force, its two special cases, saving, and what it refuses."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from scalestop.errors import InputError
from scalestop.laws import CoupledLaw, KaplanLaw, LawInfo, ParametricLaw, Uncertainty, get_law

INFO = LawInfo(name="mine", n_counts="total", source="a test")
CONSTANTS = {"E": 1.7, "A": 400.0, "B": 2000.0, "alpha": 0.35, "beta": 0.37, "g": -0.4, "gamma": 0.8}

laws = st.builds(
    lambda **constants: CoupledLaw(INFO, **constants),
    E=st.floats(0, 3),
    A=st.floats(1, 1e4),
    B=st.floats(1, 1e4),
    alpha=st.floats(0.1, 0.9),
    beta=st.floats(0.1, 0.9),
    g=st.floats(-1.5, 3),
    gamma=st.floats(0.2, 1.5),
)
budgets = st.floats(1e12, 1e26)


@given(law=laws, flops=budgets)
def test_optimum_is_the_minimum_of_the_loss(law, flops):
    """Against a golden-section search over log N of the loss less E, which would drown the minimum's shape."""
    best = law.optimal(flops)

    def log_reducible(log_n):
        u, v = law.A * np.exp(log_n) ** -law.alpha, law.B * (flops / 6 / np.exp(log_n)) ** -law.beta
        return law.gamma * np.log(u + v + law.g * np.sqrt(u * v))

    around = np.log(best.num_params)
    grid = np.linspace(around - 20, around + 20, 401)
    start = grid[np.argmin(log_reducible(grid))]
    found = minimize_scalar(log_reducible, bounds=(start - 0.2, start + 0.2), method="bounded", options={"xatol": 1e-9})
    assert found.x == pytest.approx(np.log(best.num_params), abs=1e-4)
    assert 6 * best.num_params * best.num_tokens == pytest.approx(flops, rel=1e-9)


@given(law=laws, flops=budgets)
def test_optimal_tokens_inverts_optimal_and_exponents_are_its_slopes(law, flops):
    num_params, num_tokens = law.optimal(flops)
    assert law.optimal_tokens(num_params) == pytest.approx(num_tokens, rel=1e-9)
    far = law.optimal(10 * flops)
    assert np.log10(far.num_params / num_params) == pytest.approx(law.beta / (law.alpha + law.beta), abs=1e-9)
    assert np.log10(far.num_tokens / num_tokens) == pytest.approx(law.alpha / (law.alpha + law.beta), abs=1e-9)


@given(law=laws, flops=budgets)
def test_uncoupled_it_is_the_parametric_law(law, flops):
    five = {name: law.constants[name] for name in ("E", "A", "B", "alpha", "beta")}
    ours, theirs = CoupledLaw(INFO, **five), ParametricLaw(INFO, **five)
    assert (ours.g, ours.gamma) == (0.0, 1.0)
    num_params, num_tokens = theirs.optimal(flops)
    assert ours.optimal(flops) == pytest.approx((num_params, num_tokens), rel=1e-12)
    assert ours.optimal_tokens(num_params) == pytest.approx(num_tokens, rel=1e-11)
    assert ours.loss(num_params, num_tokens) == pytest.approx(theirs.loss(num_params, num_tokens), rel=1e-15)


def test_without_a_floor_it_is_kaplans():
    """[(N_c/N)^(alpha_N/alpha_D) + D_c/D]^alpha_D: Kaplan et al. 2020, eq. 1.5, joint constants of table 2."""
    kaplan = get_law("kaplan")
    assert isinstance(kaplan, KaplanLaw)
    ratio = kaplan.alpha_N / kaplan.alpha_D
    ours = CoupledLaw(INFO, A=kaplan.N_c**ratio, B=kaplan.D_c, alpha=ratio, beta=1.0, gamma=kaplan.alpha_D)
    sizes, tokens = np.array([[1e6], [1.5e9]]), np.array([1e8, 2e10])
    assert ours.loss(sizes, tokens) == pytest.approx(kaplan.loss(sizes, tokens), rel=1e-12)


def test_it_is_saved_and_read_with_its_draws(tmp_path):
    draws = np.array(list(CONSTANTS.values())) * np.array([[0.9], [1.0], [1.1]])
    law = CoupledLaw(INFO, Uncertainty(draws, tuple(CONSTANTS), "valley", 9, ""), **CONSTANTS)
    again = get_law(law.save(tmp_path / "law.json"))
    assert type(again) is CoupledLaw
    assert json.loads((tmp_path / "law.json").read_text())["kind"] == "coupled"
    assert again.constants == law.constants == CONSTANTS
    assert again.drawn().loss(1e9, 2e10) == pytest.approx(law.drawn().loss(1e9, 2e10), rel=1e-6)
    assert again.drawn().optimal(1e20).num_params.shape == (3,)


@pytest.mark.parametrize("value", [-2.0, -5, float("nan"), float("inf"), None, "1"])
def test_a_coupling_that_could_turn_the_sum_negative_is_refused(value):
    with pytest.raises(InputError) as error:
        CoupledLaw(INFO, **{**CONSTANTS, "g": value})
    assert str(error.value) == f"g: must be finite and above -2; got {value!r}"


@pytest.mark.parametrize("name", ["A", "B", "alpha", "beta", "gamma"])
def test_other_constants_must_be_positive(name):
    with pytest.raises(InputError, match=f"^{name}: must be positive and finite; got 0"):
        CoupledLaw(INFO, **{**CONSTANTS, name: 0.0})
