"""What another optimizer finds: scipy's L-BFGS-B from the starts of the paper."""

from __future__ import annotations

import itertools

import numpy as np
from scipy.optimize import minimize

BEST = 0.00101827401780060
"""Sum-Huber optimum of the 240 runs, found by extended-precision refinement of many starts."""


def scipy_best(runs: dict[str, np.ndarray], starts: np.ndarray, delta: float = 1e-3) -> float:
    """Return the best objective that scipy's L-BFGS-B reaches from starts (log E, log A, log B, alpha, beta)."""
    log_n, log_d, log_l = (np.log(runs[name]) for name in ("params", "tokens", "loss"))

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        terms = np.stack([np.full_like(log_n, x[0]), x[1] - x[3] * log_n, x[2] - x[4] * log_d])
        predicted = np.logaddexp(np.logaddexp(terms[0], terms[1]), terms[2])
        residual = predicted - log_l
        slope = np.clip(residual, -delta, delta)
        share = np.exp(terms - predicted) * slope
        gradient = [share[0].sum(), share[1].sum(), share[2].sum(), -(share[1] @ log_n), -(share[2] @ log_d)]
        return 1e6 * float((slope * (residual - 0.5 * slope)).sum()), 1e6 * np.array(gradient)

    options = {"maxiter": 2000, "maxfun": 4000, "ftol": 1e-15, "gtol": 1e-9}
    found = [minimize(objective, x, jac=True, method="L-BFGS-B", options=options).fun for x in starts]
    return min(found) / 1e6


def published_grid() -> np.ndarray:
    """Return the 4,500 starts of Hoffmann et al. 2022, appendix D.2, as log E, log A, log B, alpha, beta."""
    fine, coarse = np.arange(0, 2.01, 0.5), np.arange(0, 25.01, 5.0)
    return np.array(list(itertools.product(np.arange(-1, 1.01, 0.5), coarse, coarse, fine, fine)))
