"""One run of a ladder, settled before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

Kind = Literal["run", "trunk", "branch", "sweep", "valley"]


@dataclass(frozen=True)
class Rung:
    """One run: its size, its tokens, and how it is trained."""

    name: str
    """What tells it from the others; also the name of its files."""
    num_params: int
    """N, counted as the prior law counts it."""
    num_tokens: int
    """D, tokens; for a branch with those of the trunk up to where it begins."""
    flops: int
    """6·N·D, FLOPs."""
    budget: int
    """The budget it belongs to, FLOPs; as many for each size of an IsoFLOP group."""
    seed: int
    """Seed of weights and data order."""
    lr: float
    """Peak learning rate."""
    batch_size: int
    """Samples in a batch of one process."""
    tokens_per_step: int
    """Tokens of an optimizer step."""
    shape: str
    """Width and depth, such as `16x3`."""
    width: int
    """Channels."""
    kind: Kind = "run"
    """An independent run, a constant-rate trunk, a decay branch off one, a run at another rate, one far off N_opt."""
    held_out: bool = False
    """Whether the fit may not see it."""
    trunk: str | None = None
    """Name of the trunk that a branch leaves."""
    start_tokens: int = 0
    """Where a branch leaves it, tokens."""
    points: tuple[int, ...] = ()
    """Where a trunk keeps a checkpoint, tokens."""
    model_args: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the model that differ between rungs."""
    data_args: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the data that differ between rungs."""
    seconds: float | None = None
    """Predicted time on one worker; None if no speed is known."""

    @property
    def steps(self) -> int:
        """Optimizer steps at its end, counted from the first one of its trunk."""
        return self.num_tokens // self.tokens_per_step

    @property
    def new_flops(self) -> int:
        """FLOPs that this rung itself spends: a branch goes on from what its trunk has paid for."""
        return 6 * self.num_params * (self.num_tokens - self.start_tokens)

    @property
    def is_pilot(self) -> bool:
        """Whether the law is fitted to it."""
        return self.kind in ("run", "branch") and not self.held_out

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Rung:
        """Read what `to_dict` returned."""
        return cls(**{**data, "points": tuple(data["points"])})

    def same_as(self, other: Rung) -> bool:
        """Whether both are trained alike; what a run is predicted to take does not matter."""
        return replace(self, seconds=None) == replace(other, seconds=None)
