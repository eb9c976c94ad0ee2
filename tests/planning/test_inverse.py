"""Which budget has this optimum: there and back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalestop.errors import InputError
from scalestop.laws import get_law, list_laws
from scalestop.planning.budget import Budget
from scalestop.planning.inverse import flops_for_params, flops_of


@pytest.mark.parametrize("name", sorted(list_laws()))
@given(flops=st.floats(1e10, 1e28))
def test_there_and_back(name, flops):
    law = get_law(name)
    best = law.optimal(flops)
    assert flops_for_params(best.num_params, law) == pytest.approx(flops, rel=1e-9)
    tokens = round(best.num_tokens)
    assert law.optimal(float(flops_of(Budget(tokens=tokens), law))).num_tokens == pytest.approx(tokens, rel=1e-9)


@settings(max_examples=10)
@given(unique=st.floats(1e8, 1e12), flops=st.floats(1e16, 1e24))
def test_where_tokens_repeat(unique, flops):
    law = get_law("muennighoff").with_unique_tokens(unique)
    assert flops_for_params(law.optimal(flops).num_params, law) == pytest.approx(flops, rel=1e-6)


def test_the_smaller_of_two_limits():
    law = get_law("besiroglu")
    assert flops_of(Budget.parse("1e18 FLOPs or 1e15 tokens"), law) == 10**18
    assert flops_of(Budget.parse("1e25 FLOPs or 2B tokens"), law) == flops_of(Budget(tokens=2 * 10**9), law)
    with pytest.raises(InputError, match="'12 h' is no amount of compute by itself"):
        flops_of(Budget.parse("12h"), law)


def test_a_size_that_no_budget_has_stays_a_number():
    assert flops_for_params(1e290, get_law("besiroglu")) == pytest.approx(1e300, rel=1e-9)
