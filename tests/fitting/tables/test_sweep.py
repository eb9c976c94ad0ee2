from __future__ import annotations

import numpy as np
import pytest
from fitting_data import data_folder, surface_runs

from scalestop.errors import InputError
from scalestop.fitting import fit_law
from scalestop.fitting.tables.read import read_runs
from scalestop.fitting.tables.sweep import best_rows, find_sweep, points_of


def swept(seeds: int = 1, noise: float = 0.0) -> list[dict[str, float]]:
    """Return twelve runs of a known law, each at nine settings of which one is best."""
    rng = np.random.default_rng(0)
    rows = []
    for n, d, loss in zip(*surface_runs(12, noise=0.0).values(), strict=True):
        best = rng.integers(3)
        for i in range(3):
            for batch in (32, 64, 128):
                # a whole number of batches
                tokens = d * (1 + 0.004 * rng.uniform(-1, 1))
                worse = 1 + 0.1 * (i - best) ** 2 + 0.03 * (batch != 64)
                for seed in range(seeds):
                    value = loss * worse * np.exp(noise * rng.normal())
                    rows.append(dict(params=n, tokens=tokens, loss=value, lr=10.0**-i, batch_size=batch, seed=seed))
    return rows


def test_the_best_setting_of_each_point_is_kept() -> None:
    table = read_runs(swept())
    kept = table.take(best_rows(table, "lr,batch"))
    assert len(kept) == 12
    assert set(kept.settings["batch"]) == {64}
    for n, loss in zip(kept.params, kept.loss, strict=True):
        assert loss == table.loss[table.params == n].min()
    np.testing.assert_array_equal(best_rows(table, None), np.arange(len(table)))
    np.testing.assert_array_equal(best_rows(table, ["lr", "batch"]), best_rows(table, " lr, batch"))


def test_a_setting_is_judged_by_the_mean_of_its_seeds_and_keeps_them_all() -> None:
    table = read_runs(swept(seeds=4, noise=0.001))
    kept = table.take(best_rows(table, "lr,batch"))
    assert len(kept) == 12 * 4
    assert set(kept.settings["batch"]) == {64}


def test_points_are_told_apart_by_more_than_a_batch() -> None:
    params = np.array([1e6, 1e6, 1e6, 1.0005e6, 2e6])
    tokens = np.array([1e8, 1.01e8, 1.05e8, 1e8, 1e8])
    labels = points_of(params, tokens)
    assert labels[0] == labels[1] == labels[3]
    assert len(set(labels.tolist())) == 3


def test_a_table_that_sweeps_is_seen_and_one_that_does_not_is_not() -> None:
    sweep = find_sweep(read_runs(swept()))
    assert sweep is not None
    assert (sweep.settings, sweep.num_runs, sweep.num_points) == (("lr", "batch"), 108, 12)
    assert sweep.spread > 0.1
    # rates and batches that follow the size, and seeds, are no sweep
    alike = [row for row in swept(seeds=3) if row["batch_size"] == 64 and row["lr"] == 0.1]
    assert find_sweep(read_runs(alike)) is None


def test_a_fit_of_a_sweep_says_so_and_one_of_its_best_runs_does_not() -> None:
    raw, best = fit_law(swept(), bootstrap=0), fit_law(swept(), bootstrap=0, best_of="lr,batch")
    (finding,) = [f for f in raw.diagnostics.findings if f.code == "sweep"]
    assert finding.message.startswith("108 of 108 runs lie at 12 points (N, D) and differ in lr and batch, by ")
    assert finding.message.endswith("Give best_of='lr,batch'.")
    assert raw.residuals.log_ratio.std() > 20 * best.residuals.log_ratio.std()
    assert [f.code for f in best.diagnostics.findings] == ["best-of", "point-fit"]
    assert best.diagnostics.findings[0].message.startswith("12 of 108 runs were fitted: those of the best lr and batch")


def test_any_column_can_be_swept_and_one_that_is_not_there_is_named() -> None:
    rows = [{("Warm-up" if name == "lr" else name): value for name, value in row.items()} for row in swept()]
    best = fit_law(rows, bootstrap=0, best_of="Warm-up,batch")
    assert len(best.table) == 12
    with pytest.raises(InputError, match=r"best_of: no row has a column 'lr'\. Columns seen: params, tokens, loss"):
        fit_law(rows, bootstrap=0, best_of="lr")
    rows[5].pop("batch_size")
    with pytest.raises(InputError, match=r"best_of: 1 of 108 rows have no batch, the first of them records, row 5"):
        fit_law(rows, bootstrap=0, best_of="batch")
    with pytest.raises(InputError, match=r"best_of: expected names of settings, such as 'lr,batch'; got ' ,'"):
        fit_law(rows, bootstrap=0, best_of=" ,")


def test_the_public_sweep_is_a_law_once_its_best_runs_are_taken() -> None:
    """Step Law (Li et al. 2025): the raw table misses its law by some 30 %, the best of each (N, D) by .4 %."""
    path = data_folder() / "sweep_steplaw_dense.csv"
    raw = fit_law(path, "parametric", bootstrap=0, loss="smooth_loss")
    assert "sweep" in [f.code for f in raw.diagnostics.findings]
    assert raw.residuals.log_ratio.std() > 0.25
    best = fit_law(path, "parametric", bootstrap=0, loss="smooth_loss", best_of="lr,batch")
    assert len(best.table) == 17
    assert best.residuals.log_ratio.std() < 0.0045
