from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from fitting_data import BUDGETS, curve_runs, isoflop_runs, surface_runs

from scalestop.fitting import fit_law
from scalestop.report.fit_plot import plot_fit
from scalestop.report.loss_plot import held_out_of


def test_the_panels_show_the_runs_the_law_and_the_band(tmp_path: Path) -> None:
    fit = fit_law(surface_runs(80, seed=1), bootstrap=100)
    figure = plot_fit(fit, tmp_path / "deep" / "fit.svg")
    assert (tmp_path / "deep" / "fit.svg").read_text(encoding="utf-8").startswith("<?xml")
    isoflop, sizes, frontier, residuals = figure.axes[:4]
    points = isoflop.collections[0].get_offsets()
    np.testing.assert_allclose(np.sort(points[:, 0]), np.sort(fit.table.params))
    # the marked optima lie on the law
    (optima,) = [line for line in isoflop.lines if line.get_marker() == "D"]
    x, y = optima.get_data()
    tokens = np.asarray(fit.law.optimal_tokens(np.asarray(x)))
    np.testing.assert_allclose(y, fit.law.loss(np.asarray(x), tokens), rtol=1e-9)
    # N_opt at the last budget lies inside the band drawn there
    line, band = frontier.lines[0], frontier.collections[0].get_paths()[0].vertices
    at = band[np.isclose(band[:, 0], line.get_xdata()[-1])][:, 1]
    assert at.min() < line.get_ydata()[-1] < at.max()
    assert len(residuals.collections[0].get_offsets()) == 80
    assert sizes.get_xlabel() == "D, tokens"


def test_an_isoflop_fit_shows_its_parabolas_and_minima() -> None:
    fit = fit_law(isoflop_runs(BUDGETS, noise=1e-3), "isoflop", bootstrap=50)
    axes = plot_fit(fit).axes
    marked = sorted(float(line.get_xdata()[0]) for line in axes[0].lines if line.get_marker() == "D")
    assert marked == pytest.approx([g.best_params for g in fit.raw.detail])


def test_an_envelope_fit_shows_its_curves() -> None:
    fit = fit_law(curve_runs(12), "envelope", bootstrap=50)
    axes = plot_fit(fit).axes
    assert len(axes[0].lines) == 12 + 1
    assert not axes[3].axison


def test_drawing_leaves_the_backend_alone() -> None:
    import matplotlib

    before = matplotlib.get_backend()
    plot_fit(fit_law(surface_runs(40), bootstrap=20))
    assert matplotlib.get_backend() == before
    assert not sys.modules["matplotlib"].rcParams["interactive"]


def test_held_out_runs_stand_apart_and_the_formula_is_over_the_picture() -> None:
    runs = surface_runs(60, seed=1)
    held = np.arange(60) % 10 == 0
    fit = fit_law({**runs, "held_out": held}, bootstrap=50)
    apart = held_out_of({**runs, "held_out": held})
    assert apart is not None and len(apart.loss) == 6
    figure = plot_fit(fit, held_out=apart)
    cheapest = (fit.table.params * fit.table.tokens).min() / 1.05
    for axis, x in ((figure.axes[0], apart.params), (figure.axes[1], apart.tokens)):
        (points,) = [found for found in axis.collections if found.get_label() == "held out"]
        shown = apart.params * apart.tokens >= cheapest
        np.testing.assert_allclose(points.get_offsets(), np.c_[x, apart.loss][shown])
    formula, constants = figure.get_suptitle().splitlines()[1:]
    assert formula == type(fit.law).formula()
    assert f"alpha {fit.law.constants['alpha']:.4g}" in constants
    assert held_out_of(runs) is None
