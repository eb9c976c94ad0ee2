"""By Friday, on eight of these."""

import json

import pytest

from scalestop import Speed, get_law
from scalestop.errors import InputError
from scalestop.planning.advice.bills import bill
from scalestop.planning.advice.deadline import by_deadline

LAW = get_law("besiroglu")
EIGHT = Speed(989e12, 0.4, 8, 2.5)


def test_a_deadline_by_hand():
    found = by_deadline(LAW, 72 * 3600, EIGHT)
    flops = 72 * 3600 * 989e12 * 0.4 * 8
    assert found.best.flops == pytest.approx(flops)
    assert found.best.num_params == pytest.approx(LAW.optimal(flops).num_params)
    assert found.bill.seconds == pytest.approx(72 * 3600) and found.bill.usd == pytest.approx(72 * 8 * 2.5)
    assert found.more_devices == 16 and found.more.flops == pytest.approx(2 * flops)
    assert found.gain == pytest.approx(found.best.loss - found.more.loss)
    assert found.gain_interval[0] < found.gain < found.gain_interval[1]
    assert "3 days on 8 devices" in str(found) and "or the same run in 36 h" in str(found)
    json.dumps(found.to_dict())


def test_four_more_devices_buy_less_than_eight():
    four, eight = (by_deadline(LAW, 3600, EIGHT, added).gain for added in (4, 8))
    assert 0 < four < eight


def test_a_law_without_loss():
    found = by_deadline(get_law("deepseek"), 3600, EIGHT)
    assert found.gain is None and found.gain_interval is None and str(found)


def test_what_is_missing():
    with pytest.raises(InputError, match="peak: a deadline needs a speed"):
        by_deadline(LAW, 3600, Speed())
    with pytest.raises(InputError, match="added_devices: at least 1; got 0"):
        by_deadline(LAW, 3600, EIGHT, 0)
    with pytest.raises(InputError, match="seconds: must be positive"):
        by_deadline(LAW, 0, EIGHT)


def test_a_bill_guesses_nothing():
    assert bill(1e20, None).usd is bill(1e20, Speed(989e12)).seconds is None
    assert "give peak and mfu" in str(bill(1e20, None))
    priceless = bill(1e20, Speed(989e12, 0.4))
    assert priceless.usd is None and priceless.seconds == pytest.approx(1e20 / 989e12 / 0.4)
    assert str(bill(1e20, EIGHT)).endswith("USD")
