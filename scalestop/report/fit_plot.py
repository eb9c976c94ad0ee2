"""The picture of a fit: isoFLOP curves, loss against N and D, and the frontier with its band."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scalestop.fitting.methods.budgets import IsoFLOP, group_by_budget
from scalestop.fitting.methods.envelope import Envelope
from scalestop.laws.intervals import interval_of_optimum
from scalestop.units import human_count, human_flops

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scalestop.fitting.law_fit import LawFit

_INK = "#22313f"
_BAND = "#2a78b5"
_ACCENT = "#d1495b"
_GRID = "#d9dee3"
_COLOURS = "viridis"


def plot_fit(fit: LawFit, path: str | Path | None = None) -> Figure:
    """Draw a fit in four panels.

    Loss against N at like compute with the law's isoFLOP curves; loss against D with its curves of constant size;
    N_opt and D_opt against compute with their bands; and each run's residual. A law without a loss shows its budgets'
    parabolas, or its runs' curves, in place of the first two.

    Args:
        fit: The fit.
        path: Where to save it, as the suffix says (.png, .svg, .pdf); not saved if None.

    Returns:
        The figure.
    """
    # the object interface: drawing a picture must not change the backend of the program that asked for it
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.5, 9.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2)
    colours = _Colours(6 * fit.table.params * fit.table.tokens)
    if fit.law.has_loss and fit.method != "isoflop":
        _isoflop_curves(axes[0, 0], fit, colours)
        _size_curves(axes[0, 1], fit)
    elif isinstance(fit.raw.detail, Envelope):
        _envelope(axes[0, 0], axes[0, 1], fit.raw.detail)
    else:
        _parabolas(axes[0, 0], axes[0, 1], fit, fit.raw.detail)
    _frontier(axes[1, 0], fit)
    _residuals(axes[1, 1], fit)
    for axis in axes.flat:
        axis.grid(color=_GRID, linewidth=0.6)
        axis.set_axisbelow(True)
        axis.tick_params(labelsize=9, colors=_INK)
        axis.title.set_color(_INK)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    if not isinstance(fit.raw.detail, Envelope):
        colours.bar(figure, axes[0, 0])
    exponents = fit.intervals["a"]
    figure.suptitle(
        f"{fit.law.name}: {len(fit.table)} runs, N counts {fit.law.info.n_counts} parameters; "
        f"N_opt ∝ C^{exponents.estimate:.3f}"
        + ("" if exponents.is_point else f" ({exponents.low:.3f} to {exponents.high:.3f}, {exponents.level:.0%})"),
        color=_INK,
        fontsize=12,
    )
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    return figure


class _Colours:
    """Colour by compute, on a log scale."""

    def __init__(self, flops: NDArray[np.float64]) -> None:
        from matplotlib import colormaps
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import ListedColormap, LogNorm

        low, high = float(flops.min()), float(flops.max())
        # the lightest tenth of the map is lost on white
        colours = colormaps[_COLOURS].resampled(256)(np.linspace(0, 0.92, 256))
        self.mapped = ScalarMappable(LogNorm(low / 1.01, high * 1.01), ListedColormap(colours))

    def __call__(self, flops: Any) -> Any:
        return self.mapped.to_rgba(flops)

    def bar(self, figure: Figure, axis: Axes) -> None:
        bar = figure.colorbar(self.mapped, ax=axis, pad=0.01, aspect=40)
        bar.set_label("compute 6·N·D, FLOPs", color=_INK, fontsize=9)
        bar.ax.tick_params(labelsize=8, colors=_INK)
        bar.outline.set_visible(False)


def _label(axis: Axes, title: str, x: str, y: str) -> None:
    axis.set_title(title, fontsize=10.5, loc="left")
    axis.set_xlabel(x, fontsize=9.5, color=_INK)
    axis.set_ylabel(y, fontsize=9.5, color=_INK)


def _budgets(flops: NDArray[np.float64], count: int = 7) -> NDArray[np.float64]:
    """Return the runs' own budgets where they have a few in common, else some between the extremes."""
    groups, rest = group_by_budget(flops)
    if len(groups) <= 9 and len(rest) < 0.1 * len(flops):
        return np.array([np.exp(np.log(flops[rows]).mean()) for rows in groups])
    low, high = np.quantile(flops, [0.02, 0.98])
    return np.geomspace(low, high, count)


def _isoflop_curves(axis: Axes, fit: LawFit, colours: _Colours) -> None:
    table, law = fit.table, fit.law
    flops = 6 * table.params * table.tokens
    axis.scatter(table.params, table.loss, s=17, color=colours(flops), edgecolor="white", linewidth=0.4, zorder=3)
    top = float(table.loss.max())
    optima = []
    for budget in _budgets(flops):
        near = np.abs(np.log(flops / budget)) < np.log(3)
        span = table.params[near] if near.any() else table.params
        sizes = np.geomspace(span.min() / 1.3, span.max() * 1.3, 200)
        losses = np.asarray(law.loss(sizes, budget / (6 * sizes)))
        axis.plot(sizes, np.where(losses < top * 1.03, losses, np.nan), color=colours(budget), linewidth=1.5, zorder=2)
        best = law.optimal(float(budget))
        optima.append((best.num_params, law.loss(best.num_params, best.num_tokens)))
    x, y = np.array(optima).T
    axis.plot(x, y, color=_ACCENT, linewidth=1.2, marker="D", markersize=5, zorder=4, label="optimum of each budget")
    axis.set_xscale("log")
    axis.set_ylim(min(float(table.loss.min()), y.min()) * 0.985, top * 1.03)
    axis.legend(fontsize=9, frameon=False, loc="lower left")
    _label(
        axis, "Loss against size, by compute (lines: the law at one budget)", "N, parameters", "loss, nats per token"
    )


def _size_curves(axis: Axes, fit: LawFit) -> None:
    from matplotlib import colormaps

    table, law = fit.table, fit.law
    log_n = np.log(table.params)
    sizes = np.exp(np.quantile(log_n, [0.02, 0.25, 0.5, 0.75, 0.98]))
    nearest = np.abs(log_n[:, None] - np.log(sizes)).argmin(axis=1)
    shades = colormaps["plasma"](np.linspace(0.05, 0.8, len(sizes)))
    axis.scatter(
        table.tokens, table.loss, s=15, color=shades[nearest], edgecolor="white", linewidth=0.4, alpha=0.75, zorder=2
    )
    tokens = np.geomspace(table.tokens.min() / 1.3, table.tokens.max() * 1.6, 200)
    for shade, size in zip(shades, sizes, strict=True):
        axis.plot(
            tokens,
            np.asarray(law.loss(size, tokens)),
            color=shade,
            linewidth=1.5,
            label=f"N = {human_count(size)}",
            zorder=3,
        )
    irreducible = getattr(law, "E", 0.0)
    low = float(table.loss.min())
    if irreducible and irreducible > 0.5 * low:
        axis.axhline(irreducible, color=_ACCENT, linewidth=1, linestyle=(0, (4, 3)))
        axis.annotate(
            f"E = {irreducible:.3g}", (tokens[-1], irreducible), (0, 4), textcoords="offset points",
            ha="right", fontsize=9, color=_ACCENT,
        )  # fmt: skip
        low = irreducible
    axis.set_xscale("log")
    axis.set_ylim(low - 0.04 * float(table.loss.max()), float(table.loss.max()) * 1.03)
    axis.legend(fontsize=9, frameon=False, loc="upper right")
    _label(axis, "Loss against tokens (lines: the law at one size)", "D, tokens", "loss, nats per token")


def _parabolas(left: Axes, right: Axes, fit: LawFit, groups: Sequence[IsoFLOP]) -> None:
    table = fit.table
    colours = _Colours(6 * table.params * table.tokens)
    for group in groups:
        rows = list(group.rows)
        shade = colours(group.flops)
        used = not group.refused
        left.scatter(table.params[rows], table.loss[rows], s=17, color=shade, alpha=1.0 if used else 0.35, zorder=3)
        sizes = np.geomspace(table.params[rows].min(), table.params[rows].max(), 100)
        left.plot(sizes, group.loss_at(sizes), color=shade, linewidth=1.4, linestyle="-" if used else ":", zorder=2)
        if group.best_params is not None and group.best_loss is not None:
            left.plot(group.best_params, group.best_loss, marker="D", markersize=5, color=_ACCENT, zorder=4)
            right.plot(group.flops, group.best_loss, marker="D", markersize=5, color=_ACCENT, zorder=4)
    left.set_xscale("log")
    right.set_xscale("log")
    _label(left, "Parabola of each budget (dotted: refused)", "N, parameters", "loss, nats per token")
    _label(right, "Loss at each budget's minimum", "compute 6·N·D, FLOPs", "loss, nats per token")


def _envelope(left: Axes, right: Axes, envelope: Envelope) -> None:
    from matplotlib import colormaps

    order = np.argsort(envelope.params)
    for rank, run in enumerate(order):
        shade = colormaps["plasma"](0.05 + 0.75 * rank / max(len(order) - 1, 1))
        reached = np.isfinite(envelope.losses[run])
        label = f"N = {human_count(envelope.params[run])}" if rank in (0, len(order) // 2, len(order) - 1) else None
        left.plot(envelope.flops[reached], envelope.losses[run][reached], color=shade, linewidth=1.2, label=label)
    lowest = envelope.losses.min(axis=0)
    enclosed = np.isfinite(envelope.best)
    left.plot(envelope.flops[enclosed], lowest[enclosed], color=_ACCENT, linewidth=2.4, label="envelope")
    left.set_xscale("log")
    left.legend(fontsize=9, frameon=False)
    right.plot(envelope.flops[enclosed], envelope.best[enclosed], ".", color=_ACCENT, markersize=3)
    right.set_xscale("log")
    right.set_yscale("log")
    right.set_ylim(envelope.params.min() / 1.5, envelope.params.max() * 1.5)
    _label(left, "Loss along each run", "compute 6·N·D, FLOPs", "loss, nats per token")
    _label(right, "Best size at each compute", "compute 6·N·D, FLOPs", "N, parameters")


def _frontier(axis: Axes, fit: LawFit) -> None:
    flops = 6 * fit.table.params * fit.table.tokens
    first, last = float(flops.min()), float(flops.max())
    budgets = np.geomspace(first, last * 30, 60)
    bands = [interval_of_optimum(fit.law, float(c), fit.options.level) for c in budgets]
    for name, of, colour in (
        ("N_opt, parameters", "num_params", _BAND),
        ("D_opt, tokens", "num_tokens", _ACCENT),
    ):
        middle = [float(getattr(fit.law.optimal(float(c)), of)) for c in budgets]
        ends = [getattr(found, of) for found in bands]
        if all(pair is not None for pair in ends):
            low, high = np.array(ends).T
            axis.fill_between(budgets, low, high, color=colour, alpha=0.2, linewidth=0)
        axis.plot(budgets, middle, color=colour, linewidth=1.6, label=name)
    if isinstance(fit.raw.detail, tuple):
        used = [group for group in fit.raw.detail if group.best_params is not None]
        minima = [float(group.best_params or 0) for group in used]
        axis.plot([group.flops for group in used], minima, "D", markersize=5, color=_BAND, label="budget minima")
    axis.axvspan(last, budgets[-1], color=_GRID, alpha=0.45, linewidth=0)
    axis.annotate(
        "beyond the runs", (last, 0.03), (5, 0), xycoords=("data", "axes fraction"), textcoords="offset points",
        fontsize=9, color=_INK,
    )  # fmt: skip
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlim(budgets[0], budgets[-1])
    axis.legend(fontsize=9, frameon=False, loc="upper left")
    at = fit.optimum(last).num_params
    if at.is_point:
        title = f"Frontier; at {human_flops(last)} N_opt is {human_count(at.estimate)}"
    else:
        title = f"Frontier with its {fit.options.level:.0%} band; at {human_flops(last)} N_opt is "
        title += f"{human_count(at.low)} to {human_count(at.high)}"
    _label(axis, title, "compute C, FLOPs", "N_opt and D_opt")


def _residuals(axis: Axes, fit: LawFit) -> None:
    from matplotlib import colormaps

    residuals = fit.residuals
    percent = 100 * residuals.log_ratio
    flops = 6 * residuals.params * residuals.tokens
    if np.ptp(percent) == 0:
        axis.set_axis_off()
        axis.text(0.5, 0.5, "This method predicts no loss of single runs.", ha="center", color=_INK, fontsize=10)
        return
    ratio = np.log10(residuals.tokens / residuals.params)
    shown = axis.scatter(flops, percent, s=17, c=ratio, cmap=colormaps["cividis"], edgecolor="white", linewidth=0.3)
    bar = axis.figure.colorbar(shown, ax=axis, pad=0.01, aspect=40)
    bar.set_label("tokens per parameter, log10", color=_INK, fontsize=9)
    bar.ax.tick_params(labelsize=8, colors=_INK)
    bar.outline.set_visible(False)
    spread = 1.4826 * float(np.median(np.abs(percent - np.median(percent))))
    axis.axhspan(-2 * spread, 2 * spread, color=_BAND, alpha=0.1, linewidth=0)
    limit = max(8 * spread, 0.05)
    beyond = int(np.sum(np.abs(percent) > limit))
    axis.set_ylim(-limit, limit)
    if beyond:
        axis.text(
            0.99, 0.98, f"{beyond} runs lie beyond", ha="right", va="top", transform=axis.transAxes,
            fontsize=9, color=_ACCENT,
        )  # fmt: skip
    axis.axhline(0, color=_INK, linewidth=0.8)
    axis.set_xscale("log")
    _label(
        axis, "Measured over fitted loss (band: two robust standard deviations)", "compute 6·N·D, FLOPs", "residual, %"
    )
