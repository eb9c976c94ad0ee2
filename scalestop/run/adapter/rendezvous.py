"""Whether all ranks have come to the same place, asked where a collective could wait for one that never comes.

Data without a length may run out on one rank before the others; those then wait for its gradients until its process
ends. A collective of ours would keep it from ending.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

import torch.distributed as dist

PATIENCE = 3.0
"""Seconds that a rank waits for the others at the end of data that may end at different steps."""


class Rendezvous:
    """Meets the other ranks through the store of the process group, for one fit; three requests a rank.

    Args:
        nonce: The same on every rank, and another one for each fit.
        store: The process group's if None.
        world_size: Ranks; from the process group if None.
    """

    def __init__(self, nonce: str, store: Any = None, world_size: int | None = None) -> None:
        self._prefix, self._store, self._world = f"scalestop/{nonce}/meet", store, world_size
        self._met: list[str] = []

    def _get_store(self) -> Any:
        return dist.distributed_c10d._get_default_store() if self._store is None else self._store

    def __call__(self, place: str) -> bool:
        """Wait a while for all ranks, and return whether they have come; all that are here get the same answer.

        Args:
            place: The same on every rank, and never met at before.
        """
        try:
            store, key = self._get_store(), f"{self._prefix}/{place}"
            world = dist.get_world_size() if self._world is None else self._world
            if store.add(f"{key}/here", 1) == world:
                self._met.append(key)
                answer = store.compare_set(f"{key}/answer", "", "all")
            else:
                with suppress(RuntimeError):  # torch's time-out is one
                    store.wait([f"{key}/answer"], timedelta(seconds=PATIENCE))
                # whoever is first, the last rank to come or the first to go, answers for all
                answer = store.compare_set(f"{key}/answer", "", "gone")
        except (RuntimeError, ValueError):
            return False
        return bool(answer == b"all")

    def close(self) -> None:
        """Leave nothing in the store of where all ranks have met: none asks there any more."""
        with suppress(RuntimeError, ValueError):
            for key in self._met:
                self._get_store().delete_key(f"{key}/here")
                self._get_store().delete_key(f"{key}/answer")
        self._met.clear()
