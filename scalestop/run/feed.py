"""The batches of a fit on their way to the watch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scalestop.errors import InputError
from scalestop.run.steps import StepSensor
from scalestop.run.watch import RunWatch

if TYPE_CHECKING:
    from torch import Tensor

    from scalestop.accounting.fingerprints import RowPrints
    from scalestop.accounting.losses import LossAccumulator
    from scalestop.accounting.tokens import TokenCount, TokenCounter


class BatchFeed:
    """Counts each batch while it is whole, and adds it to the watch once it has been trained on.

    Args:
        watch: Counts the run.
        steps: Notices the optimizer steps between batches.
        counter: Counts a batch's tokens.
        counts_here: Whether this rank's batches count.
        losses: Sums their losses; None to leave them.
        prints: Takes fingerprints of them; None to take none.
    """

    def __init__(
        self,
        watch: RunWatch,
        steps: StepSensor,
        counter: TokenCounter,
        counts_here: bool,
        losses: LossAccumulator | None = None,
        prints: RowPrints | None = None,
    ) -> None:
        self.counter = counter
        """Counts a batch's tokens."""
        self._watch, self._steps, self._counts_here = watch, steps, counts_here
        self._losses, self._prints = losses, prints
        self._batch: TokenCount | None = None
        self._open = False
        self._due: bool | None = None

    def take(self, batch: Any) -> TokenCount | None:
        """Count a batch before a training step may take it apart; None where this rank's batches do not count."""
        self._batch = count = self.counter(batch) if self._counts_here else None
        self._open = True
        if self._prints is not None:
            self._prints.see(batch)
        self._watch.begin_batch()
        return count

    def begin(self) -> None:
        """Note that a training step begins which takes its batches itself."""
        self._batch, self._open = None, True
        self._watch.begin_batch()

    def take_another(self, batch: Any) -> None:
        """Count a batch that the step at hand has taken, beside those it took before."""
        if not self._counts_here:
            return
        if self._prints is not None:
            self._prints.see(batch)
        count, before = self.counter(batch), self._batch
        self._batch = count if before is None else before + count

    def add_loss(self, loss: Tensor | None) -> None:
        """Add the loss of the batch that was trained on, where it lives; None where nobody knows it."""
        if loss is not None and self._counts_here and self._losses is not None:
            self._losses.add(loss)

    def add_trained(self) -> bool | None:
        """Add the batch, which has been trained on, unless `catch_up` has.

        Returns:
            Whether to look at the run now; None if the batch made no optimizer step, as a run ends on none of those.
        """
        if self._open:
            self._open = False
            stepped = self._steps.moved()
            looks = self._watch.end_batch(self._batch, stepped)
            return looks if stepped else None
        due, self._due = self._due, None
        return due

    def catch_up(self) -> None:
        """Add a batch that has been trained on and not added yet: a checkpoint of this moment goes on after it."""
        if not self._open:
            return
        self._open = False
        stepped = self._steps.moved()
        due = self._watch.end_batch(self._batch, stepped)
        self._batch = None
        if stepped:
            self._due = due

    def add_validation(self, batch: Any) -> None:
        """Count a validation batch, in its own counter.

        Raises:
            InputError: If it cannot be read, and is to be paid for.
        """
        self._watch.validation_batches += 1
        if not self._counts_here:
            return
        meter = self._watch.meter
        try:
            meter.add_validation(self.counter(batch).processed)
        except InputError:  # validation batches may look otherwise; that matters only if they count
            if meter.count_validation:
                raise
