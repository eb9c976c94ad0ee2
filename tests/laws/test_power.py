"""Laws that allocate and predict no loss."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalestop.errors import InputError
from scalestop.laws import LawInfo, PowerLawAllocation

INFO = LawInfo(name="mine", n_counts="total", source="a test")
laws = st.builds(
    lambda k, a, both: PowerLawAllocation(INFO, k_N=k, a=a, **({"k_D": 1 / k, "b": 1 - a} if both else {})),
    k=st.floats(1e-3, 10),
    a=st.floats(0.2, 0.8),
    both=st.booleans(),
)


@given(law=laws, flops=st.floats(1e12, 1e28), more=st.floats(1.01, 1e3))
def test_inverse_and_growth(law, flops, more):
    num_params, num_tokens = law.optimal(flops)
    assert num_params == pytest.approx(law.k_N * flops**law.a, rel=1e-9)
    assert law.optimal_tokens(num_params) == pytest.approx(num_tokens, rel=1e-9)
    larger = law.optimal(flops * more)
    assert larger.num_params > num_params and larger.num_tokens > num_tokens


def test_tokens_spend_the_budget_unless_given():
    alone = PowerLawAllocation(INFO, k_N=0.1, a=0.5)
    assert alone.optimal(1e20) == pytest.approx((1e9, 1e20 / 6e9), rel=1e-12)
    given_too = PowerLawAllocation(INFO, k_N=0.1, a=0.5, k_D=2.0, b=0.5)
    assert given_too.optimal(1e20) == pytest.approx((1e9, 2e10), rel=1e-12)


def test_vectorised():
    law = PowerLawAllocation(INFO, k_N=0.1, a=0.5)
    optima = law.optimal([10**18, 10**24])
    assert optima.num_params == pytest.approx([1e8, 1e11], rel=1e-12)
    assert law.optimal_tokens(np.array([1e8, 1e11])) == pytest.approx(optima.num_tokens, rel=1e-12)


def test_it_predicts_no_loss_and_says_what_does():
    law = PowerLawAllocation(INFO, k_N=0.1, a=0.5)
    assert not law.has_loss
    with pytest.raises(InputError) as error:
        law.loss(1e9, 1e10)
    assert str(error.value) == (
        "law 'mine' allocates compute but predicts no loss; use one that does, such as 'besiroglu'"
    )


@pytest.mark.parametrize("given_alone", ["k_D", "b"])
def test_tokens_need_both_constants(given_alone):
    with pytest.raises(InputError, match=f"^k_D and b are given together; got only {given_alone}$"):
        PowerLawAllocation(INFO, k_N=0.1, a=0.5, **{given_alone: 0.5})


@pytest.mark.parametrize(
    "constants", [{"k_N": 0, "a": 0.5}, {"k_N": 1, "a": -1}, {"k_N": 1, "a": 0.5, "k_D": 0, "b": 1}]
)
def test_constants_must_be_positive(constants):
    with pytest.raises(InputError, match=": must be positive and finite; got "):
        PowerLawAllocation(INFO, **constants)
