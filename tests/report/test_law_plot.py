from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scalestop import get_law
from scalestop.report.law_plot import KNOWN, plot_frontier, plot_plane, plot_valley

LAW = get_law("besiroglu")


def line(ax, label):
    return next(line for line in ax.lines if line.get_label().startswith(label))


def test_a_valley_is_the_law_at_one_budget_and_marks_its_optimum_and_the_run():
    ax = plot_valley(LAW, 1e21, [("mine", 1e9, 1.6e11, 2.5)], marked=(2e9, 8e10))
    x, y = line(ax, "besiroglu").get_data()
    np.testing.assert_allclose(y, LAW.loss(x, 1e21 / (6 * x)))
    best = LAW.optimal(1e21)
    assert line(ax, "optimum").get_data() == (pytest.approx([best.num_params]), pytest.approx([LAW.loss(*best)]))
    assert line(ax, "this run").get_data() == ([2e9], [LAW.loss(2e9, 8e10)])
    assert ax.collections[-1].get_offsets().tolist() == [[1e9, 2.5]]
    low, high = ax.get_xlim()
    assert low < 1e9 and high > 7 * best.num_params


def test_a_frontier_is_the_best_loss_with_its_band_and_says_where_the_runs_end():
    ax = plot_frontier(LAW, (1e18, 1e24), marks=[("2x", 2e21)])
    x, y = line(ax, "best by").get_data()
    np.testing.assert_allclose(y, [LAW.loss(*LAW.optimal(c)) for c in x])
    band = ax.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() < y.min() and len(band) > len(x)
    assert line(ax, "2x").get_ydata()[0] == pytest.approx(float(LAW.loss(*LAW.optimal(2e21))))
    (beyond,) = [patch for patch in ax.patches if patch.get_label() == "beyond the law's runs"]
    assert beyond.get_x() == LAW.info.valid.flops[1]


def test_a_plane_shows_lines_of_equal_compute_known_models_and_the_run():
    ax = plot_plane(LAW, [("mine", 3e9, 6e10, None)])
    equal = [line for line in ax.lines if line.get_label() == "equal compute"]
    assert len(equal) >= 3
    for each in equal:
        n, d = map(np.asarray, each.get_data())
        np.testing.assert_allclose(6 * n * d, 6 * n[0] * d[0])
        assert np.log10(6 * n[0] * d[0]) == pytest.approx(round(np.log10(6 * n[0] * d[0])))
    said = [text.get_text() for text in ax.texts]
    for name in ("Gopher", "Chinchilla", "GPT-3", "LLaMA 13B", "Llama 3 8B", "mine"):
        assert name in said
    assert any("data-limited" in text for text in said) and any("parameter-limited" in text for text in said)


def test_a_small_run_shares_no_plane_with_models_a_billion_times_its_compute():
    ax = plot_plane(get_law("stdlib-bytes"), [("mine", 1e5, 2e6, 1.5)])
    assert not {model.name for model in KNOWN} & {text.get_text() for text in ax.texts}


def test_known_models_lie_on_their_side_of_the_optimum():
    """Gopher and GPT-3 have too many parameters for their tokens, LLaMA too few: Hoffmann et al. 2022, figure 1."""
    sizes = {m.name: m.num_params / LAW.optimal(6 * m.num_params * m.num_tokens).num_params for m in KNOWN}
    assert sizes["Gopher"] > 3 and sizes["GPT-3"] > 3
    assert sizes["LLaMA 13B"] < 0.7 and sizes["Llama 3 8B"] < 0.3
    assert 0.7 < sizes["Chinchilla"] < 1.3


def test_a_law_without_draws_has_no_band():
    ax = plot_valley(replace(LAW, uncertainty=None), 1e21)
    assert not ax.collections
