"""What a run costs: hours and money, once the devices are known."""

from __future__ import annotations

from dataclasses import dataclass

from scalestop.planning.advice.basis import Answer
from scalestop.planning.speed import Speed
from scalestop.units import human_count, human_flops, human_seconds


@dataclass(frozen=True)
class Bill(Answer):
    """Time and money for an amount of compute; None is what a missing speed or price leaves open."""

    flops: float
    """Compute that the devices do, FLOPs."""
    num_devices: int
    """Devices that train together."""
    seconds: float | None
    """Wall time, seconds."""
    device_hours: float | None
    """Device-hours: wall time times devices."""
    usd: float | None
    """US dollars."""

    def __str__(self) -> str:
        if self.seconds is None or self.device_hours is None:
            return f"{human_flops(self.flops)}: give peak and mfu for hours, and usd_per_device_hour for money"
        text = f"{human_seconds(self.seconds)} on {self.num_devices} device{'s' if self.num_devices > 1 else ''} "
        text += f"({human_count(self.device_hours)} device-hours)"
        return text if self.usd is None else f"{text}, {human_usd(self.usd)}"


def bill(flops: float, speed: Speed | None) -> Bill:
    """Return what an amount of compute takes on given devices.

    Args:
        flops: FLOPs, all devices together.
        speed: Peak and MFU (or a measured rate), devices and price; unknown stays unknown.
    """
    rate = None if speed is None else speed.flops_per_device_second
    devices = 1 if speed is None else speed.num_devices
    if speed is None or rate is None:
        return Bill(float(flops), devices, None, None, None)
    hours = flops / rate / 3600
    price = speed.usd_per_device_hour
    return Bill(float(flops), devices, hours * 3600 / devices, hours, None if price is None else hours * price)


def human_usd(value: float) -> str:
    """Return money for people: 1234.5 -> '1,234 USD', 0.123 -> '0.123 USD'."""
    return f"{value:,.0f} USD" if value >= 100 else f"{value:.3g} USD"
