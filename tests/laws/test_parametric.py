"""The parametric law: its optimum against brute force, published numbers, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from scalestop.errors import InputError
from scalestop.laws import LawInfo, ParametricLaw, get_law

INFO = LawInfo(name="mine", n_counts="total", source="a test")

# Hoffmann et al. 2022, eq. 10, as printed
PRINTED = ParametricLaw(INFO, E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)

laws = st.builds(
    lambda E, A, B, alpha, beta: ParametricLaw(INFO, E=E, A=A, B=B, alpha=alpha, beta=beta),
    E=st.floats(0, 3),
    A=st.floats(1, 1e4),
    B=st.floats(1, 1e4),
    alpha=st.floats(0.1, 0.9),
    beta=st.floats(0.1, 0.9),
)
budgets = st.floats(1e12, 1e26)


@given(law=laws, flops=budgets)
def test_optimum_is_the_minimum_of_the_loss(law, flops):
    """Against a golden-section search over log N of the loss less E, which would drown the minimum's shape."""
    without_e = ParametricLaw(INFO, E=0.0, A=law.A, B=law.B, alpha=law.alpha, beta=law.beta)
    best = law.optimal(flops)

    def log_loss(log_n):
        return np.log(without_e.loss(np.exp(log_n), flops / (6 * np.exp(log_n))))

    around = np.log(best.num_params)
    grid = np.linspace(around - 20, around + 20, 401)
    start = grid[np.argmin(log_loss(grid))]
    found = minimize_scalar(log_loss, bounds=(start - 0.2, start + 0.2), method="bounded", options={"xatol": 1e-9})
    assert found.x == pytest.approx(np.log(best.num_params), abs=1e-4)
    assert 6 * best.num_params * best.num_tokens == pytest.approx(flops, rel=1e-9)


@given(law=laws, flops=budgets)
def test_optimal_tokens_inverts_optimal(law, flops):
    num_params, num_tokens = law.optimal(flops)
    assert law.optimal_tokens(num_params) == pytest.approx(num_tokens, rel=1e-9)


@given(law=laws, flops=budgets, more=st.floats(1.01, 1e3))
def test_more_compute_buys_more_of_both_and_less_loss(law, flops, more):
    small, large = law.optimal(flops), law.optimal(flops * more)
    assert large.num_params > small.num_params
    assert large.num_tokens > small.num_tokens
    assert law.loss(*large) < law.loss(*small)
    assert law.optimal_tokens(small.num_params * more) > small.num_tokens


@given(law=laws, num_params=st.floats(1e3, 1e12), num_tokens=st.floats(1e3, 1e13), more=st.floats(1.1, 1e3))
def test_loss_falls_with_size_and_with_data(law, num_params, num_tokens, more):
    loss = law.loss(num_params, num_tokens)
    assert law.loss(num_params * more, num_tokens) < loss
    assert law.loss(num_params, num_tokens * more) < loss
    assert loss > law.E


@given(law=laws, flops=budgets)
def test_exponents_are_the_slopes_of_the_optimum(law, flops):
    near, far = law.optimal(flops), law.optimal(10 * flops)
    assert np.log10(far.num_params / near.num_params) == pytest.approx(law.a, abs=1e-9)
    assert np.log10(far.num_tokens / near.num_tokens) == pytest.approx(law.b, abs=1e-9)


def test_gopher_and_chinchilla_by_the_printed_constants():
    """Hoffmann et al. 2022 (280B on 300B tokens against 70B on 1.4T): 1.993 and 1.937 nats."""
    assert PRINTED.loss(280e9, 300e9) == pytest.approx(1.993, abs=5e-4)
    assert PRINTED.loss(70e9, 1.4e12) == pytest.approx(1.937, abs=5e-4)


def test_printed_constants_at_gophers_compute():
    num_params, num_tokens = PRINTED.optimal(5.76e23)
    assert num_params == pytest.approx(3.219e10, rel=2e-4)
    assert num_tokens / num_params == pytest.approx(92.65, rel=2e-4)


def test_vectorised_as_numpy_broadcasts():
    law = get_law("besiroglu")
    sizes, tokens = np.array([[1e8], [1e9]]), np.array([1e9, 1e10, 1e11])
    losses = law.loss(sizes, tokens)
    assert losses.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            assert losses[i, j] == pytest.approx(law.loss(float(sizes[i, 0]), float(tokens[j])), rel=1e-14)
    optima = law.optimal(np.array([1e18, 1e20]))
    assert optima.num_params.shape == optima.num_tokens.shape == (2,)
    assert law.optimal_tokens(optima.num_params) == pytest.approx(optima.num_tokens, rel=1e-12)
    assert type(law.optimal(1e18).num_params) is type(law.loss(1e8, 1e9)) is float


@pytest.mark.parametrize("as_given", [lambda x: 10**x, lambda x: np.float32(10.0**x), lambda x: [10**x]])
def test_numbers_of_every_make_give_double_precision(as_given):
    """A count beyond 64 bits is an object to numpy, and a float32 would halve the digits."""
    law = get_law("besiroglu")
    wanted = law.optimal(float(np.ravel(as_given(24))[0]))
    assert np.ravel(law.optimal(as_given(24)).num_params)[0] == pytest.approx(wanted.num_params, rel=1e-13)
    exact = law.loss(float(np.ravel(as_given(9))[0]), float(np.ravel(as_given(21))[0]))
    assert np.ravel(law.loss(as_given(9), as_given(21)))[0] == pytest.approx(exact, rel=1e-13)
    assert np.ravel(law.optimal_tokens(as_given(22)))[0] == pytest.approx(law.optimal_tokens(1e22), rel=1e-6)


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), "1e9", True, None, 1j, 10**400])
def test_arguments_must_be_positive_and_finite(value):
    law = get_law("besiroglu")
    for name, call in (
        ("flops", lambda: law.optimal(value)),
        ("num_params", lambda: law.optimal_tokens(value)),
        ("num_params", lambda: law.loss(value, 1e9)),
        ("num_tokens", lambda: law.loss(1e9, value)),
        ("num_tokens", lambda: law.loss(1e9, [1e9, "1" if value is True else value])),
    ):
        with pytest.raises(InputError, match=f"^{name}: must be positive and finite; got "):
            call()


@pytest.mark.parametrize("name", ["A", "B", "alpha", "beta"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), None, "1"])
def test_constants_must_be_positive(name, value):
    constants = {"E": 1.0, "A": 1.0, "B": 1.0, "alpha": 0.3, "beta": 0.3, name: value}
    with pytest.raises(InputError) as error:
        ParametricLaw(INFO, **constants)
    assert str(error.value) == f"{name}: must be positive and finite; got {value!r}"


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), None, "1"])
def test_irreducible_loss_may_be_zero_but_not_less(value):
    assert ParametricLaw(INFO, E=0.0, A=1.0, B=1.0, alpha=0.3, beta=0.3).E == 0
    with pytest.raises(InputError) as error:
        ParametricLaw(INFO, E=value, A=1.0, B=1.0, alpha=0.3, beta=0.3)
    assert str(error.value) == f"E: must be finite and not negative; got {value!r}"
