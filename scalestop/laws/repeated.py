"""Data-constrained scaling: what repeated tokens are still worth (Muennighoff et al. 2023, arXiv 2305.16264)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from scalestop.laws.base import Floats, Optimum, ScalingLaw, plain
from scalestop.laws.checks import check_irreducible_loss, positive, positive_array
from scalestop.laws.parametric import parametric_loss, parametric_optimum


def effective_amount(amount: Floats, unique: Floats, half_life: Floats) -> Floats:
    """Return what `amount` is worth when only `unique` of it is new: U + U·R*·(1 - exp(-R/R*)), R = amount/U - 1.

    Muennighoff et al. 2023, eq. 5 (tokens) and eq. 6 (parameters). Below one repetition nothing is lost; R*, the
    `half_life`, are the repetitions after which the value of another one has fallen to 1/e.
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
    warranted = np.exp(_log_warranted(unique, A, B, alpha, beta))
    effective_params = effective_amount(num_params, np.minimum(warranted, num_params), R_N)
    return parametric_loss(effective_params, effective_amount(num_tokens, unique, R_D), E, A, B, alpha, beta)


@dataclass(frozen=True)
class DataConstrainedLaw(ScalingLaw):
    """L(N, D, U) = E + A/N'^alpha + B/D'^beta, N' and D' discounted for repetition; without U as L(N, D).

    With `unique_tokens` set, more tokens than that are epochs over the same text, and parameters beyond those that the
    unique tokens warrant count for less. Without, data are unlimited and the law is the plain parametric one, which
    takes nothing off a model that is large for its tokens. The optimum is the same while the data last; beyond, it
    shifts towards fewer parameters and more epochs.
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
        check_irreducible_loss(self.E)
        if self.unique_tokens is not None:
            positive(unique_tokens=self.unique_tokens)

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
        num_params = positive_array("num_params", num_params)
        num_tokens = positive_array("num_tokens", num_tokens)
        unique = unique_tokens if unique_tokens is not None else self.unique_tokens
        if unique is None:
            return plain(parametric_loss(num_params, num_tokens, self.E, self.A, self.B, self.alpha, self.beta))
        constants = (self.E, self.A, self.B, self.alpha, self.beta, self.R_D, self.R_N)
        return plain(repeated_loss(num_params, num_tokens, positive_array("unique_tokens", unique), *constants))

    def optimal(self, flops: Floats) -> Optimum:
        """Return the minimum of `loss` where 6·N·D = C: in closed form while the data last, by bisection beyond.

        Long past R_D* repetitions the loss is flat to the last digit. The answer is still the exact minimum of the
        law, and its D so many epochs that nobody should run them.
        """
        flops = positive_array("flops", flops)
        free = parametric_optimum(flops, self.A, self.B, self.alpha, self.beta)
        if self.unique_tokens is None:
            return Optimum(plain(free.num_params), plain(free.num_tokens))
        lasts = np.asarray(free.num_tokens) <= self.unique_tokens
        # the best of the runs that repeat: on from the size whose compute uses each token once, downwards
        log_nd = np.log(flops / 6)
        high = np.broadcast_to(log_nd - np.log(self.unique_tokens), lasts.shape)
        log_n = bisect(lambda x: self._params_pull(x) - self._tokens_pull(log_nd - x), high - 120, high)
        num_params = np.where(lasts, free.num_params, np.exp(log_n))
        return Optimum(plain(num_params), plain(np.where(lasts, free.num_tokens, flops / (6 * num_params))))

    def optimal_tokens(self, num_params: Floats) -> Floats:
        """Return D_opt of the budget whose N_opt is this size."""
        num_params = positive_array("num_params", num_params)
        log_ratio = np.log(self.beta * self.B / (self.alpha * self.A))
        free = np.exp((log_ratio + self.alpha * np.log(num_params)) / self.beta)
        if self.unique_tokens is None:
            return plain(free)
        log_n = np.log(num_params)
        low = np.broadcast_to(np.log(self.unique_tokens), free.shape)
        log_d = bisect(lambda x: self._tokens_pull(x) - self._params_pull(log_n), low, low + 120)
        return plain(np.where(free <= self.unique_tokens, free, np.exp(log_d)))

    def _params_pull(self, log_n: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log of -dL/dlog N with all unique tokens in use; falls as N grows."""
        unique = np.exp(_log_warranted(self.unique_tokens, self.A, self.B, self.alpha, self.beta))
        return _log_pull(log_n, unique, self.R_N, self.A, self.alpha)

    def _tokens_pull(self, log_d: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log of -dL/dlog D from one epoch on; falls as D grows."""
        return _log_pull(log_d, self.unique_tokens, self.R_D, self.B, self.beta)


def _log_warranted(unique_tokens: Any, A: Floats, B: Floats, alpha: Floats, beta: Floats) -> NDArray[np.float64]:
    """Log of U_N, the parameters for which so many unique tokens are compute-optimal."""
    return (np.log(np.asarray(alpha) * A / (np.asarray(beta) * B)) + beta * np.log(unique_tokens)) / alpha


def _log_pull(
    log_amount: NDArray[np.float64], unique: Any, half_life: Floats, coefficient: Floats, exponent: Floats
) -> NDArray[np.float64]:
    """Log of -d(coefficient · x'^-exponent)/dlog x, with x' the effective amount.

    In logs, because past some hundred repetitions the slope itself underflows.
    """
    amount = np.exp(log_amount)
    effective = effective_amount(amount, unique, half_life)
    repeats = np.maximum(amount / unique - 1, 0)
    return (
        np.log(np.asarray(exponent) * coefficient)
        + log_amount
        - (exponent + 1) * np.log(effective)
        - repeats / half_life
    )


def bisect(falling: Callable[[Any], Any], low: Any, high: Any, steps: int = 64) -> Any:
    """Return the zero of a falling function, element by element; 64 steps give it to the last bit or so."""
    for _ in range(steps):
        middle = (low + high) / 2
        above = np.asarray(falling(middle)) > 0
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return (low + high) / 2
