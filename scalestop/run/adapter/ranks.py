"""The processes of `torch.distributed`, where no framework speaks for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist


class TorchRanks:
    """Adds up, compares and shares values over the default process group; alone where there is none.

    Args:
        device: Where the group's collectives take their tensors.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    @property
    def world_size(self) -> int:
        """Processes that train together."""
        return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that speaks and writes."""
        return self.world_size == 1 or dist.get_rank() == 0

    def __call__(self, values: Sequence[int]) -> Sequence[int]:
        """Add up ints, element by element. A collective where there are several ranks."""
        return self._reduced(values, dist.ReduceOp.SUM) if self.world_size > 1 else values

    def maxima(self, values: Sequence[int]) -> Sequence[int]:
        """Return the largest of each int. A collective where there are several ranks."""
        return self._reduced(values, dist.ReduceOp.MAX) if self.world_size > 1 else values

    def _reduced(self, values: Sequence[int], how: Any) -> list[int]:
        tensor = torch.tensor(list(values), dtype=torch.int64, device=self._device)
        dist.all_reduce(tensor, op=how)
        return [int(value) for value in tensor.tolist()]

    def broadcast(self, value: Any) -> Any:
        """Return the first rank's value on every rank. A collective where there are several ranks."""
        if self.world_size == 1:
            return value
        held = [value]
        dist.broadcast_object_list(held, src=0, device=self._device)
        return held[0]

    def gather(self, value: Any) -> list[Any]:
        """Return every rank's value, by rank. A collective where there are several ranks."""
        values: list[Any] = [None] * self.world_size
        if self.world_size == 1:
            return [value]
        dist.all_gather_object(values, value)
        return values
