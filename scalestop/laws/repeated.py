"""Data-constrained scaling: what repeated tokens are still worth (Muennighoff et al. 2023, arXiv 2305.16264)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from scalestop.laws.base import Floats, Optimum, ScalingLaw, plain, positive
from scalestop.laws.parametric import parametric_loss, parametric_optimum


def effective_amount(amount: Floats, unique: Floats, half_life: Floats) -> Floats:
    """Return what `amount` is worth when only `unique` of it is new: U + U·R*·(1 - exp(-R/R*)), R = amount/U - 1.

    Muennighoff et al. 2023, eq. 5 (data) and eq. 6 (parameters). Below one repetition nothing is lost.

    Args:
        amount: Tokens processed, or parameters.
        unique: Tokens (or parameters) of them that are new, U.
        half_life: R*, the repetitions after which the value of another one has fallen to 1/e.
    """
    repeats = np.maximum(np.asarray(amount) / unique - 1, 0)
    return np.minimum(amount, unique) + unique * half_life * -np.expm1(-repeats / half_life)


def repeated_loss(
    num_params: Floats,
    num_tokens: Floats,
    unique_tokens: Floats,
    E: Floats,
    A: Floats,
    B: Floats,
    alpha: Floats,
    beta: Floats,
    R_D: Floats,
    R_N: Floats,
) -> Floats:
    """E + A/N'^alpha + B/D'^beta with the effective N' and D' (Muennighoff et al. 2023, eq. 4-6).

    N' counts as unique the parameters that the unique tokens warrant, U_N: those for which U_D is compute-optimal.
    All arguments broadcast.
    """
    unique = np.minimum(unique_tokens, num_tokens)
    warranted = np.exp((np.log(np.asarray(alpha) * A / (np.asarray(beta) * B)) + beta * np.log(unique)) / alpha)
    effective_params = effective_amount(num_params, np.minimum(warranted, num_params), R_N)
    return parametric_loss(effective_params, effective_amount(num_tokens, unique, R_D), E, A, B, alpha, beta)


@dataclass(frozen=True)
class DataConstrainedLaw(ScalingLaw):
    """L(N, D, U) = E + A/N'^alpha + B/D'^beta, N' and D' discounted for repetition; without U as L(N, D).

    With `unique_tokens` set, more tokens than that are epochs over the same text, and the optimum shifts towards
    fewer parameters. Without, data are unlimited and the law is the plain parametric one.
    """

    kind: ClassVar[str] = "data_constrained"

    E: float = 0.0
    """Irreducible loss, nats per token."""
    A: float = 0.0
    """Coefficient of the size term."""
    B: float = 0.0
    """Coefficient of the data term."""
    alpha: float = 0.0
    """Exponent of the size term."""
    beta: float = 0.0
    """Exponent of the data term."""
    R_D: float = 0.0
    """R_D*: repetitions of the data after which another is worth 1/e of a fresh one."""
    R_N: float = 0.0
    """R_N*: the same for parameters beyond those the unique data warrant."""
    unique_tokens: float | None = None
    """U_D, tokens there are; None for unlimited."""

    def __post_init__(self) -> None:
        positive(A=self.A, B=self.B, alpha=self.alpha, beta=self.beta, R_D=self.R_D, R_N=self.R_N)
        positive(unique_tokens=self.unique_tokens, E=self.E or None)

    def with_unique_tokens(self, unique_tokens: float | None) -> DataConstrainedLaw:
        """Return this law for a corpus of `unique_tokens` tokens (None: unlimited)."""
        return replace(self, unique_tokens=unique_tokens)

    def loss(self, num_params: Floats, num_tokens: Floats, unique_tokens: Floats | None = None) -> Floats:
        """Return the predicted loss in nats per token.

        Args:
            num_params: N.
            num_tokens: D, all epochs together.
            unique_tokens: U_D; the law's own if None.
        """
        unique = unique_tokens if unique_tokens is not None else self.unique_tokens
        positive(num_params=num_params, num_tokens=num_tokens, unique_tokens=unique)
        unique = num_tokens if unique is None else unique
        if unique_tokens is None and self.unique_tokens is None:
            return plain(parametric_loss(num_params, num_tokens, self.E, self.A, self.B, self.alpha, self.beta))
        constants = (self.E, self.A, self.B, self.alpha, self.beta, self.R_D, self.R_N)
        return plain(repeated_loss(num_params, num_tokens, unique, *constants))

    def optimal(self, flops: Floats) -> Optimum:
        """Return the minimum of `loss` where 6·N·D = C; in closed form while the data last, by search beyond."""
        positive(flops=flops)
        free = parametric_optimum(flops, self.A, self.B, self.alpha, self.beta)
        if self.unique_tokens is None or np.all(np.asarray(free.num_tokens) <= self.unique_tokens):
            return Optimum(plain(free.num_params), plain(free.num_tokens))
        params = self._search(np.asarray(flops, dtype=np.float64), np.asarray(free.num_params))
        return Optimum(plain(params), plain(np.asarray(flops) / (6 * params)))

    def _search(self, flops: NDArray[np.float64], free: NDArray[np.float64]) -> NDArray[np.float64]:
        """Zoom in on the best log N: 9 rounds of 41 points leave 1e-9 of the first span."""
        # with repeated data the best N lies within this factor of that with unlimited data
        low, high = np.log(free) - np.log(1e3), np.log(free) + np.log(1e3)
        for _ in range(9):
            grid = np.linspace(low, high, 41)
            losses = np.asarray(self.loss(np.exp(grid), flops / (6 * np.exp(grid))))
            best = np.argmin(losses, axis=0)[None]
            low, high = (
                np.take_along_axis(grid, np.clip(best + shift, 0, 40), axis=0)[0]
                if grid.ndim > 1
                else grid[np.clip(best + shift, 0, 40)][0]
                for shift in (-1, 1)
            )
        return np.exp((low + high) / 2)

    def optimal_tokens(self, num_params: Floats) -> Floats:
        """Return D_opt of the budget whose N_opt is this size."""
        positive(num_params=num_params)
        log_ratio = np.log(self.beta * self.B / (self.alpha * self.A))
        free = np.exp((log_ratio + self.alpha * np.log(num_params)) / self.beta)
        if self.unique_tokens is None or np.all(free <= self.unique_tokens):
            return plain(free)
        # N_opt(C) grows with C; bisect log C
        shape = np.broadcast(np.asarray(num_params), np.asarray(free)).shape
        low = np.broadcast_to(np.log(6.0 * np.asarray(num_params)), shape)
        high = low + 80
        for _ in range(70):
            middle = (low + high) / 2
            below = np.asarray(self.optimal(plain(np.exp(middle))).num_params) < num_params
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return plain(np.exp((low + high) / 2) / (6 * np.asarray(num_params)))
