"""How a run goes on from a checkpoint: with its counts, or, where there are none, as the user wants it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from scalestop.lightning import trainer as _trainer
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
        self._found: Found | None = None
        self._is_new = True
        self._owed: Found | None = None

    def see(self, checkpoint: Mapping[str, Any]) -> None:
        """Look at the checkpoint that the fit goes on from, before it is known whether it holds counts."""
        states = checkpoint.get("callbacks") or {}
        others = [key for key in states if str(key).startswith(STATE_KEY) and key != self._state_key]
        loops = checkpoint.get("loops") or {}
        try:
            batches = int(loops["fit_loop"]["epoch_loop.batch_progress"]["total"]["processed"])
        except (KeyError, TypeError, ValueError):
            batches = 0
        names = tuple(str(key).removeprefix(STATE_KEY).strip("{}").replace("'name': ", "name=") for key in others)
        self._found = Found(int(checkpoint.get("global_step", 0)), batches, names)

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
        self._is_new = False
        return state.load_state_dict(restored)

    def settle(self, state: RunState, trainer: Any) -> list[str]:
        """Decide what a run without counts begins with, when no more can come, and return what to warn of.

        Raises:
            InputError: If the user refuses a checkpoint without counts.
        """
        is_new, self._is_new = self._is_new, False
        found, self._found = self._found, None
        if not is_new:
            return []
        if found is None and trainer.ckpt_path is not None:
            found = Found(int(trainer.global_step), 0)  # it holds no callbacks at all
        optimizers = 1 if trainer.lightning_module.automatic_optimization else max(1, len(trainer.optimizers))
        if found is not None:
            found = Found(found.steps // optimizers, found.batches, found.others)
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
        batches = found.batches or found.steps * _trainer.accumulation(trainer)
        self._owed = Found(found.steps, batches, found.others)
        return []

    @property
    def owes(self) -> bool:
        """Whether the first batch is to tell what was used before."""
        return self._owed is not None

    def estimate(self, trainer: Any, count: TokenCount | None) -> Estimate:
        """Return what was used before this fit, as its first batch tells.

        A collective: the ranks' batches may differ, and all count on from the same tokens.

        Args:
            trainer: The Trainer.
            count: Tokens of the first batch on this rank; None where another rank counts it.
        """
        owed, self._owed = self._owed, None
        assert owed is not None
        batch = [int(count.non_padding), int(count.processed)] if count is not None else [0, 0]
        if _trainer.world_size(trainer) > 1:
            batch = _trainer.sum_over_ranks(trainer, batch)
        return estimate(owed, *batch)
