"""Readers of token counts: each reads batches of one structure, from shapes and masks, in about a microsecond.

:func:`scalestop.accounting.batches.inspect_batch` makes them. A reader never waits for a device, and returns None for a
batch whose structure is another one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

#: processed, non-padding, in-loss, samples; the middle two are 0-dim int64 tensors for a batch on an accelerator.
Counts = tuple[int, int | Tensor, int | Tensor, int]

#: Dtypes that token ids come in.
INTEGERS = frozenset({torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8})

#: Dtypes that numpy reads in place: it has no bfloat16, and floats may carry a gradient.
EXACT = INTEGERS | {torch.bool}

#: Elements up to which a list is quicker than an array: no kernel has to be found and no array made.
SMALL = 256


class Reader(Protocol):
    """Reads batches of one structure."""

    def read(self, batch: Any) -> Counts | None:
        """Counts of the batch, or None where its structure is another one."""


def _is_on_host(tensor: Tensor) -> bool:
    """Whether a value can be read without waiting for a device."""
    return tensor.is_cpu


def count_nonzero(tensor: Tensor) -> int | Tensor:
    """Elements that are not zero: an int for a tensor on the CPU, else a 0-dim int64 tensor left where it is."""
    if _is_on_host(tensor) and tensor.dtype in EXACT:
        if tensor.ndim == 2 and tensor.numel() <= SMALL:
            return tensor.numel() - sum(row.count(0) for row in tensor.tolist())
        return int(np.count_nonzero(tensor.numpy()))
    return torch.count_nonzero(tensor)


def count_not_equal(tensor: Tensor, value: int) -> int | Tensor:
    """Elements that differ from ``value``, as :func:`count_nonzero`."""
    if _is_on_host(tensor):
        if tensor.ndim == 2 and tensor.numel() <= SMALL:
            return tensor.numel() - sum(row.count(value) for row in tensor.tolist())
        return int(np.count_nonzero(tensor.numpy() != value))
    return torch.count_nonzero(tensor != value)


def _count_mask(mask: Tensor, num_samples: int) -> int | Tensor:
    """Real tokens of an attention mask ``[B, T]``, ``[B, T, T]`` or ``[B, heads or 1, T, T]``, not zero where attended.

    In the larger masks a token is real if any query may attend to it. A batch size of 1 is broadcast.
    """
    if mask.ndim == 2:
        return count_nonzero(mask)
    if mask.ndim == 4:
        mask = mask[:, 0]
    return count_nonzero(mask.any(dim=-2)) * (num_samples if mask.shape[0] == 1 else 1)


def _is_ragged(batch: Any, key: Any) -> bool:
    """Whether a field is a tensor that has no plain shape: nested or sparse."""
    part = None if key is None else batch[key]
    return isinstance(part, Tensor) and (part.is_nested or part.layout is not torch.strided)


@dataclass(frozen=True, slots=True)
class TensorReader:
    """Reads a bare tensor of token ids ``[B, T]``."""

    dtype: torch.dtype

    def read(self, batch: Any) -> Counts | None:
        """Counts by shape."""
        try:
            samples, length = batch.shape
        except (RuntimeError, ValueError):  # ragged rows have no shape; or other dimensions than two
            return None
        if batch.dtype is not self.dtype or type(length) is not int:
            return None
        processed = samples * length
        return processed, processed, processed, samples


@dataclass(frozen=True, slots=True)
class FieldReader:
    """Reads the fields of a dict, tuple or list.

    ``layout`` is the keys, or the length of a sequence; ``bystanders`` are the tensors that were looked at and left
    out, which must stay as they were for the reading to stand.
    """

    layout: tuple[Any, ...] | int
    ids: Any
    dtype: torch.dtype
    ndim: int
    ignore_index: int
    mask: Any = None
    mask_ndim: int = 0
    labels: Any = None
    decoder_ids: Any = None
    decoder_mask: Any = None
    decoder: bool = False
    bystanders: tuple[tuple[Any, torch.dtype, int], ...] = ()

    def read(self, batch: Any) -> Counts | None:
        """Counts by shape, mask and labels."""
        try:
            if (len(batch) if type(self.layout) is int else tuple(batch)) != self.layout:
                return None
            ids = batch[self.ids]
            shape = ids.shape
            if len(shape) != self.ndim or ids.dtype is not self.dtype or type(shape[1]) is not int:
                return None
            for key, dtype, ndim in self.bystanders:
                other = batch[key]
                if other.dtype is not dtype or other.ndim != ndim:
                    return None
            samples = shape[0]
            processed = samples * shape[1]
            non_padding: int | Tensor = processed
            if self.mask is not None:
                mask = batch[self.mask]
                if mask.ndim != self.mask_ndim or mask.shape[-1] != shape[1]:
                    return None
                non_padding = _count_mask(mask, samples)
            if self.decoder:
                return self._with_decoder(batch, processed, non_padding, samples)
            if self.labels is None:
                return processed, non_padding, non_padding, samples
            labels = batch[self.labels]
            if labels.shape != shape:
                return None
            return processed, non_padding, count_not_equal(labels, self.ignore_index), samples
        # a field is gone, is no tensor any more, or one of ragged rows
        except (AttributeError, KeyError, TypeError, IndexError, ValueError, NotImplementedError):
            return None
        except RuntimeError:
            if any(_is_ragged(batch, key) for key in (self.ids, self.mask, self.labels, *self._others())):
                return None
            raise  # a device's own error

    def _others(self) -> tuple[Any, ...]:
        return (self.decoder_ids, self.decoder_mask, *(key for key, _, _ in self.bystanders))

    def _with_decoder(self, batch: Any, processed: int, non_padding: int | Tensor, samples: int) -> Counts | None:
        target = batch[self.decoder_ids if self.decoder_ids is not None else self.labels]
        if target.ndim != 2:
            return None
        decoded = target.shape[0] * target.shape[1]
        in_loss = None if self.labels is None else count_not_equal(batch[self.labels], self.ignore_index)
        real: int | Tensor = decoded
        if self.decoder_mask is not None:
            real = count_nonzero(batch[self.decoder_mask])
        elif in_loss is not None:
            real = in_loss
        return processed + decoded, non_padding + real, real if in_loss is None else in_loss, samples


@dataclass(frozen=True, slots=True)
class NestedReader:
    """Sums the batches of several loaders. A part that is None (an exhausted loader) counts nothing."""

    layout: tuple[Any, ...] | int
    inspect: Callable[[Any], Reader]
    readers: dict[Any, Reader] = field(default_factory=dict)

    def read(self, batch: Any) -> Counts | None:
        """Sums of the parts' counts."""
        if isinstance(batch, Mapping) == isinstance(self.layout, int):
            return None
        if (len(batch) if isinstance(self.layout, int) else tuple(batch)) != self.layout:
            return None
        processed, samples = 0, 0
        non_padding: int | Tensor = 0
        in_loss: int | Tensor = 0
        for key in range(self.layout) if isinstance(self.layout, int) else self.layout:
            part = batch[key]
            if part is None:
                continue
            if not isinstance(part, Mapping | tuple | list):
                return None
            reader = self.readers.get(key)
            counts = None if reader is None else reader.read(part)
            if counts is None:
                reader = self.readers[key] = self.inspect(part)
                counts = reader.read(part)
            if counts is None:
                return None
            processed += counts[0]
            non_padding = non_padding + counts[1]
            in_loss = in_loss + counts[2]
            samples += counts[3]
        return processed, non_padding, in_loss, samples
