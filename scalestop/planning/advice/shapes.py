"""Transformer shapes near a size: layers, width, heads and feed-forward, with exact counts; and what shape matters."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from scalestop.errors import InputError
from scalestop.planning.advice.basis import Answer, amount, table
from scalestop.units import human_count

Style = Literal["gpt2", "llama"]
STYLES: tuple[Style, ...] = ("gpt2", "llama")
_WHOLE = {"num_layers", "width", "num_heads", "num_kv_heads", "feed_forward", "vocab_size", "context"}
_TOLERANCE = math.log(1.1)
"""A shape within 10 % of the size counts as near, as the stop rule's tolerance does."""
_ASPECTS = (32.0, 64.0, 100.0, 128.0, 200.0)
"""Widths per layer that a list is spread over: GPT-2 has 64 down to 33, GPT-3 175B, Llama-2-7B and Llama-3-8B 128."""
_LARGEST = 2e13
_DEPTHS = (*range(1, 9), *range(10, 33, 2), *range(36, 257, 4))


@dataclass(frozen=True)
class TransformerShape(Answer):
    """A decoder and its exact parameter counts.

    `gpt2`: learned positions, LayerNorms and linear layers with biases, feed-forward of two matrices (Radford et al.
    2019). `llama`: rotary positions, RMSNorm, no biases, SwiGLU of three matrices, grouped-query attention (Touvron et
    al. 2023; Llama team 2024, arXiv 2407.21783).
    """

    style: Style
    num_layers: int
    """Blocks."""
    width: int
    """Width of the residual stream."""
    num_heads: int
    """Query heads; they divide the width."""
    num_kv_heads: int
    """Key and value heads; as many as query heads without grouping. They divide the query heads."""
    feed_forward: int
    """Inner width of the feed-forward layer."""
    vocab_size: int
    """Rows of the embedding."""
    context: int
    """Positions; only `gpt2` spends parameters on them."""
    tied: bool
    """Whether the output head is the embedding."""

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise InputError(f"style: one of {', '.join(STYLES)}; got {self.style!r}")
        for name in _WHOLE:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name}: a positive whole number; got {value!r}")
        if self.width % self.num_heads or self.num_heads % self.num_kv_heads:
            raise InputError(
                f"num_heads: {self.num_heads} must divide width {self.width}, and num_kv_heads {self.num_kv_heads} it"
            )

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.width // self.num_heads

    @property
    def body(self) -> int:
        """Parameters of the blocks and the last norm: no embeddings, no output head."""
        d, ff, kv = self.width, self.feed_forward, self.num_kv_heads * self.head_dim
        if self.style == "gpt2":
            attention = (d + 1) * (d + 2 * kv) + (d + 1) * d
            block = attention + (d + 1) * ff + (ff + 1) * d + 4 * d
            return self.num_layers * block + 2 * d
        block = d * (d + 2 * kv) + d * d + 3 * d * ff + 2 * d
        return self.num_layers * block + d

    @property
    def embedding(self) -> int:
        """Parameters of token and position embeddings."""
        positions = self.context if self.style == "gpt2" else 0
        return (self.vocab_size + positions) * self.width

    @property
    def head(self) -> int:
        """Parameters of an output head of its own; 0 where it is tied."""
        return 0 if self.tied else self.vocab_size * self.width

    @property
    def total(self) -> int:
        """All parameters, tied ones once."""
        return self.body + self.embedding + self.head

    @property
    def aspect(self) -> float:
        """Width per layer."""
        return self.width / self.num_layers

    def count(self, n_counts: str) -> int:
        """Return N by a law's convention, `total` or `body`."""
        return self.body if n_counts == "body" else self.total


@dataclass(frozen=True)
class Shapes(Answer):
    """Shapes near a size, from deep and narrow to shallow and wide."""

    target: float
    """The size they are near, N by the law's convention."""
    n_counts: str
    """Which parameters N means."""
    shapes: tuple[TransformerShape, ...]
    """The shapes."""

    def __str__(self) -> str:
        rows = []
        for s in self.shapes:
            n, heads = s.count(self.n_counts), "/".join(map(str, dict.fromkeys((s.num_heads, s.num_kv_heads))))
            cells = (f"{s.num_layers} layers", f"{s.width} wide", f"{heads} heads", f"{s.feed_forward}", f"{n:,}")
            rows.append((*cells, f"{n / self.target - 1:+.1%}"))
        first = self.shapes[0]
        note = f"{first.style} blocks, vocabulary {first.vocab_size:,}, {'tied' if first.tied else 'untied'} head"
        note += f"; N counts {self.n_counts} parameters; target {human_count(self.target)}"
        return f"{table(('', '', '', 'feed-fwd', 'N', 'off'), rows)}\n{note}"


def shapes_near(
    num_params: float,
    style: Style = "llama",
    *,
    vocab_size: int = 32_000,
    context: int = 2048,
    n_counts: str = "total",
    tied: bool | None = None,
    queries_per_kv: int = 4,
) -> Shapes:
    """Return shapes whose exact N lies within 10 % of a size, from deep and narrow to shallow and wide.

    Widths are multiples of 64 below 1,024, of 128 below 2,048, of 256 below 4,096, then of 512; heads are 64 or 128
    wide, feed-forward layers a multiple of 64 or 256, so that tensor cores are filled. `gpt2` has a feed-forward of 4
    widths; `llama` 8/3 of them, rounded up.

    Args:
        num_params: N by the law's convention.
        style: `gpt2` or `llama`.
        vocab_size: Rows of the embedding; pad it to a multiple of 64 yourself.
        context: Positions, on which `gpt2` spends parameters.
        n_counts: `total` or `body`, as the law counts.
        tied: Whether the head is the embedding; None: tied for `gpt2`, untied for `llama`.
        queries_per_kv: Query heads per key and value head for `llama`, as far as they divide; 1 for no grouping.

    Raises:
        InputError: If an argument cannot be used, or the embedding alone is larger than the size.
    """
    num_params = amount(num_params, "num_params")
    if num_params > _LARGEST:
        raise InputError(f"num_params: shapes are listed up to {human_count(_LARGEST)}; got {num_params:g}")
    if n_counts not in ("total", "body"):
        raise InputError(f"n_counts: 'total' or 'body'; got {n_counts!r}")
    if isinstance(queries_per_kv, bool) or not isinstance(queries_per_kv, int) or queries_per_kv < 1:
        raise InputError(f"queries_per_kv: a positive whole number; got {queries_per_kv!r}")
    tie = style == "gpt2" if tied is None else tied

    def off(shape: TransformerShape) -> float:
        return abs(math.log(shape.count(n_counts) / num_params))

    found = [
        min(_around(_of_depth(depth, style, vocab_size, context, tie, queries_per_kv), num_params, n_counts), key=off)
        for depth in _DEPTHS
    ]
    near = [shape for shape in found if off(shape) <= _TOLERANCE]
    if not near:
        shape = min(found, key=off)
        if off(shape) > math.log(1.5):
            raise InputError(
                f"num_params: no {style} shape with a vocabulary of {vocab_size:,} is near {human_count(num_params)} "
                f"({n_counts}); the nearest, {shape.num_layers} layers of width {shape.width}, has "
                f"{human_count(shape.count(n_counts))}. Take a smaller vocabulary, or tie the head"
            )
        near = [shape]
    chosen = {min(near, key=lambda s: abs(math.log(s.aspect / aspect)) + 3 * off(s)) for aspect in _ASPECTS}
    return Shapes(num_params, n_counts, tuple(sorted(chosen, key=lambda s: -s.num_layers)))


def _of_depth(
    depth: int, style: Style, vocab_size: int, context: int, tied: bool, queries_per_kv: int
) -> Iterator[TransformerShape]:
    """Yield shapes of one depth, ever wider."""
    width = 64
    while True:
        head_dim = 64 if width < 1024 else 128
        heads = width // head_dim
        kv_heads = heads if style == "gpt2" else heads // math.gcd(heads, queries_per_kv)
        step = 64 if width < 1024 else 256
        feed = 4 * width if style == "gpt2" else -(-8 * width // 3 // step) * step
        yield TransformerShape(style, depth, width, heads, kv_heads, feed, vocab_size, context, tied)
        width += 64 if width < 1024 else 128 if width < 2048 else 256 if width < 4096 else 512


def _around(shapes: Iterator[TransformerShape], num_params: float, n_counts: str) -> list[TransformerShape]:
    """Return the last shape below a size and the first that is not."""
    last: list[TransformerShape] = []
    for shape in shapes:
        last = [*last[-1:], shape]
        if shape.count(n_counts) >= num_params:
            break
    return last


@dataclass(frozen=True)
class ShapeSpread(Answer):
    """How far the loss moves with a model's shape at equal N.

    Kaplan et al. 2020 (arXiv 2001.08361), figure 5: at a fixed number of non-embedding parameters the aspect ratio can
    vary 40-fold with little effect; 6 layers of width 4,288 come within 3 % of 48 layers of width 1,600. It is a
    statement about loss at N of 25M to 1.5B, not about tasks, and no interval is published.
    """

    share: float = 0.03
    """Loss of an extreme shape over that of a usual one, less 1; an upper end as the source states it."""
    aspects: float = 40
    """Range of width per layer, largest over smallest, over which the source looked."""
    source: str = "Kaplan et al. 2020, arXiv 2001.08361, figure 5"
    """Where it was measured."""
    basis: str = "body parameters held fixed, 25M to 1.5B, loss on WebText2; no interval is published, tasks may differ"
    """How far the finding carries."""

    def __str__(self) -> str:
        return (
            f"shape moves the loss by up to {self.share:.0%} over a {self.aspects:.0f}-fold range of width per layer "
            f"({self.source}); {self.basis}"
        )


def shape_spread() -> ShapeSpread:
    """Return the published spread of the loss over shapes at equal N."""
    return ShapeSpread()
