"""Data that is no text: each sample counts as one token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from scalestop.errors import InputError

NOTE = (
    "the batches hold no token ids, so each sample counts as one token, at 6N FLOPs unless flops_per_token='measured' "
    "counts what it costs; count_tokens= counts otherwise"
)
"""What a run should say that counts samples."""


def count_samples(batch: Any) -> int:
    """Return how many samples a batch holds: the first dimension of its first tensor. Reads no values.

    Args:
        batch: Tensors, nested in lists, tuples or mappings.

    Raises:
        InputError: If no tensor in it has a dimension.
    """
    found = _first(batch)
    if found is None:
        raise InputError(
            f"batch: cannot tell how many samples it holds; got {type(batch).__name__}. Pass count_tokens=function, "
            f"which takes a batch and returns a number."
        )
    return int(found.shape[0])


def _first(part: Any) -> Tensor | None:
    if isinstance(part, Tensor):
        return part if part.ndim else None
    if isinstance(part, Mapping):
        part = list(part.values())
    if isinstance(part, Sequence) and not isinstance(part, str):
        return next((found for item in part if (found := _first(item)) is not None), None)
    return None
