"""Which architecture a parameter count means: pure functions, no torch.

A scaling law speaks of N; a model has a width, a depth and heads. `dims_for` goes from one to the other, and
`GPTDims.num_params` comes back, exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from scalestop.errors import InputError

# From this model width on: (model width, width of a head, step between widths). A head of 16 channels fills a CPU's
# vector register (with heads of 14 attention took 1.5 times as long); with heads of 32 a model of width 64 ended 0.03
# nats worse (164k parameters, 1e12 FLOPs).
_GRID = ((0, 16, 4), (32, 16, 8), (64, 16, 16), (128, 32, 16), (512, 64, 64))


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

    Three blocks up to 1.5e5 parameters and slowly more from there on: about 7 at 1e7, 17 at 1e9. Among the shapes near
    that depth the one nearest to the asked-for size is taken: from 1e4 parameters up it is within 18 %, from 1e6 up
    within 10 %. Read the exact number from `GPTDims.num_params`.

    Small models have one depth on purpose. With depths of two and three mixed, sizes measured on the standard library
    did not lie on one curve: at 1e12 FLOPs three blocks of width 24 (27k parameters) ended below two of width 32 (33k).

    Args:
        num_params: Total parameters wanted, tied weights counted once. `1e5` is fine.
        tied: Whether the output head is the embedding table itself.
        vocab_size: Number of token values.

    Raises:
        InputError: If the count is too small for any model of this vocabulary.
    """
    smallest = GPTDims(_GRID[0][2], 1, 1, tied, vocab_size)
    if not math.isfinite(num_params) or num_params < 0.9 * smallest.num_params:
        raise InputError(
            f"num_params is {num_params}; with a vocabulary of {vocab_size} and {'a tied' if tied else 'an untied'} "
            f"head the smallest model has {smallest.num_params:,}: ask for at least that"
        )
    wanted_depth = 3 * max(1.0, num_params / 1.5e5) ** 0.2

    def cost(dims: GPTDims) -> float:
        # A size that is 7 % off weighs as much as a depth that is off by a factor of 1.26.
        size = math.log(dims.num_params / num_params) / 0.07
        return size**2 + (3 * math.log2(dims.depth / wanted_depth)) ** 2

    best = smallest
    for depth in range(1, math.ceil(4 * wanted_depth)):
        width = _width_at(num_params, depth, tied, vocab_size)
        step = _grid_at(width)[2]
        for rounded in {math.floor(width / step) * step, math.ceil(width / step) * step} - {0}:
            best = min(best, GPTDims(rounded, depth, 1, tied, vocab_size), key=cost)
    return replace(best, num_heads=_heads_for(best.width))


def dims_below(num_params: int | float, tied: bool = True, vocab_size: int = 256) -> GPTDims:
    """The architecture that comes nearest to this many parameters without exceeding them.

    For a model that must not be larger than the optimum: one above it would spend its FLOPs before it has seen D_opt.
    Widths are finer than in `dims_for`, any even one that can be cut into heads of a good width, and the depth is that
    of `dims_for`, or one more or less where that comes 2 % nearer. From 1e4 parameters up it is within 18 %, from 1e5
    up within 12 %.

    Args:
        num_params: Most parameters wanted in total, tied weights counted once.
        tied: Whether the output head is the embedding table itself.
        vocab_size: Number of token values.

    Raises:
        InputError: If the count is too small for any model of this vocabulary.
    """
    usual = dims_for(num_params, tied, vocab_size)
    found = []
    for depth in range(max(1, usual.depth - 1), usual.depth + 2):
        widest = math.floor(_width_at(num_params, depth, tied, vocab_size))
        width = next((width for width in range(widest - widest % 2, 0, -2) if _has_good_heads(width)), 0)
        if width:
            found.append(GPTDims(width, depth, _heads_for(width), tied, vocab_size))
    return max(found, key=lambda dims: dims.num_params * (1.0 if dims.depth == usual.depth else 0.98))


def _grid_at(width: float) -> tuple[int, int, int]:
    return max(row for row in _GRID if row[0] <= width)


def _heads_for(width: int) -> int:
    wanted = _grid_at(width)[1]
    fitting = [heads for heads in range(1, width // 2 + 1) if width % (2 * heads) == 0]
    return min(fitting, key=lambda heads: abs(math.log(width / heads / wanted)))


def _has_good_heads(width: int) -> bool:
    """Whether heads can come near the wanted width: 34 channels are one head of 34 or 17 of 2, and neither is good."""
    wanted, narrow = _grid_at(width)[1], width < _GRID[0][1]
    return narrow or 0.5 <= width / _heads_for(width) / wanted <= 1.625


def _width_at(num_params: float, depth: int, tied: bool, vocab_size: int) -> float:
    """The real-valued width that gives this count at this depth: the root of a quadratic."""
    linear = vocab_size * (1 if tied else 2) + 2 * depth + 1
    square = 12 * depth
    return (math.sqrt(linear**2 + 4 * square * num_params) - linear) / (2 * square)
