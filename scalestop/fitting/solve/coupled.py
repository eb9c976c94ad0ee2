"""The coupled surface in the solver's coordinates, and its derivatives; the law itself is `laws.coupled`.

Coordinates theta, shape (M, 7): log of E/L0; log u and log v at the centre, in units that make S = u + v + g·sqrt(u·v)
about 1 where the reducible loss is REDUCIBLE·L0; log of the exponents as the loss feels them (alpha·gamma,
beta·gamma); g; log gamma. L0 is the least loss in sight, x and y are log N and log D less their centre. In these
coordinates the constants of usual tables are of order one and nearly independent.
"""

from __future__ import annotations

import numpy as np

from scalestop.fitting.solve.newton import Array
from scalestop.laws.coupled import balance

NAMES = ("E", "A", "B", "alpha", "beta", "g", "gamma")
"""The constants, in the order of `to_constants`."""

NUM_FREE = 7

LEAST_COUPLING = -1.8
"""Lower bound of g in a fit: u + v + g·sqrt(u·v) is positive everywhere above g = -2."""

REDUCIBLE = 0.3
"""Where the power gamma pivots, as a share of the least loss: a typical reducible loss, so that gamma bends the law
without lifting it."""

_LARGEST_LOG = 40.0  # exp(40) squared is still a float


def log_loss(theta: Array, x: Array, y: Array) -> Array:
    """Return log(L/L0), shape (M, R), at theta (M, 7) and x, y of shape (R,) or (M, R)."""
    e, a, b, log_alpha, log_beta, g, log_gamma = (theta[:, i, None] for i in range(NUM_FREE))
    u = np.exp(np.clip(a - np.exp(log_alpha - log_gamma) * x, -_LARGEST_LOG, _LARGEST_LOG))
    v = np.exp(np.clip(b - np.exp(log_beta - log_gamma) * y, -_LARGEST_LOG, _LARGEST_LOG))
    total = np.maximum(u + v + g * np.sqrt(u * v), 1e-12)
    return np.asarray(np.log(np.exp(e) + REDUCIBLE * total ** np.exp(log_gamma)))


def log_loss_and_slopes(theta: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Return log(L/L0), shape (M, R), and its derivatives by theta, shape (M, 7, R)."""
    e, a, b, log_alpha, log_beta, g, log_gamma = (theta[:, i, None] for i in range(NUM_FREE))
    gamma, alpha, beta = np.exp(log_gamma), np.exp(log_alpha - log_gamma), np.exp(log_beta - log_gamma)
    fall_size, fall_data = alpha * x, beta * y
    u = np.exp(np.clip(a - fall_size, -_LARGEST_LOG, _LARGEST_LOG))
    v = np.exp(np.clip(b - fall_data, -_LARGEST_LOG, _LARGEST_LOG))
    mean = np.sqrt(u * v)
    log_total = np.log(np.maximum(u + v + g * mean, 1e-12))
    power = REDUCIBLE * np.exp(gamma * log_total)
    floor = np.exp(e)
    loss = floor + power
    per_log = gamma * power / loss
    per_total = per_log * np.exp(-log_total)
    half = 0.5 * g * mean
    slopes = np.empty((len(theta), NUM_FREE, loss.shape[1]))
    slopes[:, 0] = floor / loss
    slopes[:, 1], slopes[:, 2] = per_total * (u + half), per_total * (v + half)
    slopes[:, 3], slopes[:, 4] = -slopes[:, 1] * fall_size, -slopes[:, 2] * fall_data
    slopes[:, 5] = per_total * mean
    slopes[:, 6] = per_log * log_total - slopes[:, 3] - slopes[:, 4]
    return np.log(loss), slopes


def to_constants(theta: Array, centre: tuple[float, float], least_loss: float) -> Array:
    """Return (E, A, B, alpha, beta, g, gamma), shape (M, 7); x = y = 0 at `centre`, and L0 is `least_loss`, nats."""
    e, a, b, log_alpha, log_beta, g, log_gamma = theta.T
    gamma, alpha, beta = np.exp(log_gamma), np.exp(log_alpha - log_gamma), np.exp(log_beta - log_gamma)
    log_unit = np.log(REDUCIBLE * least_loss) / gamma
    A, B = np.exp(a + alpha * centre[0] + log_unit), np.exp(b + beta * centre[1] + log_unit)
    return np.stack([least_loss * np.exp(e), A, B, alpha, beta, g, gamma], axis=1)


def optimum_offset(theta: Array, c: Array) -> Array:
    """Return x of the optimum, shape (M, R), at c = x + y, the log of compute less its centre."""
    alpha, beta = np.exp(theta[:, 3] - theta[:, 6])[:, None], np.exp(theta[:, 4] - theta[:, 6])[:, None]
    root = balance(alpha, beta, theta[:, 5, None])
    return np.asarray((theta[:, 1, None] - theta[:, 2, None] + beta * c - 2 * np.log(root)) / (alpha + beta))


def optimum_slopes(theta: Array, c: float) -> Array:
    """Return the derivatives of `optimum_offset` at one c by theta, shape (M, 7), by central differences."""
    step, at = 1e-5, np.array([c])
    columns = []
    for i in range(NUM_FREE):
        shift = step * (np.arange(NUM_FREE) == i)
        columns.append((optimum_offset(theta + shift, at) - optimum_offset(theta - shift, at))[:, 0] / (2 * step))
    return np.stack(columns, axis=1)
