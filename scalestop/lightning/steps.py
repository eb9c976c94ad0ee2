"""What the optimizers do: steps that move weights, and the peak of the learning rate."""

from __future__ import annotations

from typing import Any

from scalestop.lightning import trainer as _trainer


class StepSensor:
    """Notices when weights move.

    The Trainer's `global_step` also counts steps that a gradient scaler skipped, and one for every optimizer; so the
    optimizers themselves are asked, where they can be.
    """

    def __init__(self) -> None:
        self.peak_rate = 0.0
        """Highest learning rate of the first optimizer's first param group so far; kept over resumes."""
        self._first: Any = None
        self._handles: list[Any] | None = None
        self._moved = False
        self._global_step = 0

    def attach(self, trainer: Any) -> None:
        """Begin to watch the Trainer's optimizers."""
        self._moved = False
        self._first = trainer.optimizers[0] if trainer.optimizers else None
        self._global_step = trainer.global_step
        self._handles = _trainer.watch_optimizer_steps(trainer, self._on_optimizer_step)

    def detach(self) -> None:
        """Stop watching."""
        for handle in self._handles or ():
            handle.remove()
        self._handles = None

    def moved(self, trainer: Any) -> bool:
        """Whether weights have moved since this was last asked."""
        if self._handles is None:
            self._moved = trainer.global_step != self._global_step
            self._global_step = trainer.global_step
        moved, self._moved = self._moved, False
        return moved

    def see_rate(self, rate: float | None) -> None:
        """Take up a learning rate that was read elsewhere."""
        self.peak_rate = max(self.peak_rate, rate or 0.0)

    def _on_optimizer_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        rate = optimizer.param_groups[0]["lr"]
        # a rate that is a tensor may live on a device; `see_rate` is told of it now and then
        if type(rate) is float and rate > self.peak_rate and optimizer is self._first:
            self.peak_rate = rate
        if self._moved:
            return
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:  # after a skipped training step there is nothing to step with
                    self._moved = True
                    return
