from __future__ import annotations

import numpy as np
from fitting_data import surface_runs

from scalestop.fitting.solve.starts import GRID, projected_starts
from scalestop.fitting.solve.surface import Standardised


def test_the_amounts_are_those_of_weighted_least_squares_on_relative_errors() -> None:
    runs = surface_runs(60, noise=0.003, seed=1)
    standard = Standardised.of(**runs)
    weights = np.random.default_rng(0).integers(1, 4, 60).astype(float)
    starts = standard.to_constants(projected_starts(standard, weights, keep=4))
    for E, A, B, alpha, beta in starts:
        columns = np.stack([np.ones(60), runs["params"] ** -alpha, runs["tokens"] ** -beta], axis=1)
        scale = np.sqrt(weights) / runs["loss"]
        solved = np.linalg.lstsq(columns * scale[:, None], np.sqrt(weights), rcond=None)[0]
        np.testing.assert_allclose([E, A, B], solved, rtol=1e-4)


def test_starts_come_best_first_and_on_the_grid() -> None:
    runs = surface_runs(60, noise=0.003, seed=2)
    standard = Standardised.of(**runs)
    starts = standard.to_constants(projected_starts(standard, np.ones(60), keep=20))
    E, A, B, alpha, beta = starts.T[:, :, None]
    predicted = E + A * runs["params"] ** -alpha + B * runs["tokens"] ** -beta
    error = ((predicted / runs["loss"] - 1) ** 2).sum(axis=1)
    assert np.all(np.diff(error) >= -1e-9)
    for exponents in (alpha, beta):
        assert np.abs(exponents - GRID).min(axis=1).max() < 1e-12
    # the true exponents are .35 and .37: the first start is the grid's neighbour
    np.testing.assert_allclose(starts[0, 3:], [0.35, 0.37], rtol=0.35)


def test_tied_and_fixed_constants_are_kept() -> None:
    runs = surface_runs(40, seed=3)
    standard = Standardised.of(**runs)
    starts = standard.to_constants(projected_starts(standard, np.ones(40), tied=True, irreducible=1.5, keep=50))
    assert len(starts) == len(GRID)
    np.testing.assert_allclose(starts[:, 0], 1.5, rtol=1e-12)
    np.testing.assert_allclose(starts[:, 3], starts[:, 4], rtol=1e-12)
    assert np.all(starts[:, 1:3] > 0)
