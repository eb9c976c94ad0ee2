"""Reweighting runs: bootstrap counts and leave-one-out weights, whole runs at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scalestop.fitting.solve.newton import Array


def bootstrap_counts(groups: NDArray[np.int_], draws: int, seed: int) -> Array:
    """Return how often each row is drawn in each bootstrap sample.

    Runs are drawn with replacement, and all rows of a run come along: points of one run's curve share its noise.

    Args:
        groups: Run of each row, numbered from 0, shape (R,).
        draws: Number of samples M.
        seed: Seed of the generator.

    Returns:
        Counts, shape (M, R), as floats.
    """
    size = int(groups.max()) + 1
    drawn = np.random.default_rng(seed).integers(size, size=(draws, size)) + size * np.arange(draws)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=draws * size).reshape(draws, size).astype(np.float64)
    return counts if np.array_equal(groups, np.arange(size)) else counts[:, groups]


def leave_out(groups: NDArray[np.int_], which: NDArray[np.int_]) -> Array:
    """Return weights, shape (len(which), R), that leave out the rows of each of these groups in turn."""
    return (groups[None, :] != which[:, None]).astype(np.float64)
