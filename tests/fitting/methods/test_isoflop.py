from __future__ import annotations

import re

import numpy as np
import pytest
from fitting_data import BUDGETS, isoflop_runs

from scalestop.errors import InputError
from scalestop.fitting import fit_law
from scalestop.fitting.methods.isoflop import group_by_budget
from scalestop.laws import LawInfo, ParametricLaw, get_law

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


@pytest.mark.parametrize(
    ("change", "words"),
    [({"reach": 8.0}, r"reaches x[678][.\d]* below and x[89]"), ({"reach": 2.2, "shift": 1.7}, "is off-centre, x1")],
)
def test_wide_and_off_centre_grids_are_called_biased_and_are(change: dict[str, float], words: str) -> None:
    truth, budget, rows = LOPSIDED, 1e20, isoflop_runs(BUDGETS, law=LOPSIDED, **change)
    fit = fit_law(rows, "isoflop", bootstrap=50)
    message = next(f.message for f in fit.diagnostics.findings if f.code == "isoflop-biased")
    assert re.search(words, message)
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


def test_the_chinchilla_runs_give_the_printed_exponent(chinchilla: dict[str, np.ndarray]) -> None:
    # Hoffmann et al. 2022, table 2, Approach 2: a = 0.49 (0.462 to 0.534)
    found = fit_law(chinchilla, "isoflop", bootstrap=500).intervals["a"]
    assert found.estimate == pytest.approx(0.49, abs=0.01)
    assert 0.49 in found
