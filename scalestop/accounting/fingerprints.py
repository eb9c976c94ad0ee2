"""Fingerprints of samples, taken where they live, to see whether a loader repeats itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from scalestop.accounting.batches import INPUT_KEYS
from scalestop.accounting.readers import INTEGERS

_FIRST, _EVERY, _FOLD_EVERY, _MOST_FOLDS = 256, 16, 64, 64
_LEAST = 8
"""Tokens below which a row says too little: few of so short a length differ."""


class RowPrints:
    """Fingerprints of the first row of each of the first 256 batches, and of every 16th after them.

    One row a batch finds a loader that repeats itself, as all rows of a batch come again together. Only :meth:`read`
    waits for a device.
    """

    __slots__ = ("_batches", "_prints", "_rows", "_weights")

    def __init__(self) -> None:
        self._batches = 0
        self._rows: list[Tensor] = []
        self._prints: list[Tensor] = []
        self._weights: dict[torch.device, Tensor] = {}

    def see(self, batch: Any) -> None:
        """Take the next batch; one of unknown structure, or of no token ids, is left alone."""
        self._batches += 1
        if (self._batches > _FIRST and self._batches % _EVERY) or len(self._prints) >= _MOST_FOLDS:
            return
        ids = ids_of(batch)
        if ids is not None:
            self._rows.append(ids.detach()[0].clone())  # a view would keep the whole batch
            if len(self._rows) >= _FOLD_EVERY:
                self._fold()

    def _fold(self) -> None:
        """Turn rows into numbers, all of one length in a few kernels; products and sums of int64 wrap everywhere."""
        rows, self._rows = self._rows, []
        for first in dict.fromkeys((row.device, row.shape) for row in rows):
            alike = torch.stack([row for row in rows if (row.device, row.shape) == first]).flatten(1).long()
            self._prints.append((alike * self._weights_for(alike[0])).sum(1))

    def _weights_for(self, row: Tensor) -> Tensor:
        known = self._weights.get(row.device)
        if known is None or len(known) < len(row):
            generator = torch.Generator().manual_seed(20_260)  # of its own: the run's random numbers stay what they are
            length = 1 << (len(row) - 1).bit_length()
            drawn = torch.randint(2**62, (length,), generator=generator) * 2 + 1
            known = self._weights[row.device] = drawn.to(row.device)
        return known[: len(row)]

    def read(self) -> list[int]:
        """Return the fingerprints since the last time, non-negative with mixed bits; waits for the device."""
        self._fold()
        found, self._prints = self._prints, []
        return [_mixed(value) for some in found for value in some.tolist()]

    def __getstate__(self) -> tuple[None, dict[str, Any]]:
        """Leave behind what lives on a device."""
        return None, {"_batches": self._batches, "_rows": [], "_prints": [], "_weights": {}}


def ids_of(batch: Any) -> Tensor | None:
    """Return a batch's token ids ``[B, T]``; None where it shows none."""
    if isinstance(batch, Mapping):
        batch = next((batch[key] for key in INPUT_KEYS if isinstance(batch.get(key), Tensor)), None)
    elif isinstance(batch, tuple | list):
        batch = next((part for part in batch if isinstance(part, Tensor)), None)
    if type(batch) is not Tensor or batch.layout is not torch.strided or batch.is_nested:
        return None
    shape = batch.shape
    return batch if len(shape) >= 2 and batch.dtype in INTEGERS and shape[0] and shape[1] >= _LEAST else None


def _mixed(value: int) -> int:
    """Mix all bits into the low ones (the finalizer of splitmix64)."""
    value &= 2**64 - 1
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & (2**64 - 1)
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & (2**64 - 1)
    return (value ^ (value >> 31)) >> 1
