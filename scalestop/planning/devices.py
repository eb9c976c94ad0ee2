"""Peaks of devices by name: dense bfloat16 matmul rates that the makers publish. No torch, nothing measured."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from scalestop.errors import InputError
from scalestop.planning.speed import parse_flops_per_second


@dataclass(frozen=True)
class Device:
    """One accelerator, as its maker describes it."""

    name: str
    """The name it is asked for by."""
    peak_flops_per_second: float
    """Dense bfloat16 tensor-core (or matrix-unit) peak of one device, FLOP/s; never the rate with sparsity."""
    source: str
    """The maker's page."""


# Datasheets print Hopper's and Blackwell's tensor-core rates with 2:4 sparsity, twice the dense rate given here. Left
# out, because no single dense figure is certain: H100 NVL, B300, GeForce, laptop cards; V100, T4 have no bfloat16.
DEVICES = {
    device.name: device
    for device in (
        Device("A100", 312e12, "NVIDIA A100 datasheet: 312 TFLOPS BF16 (SXM and PCIe, 40 and 80 GB)"),
        Device("A10", 125e12, "NVIDIA A10 datasheet: 125 TFLOPS BF16"),
        Device("A40", 149.7e12, "NVIDIA A40 datasheet: 149.7 TFLOPS BF16"),
        Device("L4", 121e12, "NVIDIA L4 datasheet: 242 TFLOPS BF16 with sparsity, 121 dense"),
        Device("L40S", 362e12, "NVIDIA L40S datasheet: 362 TFLOPS BF16 dense, 733 with sparsity"),
        Device("H100", 989e12, "NVIDIA H100 datasheet, SXM: 1,979 TFLOPS BF16 with sparsity, 989 dense"),
        Device("H100-PCIe", 756e12, "NVIDIA H100 datasheet, PCIe: 1,513 TFLOPS BF16 with sparsity, 756 dense"),
        Device("H200", 989e12, "NVIDIA H200 datasheet, SXM: 1,979 TFLOPS BF16 with sparsity, 989 dense"),
        Device("B200", 2.25e15, "NVIDIA HGX B200 datasheet: 4.5 PFLOPS BF16 with sparsity, 2.25 dense"),
        Device("GB200", 2.5e15, "NVIDIA GB200 NVL72 datasheet, one GPU: 5 PFLOPS BF16 with sparsity, 2.5 dense"),
        Device("MI300X", 1.3074e15, "AMD Instinct MI300X datasheet: 1,307.4 TFLOPS BF16 dense"),
    )
}


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower().removeprefix("nvidia ").removeprefix("amd instinct "))


_BY_KEY = {_key(name): device for name, device in DEVICES.items()} | {"h100sxm": DEVICES["H100"]}


def device_named(name: str) -> Device | None:
    """Return the device of a name such as `H100` or `h100-pcie`; None if it is not in the table.

    Case, spaces and hyphens do not matter, and nothing is matched by its parts.
    """
    return _BY_KEY.get(_key(name))


def parse_peak(value: str | float | None, argument: str = "peak") -> float | None:
    """Read the peak of one device: a name in the table, a rate such as `"312 TFLOP/s"`, or a number of FLOP/s.

    Args:
        value: What the user wrote.
        argument: Its name, for errors.

    Raises:
        InputError: If the text is neither a known name nor a rate.
    """
    if not isinstance(value, str):
        return value
    found = device_named(value)
    if found is not None:
        return found.peak_flops_per_second
    if not value.strip()[:1].isalpha():
        return parse_flops_per_second(value, argument)
    near = difflib.get_close_matches(value.strip()[:40].upper(), [name.upper() for name in DEVICES], n=1)
    hint = f" Did you mean {next(n for n in DEVICES if n.upper() == near[0])!r}?" if near else ""
    raise InputError(
        f"{argument}: no device is called {value[:60]!r} in the table.{hint} Known are {', '.join(DEVICES)}; or give "
        f"its dense rate at the run's precision, such as '989 TFLOP/s'"
    )
