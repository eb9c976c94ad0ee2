"""Peaks by name."""

import pytest

from scalestop.accounting.hardware import is_in_table
from scalestop.errors import InputError
from scalestop.planning.devices import DEVICES, device_named, parse_peak


@pytest.mark.parametrize(
    ("name", "peak"),
    [("H100", 989e12), ("h100", 989e12), ("NVIDIA H100", 989e12), ("H100 SXM", 989e12), ("h100-pcie", 756e12),
     ("A100", 312e12), ("B200", 2.25e15), ("AMD Instinct MI300X", 1.3074e15)],
)  # fmt: skip
def test_a_name_is_its_dense_peak(name, peak):
    assert parse_peak(name) == peak


@pytest.mark.parametrize("name", ["H10", "H1000", "H100 NVL", "L40", "A100 laptop", ""])
def test_nothing_is_matched_by_its_parts(name):
    assert device_named(name) is None


def test_a_rate_and_a_number_are_still_rates():
    assert parse_peak("989 TFLOP/s") == parse_peak(9.89e14) == 9.89e14
    assert parse_peak(None) is None
    with pytest.raises(InputError, match=r"peak: .* is no rate"):
        parse_peak("3 tokens")


def test_an_unknown_name_says_which_are_known():
    with pytest.raises(
        InputError, match=r"peak: no device is called 'H10' in the table. Did you mean 'H100'\?.*MI300X"
    ):
        parse_peak("H10")


def test_every_device_says_where_its_peak_is_from():
    assert all(device.source and device.peak_flops_per_second > 1e14 for device in DEVICES.values())
    assert is_in_table("NVIDIA H100 PCIe")  # one of those whose peak the accounting knows, 756e12, as here
