"""What a model was trained on before anybody counted: as the user says, or as a checkpoint's own progress tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from scalestop.errors import InputError
from scalestop.planning.budget import Budget

OnMissing = Literal["warn", "error", "estimate"]
"""What a run does that goes on from a checkpoint without counts of it."""


@dataclass(frozen=True)
class Found:
    """A checkpoint that a run goes on from, and that holds no counts of it."""

    steps: int
    """Optimizer steps behind it."""
    batches: int
    """Batches on each rank behind it; 0 if it does not say."""
    others: tuple[str, ...] = ()
    """Names of the callbacks whose counts it does hold."""

    def __str__(self) -> str:
        there = f" (only those of {', '.join(self.others)})" if self.others else ""
        return f"the checkpoint of step {self.steps:,} holds no counts of this callback{there}"


@dataclass(frozen=True)
class Earlier:
    """What the user says of training before the callback came."""

    on_missing_state: OnMissing = "warn"
    """What a checkpoint without counts leads to."""
    tokens: int | None = None
    """Tokens trained on; None if the user does not say."""
    flops: int | None = None
    """What they cost, FLOPs; None for the price of tokens now."""

    @classmethod
    def parse(
        cls, on_missing_state: str, initial_tokens: int | str | None, initial_flops: float | str | None
    ) -> Earlier:
        """Read the callback's arguments.

        Raises:
            InputError: Naming the one that cannot be used.
        """
        if on_missing_state not in get_args(OnMissing):
            raise InputError(
                f"on_missing_state: one of {', '.join(map(repr, get_args(OnMissing)))}; got {on_missing_state!r}"
            )
        tokens = _amount("initial_tokens", initial_tokens, "tokens", "2B tokens")
        flops = _amount("initial_flops", initial_flops, "flops", "1e18 FLOPs")
        if flops is not None and tokens is None:
            raise InputError("initial_flops: give initial_tokens as well; a law asks for tokens too")
        return cls(on_missing_state, tokens, flops)  # type: ignore[arg-type]

    def refuse_or_say(self, found: Found) -> str:
        """Return what to say of a checkpoint whose counts are unknown and taken to be 0.

        Raises:
            InputError: If the user wants such a checkpoint to be an error.
        """
        ways = "initial_tokens= (and initial_flops=) says what it was trained on, on_missing_state='estimate' counts it"
        if found.others:
            ways += ", and the name= of the callback that it was saved with finds its counts"
        if self.on_missing_state == "error":
            raise InputError(f"on_missing_state: {found}; {ways}")
        return (
            f"{found}: the tokens behind it are unknown and count as 0, so the whole budget is spent on top of them; "
            f"{ways}; on_missing_state='error' refuses such a checkpoint"
        )


@dataclass(frozen=True)
class Estimate:
    """What was used before a fit, as far as its first batch tells."""

    tokens: int
    """Tokens that were no padding, over all ranks."""
    processed: int
    """Tokens that were paid for, padding included."""
    steps: int
    """Optimizer steps."""
    words: str
    """How that was found."""


def estimate(found: Found, tokens_per_batch: int, processed_per_batch: int) -> Estimate:
    """Estimate what is behind a checkpoint from one batch; exact where all batches were of its size.

    Args:
        found: The checkpoint.
        tokens_per_batch: Tokens of a batch that are no padding, over all ranks.
        processed_per_batch: The same with padding.

    Raises:
        InputError: If the checkpoint does not tell how far it is.
    """
    if found.batches <= 0:
        raise InputError(f"on_missing_state: {found}, nor how many batches are behind it; give initial_tokens=")
    tokens = found.batches * tokens_per_batch
    words = (
        f"the {tokens:,} tokens before step {found.steps:,} are an estimate: {found.batches:,} batches of the first "
        f"one's {tokens_per_batch:,} tokens"
    )
    return Estimate(tokens, found.batches * processed_per_batch, found.steps, words)


def _amount(argument: str, given: object, kind: str, example: str) -> int | None:
    if given is None:
        return None
    try:
        amount = Budget.parse(given) if isinstance(given, str) else Budget(**{kind: given})  # type: ignore[arg-type]
        value = getattr(amount, kind)
    except InputError:
        value = None
    if value is None or len(amount.limits()) != 1:
        raise InputError(f"{argument}: a count above 0 or text such as {example!r}; got {given!r}")
    return int(value)
