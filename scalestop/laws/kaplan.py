"""Kaplan et al. 2020 (arXiv 2001.08361): the joint loss, and an allocation that is not its minimum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from scalestop.errors import InputError
from scalestop.laws.base import Floats, Optimum, ScalingLaw, plain
from scalestop.laws.checks import both_or_neither, positive, positive_array
from scalestop.units import FLOPS_PER_PF_DAY


def kaplan_loss(
    num_params: Floats, num_tokens: Floats, alpha_N: Floats, alpha_D: Floats, N_c: Floats, D_c: Floats
) -> Floats:
    """[(N_c/N)^(alpha_N/alpha_D) + D_c/D]^alpha_D, nats per token (Kaplan et al. 2020, eq. 1.5)."""
    ratio = np.asarray(alpha_N) / alpha_D
    return np.power(np.power(N_c / np.asarray(num_params), ratio) + D_c / np.asarray(num_tokens), alpha_D)


def critical_batch_tokens(loss: Floats) -> Floats:
    """Return the critical batch in tokens at a loss in nats: 2e8 · L^(-1/0.21) (Kaplan et al. 2020, eq. 5.3)."""
    return plain(2e8 * np.power(positive_array("loss", loss), -1 / 0.21))


@dataclass(frozen=True)
class KaplanLaw(ScalingLaw):
    """L(N, D) = [(N_c/N)^(alpha_N/alpha_D) + D_c/D]^alpha_D;  N_opt = k_N · C_min^a, C_min = C / (1 + batch_ratio).

    The optimum is the published power law, which comes from L(N, S_min): runs stopped well before convergence. It is
    not the minimum of the joint L(N, D) above, whose exponent would be alpha_D/(alpha_N+alpha_D) = 0.575. Hence no
    brute force over `loss` reproduces `optimal`, by design. Compute in the power law is in PF-days.

    D_opt spends the budget: C/(6·N_opt). The published D_opt = 2e10·C_min^0.27 does not: 6·N_opt·D_opt is 1.81·C_min
    at every C, because C_min is the compute of a run far below the critical batch size, and a run at the critical
    batch spends C = C_min·(1 + B/B_crit) (their eq. 5.5).
    """

    kind: ClassVar[str] = "kaplan"

    alpha_N: float = 0.0
    """Exponent of the size term."""
    alpha_D: float = 0.0
    """Exponent of the data term."""
    N_c: float = 0.0
    """Scale of the size term, parameters."""
    D_c: float = 0.0
    """Scale of the data term, tokens."""
    k_N: float = 0.0
    """Parameters that one PF-day buys."""
    a: float = 0.0
    """N_opt grows as C^a."""
    k_D: float | None = None
    """Tokens that one PF-day buys, as published; None takes D_opt = C/(6·N_opt), which spends the budget."""
    b: float | None = None
    """Published exponent of D_opt; given together with `k_D`."""
    batch_ratio: float = 0.0
    """B/B_crit of the planned run. 0 is a run far below the critical batch size."""

    def __post_init__(self) -> None:
        positive(alpha_N=self.alpha_N, alpha_D=self.alpha_D, N_c=self.N_c, D_c=self.D_c, k_N=self.k_N, a=self.a)
        both_or_neither(k_D=self.k_D, b=self.b)
        if isinstance(self.batch_ratio, bool | None) or not np.all(
            (np.asarray(self.batch_ratio) >= 0) & np.isfinite(self.batch_ratio)
        ):
            raise InputError(f"batch_ratio: B/B_crit is finite and not negative; got {self.batch_ratio!r}")

    def optimal(self, flops: Floats) -> Optimum:
        """Return N_opt = k_N·C_min^a, and D_opt = C/(6·N_opt), or k_D·C_min^b where those are given."""
        flops = positive_array("flops", flops)
        pf_days = flops / (1 + self.batch_ratio) / FLOPS_PER_PF_DAY
        num_params = self.k_N * pf_days**self.a
        if self.k_D is not None and self.b is not None:
            return Optimum(plain(num_params), plain(self.k_D * pf_days**self.b))
        return Optimum(plain(num_params), plain(flops / (6 * num_params)))

    def optimal_tokens(self, num_params: Floats) -> Floats:
        """Return D_opt of the budget whose N_opt is this size."""
        pf_days = (positive_array("num_params", num_params) / self.k_N) ** (1 / self.a)
        return self.optimal(plain(pf_days * FLOPS_PER_PF_DAY * (1 + self.batch_ratio))).num_tokens

    def loss(self, num_params: Floats, num_tokens: Floats) -> Floats:
        """Return the joint loss in nats per token; arguments broadcast.

        It was fitted to models of N parameters trained on D distinct tokens for as long as the test loss fell.
        """
        num_params = positive_array("num_params", num_params)
        num_tokens = positive_array("num_tokens", num_tokens)
        return plain(kaplan_loss(num_params, num_tokens, self.alpha_N, self.alpha_D, self.N_c, self.D_c))
