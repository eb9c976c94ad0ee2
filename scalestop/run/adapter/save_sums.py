"""Counts of all ranks at a checkpoint, through the store the process group was made with.

At checkpoint time there is no telling whether all ranks save or one alone; a collective would hang in the second case.
So each rank leaves its numbers, and the rank that writes the file, the first one, reads them: one request a rank, and
one key in the store.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch.distributed as dist

PATIENCE = 20.0
"""Seconds that the writing rank waits for the others' counts before it saves an estimate."""
LONELY_PATIENCE = 1.0
"""Seconds that it waits where it has saved before, and nobody else did."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.25


class SaveSums:
    """Adds up ints over the ranks, for one fit.

    Requests to the store for a checkpoint of W ranks: W appends, and a few reads and one delete by the writing rank.

    Args:
        nonce: The same on every rank, and another one for each fit: what an earlier fit left is never read.
        patience: Seconds to wait for the others; `PATIENCE` if None.
        store: A store that can append; the process group's if None.
        rank: This process's; from the process group if None.
        world_size: Ranks; from the process group if None.
    """

    def __init__(
        self,
        nonce: str,
        patience: float | None = None,
        store: Any = None,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        self._prefix, self._patience = f"scalestop/{nonce}", PATIENCE if patience is None else patience
        self._store, self._rank, self._world = store, rank, world_size
        self._moment: str | None = None
        self._sums: list[int] | None = None
        self._keys: set[str] = set()
        self._lonely = False

    def __call__(self, moment: str, values: Sequence[int]) -> list[int] | None:
        """Leave this rank's numbers, and on the writing rank return the sums.

        Args:
            moment: The same on every rank for the same counts, and never used for others in this fit.
            values: This rank's numbers, of any size.

        Returns:
            The sums; None on ranks that write no file, where some rank did not save in time, or if the store failed.
        """
        rank = dist.get_rank() if self._rank is None else self._rank
        if rank == 0 and moment == self._moment and self._sums is not None:
            return self._sums  # a second file of one moment; what the others leave for it says the same
        try:
            store: Any = dist.distributed_c10d._get_default_store() if self._store is None else self._store
            key = f"{self._prefix}/{moment}"
            store.append(key, f"{rank}:{','.join(map(str, values))};")
            if rank != 0:
                return None
            self._forget_keys(store, self._keys - {key})
            self._keys.add(key)
            self._moment, self._sums = moment, None
            self._sums = self._read(store, key)
        except (RuntimeError, ValueError):  # torch's own errors are RuntimeErrors, a store without append included
            return None
        return self._sums

    def _read(self, store: Any, key: str) -> list[int] | None:
        world = dist.get_world_size() if self._world is None else self._world
        deadline = time.monotonic() + (min(self._patience, LONELY_PATIENCE) if self._lonely else self._patience)
        pause = _FIRST_PAUSE
        while True:
            left = store.get(key).decode()
            # a rank may have left its numbers twice, for two files of one moment
            rows = dict(row.split(":") for row in left.split(";")[:-1])
            if len(rows) == world:
                self._lonely = False
                numbers = [[int(number) for number in row.split(",")] for row in rows.values()]
                return [sum(column) for column in zip(*numbers, strict=True)]
            if time.monotonic() + pause > deadline:
                self._lonely = len(rows) == 1
                return None
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _forget_keys(self, store: Any, keys: set[str]) -> None:
        # not before the counts have moved on: until then another rank may add to the last one
        for key in keys:
            store.delete_key(key)
        self._keys -= keys

    def close(self) -> None:
        """Leave nothing in the store."""
        self._moment = None
        if self._keys:
            with suppress(RuntimeError, ValueError):
                store: Any = dist.distributed_c10d._get_default_store() if self._store is None else self._store
                self._forget_keys(store, set(self._keys))
