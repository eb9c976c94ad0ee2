from __future__ import annotations

import numpy as np
import pytest
from fitting_data import fit_published as fit_law
from fitting_data import surface_runs

from scalestop.fitting.diagnostics import outliers_of, seed_noise_of
from scalestop.fitting.tables.read import read_runs


def codes(runs: object, **options: object) -> dict[str, str]:
    fit = fit_law(runs, bootstrap=100, **options)  # type: ignore[arg-type]
    return {finding.code: finding.message for finding in fit.diagnostics.findings}


def test_sound_runs_give_nothing_to_complain_of() -> None:
    assert codes(surface_runs(80, seed=1)) == {}


def test_an_outlier_is_named_and_kept() -> None:
    runs = surface_runs(80, seed=1)
    runs["loss"][7] *= 1.1
    fit = fit_law(runs, bootstrap=100)
    (outlier,) = fit.diagnostics.outliers
    assert outlier.run.startswith("records, row 7: N = ")
    assert outlier.log_ratio == pytest.approx(np.log(1.1), abs=0.02)
    assert len(fit.residuals.measured) == 80
    assert "1 runs lie far off the law, and were kept: records, row 7" in fit.diagnostics.warnings[0]


def test_the_run_with_the_most_leverage_is_the_one_the_fit_hangs_on() -> None:
    # one large model far from the rest decides the exponent of N
    runs = surface_runs(30, seed=2)
    near = np.log(runs["params"]) < np.quantile(np.log(runs["params"]), 0.9)
    runs = {name: column[near] for name, column in runs.items()}
    lone = {"params": 3e11, "tokens": 3e10, "loss": 2.35}
    runs = {name: np.append(column, lone[name]) for name, column in runs.items()}
    fit = fit_law(runs, bootstrap=200)
    top = fit.diagnostics.leverage[0]
    assert top.run == f"records, row {len(runs['params']) - 1}"
    without = fit_law({name: column[:-1] for name, column in runs.items()}, bootstrap=20)
    moved = fit.law.constants[top.constant] - without.law.constants[top.constant]
    assert top.shift == pytest.approx(moved, rel=1e-3)
    assert "carry much of the fit" in codes(runs)["leverage"]


def test_an_irreducible_loss_that_the_runs_cannot_see_is_called_undetermined() -> None:
    # losses far above E: 1.8 of 30 to 200 nats
    message = codes(surface_runs(30, noise=0.05, constants=(0.02, 3e4, 1e5, 0.35, 0.37)))["E-undetermined"]
    assert message.startswith("E is not determined: ")
    assert "or give E with irreducible=" in message


def test_runs_that_stopped_early_are_named() -> None:
    decayed = [i not in (3, 5) for i in range(60)]
    message = codes({**surface_runs(60), "lr_decayed": decayed})["lr-not-decayed"]
    assert message.startswith(
        "2 of 60 runs ended before their learning rate had come down (records, row 3, records, row 5)"
    )


def test_mixed_meanings_of_n_are_seen() -> None:
    runs = surface_runs(60)
    said = codes({**runs, "n_counts": ["body"] * 20 + ["total"] * 40})
    assert said["mixed-n"].startswith("N means different things in different runs (20 count body, 40 count total)")
    flops = 6 * runs["params"] * runs["tokens"] * np.where(np.arange(60) < 20, 1.5, 1.0)
    assert "FLOPs over 6·N·D runs from 1 to 1.5" in codes({**runs, "flops": flops})["flops-disagree"]


def test_copied_rows_are_seen_and_counted_once() -> None:
    once = surface_runs(60)
    runs = {name: np.append(column, column[:2]) for name, column in once.items()}
    assert codes(runs)["copies"].startswith("2 rows repeat another row exactly, and were counted once")
    np.testing.assert_array_equal(fit_law(runs, bootstrap=0).raw.estimate, fit_law(once, bootstrap=0).raw.estimate)
    named = codes({**runs, "run": [f"r{i}" for i in range(62)]})
    assert named["duplicates"].startswith("2 rows repeat another's N, D and loss exactly under another name or seed")


def test_a_name_on_rows_of_several_sizes_is_no_runs() -> None:
    runs = surface_runs(60)
    one = codes({**runs, "run": ["sweep-3"] * 60})
    assert one["run-names"].startswith("run: 'sweep-3' on rows of several N, so no single run is meant")


def test_few_runs_of_many_rows_are_called_few() -> None:
    sizes = np.repeat(np.geomspace(1e8, 1e9, 6), 10)
    tokens = np.tile(np.geomspace(1e9, 1e11, 10), 6)
    loss = (1.8 + 480 / sizes**0.35 + 2100 / tokens**0.37) * np.exp(0.003 * np.random.default_rng(0).normal(size=60))
    message = codes({"params": sizes, "tokens": tokens, "loss": loss, "run": [f"{n:.3g}" for n in sizes]})["few-runs"]
    assert message.startswith("60 rows are of only 6 runs, by their run column")


def test_a_narrow_range_is_seen() -> None:
    runs = surface_runs(300)
    narrow = (runs["params"] > 5e8) & (runs["params"] < 2e9)
    message = codes({name: column[narrow] for name, column in runs.items()})["narrow-N"]
    assert message.startswith("N spans only x")


def test_residuals_that_drift_with_compute_are_seen() -> None:
    runs = surface_runs(80, noise=0.001)
    compute = np.log(runs["params"] * runs["tokens"])
    runs["loss"] = runs["loss"] * np.exp(0.02 * ((compute - compute.mean()) / compute.std()) ** 2)
    assert "bend with compute (t = +" in codes(runs, irreducible=1.8)["trend"]


def test_repeats_tell_a_runs_own_noise() -> None:
    base = surface_runs(40, noise=0.0)
    rng = np.random.default_rng(0)
    runs = {name: np.repeat(column, 3) for name, column in base.items()}
    runs["loss"] = runs["loss"] * np.exp(0.004 * rng.normal(size=120))
    noise = fit_law({**runs, "seed": np.tile([0, 1, 2], 40)}, bootstrap=20).diagnostics.seed_noise
    assert noise is not None
    assert noise.num_repeats == 80
    assert noise.log_sd == pytest.approx(0.004, rel=0.2)
    assert noise.residual_sd == pytest.approx(0.004, rel=0.3)
    assert fit_law(base, bootstrap=20).diagnostics.seed_noise is None


def test_a_form_that_misses_by_more_than_the_noise_is_told() -> None:
    base = surface_runs(40, noise=0.02)
    runs = {name: np.repeat(column, 2) for name, column in base.items()}
    runs["loss"] = runs["loss"] * np.exp(0.0005 * np.random.default_rng(0).normal(size=80))
    assert "more than noise, so the form or the settings differ" in codes(runs)["misfit"]


def test_scores_are_robust_standard_deviations() -> None:
    table = read_runs(surface_runs(400))
    scatter = np.random.default_rng(0).normal(scale=0.01, size=400)
    scatter[0] = 0.2
    (found,) = outliers_of(table, scatter)
    assert found.score == pytest.approx(20, rel=0.15)
    assert seed_noise_of(table, scatter) is None
