"""The law that IsoFLOP curves give: where each budget's minimum lies, how deep it is, and how steep its sides are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from scalestop.laws.base import Floats, Optimum, ScalingLaw, plain
from scalestop.laws.checks import check_irreducible_loss, positive, positive_array


def isoflop_loss(
    num_params: Floats,
    num_tokens: Floats,
    k_N: Floats,
    a: Floats,
    E: Floats,
    K: Floats,
    gamma: Floats,
    kappa: Floats,
) -> Floats:
    """E + K·C^-gamma·cosh(kappa·log(N/N_opt)), nats per token, C = 6·N·D, N_opt = k_N·C^a. All arguments broadcast."""
    log_c = np.log(6.0) + np.log(num_params) + np.log(num_tokens)
    away = np.log(num_params) - np.log(k_N) - np.asarray(a) * log_c
    # far off the valley a refit's cosh may overflow; e^700 is as good as infinite
    steepness = np.cosh(np.clip(np.asarray(kappa) * away, -700, 700))
    return np.asarray(E) + np.asarray(K) * np.exp(-np.asarray(gamma) * log_c) * steepness


@dataclass(frozen=True)
class IsoFLOPLaw(ScalingLaw):
    """L(N, D) = E + K/C^gamma · cosh(kappa · log(N/N_opt)),  N_opt = k_N · C^a,  C = 6·N·D.

    The frontier is a power law with an offset, and along one budget the loss rises from it as it does for
    A/N^alpha + B/D^beta with alpha = beta = kappa; near the minimum that is the parabola of Hoffmann et al. 2022,
    Approach 2. Meant for the valley: a few times N_opt to both sides, no further.
    """

    kind: ClassVar[str] = "isoflop"

    k_N: float = 0.0
    """Parameters at one FLOP (an extrapolated intercept)."""
    a: float = 0.0
    """N_opt grows as C^a."""
    E: float = 0.0
    """Irreducible loss, nats per token."""
    K: float = 0.0
    """Loss above E at one FLOP (an extrapolated intercept), nats · FLOPs^gamma."""
    gamma: float = 0.0
    """The loss above E falls as C^-gamma at the optimum."""
    kappa: float = 0.0
    """How steeply the loss rises to both sides of N_opt."""

    def __post_init__(self) -> None:
        positive(k_N=self.k_N, a=self.a, K=self.K, gamma=self.gamma, kappa=self.kappa)
        check_irreducible_loss(self.E)

    def optimal(self, flops: Floats) -> Optimum:
        """Return N_opt and D_opt = C/(6·N_opt)."""
        log_c = np.log(positive_array("flops", flops))
        log_n = np.log(self.k_N) + self.a * log_c
        return Optimum(plain(np.exp(log_n)), plain(np.exp(log_c - np.log(6) - log_n)))

    def optimal_tokens(self, num_params: Floats) -> Floats:
        """Return D_opt of the budget whose N_opt is this size."""
        log_n = np.log(positive_array("num_params", num_params))
        return self.optimal(plain(np.exp((log_n - np.log(self.k_N)) / self.a))).num_tokens

    def loss(self, num_params: Floats, num_tokens: Floats) -> Floats:
        """Return the loss in nats per token; arguments broadcast."""
        num_params = positive_array("num_params", num_params)
        num_tokens = positive_array("num_tokens", num_tokens)
        return plain(isoflop_loss(num_params, num_tokens, self.k_N, self.a, self.E, self.K, self.gamma, self.kappa))
