"""The parametric law L(N, D) = E + A/N^alpha + B/D^beta and its exact optimum (Hoffmann et al. 2022, eq. 2-4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from scalestop.laws.base import Floats, Optimum, ScalingLaw, plain
from scalestop.laws.checks import check_irreducible_loss, positive, positive_array


def parametric_loss(
    num_params: Floats, num_tokens: Floats, E: Floats, A: Floats, B: Floats, alpha: Floats, beta: Floats
) -> Floats:
    """E + A/N^alpha + B/D^beta, nats per token (Hoffmann et al. 2022, eq. 2). All arguments broadcast."""
    return E + A * np.power(num_params, -np.asarray(alpha)) + B * np.power(num_tokens, -np.asarray(beta))


def parametric_optimum(flops: Floats, A: Floats, B: Floats, alpha: Floats, beta: Floats) -> Optimum:
    """Minimise A/N^alpha + B/D^beta where 6·N·D = C, in FLOPs, in closed form (Hoffmann et al. 2022, eq. 4).

    N_opt = G·(C/6)^(beta/(alpha+beta)) and D_opt = (C/6)^(alpha/(alpha+beta)) / G, with
    G = (alpha·A / (beta·B))^(1/(alpha+beta)). All arguments broadcast.
    """
    total = np.asarray(alpha) + beta
    log_g = np.log(np.asarray(alpha) * A / (np.asarray(beta) * B)) / total
    log_nd = np.log(np.asarray(flops) / 6)
    return Optimum(np.exp(log_g + beta / total * log_nd), np.exp(alpha / total * log_nd - log_g))


@dataclass(frozen=True)
class ParametricLaw(ScalingLaw):
    """L(N, D) = E + A/N^alpha + B/D^beta.

    Hoffmann et al. 2022 (arXiv 2203.15556), section 3.3. The optimum is closed form: N_opt grows as C^a with
    a = beta/(alpha+beta), D_opt as C^b with b = alpha/(alpha+beta).
    """

    kind: ClassVar[str] = "parametric"

    E: float = 0.0
    """Irreducible loss, nats per token."""
    A: float = 0.0
    """Coefficient of the size term, nats · parameters^alpha."""
    B: float = 0.0
    """Coefficient of the data term, nats · tokens^beta."""
    alpha: float = 0.0
    """Exponent of the size term."""
    beta: float = 0.0
    """Exponent of the data term."""

    def __post_init__(self) -> None:
        positive(A=self.A, B=self.B, alpha=self.alpha, beta=self.beta)
        check_irreducible_loss(self.E)

    def optimal(self, flops: Floats) -> Optimum:
        """Return N_opt and D_opt in closed form; see `parametric_optimum`."""
        flops = positive_array("flops", flops)
        optimum = parametric_optimum(flops, self.A, self.B, self.alpha, self.beta)
        return Optimum(plain(optimum.num_params), plain(optimum.num_tokens))

    def optimal_tokens(self, num_params: Floats) -> Floats:
        """Return D with which N is optimal: alpha·A/N^alpha = beta·B/D^beta (the two terms' pulls balance)."""
        num_params = positive_array("num_params", num_params)
        log_ratio = np.log(self.beta * self.B / (self.alpha * self.A))
        return plain(np.exp((log_ratio + self.alpha * np.log(num_params)) / self.beta))

    def loss(self, num_params: Floats, num_tokens: Floats) -> Floats:
        """Return E + A/N^alpha + B/D^beta in nats per token; arguments broadcast."""
        num_params = positive_array("num_params", num_params)
        num_tokens = positive_array("num_tokens", num_tokens)
        return plain(parametric_loss(num_params, num_tokens, self.E, self.A, self.B, self.alpha, self.beta))

    @property
    def a(self) -> float:
        """Allocation exponent of parameters: N_opt grows as C^a."""
        return self.beta / (self.alpha + self.beta)

    @property
    def b(self) -> float:
        """Allocation exponent of tokens: D_opt grows as C^b."""
        return self.alpha / (self.alpha + self.beta)
