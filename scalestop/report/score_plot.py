"""The picture of a scoreboard: each run's miss against how far it lay beyond the law's runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from scalestop.report.style import ThemeName, axes_or_new, finish, log_axis, new_figure, save, theme_of
from scalestop.run.score import Score, ScoredRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_score(score: Score, path: str | Path | None = None, *, theme: ThemeName = "light") -> Figure:
    """Draw a scoreboard in two panels.

    Above, each run's miss in percent, with its 90 % interval about the forecast, against its extrapolation; below, the
    share inside by extrapolation, with what the share could be.

    Args:
        score: The scoreboard.
        path: Where to save it, as the suffix says (.png, .svg, .pdf); not saved if None.
        theme: `light` or `dark`.

    Returns:
        The figure.
    """
    figure, (above, below) = new_figure(2, 1, size=(9.5, 8.4), theme=theme, height_ratios=(2.2, 1))
    plot_misses(score, ax=above)
    plot_shares(score, ax=below)
    total = score.all
    held = "" if total.share_inside is None else f", {total.inside} of {total.with_interval} inside their 90 %"
    title = f"{total.count} runs against their forecasts{held}"
    figure.suptitle(title, color=theme_of(above).ink, fontsize=12)
    if path is not None:
        save(figure, path)
    return figure


def plot_misses(score: Score, *, ax: Axes | None = None, theme: ThemeName = "light") -> Axes:
    """Draw each run's miss against how far its compute lay beyond the largest that the law was fitted to.

    Args:
        score: The scoreboard.
        ax: Where to draw; a new figure if None.
        theme: Of the new figure.

    Returns:
        The axes.
    """
    axis = axes_or_new(ax, theme)
    colours = theme_of(axis)
    shown = [run for run in score.runs if run.factor is not None and math.isfinite(run.measured)]
    missing = len(score.runs) - len(shown)
    for runs, colour, marker, label in (
        ([r for r in shown if r.inside], colours.blue, "o", "inside"),
        ([r for r in shown if r.inside is False], colours.red, "D", "outside"),
        ([r for r in shown if r.inside is None], colours.quiet, "s", "no interval"),
    ):
        if not runs:
            continue
        factors, misses = [_factor(r) for r in runs], [100 * r.relative for r in runs]
        for run in runs:
            if run.interval is not None:
                low, high = (100 * (end / run.forecast - 1) for end in run.interval)
                axis.plot([_factor(run)] * 2, [low, high], color=colour, linewidth=5, alpha=0.18, solid_capstyle="butt")
        axis.scatter(factors, misses, s=26, color=colour, marker=marker, edgecolor=colours.paper, linewidth=0.5,
                     zorder=3, label=f"{label} ({len(runs)})")  # fmt: skip
    if sealed := [r for r in shown if r.sealed]:
        axis.scatter([_factor(r) for r in sealed], [100 * r.relative for r in sealed], s=95, facecolor="none",
                     edgecolor=colours.ink, linewidth=0.9, zorder=4,
                     label=f"sealed before the run ({len(sealed)})")  # fmt: skip
    axis.axhline(0, color=colours.ink, linewidth=0.9)
    if shown:
        axis.axvline(1, color=colours.quiet, linewidth=0.9, linestyle=(0, (4, 3)))
        low, high = min(map(_factor, shown)), max(map(_factor, shown))
        log_axis(axis, "x", min(low, 1) / 1.5, max(high, 1) * 1.5, lambda value: f"x{value:g}")
    if missing:
        text = f"{missing} not shown: diverged, or of a law of unknown range"
        axis.annotate(text, (1, 0.01), xycoords="axes fraction", ha="right", fontsize=9, color=colours.quiet)
    title = "Measured less forecast (above 0: worse than forecast; bars: 90 % of runs)"
    return finish(axis, title, "compute over the largest that the law was fitted to", "miss, % of the forecast")


def plot_shares(score: Score, *, ax: Axes | None = None, theme: ThemeName = "light") -> Axes:
    """Draw the share of runs inside their 90 % interval, by extrapolation.

    Args:
        score: The scoreboard.
        ax: Where to draw; a new figure if None.
        theme: Of the new figure.

    Returns:
        The axes.
    """
    axis = axes_or_new(ax, theme)
    colours = theme_of(axis)
    parts = [part for part in score.by_factor() if part.with_interval]
    axis.axhspan(0.9, 1.07, color=colours.blue, alpha=0.08, linewidth=0)
    axis.axhline(0.9, color=colours.ink, linewidth=0.9)
    for place, part in enumerate(parts):
        share, could = part.share_inside, part.share_interval
        assert share is not None and could is not None
        axis.plot([place, place], could, color=colours.blue, linewidth=2)
        axis.scatter([place], [share], s=34, color=colours.blue, zorder=3)
        axis.annotate(f"{part.inside}/{part.with_interval}", (place, share), (8, -3), textcoords="offset points",
                      fontsize=9, color=colours.ink)  # fmt: skip
    axis.set_xticks(range(len(parts)), [part.label for part in parts])
    axis.set_xlim(-0.6, max(len(parts), 1) - 0.2)
    axis.set_ylim(-0.06, 1.07)
    title = "Share inside the 90 % interval (line: what it could be with as many runs)"
    return finish(axis, title, "compute over the largest that the law was fitted to", "share")


def _factor(run: ScoredRun) -> float:
    assert run.factor is not None
    return run.factor
