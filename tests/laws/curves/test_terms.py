"""The form against its sums over steps, and its slopes against differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
from curve_toys import STEP_TOKENS, TRUE, constant, cosine, wsd

from scalestop.laws.curves.rate_path import EXCESS, PROGRESS, RatePath
from scalestop.laws.curves.terms import curve_terms


def slow_terms(rates: np.ndarray, constants: np.ndarray, tokens_ref: float) -> float:
    """The form by its sums over steps, as the papers write it: steps squared."""
    log_A, alpha, log_B, log_C, beta, gamma = constants
    x = rates / rates.max()
    s1 = float(np.sum(x**PROGRESS)) * STEP_TOKENS
    top = int(np.argmax(x >= 0.99))
    drop = 0.0
    for k in range(top + 1, len(x)):
        fall = x[k - 1] ** EXCESS - x[k] ** EXCESS
        z = math.exp(log_C) * max(x[k], 1e-4) ** -gamma * float(np.sum(x[k:]))
        drop += fall * (1 - (1 + z) ** -beta)
    return math.exp(log_A) * (s1 / tokens_ref) ** -alpha - math.exp(log_B) * drop


@pytest.mark.parametrize("shape", [wsd, cosine, constant])
def test_nodes_give_what_sums_over_steps_give(shape):
    steps = 4_000
    path = RatePath.of_shape(shape, steps * STEP_TOKENS, steps)
    rates = np.array([shape((k + 0.5) / steps) for k in range(steps)])
    got = curve_terms(path, steps * STEP_TOKENS, TRUE, 1e6).value[0]
    assert got == pytest.approx(slow_terms(rates, TRUE, 1e6), abs=1e-3)


@pytest.mark.parametrize("kernel", ["power", "momentum"])
def test_slopes_are_derivatives(kernel):
    path = RatePath.of_shape(wsd, 1e7, 1e4)
    at = np.array([3e6, 8.5e6, 1e7])
    slope = curve_terms(path, at, TRUE, 1e7, kernel).slope
    for j in range(6):
        move = np.zeros(6)
        move[j] = 1e-5
        up = curve_terms(path, at, TRUE + move, 1e7, kernel).value
        down = curve_terms(path, at, TRUE - move, 1e7, kernel).value
        assert slope[:, j] == pytest.approx((up - down) / 2e-5, abs=1e-6)
