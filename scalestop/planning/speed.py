"""How fast and how dear the devices are: what turns hours and money into FLOPs."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

from scalestop.errors import InputError, shown
from scalestop.planning.budget import Budget, is_amount
from scalestop.units import Dimension, parse_quantity


@dataclass(frozen=True)
class Speed:
    """What one device delivers and costs. Never guessed: it comes from the user or from a measurement."""

    peak_flops_per_second: float | None = None
    """Peak of one device at the run's precision, FLOP/s."""
    mfu: float | None = None
    """Model FLOPs utilisation: share of the peak that training reaches, above 0, at most 1."""
    num_devices: int = 1
    """Devices that train together."""
    usd_per_device_hour: float | None = None
    """Price, US dollars per device-hour."""
    measured_flops_per_second: float | None = None
    """Model FLOP/s of one device, measured over a warm-up window; takes the place of peak times MFU."""

    def __post_init__(self) -> None:
        for name in ("peak_flops_per_second", "mfu", "usd_per_device_hour", "measured_flops_per_second"):
            value = getattr(self, name)
            if value is not None and not is_amount(value):
                raise InputError(f"{name}: must be positive and finite; got {shown(value)}")
        if self.mfu is not None and self.mfu > 1:
            raise InputError(f"mfu: a share of the peak, at most 1; got {self.mfu!r} (write 0.4 for 40 %)")
        if isinstance(self.num_devices, bool) or not isinstance(self.num_devices, Integral) or self.num_devices < 1:
            raise InputError(f"num_devices: a whole number, at least 1; got {self.num_devices!r}")

    @property
    def flops_per_device_second(self) -> float | None:
        """Model FLOP/s that one device delivers; None if unknown."""
        if self.measured_flops_per_second is not None:
            return self.measured_flops_per_second
        if self.peak_flops_per_second is None or self.mfu is None:
            return None
        return self.peak_flops_per_second * self.mfu

    def flops_for(self, budget: Budget) -> list[int]:
        """Return the FLOPs that each of the budget's limits in time or money buys; empty if the speed is unknown."""
        rate = self.flops_per_device_second
        if rate is None:
            return []
        found = []
        if budget.device_seconds is not None:
            found.append(budget.device_seconds * rate)
        if budget.seconds is not None:
            found.append(budget.seconds * rate * self.num_devices)
        if budget.usd is not None and self.usd_per_device_hour is not None:
            found.append(budget.usd / self.usd_per_device_hour * 3600 * rate)
        return [max(1, round(flops)) for flops in found]

    def __str__(self) -> str:
        devices = f"{self.num_devices} device{'s' if self.num_devices > 1 else ''}"
        price = f", {self.usd_per_device_hour:g} USD per device-hour" if self.usd_per_device_hour else ""
        if self.measured_flops_per_second is not None:
            return f"{self.measured_flops_per_second:.3g} FLOP/s per device, measured, x {devices}{price}"
        if self.flops_per_device_second is None:
            return f"{devices}, speed unknown{price}"
        return f"peak {self.peak_flops_per_second:.3g} FLOP/s x MFU {self.mfu:.3g} x {devices}{price}"


def parse_flops_per_second(value: str | float | None, argument: str = "peak_flops_per_second") -> float | None:
    """Read a speed such as `"312 TFLOP/s"` or a plain number of FLOP/s.

    Raises:
        InputError: If the text is no rate.
    """
    if value is None or not isinstance(value, str):
        return value
    examples = ("312 TFLOP/s", "9.89e14 FLOP/s", "1 PFLOP/s")
    amount = parse_quantity(value, argument=argument, examples=examples)
    bare = amount.dimension is Dimension.FLOPS and not any(c.isalpha() and c not in "eE" for c in value)
    if amount.dimension is not Dimension.FLOPS_PER_SECOND and not bare:
        raise InputError(f"{argument}: {value!r} is no rate. Write for example {', '.join(map(repr, examples))}.")
    return float(amount.value)
