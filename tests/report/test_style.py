from __future__ import annotations

import itertools
import re
import sys

import numpy as np
import pytest
from fitting_data import surface_runs
from report_toys import LAW, record

from scalestop import InputError, plot
from scalestop.fitting import fit_law
from scalestop.report.run_plot import ReportedRun, spending_of
from scalestop.report.style import (
    DARK,
    LIGHT,
    axes_or_new,
    finish,
    inline_svg,
    log_ticks,
    need_matplotlib,
    new_figure,
    save,
    theme_of,
)
from scalestop.run.score import Score, ScoredRun

FIT = fit_law(surface_runs(60, seed=1), bootstrap=50)
RUNS = [ReportedRun("a", record()), ReportedRun("b", record(size=4.0, off=1.01))]
POINTS = [run.size_and_length for run in RUNS]
SCORE = Score(tuple(ScoredRun("r", 1e12, 2.0 + i / 50, 2.0, (1.9, 2.05), 10.0**i, i > 1) for i in range(4)))
PICTURES = {
    "valley": lambda **how: plot.valley(LAW, 1e12, POINTS, marked=(1e5, 1.7e6), **how),
    "frontier": lambda **how: plot.frontier(LAW, (1e10, 1e14), POINTS, marks=[("target", 1e13)], **how),
    "plane": lambda **how: plot.plane(LAW, POINTS, **how),
    "known": lambda **how: plot.plane(LAW, **how),
    "curves": lambda **how: plot.curves(RUNS, **how),
    "curve": lambda **how: plot.curves(RUNS[:1], LAW, **how),
    "spending": lambda **how: plot.spending([spending_of(run) for run in RUNS], **how),
    "isoflops": lambda **how: plot.isoflops(FIT, FIT.table, **how),
    "sizes": lambda **how: plot.sizes(FIT, FIT.table, **how),
    "allocation": lambda **how: plot.allocation(FIT, **how),
    "residuals": lambda **how: plot.residuals(FIT, FIT.table, **how),
    "misses": lambda **how: plot.misses(SCORE, **how),
    "shares": lambda **how: plot.shares(SCORE, **how),
}


def luminance(colour):
    from matplotlib.colors import to_rgb

    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """The ratio of WCAG 2.1, 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_can_be_read_on_its_ground_and_hides_nothing(name, theme):
    ax = PICTURES[name](theme=theme)
    figure = ax.figure
    figure.canvas.draw()
    ground = ax.get_facecolor()
    words = [ax.title, ax._left_title, ax.xaxis.label, ax.yaxis.label, *ax.get_xticklabels(), *ax.get_yticklabels()]
    legend = ax.get_legend()
    words += legend.get_texts() if legend else []
    for word in (word for word in words if word.get_text()):
        assert contrast(word.get_color(), ground) > 4.5, word.get_text()
    # the legend lies outside the axes and names nothing twice
    if legend:
        assert not legend.get_window_extent().overlaps(ax.get_window_extent())
        named = [text.get_text() for text in legend.get_texts()]
        assert len(set(named)) == len(named) > 0
        whole = figure.bbox
        box = legend.get_window_extent()
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= whole.x1 + 1, "the legend is cut off"
    # ticks keep clear of one another
    for labels, side in ((ax.get_xticklabels(), "x"), (ax.get_yticklabels(), "y")):
        boxes = [label.get_window_extent() for label in labels if label.get_text() and label.get_visible()]
        low, high = ax.bbox.extents[[0, 2]] if side == "x" else ax.bbox.extents[[1, 3]]
        spans = sorted((b.x0, b.x1) if side == "x" else (b.y0, b.y1) for b in boxes)
        spans = [span for span in spans if span[1] > low and span[0] < high]
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans)), (name, side)


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_drawn_on_the_axes_that_are_given_and_returns_them(name):
    _, ax = new_figure(theme="dark")
    assert PICTURES[name](ax=ax) is ax
    assert ax._left_title.get_color() == DARK.ink


def test_under_a_dark_style_of_the_users_own_the_colours_are_those_of_the_dark_theme():
    import matplotlib.pyplot as plt

    with plt.style.context("dark_background"):
        figure, ax = plt.subplots()
        assert theme_of(plot.valley(LAW, 1e12, ax=ax)) is DARK
        plt.close(figure)
    figure, ax = plt.subplots()
    assert theme_of(ax) is LIGHT
    plt.close(figure)


def test_series_are_told_apart_and_seen_on_both_papers():
    for theme in (LIGHT, DARK):
        assert len(set(theme.series)) == 5
        assert all(contrast(colour, theme.paper) > 4.0 for colour in theme.series)


SPANS = [(1e18, 4e22), (6e9, 4e12), (1.2e4, 1e6), (3e8, 2.6e10), (4.4e3, 1.64e5), (1, 2)]
SPANS += [(100, 130), (7.1, 7.3), (1e3, 1e30)]


@pytest.mark.parametrize(("low", "high"), SPANS)
def test_ticks_are_few_round_and_inside(low, high):
    ticks = log_ticks(low, high)
    assert 3 <= len(ticks) <= 7
    assert ticks == sorted(ticks) and low * 0.999 <= ticks[0] and ticks[-1] <= high * 1.001
    assert all(float(f"{tick:.4g}") == pytest.approx(tick) for tick in ticks)


def test_decades_are_preferred_where_there_are_many():
    assert log_ticks(1e18, 4e22) == [1e18, 1e19, 1e20, 1e21, 1e22]
    assert log_ticks(1.5e4, 6e5) == pytest.approx([2e4, 5e4, 1e5, 2e5, 5e5])


def test_an_svg_for_a_page_takes_its_colours_from_the_page_and_nothing_from_the_network():
    svg = inline_svg(plot.valley(LAW, 1e12), "valley", 'loss "against" size')
    assert svg.startswith('<svg role="img" aria-label="loss &quot;against&quot; size"')
    assert "var(--ink)" in svg and "var(--blue)" in svg
    assert not any(colour in svg.lower() for colour in (LIGHT.ink, LIGHT.blue, LIGHT.red))
    # names of XML's own vocabularies are no addresses that anything is loaded from
    assert set(re.findall(r'"(https?://[^"]*)"', svg)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    ids = re.findall(r'\bid="([^"]*)"', svg)
    assert ids and len(set(ids)) == len(ids) and all(name.startswith("valley-") for name in ids)
    assert set(re.findall(r"url\(#([^)]*)\)", svg)) <= set(ids)
    assert set(re.findall(r'href="#([^"]*)"', svg)) <= set(ids)


def test_two_pictures_of_one_page_share_no_id():
    one, other = (inline_svg(plot.valley(LAW, 1e12), name, "") for name in ("one", "other"))
    assert not set(re.findall(r'\bid="([^"]*)"', one)) & set(re.findall(r'\bid="([^"]*)"', other))


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_a_picture_is_saved_as_its_suffix_says(tmp_path, suffix):
    path = tmp_path / "deep" / f"valley{suffix}"
    save(plot.valley(LAW, 1e12).figure, path)
    assert path.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml", b"%PDF-")


def test_what_cannot_be_drawn_is_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"^plot: a picture is one of .png, .svg, .*; got '.txt'$"):
        save(plot.valley(LAW, 1e12).figure, tmp_path / "valley.txt")
    with pytest.raises(InputError, match=r"^theme: light or dark; got 'sepia'$"):
        axes_or_new(None, "sepia")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"^matplotlib: a picture needs it, .* pip install 'scalestop\[report\]'$"):
        need_matplotlib()


def test_a_name_that_stands_twice_is_in_the_legend_once():
    _, ax = new_figure()
    for shift in (0, 1):
        ax.plot([1, 2], np.array([1, 2]) + shift, label="twice")
    finish(ax, "", "", "")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["twice"]


def test_pictures_are_at_hand_without_an_import_of_their_own():
    import scalestop

    assert scalestop.__getattr__("plot") is plot
    assert set(plot.__all__) == {name for name in vars(plot) if not name.startswith("_")}
