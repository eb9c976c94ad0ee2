from __future__ import annotations

import numpy as np
import pytest
from fitting_data import curve_runs

from scalestop.errors import InputError
from scalestop.fitting import fit_law
from scalestop.laws import get_law


@pytest.fixture(scope="module")
def fit():
    return fit_law(curve_runs(), "envelope", bootstrap=100)


def test_the_envelope_of_a_laws_own_curves_is_the_laws_optimum(fit) -> None:
    truth = get_law("besiroglu")
    assert fit.intervals["a"].estimate == pytest.approx(truth.a, abs=0.02)
    for budget in (1e18, 1e20):
        assert fit.law.optimal(budget).num_params == pytest.approx(truth.optimal(budget).num_params, rel=0.1)


def test_only_enclosed_minima_count(fit) -> None:
    best = fit.raw.detail.best
    sizes = fit.raw.detail.params
    assert np.nanmin(best) > sizes.min()
    assert np.nanmax(best) < sizes.max()
    # at every compute that counts, the best really is the lowest of the curves that reach it
    for k in np.flatnonzero(np.isfinite(best))[::100]:
        losses = fit.raw.detail.losses[:, k]
        assert sizes[np.argmin(losses)] == best[k]


def test_it_warns_of_undecayed_rates_and_predicts_no_loss(fit) -> None:
    assert "before its learning rate has come down" in fit.diagnostics.warnings[0]
    assert not fit.law.has_loss
    with pytest.raises(InputError, match="predicts no loss"):
        fit.predict(1e8, 1e9)


def test_rows_of_one_run_make_a_curve() -> None:
    rows = [
        {"params": run["params"], "tokens": t, "loss": v, "run": run["run"]}
        for run in curve_runs(12)
        for t, v in run["curve"]
    ]
    a = fit_law(rows, "envelope", bootstrap=50).intervals["a"].estimate
    assert a == pytest.approx(fit_law(curve_runs(12), "envelope", bootstrap=50).intervals["a"].estimate, rel=1e-9)


def test_without_curves_there_is_no_envelope() -> None:
    rows = [{**run, "curve": ()} for run in curve_runs(8)]
    with pytest.raises(InputError, match="envelope needs loss curves of at least 3 sizes; got 0 runs with a curve"):
        fit_law(rows, "envelope")


def test_runs_without_a_curve_are_left_out_and_influence_is_told_of_the_others(fit) -> None:
    bare = {"params": 5e8, "tokens": 5e9, "loss": 2.9, "run": "a bare run"}
    with_bare = fit_law([bare, *curve_runs()], "envelope", bootstrap=100)
    assert with_bare.intervals["a"].estimate == pytest.approx(fit.intervals["a"].estimate, rel=1e-12)
    named = {entry.run for entry in with_bare.diagnostics.leverage}
    assert named == {run["run"] for run in curve_runs()}


def test_a_point_fit_needs_no_bootstrap() -> None:
    point, whole = fit_law(curve_runs(), "envelope", bootstrap=0), fit_law(curve_runs(), "envelope", bootstrap=20)
    np.testing.assert_array_equal(point.raw.estimate, whole.raw.estimate)
    assert point.intervals["a"].is_point
