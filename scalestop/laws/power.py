"""Laws that give the best allocation and no loss: N_opt and D_opt as power laws of compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from scalestop.laws.base import Floats, Optimum, ScalingLaw, plain
from scalestop.laws.checks import both_or_neither, positive, positive_array


@dataclass(frozen=True)
class PowerLawAllocation(ScalingLaw):
    """N_opt = k_N · C^a,  D_opt = k_D · C^b, or C/(6·N_opt) where k_D and b are not given; C in FLOPs."""

    kind: ClassVar[str] = "power"

    k_N: float = 0.0
    """Parameters at one FLOP (an extrapolated intercept)."""
    a: float = 0.0
    """N_opt grows as C^a."""
    k_D: float | None = None
    """Tokens at one FLOP; None spends the budget exactly."""
    b: float | None = None
    """D_opt grows as C^b; given together with `k_D`."""

    def __post_init__(self) -> None:
        positive(k_N=self.k_N, a=self.a)
        both_or_neither(k_D=self.k_D, b=self.b)

    def optimal(self, flops: Floats) -> Optimum:
        """Return N_opt and D_opt."""
        log_c = np.log(positive_array("flops", flops))
        log_n = np.log(self.k_N) + self.a * log_c
        if self.k_D is None or self.b is None:
            log_d = log_c - np.log(6) - log_n
        else:
            log_d = np.log(self.k_D) + self.b * log_c
        return Optimum(plain(np.exp(log_n)), plain(np.exp(log_d)))

    def optimal_tokens(self, num_params: Floats) -> Floats:
        """Return D_opt of the budget whose N_opt is this size."""
        log_n = np.log(positive_array("num_params", num_params))
        return self.optimal(plain(np.exp((log_n - np.log(self.k_N)) / self.a))).num_tokens
