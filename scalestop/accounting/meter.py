"""Exact counters of what a run has used. Pure Python: no torch, no Lightning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from scalestop.errors import InputError, shown


@dataclass(frozen=True)
class Usage:
    """What a run has used so far; all counts global over data-parallel ranks, exact ints."""

    tokens: int = 0
    """Tokens that went through the model in training, padding included; these cost the FLOPs."""
    tokens_non_padding: int = 0
    """D: tokens that were no padding. Held against D_opt."""
    tokens_in_loss: int = 0
    """Tokens whose prediction entered the loss (labels other than -100)."""
    flops: int = 0
    """Training FLOPs: FLOPs per token times `tokens` (validation added only where asked)."""
    optimizer_steps: int = 0
    """Batches after which weights were updated."""
    samples: int = 0
    """Sequences."""
    seconds: float = 0.0
    """Wall time of training, resumes included, seconds."""
    device_seconds: float = 0.0
    """Wall time times devices, seconds."""
    validation_tokens: int = 0
    """Tokens that went through the model in validation; no part of `tokens`."""
    validation_flops: int = 0
    """Forward FLOPs of validation."""

    def since(self, start: Usage) -> Usage:
        """Return what was used after `start`."""
        return Usage(**{name: getattr(self, name) - getattr(start, name) for name in self.__dataclass_fields__})


_COUNTS = (
    "tokens",
    "tokens_non_padding",
    "tokens_in_loss",
    "samples",
    "validation_tokens",
    "flops",
    "validation_flops",
)
_SUMMED = (*_COUNTS, "nanoseconds")
"""The counters that ranks add up; optimizer steps are the same on each."""

_LIMB = 40
"""Bits of a number's low part in a reduction, whose sums have to fit 64: 2^23 ranks may add theirs, and the high parts
leave room for counts of 2^80 over 16,384 ranks. FLOPs between two reductions pass 2^63, as do nanoseconds in a month
of so many ranks."""

Reduce = Callable[[Sequence[int]], Sequence[int]]
"""Sums a list of ints element by element over the data-parallel ranks; 64 bits are enough for each."""


def _split(values: Sequence[int]) -> list[int]:
    """Return the low parts of some counts, then their high ones: sums of either fit 64 bits."""
    mask = (1 << _LIMB) - 1
    return [*(value & mask for value in values), *(value >> _LIMB for value in values)]


def _join(parts: Sequence[int]) -> list[int]:
    half = len(parts) // 2
    return [low + (high << _LIMB) for low, high in zip(parts[:half], parts[half:], strict=True)]


class Meter:
    """Adds up what was processed, exactly, on one rank or many.

    Each rank adds its own batches; `sync` folds what the ranks have added since the last one into the global totals.
    A run on one rank needs no `sync`: with `world_size` 1, `usage` is exact at every moment. What is added is charged
    at the price of that moment; `reprice` changes it for what comes later.

    Args:
        flops_per_token: Training FLOPs per processed token, forward and backward; 6·N by the laws' convention.
        forward_flops_per_token: FLOPs of a validation token; a third of the above if None.
        count_validation: Whether validation FLOPs count towards `Usage.flops`.
        world_size: Data-parallel ranks.
    """

    def __init__(
        self,
        flops_per_token: int,
        *,
        forward_flops_per_token: int | None = None,
        count_validation: bool = False,
        world_size: int = 1,
    ) -> None:
        if isinstance(flops_per_token, bool) or not isinstance(flops_per_token, int) or flops_per_token <= 0:
            raise InputError(
                f"flops_per_token: a positive int, 6·N by convention; got {flops_per_token!r}. "
                f"A count of zero parameters usually means a model that is not built or a shard that is empty."
            )
        self.flops_per_token = flops_per_token
        self.forward_flops_per_token = forward_flops_per_token or flops_per_token // 3
        self.count_validation = count_validation
        self.world_size = world_size
        self._mean_price = flops_per_token
        self._totals: dict[str, int] = dict.fromkeys((*_SUMMED, "wall_nanoseconds"), 0)
        self._clear_pending()
        self.optimizer_steps = 0
        """Optimizer steps so far; known on every rank without a reduction."""
        self.tokens_added = 0
        """Tokens that this rank has added to this meter; only grows, whatever is read or folded."""
        self.largest_step_tokens = 0
        """Tokens of the largest step on this rank."""
        self._since_step = 0
        self._largest_step = 0
        self._longest_here = 0
        self._longest_seconds = 0.0
        self._longest_step = 0

    def reprice(self, flops_per_token: int, forward_flops_per_token: int | None = None) -> None:
        """Charge another price from here on, as in the constructor; what was added before keeps its own."""
        self.flops_per_token = flops_per_token
        self.forward_flops_per_token = forward_flops_per_token or flops_per_token // 3

    @property
    def price(self) -> int:
        """FLOPs per token that steps to come are expected to cost: over several ranks their mean as of the last `sync`.

        A price that each rank measured on batches of its own differs; whatever ranks must decide alike rests on this.
        """
        return self.flops_per_token if self.world_size == 1 else self._mean_price

    def add(self, tokens: int, non_padding: int | None = None, in_loss: int | None = None, samples: int = 0) -> None:
        """Count a training batch that this rank processed.

        Args:
            tokens: Tokens that went through the model, padding included.
            non_padding: Of these, no padding; all of them if None.
            in_loss: Of these, with a loss; the non-padding ones if None.
            samples: Sequences.
        """
        if tokens < 0:
            raise InputError(f"tokens: a batch cannot hold {tokens} tokens")
        if non_padding is None:
            non_padding = tokens
        self._tokens += tokens
        self._non_padding += non_padding
        self._in_loss += non_padding if in_loss is None else in_loss
        self._samples += samples
        self._flops += tokens * self.flops_per_token
        self.tokens_added += tokens
        self._since_step += tokens

    def add_masked(self, non_padding: int, in_loss: int) -> None:
        """Count what was learned of earlier batches' masks, when it was not known at `add`."""
        self._non_padding += non_padding
        self._in_loss += in_loss

    def add_validation(self, tokens: int) -> None:
        """Count a validation batch: forward only."""
        flops = tokens * self.forward_flops_per_token
        self._validation_tokens += tokens
        self._validation_flops += flops
        if self.count_validation:
            self._flops += flops

    def add_seconds(self, seconds: float) -> None:
        """Count wall time that this rank spent."""
        self._nanoseconds += round(seconds * 1e9)

    def step(self, seconds: float = 0.0) -> int:
        """Count an optimizer step, made of the batches added since the last one; returns the steps so far.

        Args:
            seconds: What it took, for limits in time.
        """
        if self._since_step > self.largest_step_tokens:
            self.largest_step_tokens = self._since_step
        self._since_step = 0
        if seconds > self._longest_seconds:
            self._longest_seconds, self._longest_here = seconds, round(seconds * 1e9)
        self.optimizer_steps = steps = self.optimizer_steps + 1
        return steps

    @property
    def largest_step(self) -> Usage:
        """The most that one optimizer step has added, global over ranks; as of the last `sync` over several.

        Over several ranks it is the sum of each rank's largest, so never below the largest global step.
        """
        alone = self.world_size == 1
        tokens = self.largest_step_tokens if alone else self._largest_step
        nanoseconds = self._longest_here if alone else self._longest_step
        return Usage(
            tokens=tokens,
            tokens_non_padding=tokens,
            tokens_in_loss=tokens,
            flops=tokens * self.price,
            optimizer_steps=1,
            seconds=nanoseconds / self.world_size / 1e9,
            device_seconds=nanoseconds / 1e9,
        )

    def sync(self, reduce: Reduce) -> None:
        """Fold what all ranks have added into the totals. Every rank must call it at the same step."""
        mine = [*self.pending.values(), self.largest_step_tokens, self._longest_here, self.flops_per_token]
        sums = _join([int(value) for value in reduce(_split(mine))])
        *added, self._largest_step, self._longest_step, prices = sums
        self._mean_price = -(-prices // self.world_size)
        self._fold(dict(zip(_SUMMED, added, strict=True)))

    def _fold(self, added: dict[str, int]) -> None:
        for name, value in added.items():
            self._totals[name] += value
        self._clear_pending()
        self._totals["wall_nanoseconds"] += added["nanoseconds"] // self.world_size

    @property
    def usage(self) -> Usage:
        """Snapshot of the totals: exact on one rank; as of the last `sync` over several (steps always current)."""
        if self.world_size == 1:
            self._fold(self.pending)
        totals = self._totals
        return Usage(
            **{name: totals[name] for name in _COUNTS},
            optimizer_steps=self.optimizer_steps,
            seconds=totals["wall_nanoseconds"] / 1e9,
            device_seconds=totals["nanoseconds"] / 1e9,
        )

    @property
    def pending(self) -> dict[str, int]:
        """What this rank has added since the last `sync`."""
        return {
            "tokens": self._tokens,
            "tokens_non_padding": self._non_padding,
            "tokens_in_loss": self._in_loss,
            "samples": self._samples,
            "validation_tokens": self._validation_tokens,
            "flops": self._flops,
            "validation_flops": self._validation_flops,
            "nanoseconds": self._nanoseconds,
        }

    def _clear_pending(self) -> None:
        self._tokens = self._non_padding = self._in_loss = self._samples = self._flops = 0
        self._validation_tokens = self._validation_flops = self._nanoseconds = 0

    def state_dict(self, pending: dict[str, int] | None = None) -> dict[str, Any]:
        """Return the global totals as plain ints, safe under `torch.load(weights_only=True)`.

        Args:
            pending: What all ranks together have added since the last `sync`; this rank's own if None, which is
                exact on one rank.
        """
        added = self.pending if pending is None else pending
        totals = dict(self._totals)
        for name in _SUMMED:
            totals[name] += added[name]
        totals["wall_nanoseconds"] += added["nanoseconds"] // self.world_size
        largest = max(self.largest_step_tokens, self._largest_step)
        return {**totals, "optimizer_steps": self.optimizer_steps, "largest_step": largest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the totals of a saved run; what was added to this meter before is forgotten.

        Raises:
            InputError: If a counter is missing or no count.
        """
        expected = {*self._totals, "optimizer_steps", "largest_step"}
        if missing := sorted(expected - set(state)):
            raise InputError(f"meter state: missing {', '.join(missing)}")
        for name in expected:
            if not isinstance(state[name], int) or state[name] < 0:
                raise InputError(f"meter state: {name} must be a count; got {shown(state[name])}")
        self._totals = {name: state[name] for name in self._totals}
        self._clear_pending()
        self.optimizer_steps = state["optimizer_steps"]
        self._since_step = 0
        self._largest_step = state["largest_step"]
        self.largest_step_tokens = -(-state["largest_step"] // self.world_size)
