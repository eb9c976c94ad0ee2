"""How a run goes on from a checkpoint: with its counts, or, where there are none, as the user wants it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from scalestop.accounting.meter import Reduce
from scalestop.run.earlier import Earlier, Estimate, Found, estimate
from scalestop.run.saved import read_state
from scalestop.run.state import RunState

if TYPE_CHECKING:
    from scalestop.accounting.tokens import TokenCount

STATE_KEY = "ComputeOptimalStopping"
"""How the key of the callback's state in a checkpoint begins."""


class Resume:
    """What a fit finds of earlier training.

    Args:
        earlier: What the user says of it.
        state_key: The callback's own.
    """

    def __init__(self, earlier: Earlier, state_key: str) -> None:
        self._earlier, self._state_key = earlier, state_key
        self._restored: dict[str, Any] | None = None
        self.seen: Found | None = None
        """The checkpoint that the fit goes on from, before it is known whether it holds counts."""
        self._is_new, self._has_counts = True, False
        self._owed: Found | None = None

    def restore(self, state: Mapping[str, Any]) -> None:
        """Keep saved counts until the model's size is known.

        Raises:
            InputError: If they cannot be read; see `read_state`.
        """
        self._restored = read_state(state)

    def take_up(self, state: RunState) -> list[str]:
        """Take up the counts, once they are there, and return what to warn of."""
        restored, self._restored = self._restored, None
        if restored is None:
            return []
        self._is_new, self._has_counts = False, True
        return state.load_state_dict(restored)

    def settle(self, state: RunState, found: Found | None, batches_per_step: int) -> list[str]:
        """Decide what a run without counts begins with, when no more can come, and return what to warn of.

        Args:
            state: The run.
            found: What the trainer goes on from; None for a new run.
            batches_per_step: Batches on each rank that make an optimizer step.

        Raises:
            InputError: If the user refuses a checkpoint without counts.
        """
        is_new, self._is_new = self._is_new, False
        has_counts, self._has_counts = self._has_counts, False
        self.seen = None
        if not is_new and found is not None and not has_counts:
            state.begin_at(0, 0, 0)  # what was counted in this process trained other weights
            is_new = True
        if not is_new:
            return []
        if self._earlier.tokens is not None:
            tokens, steps = self._earlier.tokens, found.steps if found is not None else 0
            state.begin_at(tokens, self._earlier.flops or tokens * state.planner.flops_per_token, steps)
            return []
        if found is None:
            return []
        if self._earlier.on_missing_state != "estimate":
            line = self._earlier.refuse_or_say(found)
            state.inexact_because = f"what was trained before step {found.steps:,} is unknown and counts as 0"
            return [line]
        self._owed = replace(found, batches=found.batches or found.steps * batches_per_step)
        return []

    @property
    def owes(self) -> bool:
        """Whether the first batch is to tell what was used before."""
        return self._owed is not None

    def estimate(self, count: TokenCount | None, sum_over_ranks: Reduce) -> Estimate:
        """Return what was used before this fit, as its first batch tells.

        A collective: the ranks' batches may differ, and all count on from the same tokens.

        Args:
            count: Tokens of the first batch on this rank; None where another rank counts it.
            sum_over_ranks: Adds up ints over the ranks.
        """
        owed, self._owed = self._owed, None
        assert owed is not None
        batch = [int(count.non_padding), int(count.processed)] if count is not None else [0, 0]
        return estimate(owed, *sum_over_ranks(batch))
