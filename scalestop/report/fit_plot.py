"""The picture of a fit: isoFLOP curves, loss against D, the frontier with its band, and residuals."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scalestop.laws.intervals import interval_of_optimum
from scalestop.report.loss_plot import Array, Points, flops_of_runs, plot_isoflops, plot_sizes, show_held_out
from scalestop.report.style import (
    ThemeName,
    add_bar,
    axes_or_new,
    colour_scale,
    finish,
    log_axis,
    new_figure,
    save,
    short_flops,
    theme_of,
)
from scalestop.units import human_count, human_flops

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scalestop.fitting.law_fit import LawFit


def plot_fit(
    fit: LawFit, path: str | Path | None = None, *, held_out: Points | None = None, theme: ThemeName = "light"
) -> Figure:
    """Draw a fit in four panels, under its formula.

    Loss against N at like compute with the law's isoFLOP curves; loss against D with its curves of constant size;
    N_opt and D_opt against compute with their bands; and each run's residual. A law without a loss shows its budgets'
    parabolas, or its runs' curves, in place of the first two.

    Args:
        fit: The fit.
        path: Where to save it, as the suffix says (.png, .svg, .pdf); not saved if None.
        held_out: Runs that were not fitted, to be shown apart; those cheaper than any fitted one are left out.
        theme: `light` or `dark`.

    Returns:
        The figure.
    """
    held_out = _not_cheaper(held_out, float(flops_of_runs(fit.table).min()))
    figure, axes = new_figure(2, 2, size=(13, 10.4), theme=theme)
    plot_isoflops(fit, held_out, ax=axes[0, 0])
    plot_sizes(fit, held_out, ax=axes[0, 1])
    plot_allocation(fit, ax=axes[1, 0])
    plot_residuals(fit, held_out, ax=axes[1, 1])
    figure.suptitle(describe_fit(fit), color=theme_of(axes[0, 0]).ink, fontsize=11.5)
    if path is not None:
        save(figure, path)
    return figure


@dataclass(frozen=True)
class _Rows:
    params: Array
    tokens: Array
    loss: Array


def _not_cheaper(points: Points | None, flops: float) -> Points | None:
    if points is None:
        return None
    keep = flops_of_runs(points) >= flops / 1.05
    return _Rows(points.params[keep], points.tokens[keep], points.loss[keep])


def describe_fit(fit: LawFit) -> str:
    """Return a fit in a few lines: its runs, how the optimum grows, its formula with the constants."""
    a = fit.intervals["a"]
    text = f"{fit.law.name}: {len(fit.table)} runs, N counts {fit.law.info.n_counts} parameters; N_opt ∝ C^"
    text += f"{a.estimate:.3f}" + ("" if a.is_point else f" ({a.low:.3f} to {a.high:.3f}, {a.level:.0%})")
    constants = ", ".join(f"{name} {value:.4g}" for name, value in fit.law.constants.items() if value is not None)
    return f"{text}\n{type(fit.law).formula()}\n{constants}"


def plot_allocation(fit: LawFit, *, ax: Axes | None = None, theme: ThemeName = "light") -> Axes:
    """Draw N_opt and D_opt against compute with their bands, up to thirty times the dearest run.

    Args:
        fit: The fit.
        ax: Where to draw; a new figure if None.
        theme: Of the new figure.

    Returns:
        The axes.
    """
    ax = axes_or_new(ax, theme)
    colours = theme_of(ax)
    flops = flops_of_runs(fit.table)
    first, last = float(flops.min()), float(flops.max())
    budgets = np.geomspace(first, last * 30, 60)
    bands = [interval_of_optimum(fit.law, float(c), fit.options.level) for c in budgets]
    lows, highs = [], []
    for name, of, colour in (
        ("N_opt, parameters", "num_params", colours.blue),
        ("D_opt, tokens", "num_tokens", colours.red),
    ):
        middle = [float(getattr(fit.law.optimal(float(c)), of)) for c in budgets]
        ends = [getattr(found, of) for found in bands]
        low, high = np.array(middle), np.array(middle)
        if all(pair is not None for pair in ends):
            low, high = np.array(ends).T
            ax.fill_between(budgets, low, high, color=colour, alpha=0.2, linewidth=0)
        ax.plot(budgets, middle, color=colour, linewidth=1.6, label=name)
        # far out a band may be a hundred times as wide as what there is to see
        lows.append(max(float(np.min(low)), min(middle) / 30))
        highs.append(min(float(np.max(high)), max(middle) * 30))
    if isinstance(fit.raw.detail, tuple):
        used = [group for group in fit.raw.detail if group.best_params is not None]
        minima = [float(group.best_params or 0) for group in used]
        ax.plot([g.flops for g in used], minima, "D", markersize=5, color=colours.blue, label="budget minima")
    ax.axvspan(last, budgets[-1], color=colours.grid, alpha=0.5, linewidth=0, label="beyond the runs")
    log_axis(ax, "x", float(budgets[0]), float(budgets[-1]), short_flops)
    log_axis(ax, "y", min(lows) / 1.3, max(highs) * 1.3)
    at = fit.optimum(last).num_params
    if at.is_point:
        title = f"Frontier; at {human_flops(last)} N_opt is {human_count(at.estimate)}"
    else:
        title = f"Frontier with its {fit.options.level:.0%} band; at {human_flops(last)} N_opt is "
        title += f"{human_count(at.low)} to {human_count(at.high)}"
    return finish(ax, title, "compute C, FLOPs", "N_opt and D_opt")


def plot_residuals(
    fit: LawFit, held_out: Points | None = None, *, ax: Axes | None = None, theme: ThemeName = "light"
) -> Axes:
    """Draw each run's measured over fitted loss against its compute.

    Args:
        fit: The fit.
        held_out: Runs that were not fitted.
        ax: Where to draw; a new figure if None.
        theme: Of the new figure.

    Returns:
        The axes.
    """
    ax = axes_or_new(ax, theme)
    colours, residuals = theme_of(ax), fit.residuals
    percent = 100 * residuals.log_ratio
    flops = flops_of_runs(residuals)
    if np.ptp(percent) == 0:
        ax.set_axis_off()
        words = "This method predicts no loss of single runs."
        ax.text(0.5, 0.5, words, ha="center", color=colours.ink, fontsize=10, transform=ax.transAxes)
        return ax
    ratio = residuals.tokens / residuals.params
    shades = colour_scale(colours, float(ratio.min()), float(ratio.max()), "cividis")
    ax.scatter(flops, percent, s=17, color=shades.to_rgba(ratio), edgecolor=colours.paper, linewidth=0.3)
    spread = 1.4826 * float(np.median(np.abs(percent - np.median(percent))))
    ax.axhspan(
        -2 * spread, 2 * spread, color=colours.blue, alpha=0.12, linewidth=0, label="two robust standard deviations"
    )
    limit, last = max(8 * spread, 0.05), float(flops.max())
    if held_out is not None and len(held_out.loss) and fit.law.has_loss:
        off = 100 * np.log(held_out.loss / np.asarray(fit.law.loss(held_out.params, held_out.tokens)))
        show_held_out(ax, flops_of_runs(held_out), off)
        limit, last = max(limit, float(np.abs(off).max()) * 1.1), max(last, float(flops_of_runs(held_out).max()))
    beyond = int(np.sum(np.abs(percent) > limit))
    ax.set_ylim(-limit, limit)
    if beyond:
        told = "1 run lies beyond" if beyond == 1 else f"{beyond} runs lie beyond"
        ax.text(0.99, 0.98, told, ha="right", va="top", transform=ax.transAxes, fontsize=9,
                color=colours.red)  # fmt: skip
    ax.axhline(0, color=colours.ink, linewidth=0.8)
    log_axis(ax, "x", float(flops.min()) / 1.3, last * 1.3, short_flops)
    add_bar(ax, shades, "tokens per parameter", lambda value: f"{value:.3g}")
    return finish(ax, "Measured over fitted loss", "compute 6·N·D, FLOPs", "residual, %")
