"""What the optimizers do: steps that move weights, and the peak of the learning rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


class StepSensor:
    """Notices when weights move.

    A trainer's own step count may also count steps that a gradient scaler skipped, and one for every optimizer; so the
    optimizers themselves are asked, where they can be.
    """

    def __init__(self) -> None:
        self.peak_rate = 0.0
        """Highest learning rate of the first optimizer's first param group so far; kept over resumes."""
        self._first: Any = None
        self._handles: list[Any] | None = None
        self._moved = False
        self._count: Callable[[], int] | None = None
        self._counted = 0

    def attach(self, optimizers: Sequence[Any], count: Callable[[], int]) -> None:
        """Begin to watch.

        Args:
            optimizers: Torch's; where one of them cannot be watched, `count` is asked instead.
            count: The trainer's own count of steps.
        """
        self._moved = False
        self._first = optimizers[0] if optimizers else None
        self._count, self._counted = count, count()
        self._handles = None
        # a stand-in for no optimizer holds no parameters, and moves none
        watchable = [bool(o.param_groups) for o in optimizers if hasattr(o, "register_step_post_hook")]
        if len(watchable) == len(optimizers) and any(watchable):
            self._handles = [optimizer.register_step_post_hook(self._on_optimizer_step) for optimizer in optimizers]

    def detach(self) -> None:
        """Stop watching."""
        for handle in self._handles or ():
            handle.remove()
        self._handles = self._first = self._count = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the trainer behind: what goes to another process has seen a peak, and watches nothing."""
        return {**StepSensor().__dict__, "peak_rate": self.peak_rate}

    def moved(self) -> bool:
        """Whether weights have moved since this was last asked."""
        if self._handles is None and self._count is not None:
            now = self._count()
            self._moved, self._counted = now != self._counted, now
        moved, self._moved = self._moved, False
        return moved

    def see_rate(self, rate: float | None) -> None:
        """Take up a learning rate that was read elsewhere."""
        self.peak_rate = max(self.peak_rate, rate or 0.0)

    def _on_optimizer_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        groups = optimizer.param_groups
        rate = groups[0]["lr"] if groups else None
        # a rate that is a tensor may live on a device; `see_rate` is told of it now and then
        if type(rate) is float and rate > self.peak_rate and optimizer is self._first:
            self.peak_rate = rate
        if self._moved:
            return
        for group in groups:
            for parameter in group["params"]:
                if parameter.grad is not None:  # after a skipped training step there is nothing to step with
                    self._moved = True
                    return
