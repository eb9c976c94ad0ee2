"""Reweighting runs: bootstrap counts and leave-one-out weights, whole runs at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scalestop.fitting.solve.newton import Array


def bootstrap_counts(groups: NDArray[np.int_], draws: int, seed: int, strata: NDArray[np.int_] | None = None) -> Array:
    """Return how often each row is drawn in each bootstrap sample.

    Runs are drawn with replacement, and all rows of a run come along: points of one run's curve share its noise.

    Args:
        groups: Run of each row, numbered from 0, shape (R,).
        draws: Number of samples M.
        seed: Seed of the generator.
        strata: Stratum of each row, shape (R,); runs are then drawn within their stratum, so that none empties.

    Returns:
        Counts, shape (M, R), as floats.
    """
    generator = np.random.default_rng(seed)
    num_groups = int(groups.max()) + 1
    first_row = np.unique(groups, return_index=True)[1]
    labels = np.zeros(num_groups, dtype=int) if strata is None else strata[first_row]
    counts = np.zeros((draws, num_groups))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        size = len(members)
        drawn = generator.integers(size, size=(draws, size)) + size * np.arange(draws)[:, None]
        counts[:, members] = np.bincount(drawn.ravel(), minlength=draws * size).reshape(draws, size)
    return counts if np.array_equal(groups, np.arange(num_groups)) else counts[:, groups]


def leave_one_out(groups: NDArray[np.int_]) -> Array:
    """Return weights, shape (number of runs, R), that leave out each run in turn."""
    return leave_out(groups, np.arange(int(groups.max()) + 1))


def leave_out(groups: NDArray[np.int_], which: NDArray[np.int_]) -> Array:
    """Return weights, shape (len(which), R), that leave out the rows of each of these groups in turn."""
    return (groups[None, :] != which[:, None]).astype(np.float64)
