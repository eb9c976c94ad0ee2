"""Loss against size and against tokens, as a fit sees its runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from scalestop.fitting.methods.budgets import IsoFLOP, group_by_budget
from scalestop.fitting.methods.envelope import Envelope
from scalestop.fitting.tables.read import read_runs
from scalestop.report.style import (
    ThemeName,
    add_bar,
    axes_or_new,
    colour_scale,
    finish,
    log_axis,
    short_flops,
    theme_of,
)
from scalestop.units import human_count

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from scalestop.fitting.law_fit import LawFit

Array = NDArray[np.float64]


class Points(Protocol):
    """Runs that were not fitted, such as a `RunTable` of those held out: arrays of equal length."""

    @property
    def params(self) -> Array:
        """N of each."""

    @property
    def tokens(self) -> Array:
        """D of each."""

    @property
    def loss(self) -> Array:
        """Loss of each, nats per token."""


def plot_isoflops(
    fit: LawFit, held_out: Points | None = None, *, ax: Axes | None = None, theme: ThemeName = "light"
) -> Axes:
    """Draw loss against size by compute: the law's isoFLOP curves, the budgets' parabolas, or the curves of the runs.

    Args:
        fit: The fit.
        held_out: Runs that were not fitted.
        ax: Where to draw; a new figure if None.
        theme: Of the new figure.

    Returns:
        The axes.
    """
    ax = axes_or_new(ax, theme)
    if isinstance(fit.raw.detail, Envelope):
        return _curves(ax, fit.raw.detail)
    if fit.law.has_loss and fit.method != "isoflop":
        return _isoflop_curves(ax, fit, held_out)
    return _parabolas(ax, fit, fit.raw.detail)


def plot_sizes(
    fit: LawFit, held_out: Points | None = None, *, ax: Axes | None = None, theme: ThemeName = "light"
) -> Axes:
    """Draw loss against tokens with the law's curves of constant size; for a law without a loss, its budgets' minima.

    Args:
        fit: The fit.
        held_out: Runs that were not fitted.
        ax: Where to draw; a new figure if None.
        theme: Of the new figure.

    Returns:
        The axes.
    """
    ax = axes_or_new(ax, theme)
    if isinstance(fit.raw.detail, Envelope):
        return _best_sizes(ax, fit.raw.detail)
    if fit.law.has_loss and fit.method != "isoflop":
        return _size_curves(ax, fit, held_out)
    return _minima(ax, fit.raw.detail)


def _budgets(flops: Array, count: int = 7) -> Array:
    """Return the runs' own budgets where they have a few in common, else some between the extremes."""
    groups, rest = group_by_budget(flops)
    if len(groups) <= 9 and len(rest) < 0.1 * len(flops):
        return np.array([np.exp(np.log(flops[rows]).mean()) for rows in groups])
    low, high = np.quantile(flops, [0.02, 0.98])
    return np.geomspace(low, high, count)


def flops_of_runs(points: Any) -> Array:
    """Return 6·N·D of each run, FLOPs."""
    return np.asarray(6 * points.params * points.tokens, dtype=np.float64)


def held_out_of(records: Any, **how: Any) -> Points | None:
    """Return the runs among records that are marked as held out, for a fit's picture; None where there is none.

    Args:
        records: See `scalestop.fitting.tables.read.read_runs`.
        **how: Its other arguments.
    """
    table = read_runs(records, **how)
    return table.take(list(table.held_out)) if any(table.held_out) else None


def show_held_out(ax: Axes, x: Array, y: Array) -> None:
    """Mark runs that were not fitted."""
    ink = theme_of(ax).ink

    ax.scatter(x, y, s=26, marker="x", color=ink, linewidth=1.1, zorder=5, label="held out")


def _isoflop_curves(ax: Axes, fit: LawFit, held_out: Points | None) -> Axes:
    table, law, theme = fit.table, fit.law, theme_of(ax)
    flops = flops_of_runs(table)
    every = flops if held_out is None else np.r_[flops, flops_of_runs(held_out)]
    colours = colour_scale(theme, float(every.min()), float(every.max()))
    ax.scatter(table.params, table.loss, s=17, color=colours.to_rgba(flops), edgecolor=theme.paper, linewidth=0.4,
               zorder=3)  # fmt: skip
    top = float(table.loss.max())
    optima, ends = [], [float(table.params.min()), float(table.params.max())]
    for budget in _budgets(flops):
        near = np.abs(np.log(flops / budget)) < np.log(3)
        span = table.params[near] if near.any() else table.params
        sizes = np.geomspace(span.min() / 1.3, span.max() * 1.3, 200)
        losses = np.asarray(law.loss(sizes, budget / (6 * sizes)))
        shade = colours.to_rgba(budget)
        ax.plot(sizes, np.where(losses < top * 1.03, losses, np.nan), color=shade, linewidth=1.5, zorder=2)
        best = law.optimal(float(budget))
        optima.append((best.num_params, law.loss(best.num_params, best.num_tokens)))
        ends += [float(sizes[0]), float(sizes[-1])]
    x, y = np.array(optima).T
    ax.plot(x, y, color=theme.red, linewidth=1.2, marker="D", markersize=5, zorder=4, label="optimum of each budget")
    low = min(float(table.loss.min()), y.min())
    if held_out is not None and len(held_out.loss):
        show_held_out(ax, held_out.params, held_out.loss)
        low, ends = min(low, float(held_out.loss.min())), [*ends, *map(float, held_out.params)]
    ax.set_ylim(low * 0.985, top * 1.03)
    log_axis(ax, "x", min(ends) / 1.1, max(ends) * 1.1)
    add_bar(ax, colours, "compute 6·N·D, FLOPs")
    title = "Loss against size, by compute (lines: the law at one budget)"
    return finish(ax, title, "N, parameters", "loss, nats per token")


def _size_curves(ax: Axes, fit: LawFit, held_out: Points | None) -> Axes:
    table, law, theme = fit.table, fit.law, theme_of(ax)
    log_n = np.log(table.params)
    sizes = np.exp(np.quantile(log_n, [0.02, 0.25, 0.5, 0.75, 0.98]))
    nearest = np.abs(log_n[:, None] - np.log(sizes)).argmin(axis=1)
    shades = colour_scale(theme, 1, len(sizes), "plasma").to_rgba(np.arange(1, len(sizes) + 1))
    ax.scatter(table.tokens, table.loss, s=15, color=shades[nearest], edgecolor=theme.paper, linewidth=0.4, alpha=0.75,
               zorder=2)  # fmt: skip
    low, last = float(table.loss.min()), float(table.tokens.max())
    if held_out is not None and len(held_out.loss):
        low, last = min(low, float(held_out.loss.min())), max(last, float(held_out.tokens.max()))
    tokens = np.geomspace(table.tokens.min() / 1.3, last * 1.6, 200)
    for shade, size in zip(shades, sizes, strict=True):
        ax.plot(tokens, np.asarray(law.loss(size, tokens)), color=shade, linewidth=1.5, zorder=3,
                label=f"N = {human_count(size)}")  # fmt: skip
    if held_out is not None and len(held_out.loss):
        show_held_out(ax, held_out.tokens, held_out.loss)
    irreducible = getattr(law, "E", 0.0)
    if irreducible and irreducible > 0.5 * low:
        ax.axhline(irreducible, color=theme.red, linewidth=1, linestyle=(0, (4, 3)), label=f"E = {irreducible:.3g}")
        low = irreducible
    ax.set_ylim(low - 0.04 * float(table.loss.max()), float(table.loss.max()) * 1.03)
    log_axis(ax, "x", float(tokens[0]), float(tokens[-1]))
    return finish(ax, "Loss against tokens (lines: the law at one size)", "D, tokens", "loss, nats per token")


def _parabolas(ax: Axes, fit: LawFit, groups: Sequence[IsoFLOP]) -> Axes:
    table, theme = fit.table, theme_of(ax)
    flops = flops_of_runs(table)
    colours = colour_scale(theme, float(flops.min()), float(flops.max()))
    for group in groups:
        rows = list(group.rows)
        shade = colours.to_rgba(group.flops)
        used = not group.refused
        ax.scatter(table.params[rows], table.loss[rows], s=17, color=shade, alpha=1.0 if used else 0.35, zorder=3)
        sizes = np.geomspace(table.params[rows].min(), table.params[rows].max(), 100)
        ax.plot(sizes, group.loss_at(sizes), color=shade, linewidth=1.4, linestyle="-" if used else ":", zorder=2)
        if group.best_params is not None and group.best_loss is not None:
            ax.plot(group.best_params, group.best_loss, marker="D", markersize=5, color=theme.red, zorder=4,
                    linestyle="", label="minimum of each budget")  # fmt: skip
    log_axis(ax, "x", float(table.params.min()) / 1.2, float(table.params.max()) * 1.2)
    add_bar(ax, colours, "compute 6·N·D, FLOPs")
    return finish(ax, "Parabola of each budget (dotted: refused)", "N, parameters", "loss, nats per token")


def _minima(ax: Axes, groups: Sequence[IsoFLOP]) -> Axes:
    found = [(g.flops, g.best_loss) for g in groups if g.best_loss is not None]
    ax.plot(*np.array(found).T, marker="D", markersize=5, color=theme_of(ax).red, linestyle="")
    log_axis(ax, "x", min(f for f, _ in found) / 1.5, max(f for f, _ in found) * 1.5, short_flops)
    return finish(ax, "Loss at each budget's minimum", "compute 6·N·D, FLOPs", "loss, nats per token")


def _curves(ax: Axes, envelope: Envelope) -> Axes:
    theme = theme_of(ax)
    order = np.argsort(envelope.params)
    shades = colour_scale(theme, 1, len(order) + 1, "plasma").to_rgba(np.arange(1, len(order) + 1))
    for rank, run in enumerate(order):
        reached = np.isfinite(envelope.losses[run])
        label = f"N = {human_count(envelope.params[run])}" if rank in (0, len(order) // 2, len(order) - 1) else None
        ax.plot(envelope.flops[reached], envelope.losses[run][reached], color=shades[rank], linewidth=1.2, label=label)
    lowest = envelope.losses.min(axis=0)
    enclosed = np.isfinite(envelope.best)
    ax.plot(envelope.flops[enclosed], lowest[enclosed], color=theme.red, linewidth=2.4, label="envelope")
    log_axis(ax, "x", float(envelope.flops.min()), float(envelope.flops.max()), short_flops)
    return finish(ax, "Loss along each run", "compute 6·N·D, FLOPs", "loss, nats per token")


def _best_sizes(ax: Axes, envelope: Envelope) -> Axes:
    enclosed = np.isfinite(envelope.best)
    ax.plot(envelope.flops[enclosed], envelope.best[enclosed], ".", color=theme_of(ax).red, markersize=3)
    log_axis(ax, "x", float(envelope.flops.min()), float(envelope.flops.max()), short_flops)
    log_axis(ax, "y", float(envelope.params.min()) / 1.5, float(envelope.params.max()) * 1.5)
    return finish(ax, "Best size at each compute", "compute 6·N·D, FLOPs", "N, parameters")
