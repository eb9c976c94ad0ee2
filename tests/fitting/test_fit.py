from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fitting_data import BUDGETS, isoflop_runs, surface_runs
from fitting_data import fit_published as fit_law

from scalestop.errors import InputError, ScalestopWarning
from scalestop.fitting import LawFit
from scalestop.fitting.law_fit import exponent
from scalestop.laws import get_law
from scalestop.planning.allocation import allocate, predict_loss
from scalestop.planning.plan import make_plan

TRUTH = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}


@pytest.fixture(scope="module")
def fit() -> LawFit:
    return fit_law(surface_runs(80), bootstrap=400)


def test_constants_come_with_intervals_that_hold_the_truth(fit: LawFit) -> None:
    assert list(fit.intervals) == ["E", "A", "B", "alpha", "beta", "a", "b"]
    # A and B are hardly known one by one, the others are
    for name in ("E", "alpha", "beta"):
        assert fit.intervals[name].estimate == pytest.approx(TRUTH[name], rel=0.15)
    wide = fit_law(surface_runs(80), bootstrap=400, level=0.99).intervals
    for name, value in TRUTH.items():
        assert value in wide[name]
        assert wide[name].low < fit.intervals[name].low < fit.intervals[name].high < wide[name].high


def test_exponents_are_those_of_the_constants(fit: LawFit) -> None:
    alpha, beta = (fit.raw.draws[:, i] for i in (3, 4))
    assert fit.intervals["a"].percentile == pytest.approx(np.quantile(beta / (alpha + beta), [0.05, 0.95]), rel=1e-9)
    assert fit.intervals["a"].estimate == pytest.approx(fit.law.a, rel=1e-12)
    assert fit.intervals["b"].estimate == pytest.approx(1 - fit.law.a, rel=1e-12)
    assert float(exponent(get_law("chinchilla-2"), fit.table)) == pytest.approx(0.49, rel=1e-12)


def test_the_law_says_what_it_is_and_where_it_holds(fit: LawFit) -> None:
    info, table = fit.law.info, fit.table
    assert info.name == "fitted-parametric"
    assert info.source == "fitted by scalestop, method parametric, to 80 runs (records)"
    assert info.n_counts == "total"
    assert info.valid.num_params == (table.params.min(), table.params.max())
    assert fit.law.uncertainty.num_runs == 80
    assert fit.law.uncertainty.data_hash == table.data_hash
    assert fit.law.uncertainty.intervals["E"] == (fit.intervals["E"].low, fit.intervals["E"].high)


def test_a_saved_law_allocates_with_intervals(fit: LawFit, tmp_path: Path) -> None:
    law = get_law(fit.law.save(tmp_path / "law.json"))
    assert law.constants == fit.law.constants
    ours, theirs = fit.optimum(1e21), allocate(int(1e21), law)
    assert theirs.num_params == pytest.approx(ours.num_params.estimate, rel=1e-12)
    # the file keeps float32 draws
    assert theirs.params_interval == pytest.approx(ours.num_params.percentile, rel=1e-4)
    assert theirs.tokens_interval == pytest.approx(ours.num_tokens.percentile, rel=1e-4)
    assert (tmp_path / "law.json").stat().st_size < 40_000


def test_a_law_keeps_a_thousand_draws_of_more() -> None:
    fit = fit_law(surface_runs(80), bootstrap=1500)
    assert len(fit.raw.draws) == 1500
    assert len(fit.law.uncertainty.draws) == 1000


def test_an_optimum_outside_the_runs_says_so(fit: LawFit) -> None:
    assert fit.optimum(1e20).warnings == ()
    far = fit.optimum(1e25)
    assert any("C = 1e+25 FLOPs is 3." in line and "above the fitted range" in line for line in far.warnings)
    assert (
        far.num_params.high / far.num_params.low > fit.optimum(1e20).num_params.high / fit.optimum(1e20).num_params.low
    )


def test_a_new_runs_loss_scatters_more_than_the_law(fit: LawFit) -> None:
    found = fit.predict(1e9, 2e10)
    assert found.loss.estimate == pytest.approx(fit.law.loss(1e9, 2e10), rel=1e-12)
    low, high = found.new_run
    assert low < found.loss.low < found.loss.high < high
    # noise of 0.5 % alone spans 2 x 1.645 x 0.5 %
    assert (high - low) / found.loss.estimate == pytest.approx(2 * 1.645 * 0.005, rel=0.25)


def test_a_law_carries_the_scatter_of_its_runs(fit: LawFit, tmp_path: Path) -> None:
    """80 runs, five constants: new runs scatter by sqrt(80 / 75) more. The file's law plans with the fit's interval."""
    sure = fit.law.uncertainty
    np.testing.assert_allclose(sure.scatter, fit.residuals.log_ratio * (80 / 75) ** 0.5, rtol=1e-12)
    law = get_law(fit.law.save(tmp_path / "law.json"))
    np.testing.assert_allclose(law.uncertainty.scatter, sure.scatter, rtol=1e-5)
    plan = make_plan("1e20 FLOPs", law, tokens_per_step=10**6)
    found = fit.predict(plan.num_params, plan.stop_tokens)
    assert plan.loss_interval_of_run
    assert plan.loss_interval == pytest.approx(found.new_run, rel=1e-4)
    # an allocation's is the law's alone
    assert plan.allocation.loss_interval == pytest.approx(found.loss.percentile, rel=1e-3)


def test_a_law_without_a_loss_carries_no_scatter() -> None:
    law = fit_law(isoflop_runs(BUDGETS[:3]), "isoflop", bootstrap=20).law
    assert not law.has_loss and not law.uncertainty.knows_scatter


def test_the_seed_decides_and_the_order_of_runs_does_not(fit: LawFit) -> None:
    again = fit_law(surface_runs(80), bootstrap=400)
    np.testing.assert_array_equal(again.raw.draws, fit.raw.draws)
    other = fit_law(surface_runs(80), bootstrap=400, seed=1)
    assert not np.array_equal(other.raw.draws, fit.raw.draws)
    turned = fit_law({name: column[::-1] for name, column in surface_runs(80).items()}, bootstrap=20)
    np.testing.assert_allclose(turned.raw.estimate, fit.raw.estimate, rtol=1e-5)
    assert turned.law.uncertainty.data_hash == fit.law.uncertainty.data_hash


def test_points_of_one_run_are_resampled_together() -> None:
    runs = surface_runs(40, noise=0.01, seed=2)
    # each run given four times over under one name: no more is known than from one row a run
    copies = [
        {"params": n, "tokens": d, "loss": v, "run": f"run {i}"}
        for i, (n, d, v) in enumerate(zip(*runs.values(), strict=True))
        for _ in range(4)
    ]
    single, grouped = fit_law(runs, bootstrap=400), fit_law(copies, bootstrap=400)
    nameless = fit_law(runs_of(copies, 0), bootstrap=400)
    spread = fit_law(runs_of(copies, 1e-4), bootstrap=400)
    fits = {"s": single, "g": grouped, "n": nameless, "d": spread}
    width = {name: fit.intervals["alpha"].standard_error for name, fit in fits.items()}
    assert width["g"] == pytest.approx(width["s"], rel=0.05)
    # and without a name they are seen to be copies
    assert width["n"] == pytest.approx(width["s"], rel=0.15)
    # runs of their own that come out alike are evidence
    assert width["d"] < 0.65 * width["s"]


def runs_of(copies: list[dict], apart: float) -> list[dict]:
    """Return rows without their names, with their losses moved apart by so much."""
    rng = np.random.default_rng(0)
    rows = [{name: value for name, value in row.items() if name != "run"} for row in copies]
    return [{**row, "loss": row["loss"] * np.exp(apart * rng.normal())} for row in rows]


@pytest.mark.parametrize("column", ["name", "run"])
def test_one_name_for_all_rows_takes_no_width_away(column: str) -> None:
    runs = surface_runs(60, seed=3)
    plain, named = fit_law(runs, bootstrap=200), fit_law({**runs, column: ["gpt"] * 60}, bootstrap=200)
    assert named.intervals["alpha"].standard_error == pytest.approx(plain.intervals["alpha"].standard_error, rel=1e-9)
    assert (named.intervals["alpha"].low, named.intervals["alpha"].high) == pytest.approx(
        (plain.intervals["alpha"].low, plain.intervals["alpha"].high), rel=1e-9
    )


def test_without_refits_there_is_a_point_and_a_clear_word_where_an_interval_is_asked(tmp_path: Path) -> None:
    runs = surface_runs(60)
    point, whole = fit_law(runs, bootstrap=0), fit_law(runs, bootstrap=20)
    assert point.law.constants == whole.law.constants
    assert point.law.uncertainty is None
    assert get_law(point.law.save(tmp_path / "law.json")).constants == whole.law.constants
    found, best = point.predict(1e9, 2e10), point.optimum(1e20)
    assert found.loss.estimate == whole.predict(1e9, 2e10).loss.estimate
    assert np.isnan([found.loss.low, found.loss.high, *found.new_run]).all()
    assert best.num_params.estimate == whole.optimum(1e20).num_params.estimate
    assert best.num_params.is_point
    for answer in (found, best):
        assert "This is a point fit (bootstrap=0): it has no intervals. Fit with bootstrap=1000" in answer.warnings[-1]
    with pytest.raises(InputError, match=r"level: This is a point fit \(bootstrap=0\)"):
        point.predict(1e9, 2e10, level=0.9)
    with pytest.raises(InputError, match=r"level: This is a point fit"):
        point.optimum(1e20, 0.5)
    assert [f.code for f in point.diagnostics.findings] == ["point-fit"]


@pytest.mark.parametrize("method", ["parametric", "isoflop", "kaplan", "repeated"])
def test_every_method_makes_a_point_fit(method: str) -> None:
    rows = isoflop_runs(BUDGETS, noise=1e-3)
    if method == "repeated":
        rows = [{**row, "unique_tokens": row["tokens"] / (1 + i % 3)} for i, row in enumerate(rows)]
    point, whole = (fit_law(rows, method, bootstrap=count) for count in (0, 20))  # type: ignore[arg-type]
    np.testing.assert_array_equal(point.raw.estimate, whole.raw.estimate)
    assert point.predict(1e9, 2e10).loss.estimate == whole.predict(1e9, 2e10).loss.estimate


@pytest.mark.parametrize("method", ["parametric", "isoflop", "kaplan"])
def test_arrays_are_predicted_as_their_models_are_one_by_one(method: str) -> None:
    fit = fit_law(isoflop_runs(BUDGETS, noise=1e-3), method, bootstrap=60)  # type: ignore[arg-type]
    params, tokens = np.array([[1e8], [1e9]]), np.array([1e10, 3e10, 1e11])
    found = fit.predict(params, tokens)
    assert found.loss.estimate.shape == found.loss.low.shape == found.new_run[0].shape == (2, 3)
    for i in range(2):
        for j in range(3):
            one = fit.predict(float(params[i, 0]), float(tokens[j]))
            assert isinstance(one.loss.estimate, float)
            assert found.loss.estimate[i, j] == pytest.approx(one.loss.estimate, rel=1e-12)
            assert found.loss.low[i, j] == pytest.approx(one.loss.low, rel=1e-12)
            assert found.loss.high[i, j] == pytest.approx(one.loss.high, rel=1e-12)
            assert (found.new_run[0][i, j], found.new_run[1][i, j]) == pytest.approx(one.new_run, rel=1e-12)


def test_whole_numbers_of_any_size_do_not_overflow(fit: LawFit) -> None:
    for cast in (int, np.int64, lambda n: np.array([n]), lambda n: np.array([n], dtype=object)):
        found = fit.predict(cast(10**12), cast(5 * 10**13))  # 6·N·D is 3e26, beyond 64 bits
        assert found.loss.estimate == pytest.approx(float(fit.law.loss(1e12, 5e13)), rel=1e-12)
        assert any("C = 3e+26 FLOPs is" in line for line in found.warnings)
    assert fit.predict(10**30, 10**40).loss.estimate == pytest.approx(float(fit.law.loss(1e30, 1e40)), rel=1e-12)
    with pytest.warns(ScalestopWarning, match="outside its runs"):
        losses = predict_loss(np.array([[10**9], [10**10]]), np.array([10**12, 10**13]), fit.law)
    np.testing.assert_allclose(
        losses,
        [[float(fit.law.loss(n, d)) for d in (1e12, 1e13)] for n in (1e9, 1e10)],
        rtol=1e-12,
    )
    with pytest.raises(InputError, match="num_params: must be positive and finite"):
        fit.predict([1e9, -1.0], 1e10)
    with pytest.raises(InputError, match=r"N and D must broadcast against each other; got shapes \(2,\), \(3,\)"):
        fit.predict([1e9, 2e9], [1e10, 2e10, 3e10])


def test_weights_by_run_come_as_a_column_or_an_argument() -> None:
    runs = surface_runs(60, seed=3)
    weights = np.random.default_rng(0).integers(1, 5, 60).astype(float)
    column, argument = fit_law({**runs, "weight": weights}, bootstrap=20), fit_law(runs, weights=weights, bootstrap=20)
    np.testing.assert_allclose(column.raw.estimate, argument.raw.estimate, rtol=1e-12)
    assert np.abs(column.raw.estimate - fit_law(runs, bootstrap=20).raw.estimate).max() > 1e-6
    with pytest.raises(InputError, match=r"weights: expected 60 positive numbers, one a usable run; got shape \(59,\)"):
        fit_law(runs, weights=weights[1:])
    with pytest.raises(InputError, match="with some not positive or not finite"):
        fit_law(runs, weights=-weights)


def test_options_reach_the_law() -> None:
    runs = surface_runs(60, seed=3)
    tied = fit_law(runs, tied=True, irreducible=1.75, bootstrap=50, name="mine", n_counts="body")
    assert tied.law.name == "mine"
    assert tied.law.info.n_counts == "body"
    assert tied.law.info.notes == ("alpha = beta was imposed.", "E was held at 1.75.")
    assert tied.law.alpha == pytest.approx(tied.law.beta, rel=1e-12)
    assert tied.intervals["E"].low == tied.intervals["E"].high == 1.75
    floorless = fit_law(runs, irreducible=0.0, bootstrap=50)
    assert floorless.law.E == 0.0
    assert np.isfinite(floorless.law.drawn().loss(1e9, 1e10)).all()


def test_the_fitted_scale_changes_the_objective(chinchilla: dict[str, np.ndarray]) -> None:
    found = fit_law(chinchilla, fitted_scale=True, bootstrap=50)
    assert found.law.constants["A"] == pytest.approx(482.006, rel=5e-4)
    assert found.objective < -2700


def test_progress_is_told_to_the_end() -> None:
    told: list[tuple[int, int]] = []
    fit_law(surface_runs(70), bootstrap=1200, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (1200, 1200)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_rows_left_out_are_warned_of_and_kept_in_the_findings() -> None:
    runs = surface_runs(40)
    runs["loss"][3] = np.nan
    with pytest.warns(ScalestopWarning, match="fit_law left out 1 rows: records, row 3: loss: must be positive"):
        fit = fit_law(runs, bootstrap=20)
    assert fit.diagnostics.warnings[0].startswith(
        "1 row was left out: records, row 3: loss: must be positive and finite"
    )
    assert len(fit.table) == 39


def test_held_out_runs_are_not_fitted() -> None:
    runs = surface_runs(40)
    held = np.zeros(40, dtype=bool)
    held[:5] = True
    fit = fit_law({**runs, "held_out": held}, bootstrap=20)
    part = fit_law({name: column[5:] for name, column in runs.items()}, bootstrap=20)
    np.testing.assert_allclose(fit.raw.estimate, part.raw.estimate, rtol=1e-9)
    assert fit.diagnostics.findings[-1].message == "5 runs are marked as held out and were not fitted."
    with pytest.raises(InputError, match="every run is marked as held out"):
        fit_law({**runs, "held_out": np.ones(40, dtype=bool)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "magic"}, r"method: 'magic' is not one of valley, parametric, isoflop, envelope, kaplan, repeated"),
        ({"bootstrap": 5}, r"bootstrap: must be a whole number of at least 20, so that tails exist; got 5"),
        ({"bootstrap": -1}, r"got -1\. Use 1000 for intervals, .*, 0 for a point fit without intervals"),
        ({"level": 90}, r"level: must lie between 0 and 1, such as 0\.9; got 90"),
        ({"delta": 0}, r"delta: must be positive, such as 1e-3; got 0"),
        ({"irreducible": -1.0}, r"irreducible: E is at least 0 nats per token; got -1\.0"),
        ({"irreducible": 9.0}, r"irreducible: E = 9 is not below the least loss measured"),
    ],
)
def test_options_that_cannot_be_used_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_law(surface_runs(40), **change)  # type: ignore[arg-type]


def test_runs_that_cannot_determine_a_law_are_refused() -> None:
    with pytest.raises(InputError, match=r"5 constants need at least 6 runs; got 5\. Add runs, or hold some constants"):
        fit_law(surface_runs(5))
    runs = surface_runs(20)
    with pytest.raises(InputError, match=r"N takes fewer than three values .* add runs of other params"):
        fit_law({**runs, "params": np.full(20, 1e8)})
    with pytest.raises(InputError, match=r"D takes fewer than three values .* add runs of other tokens"):
        fit_law({**runs, "tokens": np.where(np.arange(20) < 9, 1e9, 2e9)})


@pytest.mark.parametrize("seed", range(12))
def test_hardly_determined_laws_still_save_and_answer(seed: int, tmp_path: Path) -> None:
    """A handful of noisy runs: intervals are wide, but nothing overflows on the way to a file and back."""
    rng = np.random.default_rng(seed)
    count = int(rng.choice([8, 9, 12]))
    params = 10 ** rng.uniform(3, 5, count)
    tokens = params * 10 ** rng.uniform(0, 3, count)
    loss = (1 + 30 / params**0.4 + 90 / tokens**0.4) * np.exp(0.1 * rng.normal(size=count))
    unique = tokens / rng.choice([1, 3, 10], count)
    runs = {"params": params, "tokens": tokens, "loss": loss, "unique_tokens": unique}
    with np.errstate(all="raise", under="ignore"):
        fit = fit_law(runs, ("parametric", "kaplan", "repeated")[seed % 3], bootstrap=60)
        law = get_law(fit.law.save(tmp_path / "law.json"))
    assert np.isfinite(law.uncertainty.draws).all()
    assert fit.predict(1e4, 1e6).loss.estimate == pytest.approx(law.loss(1e4, 1e6), rel=1e-9)
    assert np.isfinite([fit.optimum(1e13).num_params.low, fit.optimum(1e13).num_tokens.estimate]).all()


def test_fitting_imports_neither_torch_nor_lightning_nor_pandas() -> None:
    code = (
        "import sys, scalestop.fitting, scalestop.commands.fit\n"
        "heavy = {'torch', 'pytorch_lightning', 'lightning', 'pandas', 'tensorboard', 'matplotlib'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
