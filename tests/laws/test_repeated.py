"""Repeated data: the authors' printed values, brute force over N, and the limits of many epochs."""

from decimal import Context, Decimal, localcontext

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from scalestop.errors import InputError
from scalestop.laws import DataConstrainedLaw, LawInfo, get_law
from scalestop.laws.repeated import effective_amount

LAW = get_law("muennighoff")


def reference_loss(n, d, u):
    """Muennighoff et al. 2023, eq. 4-6, number by number."""
    A, B, E = np.exp(6.255414), np.exp(7.3049974), np.exp(0.6254804)
    alpha = beta = 0.3526596
    rd_star, rn_star = 15.387756, 5.309743
    g = ((alpha * A) / (beta * B)) ** (1 / (alpha + beta))
    u_d = min(u, d)
    u_n = min((u_d * g) ** (beta / alpha) * g, n)
    r_d, r_n = d / u_d - 1, n / u_n - 1
    n_eff = u_n + u_n * rn_star * (1 - np.exp(-r_n / rn_star))
    d_eff = u_d + u_d * rd_star * (1 - np.exp(-r_d / rd_star))
    return E + A / n_eff**alpha + B / d_eff**beta


@pytest.mark.parametrize(
    ("num_params", "num_tokens", "loss"),
    [(6.34e9, 242e9, 2.2256440889984477), (8.67e9, 178e9, 2.2269634075087867)],
)
def test_the_authors_values(num_params, num_tokens, loss):
    """25e9 unique tokens; the two allocations compared in the paper."""
    assert LAW.loss(num_params, num_tokens, 25e9) == pytest.approx(loss, rel=1e-13)
    assert LAW.with_unique_tokens(25e9).loss(num_params, num_tokens) == pytest.approx(loss, rel=1e-13)


@given(st.floats(1e6, 1e12), st.floats(1e7, 1e14), st.floats(1e7, 1e13))
def test_against_a_scalar_reference(n, d, u):
    assert LAW.loss(n, d, u) == pytest.approx(reference_loss(n, d, u), rel=1e-10)


@given(unique=st.floats(1e7, 1e12), flops=st.floats(1e16, 1e25))
def test_optimum_is_the_minimum_of_the_loss(unique, flops):
    law = LAW.with_unique_tokens(unique)
    best = law.optimal(flops)
    # past that many repetitions a minimum is not to be seen in floats; another test takes over
    assume(best.num_tokens / unique < 60)

    def excess(log_n):
        # less E, whose digits would hide the minimum
        return np.log(law.loss(np.exp(log_n), flops / (6 * np.exp(log_n))) - law.E)

    grid = np.linspace(np.log(flops / 6 / unique) - 25, np.log(flops / 6 / unique) + 15, 1601)
    start = grid[np.argmin(excess(grid))]
    found = minimize_scalar(excess, bounds=(start - 0.05, start + 0.05), method="bounded", options={"xatol": 1e-10})
    assert excess(np.log(best.num_params)) <= found.fun + 1e-14
    assert found.x == pytest.approx(np.log(best.num_params), abs=1e-4)
    assert 6 * best.num_params * best.num_tokens == pytest.approx(flops, rel=1e-9)


def exact_loss(log_n, flops, unique):
    """The loss less E with as many digits as it takes: far into repetition, floats see a plateau."""
    A, B, alpha = (Decimal(x) for x in (LAW.A, LAW.B, LAW.alpha))
    n = log_n.exp()
    u, d = Decimal(unique), Decimal(flops) / 6 / n
    u_n = u * (A / B) ** (1 / alpha)  # alpha = beta here, which makes the warranted size proportional to the data

    def worth(amount, once, half_life):
        return once + once * half_life * (1 - (-(amount / once - 1) / half_life).exp())

    return A * worth(n, u_n, Decimal(LAW.R_N)) ** -alpha + B * worth(d, u, Decimal(LAW.R_D)) ** -alpha


@pytest.mark.parametrize(("flops", "epochs", "digits"), [(1e16, 30, 100), (1e18, 1000, 300), (1e20, 30_000, 1200)])
def test_far_into_repetition_the_optimum_is_still_the_minimum(flops, epochs, digits):
    law = LAW.with_unique_tokens(1e6)
    num_params, num_tokens = law.optimal(flops)
    assert num_tokens / 1e6 > epochs
    with localcontext(Context(prec=digits)):
        here = Decimal(num_params).ln()
        best = exact_loss(here, flops, 1e6)
        for aside in (Decimal("0.0001"), Decimal(1)):
            assert exact_loss(here - aside, flops, 1e6) > best
            assert exact_loss(here + aside, flops, 1e6) > best


@given(unique=st.floats(1e7, 1e12), flops=st.floats(1e16, 1e26))
def test_optimal_tokens_inverts_optimal(unique, flops):
    law = LAW.with_unique_tokens(unique)
    num_params, num_tokens = law.optimal(flops)
    assert law.optimal_tokens(num_params) == pytest.approx(num_tokens, rel=1e-6)


@given(unique=st.floats(1e7, 1e12), flops=st.floats(1e16, 1e25), more=st.floats(1.01, 1e3))
def test_more_compute_never_buys_less(unique, flops, more):
    law = LAW.with_unique_tokens(unique)
    small, large = law.optimal(flops), law.optimal(flops * more)
    assert large.num_params > small.num_params
    assert large.num_tokens > small.num_tokens
    assert law.loss(*large) <= law.loss(*small)


@given(unique=st.floats(1e7, 1e12), flops=st.floats(1e16, 1e25))
def test_repetition_shifts_towards_fewer_params_and_never_helps(unique, flops):
    law, free = LAW.with_unique_tokens(unique), LAW.optimal(flops)
    best = law.optimal(flops)
    if free.num_tokens <= unique:
        assert best == free
        assert law.loss(*best) == pytest.approx(LAW.loss(*free), rel=1e-12)
    else:
        assert best.num_params < free.num_params
        assert law.loss(*best) > LAW.loss(*free)


@given(n=st.floats(1e6, 1e12), d=st.floats(1e8, 1e13), u=st.floats(1e7, 1e12), more=st.floats(1.1, 100))
def test_more_unique_tokens_never_hurt(n, d, u, more):
    assert LAW.loss(n, d, u * more) <= LAW.loss(n, d, u) * (1 + 1e-12)


@given(amount=st.floats(1, 1e12), unique=st.floats(1, 1e12), half_life=st.floats(0.1, 100))
def test_effective_amount_is_between_what_is_unique_and_what_was_seen(amount, unique, half_life):
    worth = effective_amount(amount, unique, half_life)
    assert min(amount, unique) * (1 - 1e-12) <= worth <= amount * (1 + 1e-12)
    assert worth <= unique * (1 + half_life) * (1 + 1e-12)


def test_four_epochs_cost_little_and_forty_much():
    """Muennighoff et al. 2023, abstract: up to 4 epochs yield negligible changes to loss against unique data."""
    n, u = 2.8e9, 55e9
    at_four = LAW.loss(n, 4 * u, u) - LAW.loss(n, 4 * u, 4 * u)
    at_forty = LAW.loss(n, 40 * u, u) - LAW.loss(n, 40 * u, 40 * u)
    assert 0 < at_four < 0.01
    assert at_forty > 5 * at_four


def test_arrays_that_are_partly_constrained_agree_with_single_numbers():
    law = LAW.with_unique_tokens(2e10)
    flops = np.geomspace(1e17, 1e25, 9)
    optima = law.optimal(flops)
    one_by_one = [law.optimal(float(c)) for c in flops]
    assert np.any(optima.num_tokens < 2e10) and np.any(optima.num_tokens > 2e10)
    assert optima.num_params == pytest.approx([o.num_params for o in one_by_one], rel=1e-12)
    assert optima.num_tokens == pytest.approx([o.num_tokens for o in one_by_one], rel=1e-12)
    back = law.optimal_tokens(optima.num_params)
    assert back == pytest.approx([law.optimal_tokens(float(n)) for n in optima.num_params], rel=1e-12)
    losses = law.loss(optima.num_params[:, None], optima.num_tokens)
    assert losses.shape == (9, 9)
    assert losses[2, 7] == pytest.approx(reference_loss(optima.num_params[2], optima.num_tokens[7], 2e10), rel=1e-10)


def test_arrays_of_constants():
    """As a bootstrap makes them, E included."""
    law = DataConstrainedLaw(
        LawInfo(name="drawn", n_counts="total", source="a test"),
        E=np.array([1.8, 1.9]),
        A=np.array([500.0, 520.0]),
        B=np.array([1400.0, 1500.0]),
        alpha=np.array([0.35, 0.36]),
        beta=np.array([0.35, 0.34]),
        R_D=np.array([15.0, 12.0]),
        R_N=np.array([5.0, 6.0]),
        unique_tokens=1e9,
    )
    optima = law.optimal(1e21)
    for i in range(2):
        one = DataConstrainedLaw(
            law.info, **{k: float(v[i]) if k != "unique_tokens" else v for k, v in law.constants.items()}
        )
        assert optima.num_params[i] == pytest.approx(one.optimal(1e21).num_params, rel=1e-12)
        assert law.optimal_tokens(3e9)[i] == pytest.approx(one.optimal_tokens(3e9), rel=1e-12)
        assert law.loss(3e9, 2e10)[i] == pytest.approx(one.loss(3e9, 2e10), rel=1e-12)


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), "1e9"])
def test_unique_tokens_must_be_positive(value):
    with pytest.raises(InputError, match="unique_tokens: must be positive and finite; got "):
        LAW.with_unique_tokens(value)
    with pytest.raises(InputError, match="unique_tokens: must be positive and finite; got "):
        LAW.loss(1e9, 1e9, value)
