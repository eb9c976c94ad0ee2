"""Refits to resampled runs: the bootstrap's draws, and the jackknife, exact or by blocks where runs are many."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scalestop.fitting.methods.method import FitOptions, in_chunks
from scalestop.fitting.solve.newton import Array
from scalestop.fitting.tables.table import RunTable

EXACT_RUNS = 1000
"""Runs up to which each is left out in turn. More would cost more refits than the bootstrap itself."""

NUM_BLOCKS = 200
"""Blocks of runs left out in turn where there are more."""

_SUSPECTS = 5
"""Blocks whose runs are then left out one by one: those that move the fit most."""


class Resampled(NamedTuple):
    """Refits of one method to a table, by the names that `MethodFit` has for them."""

    draws: Array
    """Bootstrap refits, shape (M, p)."""
    jackknife: Array
    """Refits with parts left out that together are the whole, for the acceleration; shape (K, p)."""
    alone: Array
    """Refits with one run left out, shape (S, p)."""
    left_out: tuple[str, ...]
    """Which run that is."""


def resample(
    refit: Callable[[Array], Array],
    estimate: Array,
    table: RunTable,
    options: FitOptions,
    *,
    counts: Array | None = None,
    chunk: int = 512,
    exact_runs: int = EXACT_RUNS,
    num_blocks: int = NUM_BLOCKS,
) -> Resampled:
    """Refit to bootstrap samples, and with runs left out.

    Of up to `exact_runs` runs each is left out in turn. Of more, `num_blocks` blocks of runs are, drawn at random: a
    block's pull on a constant is the sum of its runs', so sums of squares and cubes over blocks are on average those
    over runs, and with them Efron's acceleration. Its standard error, sqrt(15)/(6·blocks) = .003, moves the ends of a
    90 % interval by z^2 times that, .01 standard errors. The runs of the blocks that move the fit most are then left
    out one by one, so that a single run that carries the fit is still found.

    Args:
        refit: Takes weights (m, R), returns constants (m, p).
        estimate: Constants on all runs, shape (p,).
        table: The runs; rows of one run go together.
        options: `bootstrap`, `seed` and `progress` apply. Without draws nothing is left out either.
        counts: How often each row is drawn in each sample, shape (M, R); whole runs with replacement if None.
        chunk: Refits at a time.
        exact_runs: Most runs that are each left out.
        num_blocks: Blocks of more.
    """
    groups = table.groups
    names = table.group_names
    if options.bootstrap == 0:
        nothing = np.empty((0, len(estimate)))
        return Resampled(nothing, nothing, nothing, ())
    if counts is None:
        counts = bootstrap_counts(groups, options.bootstrap, options.seed)
    draws = in_chunks(refit, counts, options.progress, chunk)

    def without(parts: NDArray[np.int_], which: NDArray[np.int_]) -> Array:
        chunks = [which[i : i + chunk] for i in range(0, len(which), chunk)]
        return np.concatenate([refit(leave_out(parts, some)) for some in chunks])

    runs = np.arange(len(names))
    if len(names) <= exact_runs:
        alone = without(groups, runs)
        return Resampled(draws, alone, alone, names)
    # a seed of its own: the partition is no part of the bootstrap
    block = np.random.default_rng(0).permutation(np.arange(len(names)) % num_blocks)
    jackknife = without(block[groups], np.arange(num_blocks))
    error = np.maximum(np.nanstd(draws, axis=0), 1e-300)
    moved = np.nan_to_num(np.abs(jackknife - estimate) / error).max(axis=1)
    suspects = runs[np.isin(block, np.argsort(-moved, kind="stable")[:_SUSPECTS])]
    return Resampled(draws, jackknife, without(groups, suspects), tuple(names[run] for run in suspects))


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
