"""The coupled law: the parametric one with room for what it gets wrong, and its exact optimum.

At g = 0 and gamma = 1 it is the law of Hoffmann et al. 2022 (arXiv 2203.15556), eq. 2; at E = g = 0 and
beta = 1 it is that of Kaplan et al. 2020 (arXiv 2001.08361), eq. 1.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from scalestop.errors import InputError, shown
from scalestop.laws.base import Floats, Optimum, ScalingLaw, plain
from scalestop.laws.checks import check_irreducible_loss, positive, positive_array

LEAST_COUPLING = -2.0
"""g lies above this, where u + v + g·sqrt(u·v) = (sqrt(u) - sqrt(v))^2 would vanish."""


def coupled_loss(
    num_params: Floats,
    num_tokens: Floats,
    E: Floats,
    A: Floats,
    B: Floats,
    alpha: Floats,
    beta: Floats,
    g: Floats = 0.0,
    gamma: Floats = 1.0,
) -> Floats:
    """E + (u + v + g·sqrt(u·v))^gamma with u = A/N^alpha, v = B/D^beta; nats per token. All arguments broadcast."""
    u = A * np.power(num_params, -np.asarray(alpha))
    v = B * np.power(num_tokens, -np.asarray(beta))
    return np.asarray(E + np.power(u + v + g * np.sqrt(u * v), gamma))


def balance(alpha: Floats, beta: Floats, g: Floats) -> Floats:
    """Return sqrt(u/v) at the optimum.

    Along a budget d(log D) = -d(log N), so the loss is least where alpha·u + g·(alpha - beta)/2·sqrt(u·v) = beta·v: a
    quadratic in sqrt(u/v) with one positive root. gamma does not come in, as the power is monotone.
    """
    alpha, beta = np.asarray(alpha), np.asarray(beta)
    lean = 0.5 * np.asarray(g) * (beta - alpha)
    return np.asarray((lean + np.sqrt(lean * lean + 4 * alpha * beta)) / (2 * alpha))


@dataclass(frozen=True)
class CoupledLaw(ScalingLaw):
    """L(N, D) = E + (u + v + g·sqrt(u·v))^gamma,  u = A/N^alpha,  v = B/D^beta.

    The parametric law of Hoffmann et al. 2022, section 3.3, is its case g = 0, gamma = 1. The optimum stays closed
    form: N_opt grows as C^a with a = beta/(alpha+beta).
    """

    kind: ClassVar[str] = "coupled"

    E: float = 0.0
    """Irreducible loss, nats per token."""
    A: float = 0.0
    """Coefficient of the size term, nats^(1/gamma) · parameters^alpha."""
    B: float = 0.0
    """Coefficient of the data term, nats^(1/gamma) · tokens^beta."""
    alpha: float = 0.0
    """Exponent of the size term; far from the data's limit the loss above E falls as N^-(alpha·gamma)."""
    beta: float = 0.0
    """Exponent of the data term."""
    g: float = 0.0
    """Coupling of the two terms: 0 for none, above -2."""
    gamma: float = 1.0
    """Exponent of their sum."""

    def __post_init__(self) -> None:
        positive(A=self.A, B=self.B, alpha=self.alpha, beta=self.beta, gamma=self.gamma)
        check_irreducible_loss(self.E)
        coupling: Any = np.asarray(self.g)
        if coupling.dtype.kind not in "iuf" or not np.all(np.isfinite(coupling) & (coupling > LEAST_COUPLING)):
            raise InputError(f"g: must be finite and above {LEAST_COUPLING:g}; got {shown(self.g)}")

    def optimal(self, flops: Floats) -> Optimum:
        """Return N_opt, which grows as C^(beta/(alpha+beta)) whatever g and gamma, and D_opt = C/(6·N_opt)."""
        log_nd = np.log(positive_array("flops", flops) / 6)
        log_ratio = np.log(self.A) - np.log(self.B) - 2 * np.log(balance(self.alpha, self.beta, self.g))
        log_n = (log_ratio + np.asarray(self.beta) * log_nd) / (np.asarray(self.alpha) + self.beta)
        return Optimum(plain(np.exp(log_n)), plain(np.exp(log_nd - log_n)))

    def optimal_tokens(self, num_params: Floats) -> Floats:
        """Return D with which N is optimal: where sqrt(u/v) is that of `balance`."""
        log_n = np.log(positive_array("num_params", num_params))
        log_v = np.log(self.A) - self.alpha * log_n - 2 * np.log(balance(self.alpha, self.beta, self.g))
        return plain(np.exp((np.log(self.B) - log_v) / self.beta))

    def loss(self, num_params: Floats, num_tokens: Floats) -> Floats:
        """Return E + (u + v + g·sqrt(u·v))^gamma in nats per token; arguments broadcast."""
        num_params = positive_array("num_params", num_params)
        num_tokens = positive_array("num_tokens", num_tokens)
        return plain(
            coupled_loss(num_params, num_tokens, self.E, self.A, self.B, self.alpha, self.beta, self.g, self.gamma)
        )
