"""A clock that a run can trust."""

from __future__ import annotations

import math
import time
from collections.abc import Callable


def steady(clock: Callable[[], float]) -> Callable[[], float]:
    """Return a clock that never goes back: time goes on from where it was, and a reading that is no number is none."""
    if clock is time.monotonic:
        return clock  # the system's own word
    last: float | None = None
    offset, lost = 0.0, False

    def read() -> float:
        nonlocal last, offset, lost
        now = clock()
        if not -math.inf < now < math.inf:
            if last is None:
                last, lost = 0.0, True
        elif last is None:
            last = now
        elif lost or now + offset < last:
            offset, lost = last - now, False
        else:
            last = now + offset
        return last

    return read
