"""By a deadline, on so many devices: the best size and tokens, and what more devices would buy."""

from __future__ import annotations

from dataclasses import dataclass, replace

from scalestop.errors import InputError
from scalestop.laws import ScalingLaw
from scalestop.laws.intervals import Pair, interval_of_gain, interval_of_optimum
from scalestop.planning.advice.basis import Answer, Basis, Spot, amount, basis_of, best_spot, block, negated, signed
from scalestop.planning.advice.bills import Bill, bill
from scalestop.planning.advice.regime import run_name
from scalestop.planning.allocation import spread
from scalestop.planning.speed import Speed
from scalestop.units import human_flops, human_seconds


@dataclass(frozen=True)
class Deadline(Answer):
    """What can be trained by a deadline."""

    seconds: float
    """Wall time, seconds."""
    best: Spot
    """The law's optimum of what the devices do in that time."""
    params_interval: Pair | None
    """90 % interval of N_opt."""
    bill: Bill
    more_devices: int
    """Devices with the added ones."""
    more: Spot
    """The optimum of what those do, at the same MFU."""
    more_bill: Bill
    gain: float | None
    """What the added devices take off the loss, nats per token."""
    gain_interval: Pair | None
    """90 % interval of that."""
    basis: Basis

    def __str__(self) -> str:
        loss = "" if self.best.loss is None else f", loss {spread(self.best.loss, self.best.loss_interval, '.3f')}"
        compute = human_flops(self.best.flops)
        rows = {
            "time": f"{human_seconds(self.seconds)} on {self.bill.num_devices} devices = {compute}",
            "train": f"{run_name(self.best)}: N_opt {spread(self.best.num_params, self.params_interval)}{loss}",
            "takes": str(self.bill),
        }
        text = f"with {self.more_devices}: {run_name(self.more)}"
        if self.gain is not None:
            change = signed(-self.gain, negated(self.gain_interval))
            text += f", loss {self.more.loss:.3f} ({change})"
        if self.more_bill.usd is not None and self.bill.usd is not None:
            text += f", for {self.more_bill.usd - self.bill.usd:,.0f} USD more"
        sooner = self.seconds * self.bill.num_devices / self.more_devices
        text += f"; or the same run in {human_seconds(sooner)}"
        counted = "the same MFU on more devices, which a real network does not quite give"
        return block(rows | {"more": text, "counted": counted, "law": str(self.basis)})


def by_deadline(law: ScalingLaw, seconds: float, speed: Speed, added_devices: int | None = None) -> Deadline:
    """Return the best size and tokens for a deadline, and what more devices would buy.

    Args:
        law: The law.
        seconds: Wall time there is for training, seconds.
        speed: Peak and MFU or a measured rate, devices, and price where money matters.
        added_devices: Devices of a second node; None for as many again.

    Raises:
        InputError: If the speed is not known.
    """
    seconds = amount(seconds, "seconds")
    rate = speed.flops_per_device_second
    if rate is None:
        raise InputError("peak: a deadline needs a speed; give the peak of one device and its MFU")
    added = speed.num_devices if added_devices is None else added_devices
    wider = replace(speed, num_devices=speed.num_devices + added)
    if wider.num_devices <= speed.num_devices:
        raise InputError(f"added_devices: at least 1; got {added_devices!r}")
    best, more = (best_spot(law, seconds * rate * s.num_devices) for s in (speed, wider))
    return Deadline(
        seconds=seconds,
        best=best,
        params_interval=interval_of_optimum(law, best.flops).num_params,
        bill=bill(best.flops, speed),
        more_devices=wider.num_devices,
        more=more,
        more_bill=bill(more.flops, wider),
        gain=None if best.loss is None or more.loss is None else best.loss - more.loss,
        gain_interval=interval_of_gain(law, (best.num_params, best.num_tokens), (more.num_params, more.num_tokens)),
        basis=basis_of(law, best.num_params, best.num_tokens, best.flops),
    )
