"""How fast the devices are, measured on the run itself."""

from __future__ import annotations

from scalestop.accounting.meter import Usage


class SpeedProbe:
    """Measures the model FLOP/s of one device over a window of steps, once the first ones are past.

    The first steps compile, allocate and fill caches; they are left out.

    Args:
        skip: Steps to leave out.
        steps: Steps to measure, at least.
    """

    def __init__(self, skip: int = 5, steps: int = 20) -> None:
        self._skip, self._steps = skip, steps
        self._start: Usage | None = None
        self._end: Usage | None = None

    def flops_per_device_second(self, usage: Usage) -> float | None:
        """Return the speed, or None while the window is not full.

        Args:
            usage: What this job has used by now, global over ranks.
        """
        if usage.optimizer_steps < self._skip:
            return None
        if self._start is None:
            self._start = usage
        window = usage.since(self._start)
        if window.optimizer_steps < self._steps or window.tokens <= 0 or window.device_seconds <= 0:
            return None
        self._end = usage
        return window.flops / window.device_seconds

    @property
    def window(self) -> str:
        """The measured steps, in words."""
        if self._start is None or self._end is None:
            return "no steps yet"
        return f"this job's steps {self._start.optimizer_steps + 1} to {self._end.optimizer_steps}"
