from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from fitting_data import BUDGETS, data_folder, isoflop_runs

from scalestop.errors import InputError
from scalestop.fitting import fit_law
from scalestop.fitting.methods.budgets import find_budgets, group_by_budget
from scalestop.fitting.methods.isoflop import _run_weights
from scalestop.fitting.methods.method import FitOptions
from scalestop.fitting.tables.read import read_runs
from scalestop.laws import LawInfo, ParametricLaw, PowerLawAllocation, get_law
from scalestop.planning.plan import make_plan

LOPSIDED = ParametricLaw(LawInfo("lopsided", "total", "made up"), E=1.7, A=60.0, B=40_000.0, alpha=0.22, beta=0.5)
"""Its curves at one compute are steeper on the side of large models, and so no parabolas."""


def test_narrow_centred_grids_find_the_exponent_of_the_law() -> None:
    truth = get_law("besiroglu")
    fit = fit_law(isoflop_runs(BUDGETS, reach=2.0, noise=1e-4), "isoflop", bootstrap=200)
    assert fit.intervals["a"].estimate == pytest.approx(truth.a, abs=0.005)
    assert fit.law.optimal(1e20).num_params == pytest.approx(truth.optimal(1e20).num_params, rel=0.03)
    assert not [f for f in fit.diagnostics.findings if f.code.startswith("isoflop")]
    best = fit.law.optimal(1e20)
    assert 6 * best.num_params * best.num_tokens == pytest.approx(1e20, rel=1e-12)


def test_each_minimum_is_that_of_numpys_parabola() -> None:
    fit = fit_law(isoflop_runs(BUDGETS, noise=1e-3), "isoflop", bootstrap=50)
    for group in fit.raw.detail:
        rows = list(group.rows)
        c2, c1, _ = np.polyfit(np.log(fit.table.params[rows]), fit.table.loss[rows], 2)
        assert group.best_params == pytest.approx(np.exp(-c1 / (2 * c2)), rel=1e-6)
    flops = [g.flops for g in fit.raw.detail]
    slope, intercept = np.polyfit(np.log(flops), np.log([g.best_params for g in fit.raw.detail]), 1)
    assert fit.intervals["a"].estimate == pytest.approx(slope, rel=1e-9)
    assert fit.intervals["k_N"].estimate == pytest.approx(np.exp(intercept), rel=1e-6)


def test_a_concave_and_an_edge_budget_are_refused_by_name() -> None:
    rows = isoflop_runs(BUDGETS[:5], reach=2.0)
    for params in (1e8, 2e8, 4e8, 8e8):
        tokens = 5e21 / (6 * params)
        rows.append({"params": params, "tokens": tokens, "loss": 2.4 - 0.05 * np.log(params / 3e8) ** 2})
        # far too small for their budget: the loss still falls at the largest
        rows.append({"params": params / 50, "tokens": 3e22 / (6 * params / 50), "loss": 2.6 * (params / 1e8) ** -0.05})
    fit = fit_law(rows, "isoflop", bootstrap=100)
    refused = [f.message for f in fit.diagnostics.findings if f.code == "isoflop-refused"]
    assert refused[0] == (
        "Budget refused, 5e+21 FLOPs (4 runs): the loss curves downwards in log N, so it has a maximum, not a minimum."
    )
    assert refused[1].startswith("Budget refused, 3e+22 FLOPs (4 runs): the minimum (N = ")
    assert "lies beyond the largest size (2e+06 to 1.6e+07)" in refused[1]
    assert fit.intervals["a"].estimate == pytest.approx(get_law("besiroglu").a, abs=0.005)


def exponent_of_whole_grids(rows: list[dict[str, float]]) -> float:
    """Return a by one parabola over each budget's whole grid."""
    minima = {}
    for budget in sorted({round(6 * row["params"] * row["tokens"], -15) for row in rows}):
        part = [row for row in rows if abs(6 * row["params"] * row["tokens"] / budget - 1) < 0.01]
        c2, c1, _ = np.polyfit([np.log(row["params"]) for row in part], [row["loss"] for row in part], 2)
        minima[budget] = -c1 / (2 * c2)
    return float(np.polyfit(np.log(list(minima)), list(minima.values()), 1)[0])


def test_wide_grids_are_fitted_near_their_minimum() -> None:
    """Grids x140 wide whose middle drifts off the optimum, as those of one set of sizes for all budgets do."""
    rows = []
    for budget, shift in zip(BUDGETS, np.geomspace(5, 1 / 5, 7), strict=True):
        rows += isoflop_runs(np.array([budget]), reach=12.0, count=15, law=LOPSIDED, shift=shift)
    fit = fit_law(rows, "isoflop", bootstrap=50)
    assert abs(exponent_of_whole_grids(rows) - LOPSIDED.a) > 0.02
    assert fit.intervals["a"].estimate == pytest.approx(LOPSIDED.a, abs=0.01)
    (note,) = [f for f in fit.diagnostics.findings if f.code == "isoflop-window"]
    assert (note.severity, "lie further than x4 from their budget's minimum" in note.message) == ("note", True)
    for group in fit.raw.detail:
        sizes = fit.table.params[list(group.window)]
        assert group.best_params is not None
        assert group.best_params / 4.5 < sizes.min() < sizes.max() < 4.5 * group.best_params


def test_off_centre_grids_are_called_biased_and_are() -> None:
    truth, budget, rows = LOPSIDED, 1e20, isoflop_runs(BUDGETS, law=LOPSIDED, reach=2.2, shift=1.7)
    fit = fit_law(rows, "isoflop", bootstrap=50)
    message = next(f.message for f in fit.diagnostics.findings if f.code == "isoflop-biased")
    assert re.search("is off-centre, x1", message)
    assert "method='parametric' on the same runs has no such bias" in message
    isoflop = abs(np.log(fit.law.optimal(budget).num_params / truth.optimal(budget).num_params))
    direct = fit_law(rows, "parametric", bootstrap=50)
    parametric = abs(np.log(direct.law.optimal(budget).num_params / truth.optimal(budget).num_params))
    assert isoflop > 0.02 > 1e-3 > parametric


def test_too_few_budgets_are_an_error_that_offers_the_other_method() -> None:
    with pytest.raises(InputError, match=r"needs two budgets with a minimum, got 1: .*or use method='parametric'"):
        fit_law(isoflop_runs(BUDGETS[:1]), "isoflop", bootstrap=50)
    scattered = [{"params": 10**i, "tokens": 30**i, "loss": 3.0} for i in range(5, 9)]
    with pytest.raises(InputError, match=r"no 4 runs lie within x1\.3 of one compute"):
        fit_law(scattered, "isoflop", bootstrap=50)


def test_minima_that_shrink_with_compute_are_no_power_law() -> None:
    rows = [
        {**row, "params": row["params"] / 30, "tokens": row["tokens"] * 30} for row in isoflop_runs(np.array([1e21]))
    ]
    with pytest.raises(
        InputError, match=r"the best size does not grow with compute \(N .* FLOPs\), so there is no power"
    ):
        fit_law([*isoflop_runs(np.array([1e20])), *rows], "isoflop", bootstrap=50)


def test_options_of_other_methods_are_refused() -> None:
    with pytest.raises(InputError, match="tied: method 'isoflop' has no such option"):
        fit_law(isoflop_runs(BUDGETS), "isoflop", tied=True)


def test_runs_are_grouped_by_like_compute() -> None:
    flops = np.array([1.0, 1.1, 0.9, 1.05, 10.0, 10.5, 9.8, 11.0, 100.0, 3.0])
    groups, outside = group_by_budget(flops)
    assert [sorted(g.tolist()) for g in groups] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert outside.tolist() == [8, 9]


def test_budgets_closer_than_runs_of_one_are_told_apart() -> None:
    flops = np.repeat(1e18 * 1.2 ** np.arange(6), 5) * np.tile([1, 1.001, 0.999, 1.002, 1], 6)
    groups, outside = find_budgets(flops)
    assert [len(rows) for rows in groups] == [5] * 6
    assert len(outside) == 0
    # read off a figure, runs of one budget lie x1.2 apart
    rng = np.random.default_rng(0)
    scattered = np.repeat([1e18, 3e18, 1e19], 8) * np.exp(rng.uniform(-0.09, 0.09, 24))
    assert [len(rows) for rows in find_budgets(scattered)[0]] == [8, 8, 8]


def test_the_loss_at_the_optimum_is_forecast_with_an_interval(tmp_path: Path) -> None:
    truth = get_law("besiroglu")
    fit = fit_law(isoflop_runs(BUDGETS, noise=0.001), "isoflop", bootstrap=400)
    assert fit.intervals["E"].estimate == pytest.approx(1.81686, abs=0.1)
    for flops in (1e20, 1e22):
        real = float(truth.loss(*truth.optimal(flops)))
        best = fit.optimum(flops)
        assert best.loss is not None
        assert best.loss.estimate == pytest.approx(real, rel=0.01)
        assert best.loss.low < real < best.loss.high
        at = best.num_params.estimate, best.num_tokens.estimate
        low, high = fit.predict(*at).new_run
        assert low < best.loss.percentile[0] < best.loss.percentile[1] < high
    # around the valley too
    sizes = truth.optimal(1e20).num_params * np.array([1 / 3, 1 / 2, 2, 3])
    np.testing.assert_allclose(fit.law.loss(sizes, 1e20 / 6 / sizes), truth.loss(sizes, 1e20 / 6 / sizes), rtol=0.01)
    law = get_law(fit.law.save(tmp_path / "law.json"))
    plan = make_plan("1e20 FLOPs", law, tokens_per_step=10**6)
    assert plan.loss_interval == pytest.approx(fit.predict(plan.num_params, plan.stop_tokens).new_run, rel=1e-3)


def test_three_budgets_allocate_and_say_that_they_forecast_no_loss() -> None:
    fit = fit_law(isoflop_runs(BUDGETS[:3]), "isoflop", bootstrap=20)
    assert isinstance(fit.law, PowerLawAllocation)
    note = next(f for f in fit.diagnostics.findings if f.code == "isoflop-no-loss")
    assert note.message == "3 budgets have a minimum; from 4 on the law forecasts the loss too."


def test_runs_read_at_several_budgets_are_reweighted_whole() -> None:
    """A run that lies high at all budgets is one piece of evidence, not seven."""
    truth, rng = get_law("besiroglu"), np.random.default_rng(1)
    sizes = np.geomspace(1.5e8, 4e10, 25)
    off = 0.003 * rng.normal(size=25)
    rows = [
        {"params": n, "tokens": c / 6 / n, "loss": truth.loss(n, c / 6 / n) * np.exp(e), "run": f"run {i}"}
        for c in BUDGETS
        for i, (n, e) in enumerate(zip(sizes, off, strict=True))
        if 1 / 4 < n / truth.optimal(c).num_params < 4
    ]
    table = read_runs(rows)
    weights = _run_weights(table, FitOptions(bootstrap=30))
    for group in np.unique(table.groups):
        of_run = weights[:, table.groups == group]
        np.testing.assert_array_equal(of_run, np.repeat(of_run[:, :1], of_run.shape[1], axis=1))
    together = fit_law(rows, "isoflop", bootstrap=300)
    apart = fit_law([{k: v for k, v in row.items() if k != "run"} for row in rows], "isoflop", bootstrap=300)
    np.testing.assert_allclose(together.raw.estimate, apart.raw.estimate, rtol=1e-12)
    assert together.intervals["a"].standard_error != apart.intervals["a"].standard_error
    assert len(together.raw.jackknife) == len(set(table.run)) < len(apart.raw.jackknife)


@pytest.mark.parametrize(("stage", "published"), [("porian2", 0.701), ("porian4", 0.571)])
def test_porians_exponents_come_out(stage: str, published: float) -> None:
    """Porian et al. 2024 (arXiv 2406.19146): N* exponents of two stages of their runs; grids up to x140 wide."""
    fit = fit_law(data_folder() / f"runs_{stage}.csv", "isoflop", bootstrap=200)
    assert fit.intervals["a"].estimate == pytest.approx(published, abs=0.03)


@pytest.mark.parametrize("name", ["porian2", "porian4", "ml_scalefit", "misfitting"])
def test_estimates_lie_inside_their_intervals(name: str) -> None:
    fit = fit_law(data_folder() / f"runs_{name}.csv", "isoflop", bootstrap=200)
    dearest = fit.law.info.valid.flops[1]
    best = fit.optimum(10 * dearest)
    for found in (*fit.intervals.values(), best.num_params, best.num_tokens, best.loss):
        assert found is not None
        assert found.percentile[0] <= found.estimate <= found.percentile[1]
    assert fit.intervals["a"].high - fit.intervals["a"].low < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["even", "uneven"])
def test_intervals_hold_the_truth_as_often_as_they_say(shape: str) -> None:
    """100 tables of a known law; nine in ten, give or take three standard errors of the count."""
    truth = get_law("besiroglu")
    held = np.zeros(3)
    for seed in range(100):
        rng = np.random.default_rng(seed)
        rows = []
        for budget in BUDGETS if shape == "even" else np.geomspace(1e18, 1e21, 12):
            count, shift, jitter = (9, 1.0, 0.0) if shape == "even" else (rng.integers(5, 14), rng.normal(1, 0.2), 0.1)
            for row in isoflop_runs(np.array([budget]), count=count, shift=max(shift, 0.5)):
                tokens = row["tokens"] * np.exp(jitter * rng.uniform(-1, 1))
                loss = truth.loss(row["params"], tokens) * np.exp(0.003 * rng.normal())
                rows.append({"params": row["params"], "tokens": tokens, "loss": loss})
        fit = fit_law(rows, "isoflop", bootstrap=200)
        at = truth.optimal(1e22)
        best = fit.optimum(1e22)
        held += [truth.a in fit.intervals["a"], at.num_params in best.num_params, float(truth.loss(*at)) in best.loss]
    assert (held >= 81).all(), held
    assert (held <= 100).all()


def test_the_chinchilla_runs_give_the_printed_exponent(chinchilla: dict[str, np.ndarray]) -> None:
    # Hoffmann et al. 2022, table 2, Approach 2: a = 0.49 (0.462 to 0.534)
    found = fit_law(chinchilla, "isoflop", bootstrap=500).intervals["a"]
    assert found.estimate == pytest.approx(0.49, abs=0.01)
    assert 0.49 in found
