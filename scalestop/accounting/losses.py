"""The training loss, summed where it lives: nothing is read from a device until a point of the curve is due."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class LossSums(NamedTuple):
    """What some batches' losses add up to."""

    total: float
    """Sum of the finite losses, nats per token."""
    squares: float
    """Sum of their squares."""
    finite: int
    """How many they are."""
    nonfinite: int
    """How many losses were not finite."""


class LossAccumulator:
    """Sums the losses of batch after batch; :meth:`read` alone waits for the device."""

    #: Losses kept before they are folded into sums: an append is cheaper than a kernel per step.
    FOLD_EVERY = 256

    __slots__ = ("_folded", "_pending", "_read")

    def __init__(self) -> None:
        self._pending: list[Tensor] = []
        self._folded: dict[torch.device, Tensor] = {}
        self._read = LossSums(0.0, 0.0, 0, 0)

    def add(self, loss: Tensor) -> None:
        """Add the mean loss of one batch; nothing is read from a device.

        Args:
            loss: One number, detached, and nobody else's to write to.
        """
        self._pending.append(loss)
        if len(self._pending) >= self.FOLD_EVERY:
            self._fold()

    def _fold(self) -> None:
        pending, self._pending = self._pending, []
        try:
            groups = [torch.stack(pending)] if pending else []
        except RuntimeError:  # of several devices or shapes
            groups = pending
        for losses in groups:
            device = losses.device
            values = losses.flatten()
            values = values.float() if device.type == "mps" else values.double()  # mps has no float64
            finite = torch.isfinite(values)
            kept = torch.where(finite, values, torch.zeros_like(values))
            sums = torch.stack([kept.sum(), (kept * kept).sum(), finite.sum().to(kept), (~finite).sum().to(kept)])
            self._folded[device] = sums if device not in self._folded else self._folded[device] + sums

    def peek(self) -> LossSums:
        """Return the sums so far, and go on with them; waits for the device, with one transfer."""
        self._fold()
        for sums in self._folded.values():
            total, squares, count, nonfinite = sums.tolist()
            before = self._read
            self._read = LossSums(
                before.total + total,
                before.squares + squares,
                before.finite + int(count),
                before.nonfinite + int(nonfinite),
            )
        self._folded = {}
        return self._read

    def read(self) -> LossSums:
        """Return the sums since the last time, and start again from zero; waits for the device."""
        sums, self._read = self.peek(), LossSums(0.0, 0.0, 0, 0)
        return sums

    def begin_with(self, total: float, squares: float, finite: int, nonfinite: int) -> None:
        """Go on from saved sums."""
        self._pending, self._folded, self._read = [], {}, LossSums(total, squares, finite, nonfinite)
