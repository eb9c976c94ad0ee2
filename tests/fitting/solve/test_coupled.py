"""The solver's coordinates, against the law they stand for and against differences."""

from __future__ import annotations

import numpy as np
import pytest

from scalestop.fitting.solve.coupled import (
    NAMES,
    NUM_FREE,
    log_loss,
    log_loss_and_slopes,
    optimum_offset,
    optimum_slopes,
    to_constants,
)
from scalestop.laws import CoupledLaw, LawInfo

CENTRE = (np.log(3e8), np.log(7e9))
LEAST = 2.4
RNG = np.random.default_rng(0)
THETA = np.array([-0.4, -0.7, -0.6, np.log(0.35), np.log(0.3), 0.2, -0.1]) + RNG.normal(0, 0.2, (5, NUM_FREE))
X, Y = RNG.normal(0, 1.5, 40), RNG.normal(0, 1.5, 40)


def law_of(theta: np.ndarray) -> CoupledLaw:
    constants = dict(zip(NAMES, map(float, to_constants(theta[None], CENTRE, LEAST)[0]), strict=True))
    return CoupledLaw(LawInfo("mine", "total", "a test"), **constants)


def test_coordinates_stand_for_the_law() -> None:
    sizes, tokens = np.exp(X + CENTRE[0]), np.exp(Y + CENTRE[1])
    for theta, found in zip(THETA, log_loss(THETA, X, Y), strict=True):
        np.testing.assert_allclose(LEAST * np.exp(found), law_of(theta).loss(sizes, tokens), rtol=1e-12)


def test_slopes_are_the_differences() -> None:
    found, slopes = log_loss_and_slopes(THETA, X, Y)
    np.testing.assert_allclose(found, log_loss(THETA, X, Y), rtol=1e-13)
    for i in range(NUM_FREE):
        step = 1e-6 * (np.arange(NUM_FREE) == i)
        expected = (log_loss(THETA + step, X, Y) - log_loss(THETA - step, X, Y)) / 2e-6
        np.testing.assert_allclose(slopes[:, i], expected, atol=2e-8)


def test_the_optimum_is_the_laws() -> None:
    c = np.array([-3.0, 0.0, 4.0])
    for theta, found in zip(THETA, optimum_offset(THETA, c), strict=True):
        flops = 6 * np.exp(c + sum(CENTRE))
        np.testing.assert_allclose(np.exp(found + CENTRE[0]), law_of(theta).optimal(flops).num_params, rtol=1e-10)
    slopes = optimum_slopes(THETA, 4.0)
    assert slopes.shape == THETA.shape
    # neither E nor a lift of both terms moves it
    assert slopes[:, 0] == pytest.approx(np.zeros(5), abs=1e-9)
    np.testing.assert_allclose(slopes[:, 1], -slopes[:, 2], rtol=1e-6)
