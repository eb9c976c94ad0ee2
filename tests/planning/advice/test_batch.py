"""Critical batches and Step Law, against their own tables."""

import json

import pytest

from scalestop import get_law
from scalestop.errors import InputError
from scalestop.planning.advice.batch import advise_batch, merrill_critical_batch, step_law, zhang_critical_batch

LAW = get_law("besiroglu")


def test_kaplans_critical_batch_at_the_runs_loss():
    found = advise_batch(LAW, 1e9, 1e11)
    kaplan = found.critical[0]
    assert kaplan.low == kaplan.high == pytest.approx(2e8 * found.loss ** (-1 / 0.21))


def test_zhangs_fits_agree_with_each_other_only_with_tokens_in_millions():
    """At fixed D of 3.07B tokens their fit over sizes gives 560 to 1,100 sequences at 302M, in whatever unit of N."""
    sequences = zhang_critical_batch(3.07e9) / 512
    assert 0.9 < sequences / (621.34 * 302**0.087) < 1.1
    assert 22.91 * 3.07**0.47 < 621.34 * 0.302**0.087 / 10  # in billions it would be over ten times too few
    assert zhang_critical_batch(4e9) / zhang_critical_batch(1e9) == pytest.approx(4**0.47)


def test_merrills_marks():
    """Section 4.2: 2,048 documents of 4,096 tokens are passed at 168B tokens, 4,096 of them at 503B."""
    assert merrill_critical_batch(1e10) == (0, 2048 * 4096)
    assert merrill_critical_batch(2e11) == (2048 * 4096, 4096 * 4096)
    assert merrill_critical_batch(1e12) == (4096 * 4096, None)


def test_step_law_by_hand():
    rate, batch = step_law(1e9, 1e11)
    assert rate == pytest.approx(1.79 * 10 ** (9 * -0.713 + 11 * 0.307))
    assert rate == pytest.approx(0.00164, abs=2e-5)
    assert batch == pytest.approx(0.58 * 10 ** (11 * 0.571))
    assert batch == pytest.approx(1.107e6, rel=1e-3)


def test_the_trade_of_a_batch():
    found = advise_batch(LAW, 1e9, 1e11, tokens_per_step=advise_batch(LAW, 1e9, 1e11).critical[0].low)
    assert found.trade == pytest.approx((2, 2))  # at Kaplan's critical batch: twice the compute and twice the steps
    assert advise_batch(LAW, 1e9, 1e11).trade is None


def test_a_batch_far_past_all_is_warned_of():
    assert advise_batch(LAW, 1e9, 1e11, tokens_per_step=5e5).warning is None
    assert "past some of these" in advise_batch(LAW, 1e9, 1e11, tokens_per_step=4e6).warning
    assert "buys no progress" in advise_batch(LAW, 1e9, 1e11, tokens_per_step=1e8).warning


def test_step_laws_range_and_its_n():
    assert advise_batch(LAW, 1e9, 1e11).step_law_outside is None
    outside = advise_batch(LAW, 7e10, 1.4e12).step_law_outside
    assert "they had 59M to 1.07B" in outside and "up to 100B" in outside and "leaves the vocabulary out" in outside
    assert "vocabulary" not in advise_batch(LAW, 7e10, 1.4e12, body_params=6.8e10).step_law_outside
    with pytest.raises(InputError, match="body_params: part of num_params"):
        advise_batch(LAW, 1e9, 1e11, body_params=2e9)


def test_what_it_says():
    found = advise_batch(LAW, 1e9, 1e11, tokens_per_step=4e6)
    assert "Kaplan" in str(found) and "Zhang" in str(found) and "Merrill" in str(found) and "Step Law" in str(found)
    assert json.loads(json.dumps(found.to_dict()))["learning_rate"] == found.learning_rate
    no_loss = advise_batch(get_law("deepseek"), 1e9, 1e11, tokens_per_step=1e6)
    assert no_loss.critical[0].source.startswith("Zhang") and no_loss.trade is None
