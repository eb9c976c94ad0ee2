from __future__ import annotations

import numpy as np

from scalestop.fitting.solve.resample import bootstrap_counts, leave_out


def test_every_sample_has_as_many_runs_as_there_are() -> None:
    counts = bootstrap_counts(np.arange(30), 500, seed=1)
    assert counts.shape == (500, 30)
    np.testing.assert_array_equal(counts.sum(axis=1), 30)
    # a multinomial count has mean 1 and variance 1 - 1/30
    assert abs(counts.var() - (1 - 1 / 30)) < 0.03


def test_rows_of_one_run_come_together() -> None:
    groups = np.array([0, 0, 1, 2, 2, 2])
    counts = bootstrap_counts(groups, 200, seed=2)
    for group in range(3):
        rows = counts[:, groups == group]
        np.testing.assert_array_equal(rows, np.repeat(rows[:, :1], rows.shape[1], axis=1))
    np.testing.assert_array_equal(counts[:, [0, 2, 3]].sum(axis=1), 3)


def test_the_seed_decides() -> None:
    a, b, c = (bootstrap_counts(np.arange(20), 50, seed=s) for s in (4, 4, 5))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_each_run_is_left_out_once_with_all_its_rows() -> None:
    np.testing.assert_array_equal(leave_out(np.array([0, 1, 1]), np.arange(2)), [[0, 1, 1], [1, 0, 0]])
