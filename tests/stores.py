"""A real TCP store with many ranks behind a few connections, and a count of what it was asked."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import torch.distributed as dist


def tcp_store(master: Any = None) -> dist.TCPStore:
    """A store that serves, or another connection to the one given."""
    port, serves = (0, True) if master is None else (master.port, False)
    return dist.TCPStore("127.0.0.1", port, is_master=serves, wait_for_workers=False, timeout=timedelta(seconds=60))


class Counted:
    """A store that notes each request."""

    def __init__(self, store: Any) -> None:
        self._store, self.requests = store, Counter()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def asked(*arguments: Any) -> Any:
            self.requests[name] += 1
            return method(*arguments)

        return asked
