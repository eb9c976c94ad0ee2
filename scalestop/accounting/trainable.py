"""Which parameters train: noticed when it changes, at the price of a glance at each."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

_trains = attrgetter("requires_grad")


class TrainableSet:
    """The parameters that train, of a module wrapped or sharded as it will be; some 40 ns a parameter and look."""

    def __init__(self, module: Any) -> None:
        self._parameters = list(module.parameters())
        self._seen = list(map(_trains, self._parameters))

    def changed(self) -> bool:
        """Whether others train than when this was last asked, or made."""
        now = list(map(_trains, self._parameters))
        if now == self._seen:
            return False
        self._seen = now
        return True
