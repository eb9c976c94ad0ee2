"""Which architecture a parameter count means: pure functions, no torch.

A scaling law speaks of N; a model has a width, a depth and heads. `dims_for` goes from one to the other, and
`GPTDims.num_params` comes back, exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scalestop.errors import InputError

# From this model width on: (model width, width of a head, step between widths). A head of 16 channels fills a CPU's
# vector register (with heads of 14 attention took 1.5 times as long); with heads of 32 a model of width 64 ended 0.03
# nats worse (164k parameters, 1e12 FLOPs).
_GRID = ((0, 16, 4), (32, 16, 8), (64, 16, 16), (128, 32, 16), (512, 64, 64))
_LEAST_DEPTH = 3
_MOST_PARAMS = 1e15


@dataclass(frozen=True)
class GPTDims:
    """The shape of a `TinyGPT`.

    Attributes:
        width: Channels of the residual stream. The MLP is four times as wide.
        depth: Number of blocks.
        num_heads: Attention heads in each block; they divide the width into parts of an even number of channels.
        tied: Whether the output head is the embedding table itself (counted once).
        vocab_size: Number of token values.

    Raises:
        InputError: If a number is not positive or the heads do not fit the width.
    """

    width: int
    depth: int
    num_heads: int
    tied: bool = True
    vocab_size: int = 256

    def __post_init__(self) -> None:
        for name in ("width", "depth", "num_heads", "vocab_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.width % (2 * self.num_heads):
            raise InputError(
                f"num_heads {self.num_heads} does not fit width {self.width}: rotary positions need an even number of "
                f"channels in each head; make width a multiple of {2 * self.num_heads}"
            )

    @property
    def embedding(self) -> int:
        """Parameters of the embedding table."""
        return self.vocab_size * self.width

    @property
    def head(self) -> int:
        """Parameters of the output head; 0 where it is tied."""
        return 0 if self.tied else self.vocab_size * self.width

    @property
    def body(self) -> int:
        """Parameters of the blocks and the norms: what is neither embedding nor output head.

        Each block has 4 d^2 in attention, 8 d^2 in the MLP and 2 d in its norms (weights only); d more are in the last
        norm. Positions are rotary and have no parameters.
        """
        return self.depth * (12 * self.width**2 + 2 * self.width) + self.width

    @property
    def num_params(self) -> int:
        """All parameters, tied weights once."""
        return self.embedding + self.body + self.head


def dims_for(num_params: int | float, tied: bool = True, vocab_size: int = 256) -> GPTDims:
    """The architecture of about this many parameters in total.

    Three blocks up to 1.9e5 parameters and slowly more from there on: 7 at 1e7, 17 at 1e9. At that depth it takes the
    width whose size is nearest to the asked-for one: from 1e4 parameters up it is within 27 %, from 1e6 up within 22 %.
    Read the exact number from `GPTDims.num_params`.

    A size has one depth on purpose, though another would often come nearer to it. With depths of two and three mixed,
    sizes measured on the standard library did not lie on one curve: at 1e12 FLOPs three blocks of width 24 (27k
    parameters) ended below two of width 32 (33k).

    Args:
        num_params: Total parameters wanted, tied weights counted once. `1e5` is fine.
        tied: Whether the output head is the embedding table itself.
        vocab_size: Number of token values.

    Raises:
        InputError: If the count is too small for any model of this vocabulary.
    """
    depth = _depth_for(num_params, tied, vocab_size)
    width = _width_at(num_params, depth, tied, vocab_size)
    step = _grid_at(width)[2]
    near = {max(step, math.floor(width / step) * step), math.ceil(width / step) * step}
    found = [GPTDims(rounded, depth, _heads_for(rounded), tied, vocab_size) for rounded in near]
    return min(found, key=lambda dims: abs(math.log(dims.num_params / num_params)))


def dims_below(num_params: int | float, tied: bool = True, vocab_size: int = 256) -> GPTDims:
    """The architecture that comes nearest to this many parameters without exceeding them.

    For a model that must not be larger than the optimum: one above it would spend its FLOPs before it has seen D_opt.
    Of the even widths that bring it within 10 %, it takes the widest that can be cut into heads of a good width; the
    depth is that of `dims_for`, or one off where no width of that depth comes so near. From 3.5e4 parameters up (with
    a tied head from 1.3e4) one always does.

    Args:
        num_params: Most parameters wanted in total, tied weights counted once.
        tied: Whether the output head is the embedding table itself.
        vocab_size: Number of token values.

    Raises:
        InputError: If the count is too small for any model of this vocabulary.
    """
    usual = _depth_for(num_params, tied, vocab_size)
    for depth in (usual, usual + 1, usual - 1):
        near = []
        for width in range(_widest(num_params, depth, tied, vocab_size), 0, -2):
            dims = GPTDims(width, depth, _heads_for(width), tied, vocab_size)
            if dims.num_params < 0.9 * num_params:
                break
            if _head_misfit(dims) < math.log(2):
                return dims
            near.append(dims)
        if near:
            return min(near, key=_head_misfit)
    width = _widest(num_params, usual, tied, vocab_size)
    return GPTDims(width, usual, _heads_for(width), tied, vocab_size)


def _widest(num_params: float, depth: int, tied: bool, vocab_size: int) -> int:
    """The widest even width whose size does not exceed this one."""
    return max(2, math.floor(_width_at(num_params, depth, tied, vocab_size) / 2) * 2)


def smallest_dims(tied: bool = True, vocab_size: int = 256) -> GPTDims:
    """The smallest architecture that `dims_for` gives."""
    return GPTDims(_GRID[0][2], _LEAST_DEPTH, 1, tied, vocab_size)


def _depth_for(num_params: int | float, tied: bool, vocab_size: int) -> int:
    smallest = smallest_dims(tied, vocab_size)
    if not math.isfinite(num_params) or num_params < 0.9 * smallest.num_params:
        raise InputError(
            f"num_params is {num_params}; with a vocabulary of {vocab_size} and {'a tied' if tied else 'an untied'} "
            f"head the smallest model has {smallest.num_params:,}: ask for at least that"
        )
    if num_params > _MOST_PARAMS:
        raise InputError(f"num_params is {num_params:.3g}; this architecture ends at {_MOST_PARAMS:.0e}: ask for less")
    return round(_LEAST_DEPTH * max(1.0, num_params / 1.5e5) ** 0.2)


def _grid_at(width: float) -> tuple[int, int, int]:
    return max(row for row in _GRID if row[0] <= width)


def _heads_for(width: int) -> int:
    wanted = _grid_at(width)[1]
    fitting = [heads for heads in range(1, width // 2 + 1) if width % (2 * heads) == 0]
    return min(fitting, key=lambda heads: abs(math.log(width / heads / wanted)))


def _head_misfit(dims: GPTDims) -> float:
    """How far its heads are from the wanted width, in log: 34 channels are one head or 17, and neither is good.

    Models narrower than 32 are one head, and none is better than another.
    """
    wanted = _grid_at(dims.width)[1]
    return 0.0 if dims.width < _GRID[1][0] else abs(math.log(dims.width / dims.num_heads / wanted))


def _width_at(num_params: float, depth: int, tied: bool, vocab_size: int) -> float:
    """The real-valued width that gives this count at this depth: the root of a quadratic."""
    linear = vocab_size * (1 if tied else 2) + 2 * depth + 1
    square = 12 * depth
    return (math.sqrt(linear**2 + 4 * square * num_params) - linear) / (2 * square)
