"""What turns hours and money into FLOPs, and refuses to guess."""

import pytest

from scalestop.errors import InputError
from scalestop.planning.budget import Budget
from scalestop.planning.speed import Speed, parse_flops_per_second

H100 = Speed(peak_flops_per_second=1e15, mfu=0.4, num_devices=8, usd_per_device_hour=2.0)


def test_flops_per_device_second():
    assert H100.flops_per_device_second == 4e14
    assert Speed(measured_flops_per_second=3e14).flops_per_device_second == 3e14
    assert Speed(1e15, 0.4, measured_flops_per_second=3e14).flops_per_device_second == 3e14
    assert Speed().flops_per_device_second is None
    assert Speed(peak_flops_per_second=1e15).flops_per_device_second is None
    assert Speed(mfu=0.4).flops_per_device_second is None


@pytest.mark.parametrize(
    ("budget", "flops"),
    [
        (Budget(device_seconds=3600), [4 * 3600 * 10**14]),
        (Budget(seconds=3600), [8 * 4 * 3600 * 10**14]),
        (Budget(usd=10), [5 * 4 * 3600 * 10**14]),
        (Budget(flops=1), []),
        (Budget(flops=1, seconds=1, usd=2), [8 * 4 * 10**14, 4 * 3600 * 10**14]),
    ],
)
def test_flops_for(budget, flops):
    assert H100.flops_for(budget) == flops


def test_what_is_not_known_buys_nothing():
    assert Speed(num_devices=8).flops_for(Budget(seconds=3600)) == []
    assert Speed(1e15, 0.4).flops_for(Budget(usd=10)) == []


@pytest.mark.parametrize("name", ["peak_flops_per_second", "mfu", "usd_per_device_hour", "measured_flops_per_second"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), "4e14", True])
def test_rates_must_be_positive(name, value):
    with pytest.raises(InputError) as error:
        Speed(**{name: value})
    assert str(error.value) == f"{name}: must be positive and finite; got {value!r}"


def test_forty_is_no_share():
    with pytest.raises(InputError) as error:
        Speed(mfu=40)
    assert str(error.value) == "mfu: a share of the peak, at most 1; got 40 (write 0.4 for 40 %)"


@pytest.mark.parametrize("value", [0, -1, 1.5, float("nan"), "8", True])
def test_devices_are_counted(value):
    with pytest.raises(InputError) as error:
        Speed(num_devices=value)
    assert str(error.value) == f"num_devices: a whole number, at least 1; got {value!r}"


@pytest.mark.parametrize(
    ("speed", "text"),
    [
        (H100, "peak 1e+15 FLOP/s x MFU 0.4 x 8 devices, 2 USD per device-hour"),
        (Speed(measured_flops_per_second=3e14), "3e+14 FLOP/s per device, measured, x 1 device"),
        (Speed(num_devices=2), "2 devices, speed unknown"),
    ],
)
def test_text(speed, text):
    assert str(speed) == text


@pytest.mark.parametrize(
    ("value", "rate"),
    [("312 TFLOP/s", 3.12e14), ("1 PFLOPS", 1e15), ("9.89e14", 9.89e14), (3e14, 3e14), (None, None)],
)
def test_parse_flops_per_second(value, rate):
    assert parse_flops_per_second(value) == rate


@pytest.mark.parametrize("text", ["312 TFLOPs", "12h", "2B tokens", "$5", "1 PF-day", "5E12 FLOPs"])
def test_an_amount_is_no_rate(text):
    with pytest.raises(InputError) as error:
        parse_flops_per_second(text, "peak")
    assert str(error.value) == (
        f"peak: {text!r} is no rate. Write for example '312 TFLOP/s', '9.89e14 FLOP/s', '1 PFLOP/s'."
    )
