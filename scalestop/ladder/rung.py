"""One run of a ladder, settled before it starts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from scalestop.errors import InputError, shown

Kind = Literal["run", "trunk", "branch", "sweep", "valley", "below"]


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.=+_-]{0,199}")


def is_safe_name(name: object) -> bool:
    """Whether a name can be that of a file in a ladder's folder, and leads nowhere else."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None and ".." not in name


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
    """An independent run, a constant-rate trunk, a decay branch off one, a run at another rate, one far off N_opt,
    one too cheap for the fit."""
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

    def __post_init__(self) -> None:
        for name in ("name", "trunk"):
            value = getattr(self, name)
            if not (value is None and name == "trunk") and not is_safe_name(value):
                raise InputError(
                    f"rung: {name}: letters, digits and . = + _ - alone, beginning with a letter or digit, as it names "
                    f"files; got {shown(value)}"
                )
        if self.kind not in get_args(Kind):
            raise InputError(f"rung {self.name}: kind: one of {', '.join(get_args(Kind))}; got {shown(self.kind)}")
        for name in ("num_params", "num_tokens", "flops", "budget", "batch_size", "tokens_per_step", "width"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise InputError(f"rung {self.name}: {name}: a count of at least 1; got {shown(value)}")
        if any(type(value) is not int or value < 0 for value in (self.seed, self.start_tokens, *self.points)):
            raise InputError(f"rung {self.name}: seed, start_tokens and points are counts")
        for name in ("lr", "seconds"):
            value = getattr(self, name)
            if value is not None and (type(value) not in (int, float) or not 0 <= value < math.inf):
                raise InputError(f"rung {self.name}: {name}: a number, not negative; got {shown(value)}")
        if self.kind == "branch" and (self.trunk is None or self.start_tokens >= self.num_tokens):
            raise InputError(f"rung {self.name}: a branch leaves a trunk before its own end")
        if not (isinstance(self.model_args, Mapping) and isinstance(self.data_args, Mapping)):
            raise InputError(f"rung {self.name}: model_args and data_args are arguments by name")

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
        """Read what `to_dict` returned.

        Raises:
            InputError: If it is no rung, or one whose name could lead out of the ladder's folder.
        """
        try:
            return cls(**{**data, "points": tuple(data["points"])})
        except (TypeError, KeyError) as error:
            raise InputError(f"rung: {error}") from None

    def same_as(self, other: Rung) -> bool:
        """Whether both are trained alike; what they are predicted to take, or whether they are fitted, is no matter."""
        one, two = (
            replace(rung, seconds=None, kind="run", held_out=False)
            if rung.kind == "below"
            else replace(rung, seconds=None)
            for rung in (self, other)
        )
        return one == two
