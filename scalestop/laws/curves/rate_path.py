"""The learning rate along a run, as the curve law reads it: how far, at what rate, and where it fell.

A schedule of a million steps and one of two thousand nodes forecast the same end: between nodes the rate is taken as
linear, sums over steps become integrals over nodes, and falls that lie close together are merged. A forecast then
costs a few thousand powers instead of steps squared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scalestop.errors import InputError

Array = NDArray[np.float64]

PROGRESS = 0.7
"""How progress depends on the rate: a step at a tenth of the peak moves the run 0.1^0.7 = 0.2 of a step at the peak.
The published laws have 1. Chosen on the 25M and 100M curves of Luo et al. and on the OLMo ladder: residuals fall by a
quarter (0.0029 to 0.0021 nats; 0.0040 to 0.0033), errors on a schedule that no pilot had from 0.010 to 0.005."""

EXCESS = 0.85
"""How the part of the loss that a decay gives back depends on the rate, x^0.85; 1 in the published laws. As above."""

_MOST_NODES = 2_000
_MOST_FALLS = 160


class Falls(NamedTuple):
    """Where the rate changes after it first was at its peak; a rise is a fall below zero."""

    by: Array
    """Fall of x^0.85, x the rate as a share of the peak."""
    rate: Array
    """Rate there, as a share of the peak."""
    steps: Array
    """Optimizer steps until there, each weighted with its rate as a share of the peak."""
    plain_steps: Array
    """Optimizer steps until there."""


@dataclass(frozen=True)
class RatePath:
    """The rate of a run from its first token to a stop, at nodes between which it is linear.

    Raises:
        InputError: If the arrays do not fit each other, run backwards, or hold a rate below zero.
    """

    tokens: Array
    """Tokens at each node, growing; the first is 0."""
    steps: Array
    """Optimizer steps at each node."""
    rate: Array
    """Learning rate at each node, in any unit: only its share of the peak counts."""

    def __post_init__(self) -> None:
        arrays = {name: np.array(getattr(self, name), dtype=np.float64) for name in ("tokens", "steps", "rate")}
        sizes = {name: array.shape for name, array in arrays.items()}
        if len({*sizes.values()}) != 1 or arrays["tokens"].ndim != 1 or len(arrays["tokens"]) < 2:
            raise InputError(f"path: tokens, steps and rate, one number per node and at least two nodes; got {sizes}")
        for name in ("tokens", "steps"):
            if not np.isfinite(arrays[name]).all() or (np.diff(arrays[name]) < 0).any():
                raise InputError(f"{name}: finite and growing from node to node; got {arrays[name]}")
        rate = arrays["rate"]
        if not np.isfinite(rate).all() or (rate < 0).any() or not (rate > 0).any():
            raise InputError(f"rate: finite, not below zero and somewhere above it; got {rate}")
        for name, array in _thinned(arrays).items():
            object.__setattr__(self, name, array)

    @classmethod
    def of_shape(
        cls, shape: Callable[[float], float], tokens: float, steps: float, *, num_nodes: int = 400
    ) -> RatePath:
        """Return the path of a schedule that is a function of the run's share.

        Args:
            shape: Rate at a share of the run, 0 to 1, such as `functools.partial(budget_factor, warmup=0.1)`.
            tokens: Tokens of the whole run.
            steps: Optimizer steps of the whole run.
            num_nodes: Nodes to take it at; two more stand beside each jump.
        """
        share = np.linspace(0, 1, num_nodes)
        rate = np.array([shape(float(u)) for u in share])
        return cls(share * tokens, share * steps, rate)

    @cached_property
    def share(self) -> Array:
        """Rate at each node as a share of the peak."""
        return self.rate / self.rate.max()

    @cached_property
    def _effective_tokens(self) -> Array:
        return _integral(self.tokens, self.share**PROGRESS)

    @cached_property
    def _effective_steps(self) -> Array:
        return _integral(self.steps, self.share)

    def effective_tokens(self, tokens: ArrayLike) -> Array:
        """Return S1 at a token count: tokens so far, each weighted with x^0.7, x its rate as a share of the peak.

        With a weight of x it would be the sum of rates of Tissue et al. 2024 (arXiv 2408.11029, eq. 1) and Luo et al.
        2025 (arXiv 2503.12811, eq. 2), in tokens: of a constant rate it is D itself. Warm-up counts as its rate does,
        as S_W there.
        """
        at = np.asarray(tokens, dtype=np.float64)
        return _within(self.tokens, self.share**PROGRESS, self._effective_tokens, at)

    def effective_steps(self, tokens: ArrayLike) -> Array:
        """Return optimizer steps at a token count, each weighted with its rate as a share of the peak."""
        at = np.interp(np.asarray(tokens, dtype=np.float64), self.tokens, self.steps)
        return _within(self.steps, self.share, self._effective_steps, at)

    def plain_steps(self, tokens: ArrayLike) -> Array:
        """Return optimizer steps at a token count."""
        return np.interp(np.asarray(tokens, dtype=np.float64), self.tokens, self.steps)

    @cached_property
    def warm_tokens(self) -> float:
        """Tokens at which the rate first comes to 99 % of its peak: where warm-up ends."""
        return float(self.tokens[int(np.argmax(self.share >= 0.99))])

    @cached_property
    def falls(self) -> Falls:
        """Where the rate changes after warm-up, neighbours merged to some 160 places."""
        first = int(np.argmax(self.share >= 0.99))
        by = -np.diff(self.share**EXCESS)
        by[:first] = 0.0
        middle = (self.share[1:] + self.share[:-1]) / 2
        weighted = (self._effective_steps[1:] + self._effective_steps[:-1]) / 2
        plain = (self.steps[1:] + self.steps[:-1]) / 2
        at = np.flatnonzero(by)
        if not len(at):
            empty = np.empty(0)
            return Falls(empty, empty, empty, empty)
        size = np.abs(by[at])
        group = np.minimum(np.cumsum(size) / size.sum() * _MOST_FALLS, _MOST_FALLS - 1e-9).astype(int)
        # a fall and a rise are two events wherever they are
        group = np.cumsum(np.diff(2 * group + (by[at] > 0), prepend=-1) != 0) - 1

        def mean(values: Array) -> Array:
            return np.bincount(group, size * values[at]) / np.bincount(group, size)

        return Falls(np.bincount(group, by[at]).astype(np.float64), mean(middle), mean(weighted), mean(plain))

    def until(self, tokens: float) -> RatePath:
        """Return the path's part up to a token count."""
        inside = self.tokens < tokens
        return RatePath(
            np.append(self.tokens[inside], tokens),
            np.append(self.steps[inside], np.interp(tokens, self.tokens, self.steps)),
            np.append(self.rate[inside], np.interp(tokens, self.tokens, self.rate)),
        )

    def stretched(self, factor: float) -> RatePath:
        """Return the same shape over `factor` times the tokens and steps."""
        return RatePath(self.tokens * factor, self.steps * factor, self.rate)

    def decayed(
        self, start: float, tokens: float, floor: float = 0.0, shape: Callable[[float], float] | None = None
    ) -> RatePath:
        """Return the path that leaves this one at `start` and brings the rate down over `tokens`.

        Args:
            start: Tokens at which the decay begins.
            tokens: Tokens of the decay.
            floor: Where it ends, as a share of the rate at its start.
            shape: Rate at a share of the decay, from 1 to 0; linear if None.
        """
        so_far = self.until(start)
        share = np.linspace(0, 1, 129)[1:]
        fall = np.array([1 - u if shape is None else shape(float(u)) for u in share])
        per_token = so_far.steps[-1] / start if start > 0 else 0.0
        return RatePath(
            np.append(so_far.tokens, start + share * tokens),
            np.append(so_far.steps, so_far.steps[-1] + share * tokens * per_token),
            np.append(so_far.rate, so_far.rate[-1] * (floor + (1 - floor) * fall)),
        )


def _integral(along: Array, values: Array) -> Array:
    return np.concatenate([[0.0], np.cumsum(np.diff(along) * (values[1:] + values[:-1]) / 2)])


def _within(along: Array, values: Array, integral: Array, at: Array) -> Array:
    """Return the integral at places between the nodes; beyond the last the value stays."""
    k = np.clip(np.searchsorted(along, at, side="right") - 1, 0, len(along) - 2)
    width = np.maximum(along[k + 1] - along[k], 1e-300)
    inside = at - along[k]
    slope = np.where(at > along[-1], 0.0, (values[k + 1] - values[k]) / width)
    value = np.where(at > along[-1], values[-1], values[k])
    base = np.where(at > along[-1], integral[-1], integral[k])
    inside = np.where(at > along[-1], at - along[-1], inside)
    return base + inside * (value + slope * inside / 2)


def _thinned(arrays: dict[str, Array]) -> dict[str, Array]:
    """Keep at most 2,000 nodes: those at which the path has turned by its share of all turning and travel."""
    count = len(arrays["tokens"])
    if count <= _MOST_NODES:
        return arrays
    rate, tokens = arrays["rate"], arrays["tokens"]
    travel = np.abs(np.diff(rate)) / max(np.abs(np.diff(rate)).sum(), 1e-300)
    travel = travel + np.diff(tokens) / max(tokens[-1] - tokens[0], 1e-300)
    reached = np.floor(np.concatenate([[0.0], np.cumsum(travel)]) / 2.0 * (_MOST_NODES / 2))
    new = np.diff(reached, prepend=-1) > 0
    keep = new | np.append(new[1:], True)  # both sides of a jump stay
    return {name: array[keep] for name, array in arrays.items()}
