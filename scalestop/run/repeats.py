"""Whether a loader hands out the same samples again: counted from hashes, long before the loss shows it.

A model that sees one shard over and over learns it by heart, and its training loss falls: nothing in the curve looks
wrong until validation does (on 8,000 bytes repeated, a tiny GPT's curve leaves its band after a third of the run). The
samples themselves tell at the first repeat. Each is hashed where it lives, and the hashes are read with the point's
sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from scalestop.errors import InputError

_MOST_KEPT = 4_096
_LEAST_REPEATS = 16


class Repeats(NamedTuple):
    """What the hashes say of the loader."""

    repeated: bool
    """Whether samples come again far more often than they should."""
    seen: int
    """Samples judged: those seen whose hash is kept."""
    again: int
    """Of these, how many had been seen before."""
    message: str
    """The same in words."""


@dataclass
class RepeatWatch:
    """Counts samples that were seen before, in bounded memory.

    Which samples count is decided by their own hash: at first all, then those divisible by 2, 4 and so on. A sample
    that comes again is judged again, so the share of repeats stays what it is.
    """

    every: int = 1
    """Only hashes divisible by this are kept, a power of two."""
    seen: int = 0
    """Samples judged so far."""
    again: int = 0
    """Of these, seen before."""
    known: set[int] = field(default_factory=set)
    """Hashes kept."""

    def see(self, hashes: Iterable[int]) -> None:
        """Take in the hashes of further samples, non-negative ints whose low bits are well mixed."""
        for value in hashes:
            if value % self.every:
                continue
            self.seen += 1
            if value in self.known:
                self.again += 1
            else:
                self.known.add(value)
        while len(self.known) > _MOST_KEPT:
            self.every *= 2
            kept = {value for value in self.known if value % self.every == 0}
            scale = len(kept) / len(self.known)
            self.seen, self.again = round(self.seen * scale), round(self.again * scale)
            self.known = kept

    def check(self, passes: float) -> Repeats:
        """Hold the repeats against how often the data have been passed by now.

        Args:
            passes: Samples drawn so far over samples in the data set; 0 where a data set never ends. Up to one pass no
                sample should come twice; after it, all but one in `passes` are repeats, and nothing is judged.
        """
        share = self.again / self.seen if self.seen else 0.0
        # drawn with replacement, a data set repeats passes/2 of its samples in its first pass: that is allowed for
        allowed = min(1.0, 2 * passes) if passes < 1 else 1.0
        repeated = self.again >= _LEAST_REPEATS and share > max(0.1, allowed)
        message = f"{self.again} of {self.seen} samples had been seen before, in {passes:.2g} passes over the data"
        return Repeats(repeated, self.seen, self.again, message)

    def state_dict(self) -> dict[str, Any]:
        """Return plain data, at most 4,096 ints."""
        return {"every": self.every, "seen": self.seen, "again": self.again, "known": sorted(self.known)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> RepeatWatch:
        """Read what `state_dict` returned.

        Raises:
            InputError: If it is something else.
        """
        try:
            return cls(int(state["every"]), int(state["seen"]), int(state["again"]), set(map(int, state["known"])))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"repeat watch: cannot be read: {error!r}") from None
