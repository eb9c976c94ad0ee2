"""The curve of a run under a learning-rate schedule: its two terms and their derivatives.

L(t) = L0 + A·(S1(t) / S_ref)^-alpha - B·sum_k (x_{k-1}^p - x_k^p)·G_k(t),  nats per token,

x the rate as a share of its peak, p = 0.85, and S1 the tokens weighted with x^0.7 (see `rate_path`). Two answers to a
fall of the rate are known here:

- `power`: G = 1 - (1 + C·x_k^-gamma·S_k(t))^-beta, S_k the weighted optimizer steps since the fall. The multi-power law
  (Luo et al. 2025, arXiv 2503.12811, eq. 2-5).
- `momentum`: G = 1 - exp(-C·steps since the fall). With S2 = sum_i m_i, m_i = lambda·m_{i-1} + (eta_{i-1} - eta_i), the
  annealing term of Tissue et al. 2024 (arXiv 2408.11029, eq. 1) is C_T·S2 = B·sum_k (x_{k-1} - x_k)·(1 -
  lambda^steps), so that C is -ln(lambda).

Rates are shares of the peak, so that pilots of several sizes, each at its own best rate, share the constants. Where it
is known to be off: it does not see warm-up except as a shorter way, nor a peak that is too high or too low.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from scalestop.laws.curves.rate_path import Array, RatePath

Kernel = Literal["power", "momentum"]

NAMES = ("log_A", "alpha", "log_B", "log_C", "beta", "gamma")
"""Constants of the curve besides its level L0, in the order of every vector of them. A and B in nats, C per step."""

_FAR = 60.0


class CurveTerms(NamedTuple):
    """The curve less its level at some points, and how it moves with each constant."""

    value: Array
    """A·(S1/S_ref)^-alpha less the fall's share, nats, shape (points,)."""
    slope: Array
    """Derivative by each constant of `NAMES`, shape (points, 6)."""


def curve_terms(
    path: RatePath, tokens: ArrayLike, constants: ArrayLike, tokens_ref: float, kernel: Kernel = "power"
) -> CurveTerms:
    """Return the curve less its level.

    Args:
        path: The rate along the run.
        tokens: Where to take it, tokens, above 0.
        constants: In the order of `NAMES`.
        tokens_ref: S_ref, at which A is the power term, in weighted tokens.
        kernel: How the loss answers a fall of the rate.
    """
    at = np.atleast_1d(np.asarray(tokens, dtype=np.float64))
    log_A, alpha, log_B, log_C, beta, gamma = np.asarray(constants, dtype=np.float64)
    log_s = np.log(np.maximum(path.effective_tokens(at), 1e-300) / tokens_ref)
    term = np.exp(np.clip(log_A - alpha * log_s, -_FAR, _FAR))
    drop, by_C, by_beta, by_gamma = fall_terms(path, at, log_C, beta, gamma, kernel)
    size = np.exp(np.clip(log_B, -_FAR, _FAR))
    slope = np.stack(
        [term, -term * log_s, -size * drop, -size * by_C, -size * by_beta, -size * by_gamma],
        axis=1,
    )
    return CurveTerms(term - size * drop, slope)


def fall_terms(
    path: RatePath, at: Array, log_C: float, beta: float, gamma: float, kernel: Kernel
) -> tuple[Array, Array, Array, Array]:
    """Return sum_k (x_{k-1} - x_k)·G_k at each point, and its derivatives by log C, beta and gamma."""
    falls = path.falls
    zero = np.zeros(len(at))
    if not len(falls.by):
        return zero, zero, zero, zero
    if kernel == "momentum":
        z = np.exp(log_C) * np.maximum(path.plain_steps(at)[:, None] - falls.plain_steps, 0.0)
        left = np.exp(-np.minimum(z, _FAR))
        return (1 - left) @ falls.by, (z * left) @ falls.by, zero, zero
    log_rate = np.log(np.maximum(falls.rate, 1e-4))
    z = np.exp(log_C - gamma * log_rate) * np.maximum(path.effective_steps(at)[:, None] - falls.steps, 0.0)
    log1 = np.log1p(z)
    left = np.exp(-beta * log1)
    inner = beta * left * z / (1 + z)
    return (1 - left) @ falls.by, inner @ falls.by, (left * log1) @ falls.by, -inner @ (falls.by * log_rate)
