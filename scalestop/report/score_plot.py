"""The picture of a scoreboard: each run's miss against how far it lay beyond the law's runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from scalestop.run.score import Score, ScoredRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK = "#22313f"
_BAND = "#2a78b5"
_ACCENT = "#d1495b"
_GRID = "#d9dee3"
_QUIET = "#8a97a3"


def plot_score(score: Score, path: str | Path | None = None) -> Figure:
    """Draw a scoreboard in two panels.

    Above, each run's miss in percent, with its 90 % interval about the forecast, against its extrapolation; below, the
    share inside by extrapolation, with what the share could be.

    Args:
        score: The scoreboard.
        path: Where to save it, as the suffix says (.png, .svg, .pdf); not saved if None.

    Returns:
        The figure.
    """
    # the object interface: drawing a picture must not change the backend of the program that asked for it
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 7.6), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, height_ratios=(2.2, 1))
    _misses(above, score)
    _shares(below, score)
    for axis in (above, below):
        axis.grid(color=_GRID, linewidth=0.6)
        axis.set_axisbelow(True)
        axis.tick_params(labelsize=9, colors=_INK)
        axis.title.set_color(_INK)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    total = score.all
    held = "" if total.share_inside is None else f", {total.inside} of {total.with_interval} inside their 90 %"
    figure.suptitle(f"{total.count} runs against their forecasts{held}", color=_INK, fontsize=12)
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    return figure


def _misses(axis: Axes, score: Score) -> None:
    shown = [run for run in score.runs if run.factor is not None and math.isfinite(run.measured)]
    missing = len(score.runs) - len(shown)
    for runs, colour, marker, label in (
        ([r for r in shown if r.inside], _BAND, "o", "inside"),
        ([r for r in shown if r.inside is False], _ACCENT, "D", "outside"),
        ([r for r in shown if r.inside is None], _QUIET, "s", "no interval"),
    ):
        if not runs:
            continue
        factors, misses = [_factor(r) for r in runs], [100 * r.relative for r in runs]
        for run in runs:
            if run.interval is not None:
                low, high = (100 * (end / run.forecast - 1) for end in run.interval)
                axis.plot([_factor(run)] * 2, [low, high], color=colour, linewidth=5, alpha=0.18, solid_capstyle="butt")
        axis.scatter(factors, misses, s=26, color=colour, marker=marker, edgecolor="white", linewidth=0.5, zorder=3,
                     label=f"{label} ({len(runs)})")  # fmt: skip
    if sealed := [r for r in shown if r.sealed]:
        axis.scatter([_factor(r) for r in sealed], [100 * r.relative for r in sealed], s=95, facecolor="none",
                     edgecolor=_INK, linewidth=0.9, zorder=4,
                     label=f"sealed before the run ({len(sealed)})")  # fmt: skip
    axis.axhline(0, color=_INK, linewidth=0.9)
    axis.set_xscale("log")
    if shown:
        axis.axvline(1, color=_QUIET, linewidth=0.9, linestyle=(0, (4, 3)))
        axis.legend(fontsize=9, frameon=False, loc="best")
        low, high = min(map(_factor, shown)), max(map(_factor, shown))
        axis.set_xlim(min(low, 1) / 1.5, max(high, 1) * 1.5)
    if missing:
        text = f"{missing} not shown: diverged, or of a law of unknown range"
        axis.annotate(text, (1, 0.01), xycoords="axes fraction", ha="right", fontsize=9, color=_QUIET)
    axis.set_title(
        "Measured less forecast (above 0: worse than forecast; bars: 90 % of runs)", fontsize=10.5, loc="left"
    )
    axis.set_xlabel("compute over the largest that the law was fitted to", fontsize=9.5, color=_INK)
    axis.set_ylabel("miss, % of the forecast", fontsize=9.5, color=_INK)


def _shares(axis: Axes, score: Score) -> None:
    parts = [part for part in score.by_factor() if part.with_interval]
    axis.axhspan(0.9, 1, color=_BAND, alpha=0.08, linewidth=0)
    axis.axhline(0.9, color=_INK, linewidth=0.9)
    for place, part in enumerate(parts):
        share, could = part.share_inside, part.share_interval
        assert share is not None and could is not None
        axis.plot([place, place], could, color=_BAND, linewidth=2)
        axis.scatter([place], [share], s=34, color=_BAND, zorder=3)
        axis.annotate(f"{part.inside}/{part.with_interval}", (place, share), (8, -3), textcoords="offset points",
                      fontsize=9, color=_INK)  # fmt: skip
    axis.set_xticks(range(len(parts)), [part.label for part in parts])
    axis.set_xlim(-0.6, max(len(parts), 1) - 0.2)
    axis.set_ylim(0, 1.03)
    axis.set_title(
        "Share inside the 90 % interval (line: what it could be with as many runs)", fontsize=10.5, loc="left"
    )
    axis.set_ylabel("share", fontsize=9.5, color=_INK)


def _factor(run: ScoredRun) -> float:
    assert run.factor is not None
    return run.factor
