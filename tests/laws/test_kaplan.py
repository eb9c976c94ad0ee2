"""Kaplan's law: the published power law for the optimum, the joint loss, and the taught version's numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalestop.errors import InputError
from scalestop.laws import KaplanLaw, LawInfo, critical_batch_tokens, get_law

PF_DAY = 8.64e19
KAPLAN = get_law("kaplan")
TAUGHT = get_law("kaplan-presentation")
CONSTANTS = {"alpha_N": 0.076, "alpha_D": 0.103, "N_c": 6.4e13, "D_c": 1.8e13, "k_N": 1.3e9, "a": 0.73}
INFO = LawInfo(name="mine", n_counts="body", source="a test")


def test_a_pf_day_buys_1_3_billion_parameters():
    """Kaplan et al. 2020, table 6."""
    assert KAPLAN.optimal(PF_DAY).num_params == pytest.approx(1.3e9, rel=1e-12)
    assert KAPLAN.optimal(1000 * PF_DAY).num_params == pytest.approx(1.3e9 * 1000**0.73, rel=1e-12)
    assert KAPLAN.optimal(5.76e23).num_params == pytest.approx(8.04e11, rel=1e-3)


@given(st.floats(1e12, 1e28))
def test_tokens_spend_the_budget_where_the_published_ones_do_not(flops):
    num_params, num_tokens = KAPLAN.optimal(flops)
    assert 6 * num_params * num_tokens == pytest.approx(flops, rel=1e-12)
    published = 2e10 * (flops / PF_DAY) ** 0.27
    assert 6 * num_params * published / flops == pytest.approx(1.81, abs=0.005)


@given(flops=st.floats(1e12, 1e28), ratio=st.floats(0, 10))
def test_batch_ratio_charges_eq_5_5(flops, ratio):
    """C = C_min (1 + B/B_crit): the size is that of C_min, the tokens those of C."""
    law = KaplanLaw(INFO, **CONSTANTS, batch_ratio=ratio)
    num_params, num_tokens = law.optimal(flops)
    assert num_params == pytest.approx(KAPLAN.optimal(flops / (1 + ratio)).num_params, rel=1e-12)
    assert 6 * num_params * num_tokens == pytest.approx(flops, rel=1e-12)
    assert law.optimal_tokens(num_params) == pytest.approx(num_tokens, rel=1e-9)


@pytest.mark.parametrize("law", [KAPLAN, TAUGHT], ids=lambda law: law.name)
@given(flops=st.floats(1e12, 1e28), more=st.floats(1.01, 1e3))
def test_inverse_and_growth(law, flops, more):
    num_params, num_tokens = law.optimal(flops)
    assert law.optimal_tokens(num_params) == pytest.approx(num_tokens, rel=1e-9)
    larger = law.optimal(flops * more)
    assert larger.num_params > num_params and larger.num_tokens > num_tokens


@pytest.mark.parametrize("law", [KAPLAN, TAUGHT], ids=lambda law: law.name)
@given(n=st.floats(1e3, 1e12), d=st.floats(1e6, 1e13), more=st.floats(1.1, 100))
def test_loss_falls_to_the_law_of_one_variable(law, n, d, more):
    loss = law.loss(n, d)
    assert law.loss(n * more, d) < loss and law.loss(n, d * more) < loss
    # with unlimited data, (N_c/N)^alpha_N alone; with an unlimited model, (D_c/D)^alpha_D alone
    assert law.loss(n, 1e60) == pytest.approx((law.N_c / n) ** law.alpha_N, rel=1e-4)
    assert law.loss(1e100, d) == pytest.approx((law.D_c / d) ** law.alpha_D, rel=1e-4)


def test_the_joint_minimum_has_another_exponent():
    """alpha_D / (alpha_N + alpha_D) = 0.575, not 0.73: the optimum is no minimum of this loss, as the notes say."""

    def minimum(flops):
        log_n = np.linspace(np.log(1e5), np.log(1e13), 200_001)
        return np.exp(log_n[np.argmin(KAPLAN.loss(np.exp(log_n), flops / (6 * np.exp(log_n))))])

    assert np.log10(minimum(1e22) / minimum(1e20)) / 2 == pytest.approx(0.575, abs=5e-4)
    assert any("0.575" in note for note in KAPLAN.info.notes)


class TestErrataOfTheTaughtVersion:
    def test_its_allocation(self):
        num_params, num_tokens = TAUGHT.optimal(PF_DAY)
        assert (num_params, num_tokens) == pytest.approx((0.3e9, 3.2e9), rel=1e-12)
        assert 6 * num_params * num_tokens / PF_DAY == pytest.approx(0.067, abs=5e-4)
        assert pytest.approx(0.29, abs=5e-3) == 6 * 1.3e9 * 3.2e9 / PF_DAY

    @pytest.mark.parametrize(("times", "less_by_size", "less_by_data"), [(2, 0.051, 0.064), (10, 0.161, 0.196)])
    def test_what_twice_and_ten_times_bring(self, times, less_by_size, less_by_data):
        size = TAUGHT.loss(times * 1e9, 1e60) / TAUGHT.loss(1e9, 1e60)
        data = TAUGHT.loss(1e100, times * 1e10) / TAUGHT.loss(1e100, 1e10)
        assert 1 - size == pytest.approx(less_by_size, abs=5e-4)
        assert 1 - data == pytest.approx(less_by_data, abs=5e-4)

    def test_the_gpt_3_example(self):
        assert pytest.approx(144.9, abs=0.1) == (8.8e13 / 1.75e11) ** 0.8
        assert TAUGHT.loss(1.75e11, 3e11) == pytest.approx(1.73, abs=5e-3)
        assert KAPLAN.loss(1.75e11, 3e11) == pytest.approx(1.661, abs=5e-4)

    def test_the_two_small_models(self):
        assert TAUGHT.loss(340e6, 3.3e9) == pytest.approx(2.72, abs=5e-3)
        assert TAUGHT.loss(1e9, 1e9) == pytest.approx(2.86, abs=5e-3)

    @pytest.mark.parametrize(
        "number", ["86,400", "0.067", "0.29", "16.1 %", "19.6 %", "144.9", "1.661", "2.72", "2.86", "8.64e19", "1.3e9"]
    )
    def test_each_is_stated_with_the_law(self, number):
        assert any(number in note for note in TAUGHT.info.notes)


def test_critical_batch():
    """Kaplan et al. 2020, eq. 5.3: 2e8 tokens at a loss of 1, falling with the loss to the power -1/0.21."""
    assert critical_batch_tokens(1.0) == pytest.approx(2e8)
    assert critical_batch_tokens(2.0) == pytest.approx(2e8 / 2 ** (1 / 0.21), rel=1e-12)
    assert critical_batch_tokens(np.array([1.0, 2.0])).shape == (2,)
    with pytest.raises(InputError, match=r"^loss: must be positive and finite; got 0"):
        critical_batch_tokens(0.0)


@pytest.mark.parametrize("given_alone", ["k_D", "b"])
def test_published_tokens_need_both_constants(given_alone):
    with pytest.raises(InputError, match=f"^k_D and b are given together; got only {given_alone}$"):
        KaplanLaw(INFO, **CONSTANTS, **{given_alone: 0.27})


@pytest.mark.parametrize("ratio", [-0.1, float("nan"), float("inf"), None])
def test_batch_ratio_is_no_negative(ratio):
    with pytest.raises(InputError, match=r"^batch_ratio: B/B_crit is finite and not negative; got "):
        KaplanLaw(INFO, **CONSTANTS, batch_ratio=ratio)


@pytest.mark.parametrize("name", sorted(CONSTANTS))
def test_constants_must_be_positive(name):
    with pytest.raises(InputError, match=f"^{name}: must be positive and finite; got "):
        KaplanLaw(INFO, **{**CONSTANTS, name: 0.0})
