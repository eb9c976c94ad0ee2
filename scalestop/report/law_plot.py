"""Pictures of a law: its valley at one budget, its frontier with the band, and the plane of N and D."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scalestop.laws import ScalingLaw
from scalestop.laws.intervals import interval_of_optimum, loss_intervals
from scalestop.report.style import ThemeName, axes_or_new, finish, log_axis, short_flops, theme_of
from scalestop.units import human_count, human_flops

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class KnownModel:
    """A model that everybody knows, on the plane."""

    name: str
    num_params: float
    num_tokens: float
    source: str
    side: str = "right"
    """Where its name stands, so that names do not collide: left, right, above or below."""


_SIDES = {
    "right": ((6, -3), "left"), "left": ((-6, -3), "right"), "above": ((-5, 6), "right"), "below": ((5, -12), "left")
}  # fmt: skip

KNOWN = (
    KnownModel("GPT-3", 175e9, 300e9, "Brown et al. 2020, arXiv 2005.14165, table 2.1", "left"),
    KnownModel("Gopher", 280e9, 300e9, "Rae et al. 2021, arXiv 2112.11446, table 1"),
    KnownModel("Chinchilla", 70e9, 1.4e12, "Hoffmann et al. 2022, arXiv 2203.15556, table 4", "above"),
    KnownModel("LLaMA 13B", 13e9, 1e12, "Touvron et al. 2023, arXiv 2302.13971, table 2"),
    KnownModel("LLaMA 65B", 65.2e9, 1.4e12, "Touvron et al. 2023, arXiv 2302.13971, table 2", "below"),
    KnownModel("Llama 3 8B", 8e9, 15e12, "Grattafiori et al. 2024, arXiv 2407.21783, section 1"),
    KnownModel("Llama 3 405B", 405e9, 15.6e12, "Grattafiori et al. 2024, arXiv 2407.21783, section 1", "left"),
)

Run = tuple[str, float, float, float | None]
"""A run as pictures take it: name, N, D in tokens, and loss in nats per token or None."""


def plot_valley(
    law: ScalingLaw,
    flops: float,
    runs: Sequence[Run] = (),
    *,
    marked: tuple[float, float] | None = None,
    ax: Axes | None = None,
    theme: ThemeName = "light",
) -> Axes:
    """Draw the loss against the model's size at one budget, with the law's band, the optimum and what was measured.

    Args:
        law: A law that predicts a loss.
        flops: The budget, FLOPs.
        runs: Measured runs of about this compute.
        marked: N and D of a run to mark.
        ax: Where to draw; a new figure if None.
        theme: Of the new figure.

    Returns:
        The axes.
    """
    ax = axes_or_new(ax, theme)
    colours = theme_of(ax)
    best = law.optimal(float(flops))
    reach = [float(best.num_params) / 8, float(best.num_params) * 8, *(run[1] for run in runs)]
    if marked is not None:
        reach.append(marked[0])
    low, high = min(reach) / 1.15, max(reach) * 1.15
    sizes = np.geomspace(low, high, 121)
    losses = np.asarray(law.loss(sizes, flops / (6 * sizes)))
    if (band := loss_intervals(law, sizes, flops / (6 * sizes))) is not None:
        ax.fill_between(sizes, *band, color=colours.blue, alpha=0.18, linewidth=0, label="90 % band of the law")
    ax.plot(sizes, losses, color=colours.blue, linewidth=1.8, label=law.name)
    at = float(best.num_params), float(law.loss(best.num_params, best.num_tokens))
    ax.plot(*at, marker="D", markersize=7, color=colours.red, linestyle="", label=f"optimum, N {human_count(at[0])}")
    if marked is not None:
        n, d = marked
        ax.plot(n, float(law.loss(n, d)), marker="*", markersize=13, color=colours.green, linestyle="",
                label=f"this run, N {human_count(n)}")  # fmt: skip
    measured = [(n, loss) for _, n, _, loss in runs if loss is not None]
    if measured:
        x, y = np.array(measured).T
        ax.scatter(x, y, s=26, color=colours.ink, zorder=4, label="measured")
    log_axis(ax, "x", low, high)
    return finish(ax, f"Loss against size at {human_flops(flops)}", "N, parameters", "loss, nats per token")


def plot_frontier(
    law: ScalingLaw,
    flops: tuple[float, float],
    runs: Sequence[Run] = (),
    *,
    marks: Sequence[tuple[str, float]] = (),
    ax: Axes | None = None,
    theme: ThemeName = "light",
) -> Axes:
    """Draw the loss of each compute's optimum, with the law's band, the end of its runs, and what was measured.

    Args:
        law: A law that predicts a loss.
        flops: From which compute to which, FLOPs.
        runs: Measured runs.
        marks: Names and computes to mark on the frontier.
        ax: Where to draw; a new figure if None.
        theme: Of the new figure.

    Returns:
        The axes.
    """
    ax = axes_or_new(ax, theme)
    colours = theme_of(ax)
    budgets = np.geomspace(*flops, 80)
    n, d = law.optimal(budgets)
    if (band := loss_intervals(law, n, d)) is not None:
        ax.fill_between(budgets, *band, color=colours.blue, alpha=0.18, linewidth=0, label="90 % band of the law")
    ax.plot(budgets, law.loss(n, d), color=colours.blue, linewidth=1.8, label=f"best by {law.name}")
    measured = [(6 * n * d, loss) for _, n, d, loss in runs if loss is not None]
    if measured:
        x, y = np.array(measured).T
        ax.scatter(x, y, s=26, color=colours.ink, zorder=4, label="measured")
    shapes = ("D", "o", "s", "^")
    for place, (name, at) in enumerate(marks):
        best = law.optimal(float(at))
        ax.plot(at, float(law.loss(*best)), marker=shapes[place % 4], markersize=7, linestyle="", zorder=5,
                color=colours.series[1 + place % 4], label=name)  # fmt: skip
    fitted = law.info.valid.flops
    if fitted is not None and fitted[1] < flops[1]:
        ax.axvspan(max(fitted[1], flops[0]), flops[1], color=colours.grid, alpha=0.5, linewidth=0,
                   label="beyond the law's runs")  # fmt: skip
    log_axis(ax, "x", *flops, name=short_flops)
    return finish(ax, "The frontier: the least loss for the compute", "compute, FLOPs", "loss, nats per token")


def plot_plane(
    law: ScalingLaw,
    runs: Sequence[Run] = (),
    *,
    known: Sequence[KnownModel] = KNOWN,
    ax: Axes | None = None,
    theme: ThemeName = "light",
) -> Axes:
    """Draw the plane of N and D: lines of equal compute, the law's optimum with its band, regimes, runs, known models.

    Args:
        law: The law.
        runs: Runs to show.
        known: Models to show beside them; those farther than a thousandfold from the runs' compute are left out.
        ax: Where to draw; a new figure if None.
        theme: Of the new figure.

    Returns:
        The axes.
    """
    ax = axes_or_new(ax, theme)
    colours = theme_of(ax)
    own = [6 * n * d for _, n, d, _ in runs]
    shown = [m for m in known if not own or min(own) / 1e3 < 6 * m.num_params * m.num_tokens < max(own) * 1e3]
    points = [(n, d) for _, n, d, _ in runs] + [(m.num_params, m.num_tokens) for m in shown]
    if not points:
        points = [tuple(map(float, law.optimal(c))) for c in (law.info.valid.flops or (1e18, 1e21))]  # type: ignore[misc]
    n_all, d_all = np.array(points).T
    low_n, high_n = n_all.min() / 5, n_all.max() * 5
    low_d, high_d = d_all.min() / 5, d_all.max() * 5
    sizes = np.geomspace(low_n, high_n, 60)
    decades = np.arange(np.ceil(np.log10(6 * low_n * low_d)), np.floor(np.log10(6 * high_n * high_d)) + 1)
    for budget in 10.0 ** decades[:: max(1, round(len(decades) / 6))]:
        tokens = budget / (6 * sizes)
        ax.plot(sizes, tokens, color=colours.quiet, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1,
                label="equal compute")  # fmt: skip
        inside = (tokens > low_d * 1.3) & (tokens < high_d / 1.3)
        if inside.any():
            at = int(np.flatnonzero(inside)[0])
            corner = sizes[at] < low_n * (high_n / low_n) ** 0.55 and tokens[at] > high_d / (high_d / low_d) ** 0.18
            if sizes[at] < high_n / 3 and not corner:
                ax.annotate(short_flops(budget), (sizes[at], tokens[at]), (5, 3), textcoords="offset points",
                            fontsize=8, color=colours.quiet)  # fmt: skip
    budgets = np.geomspace(6 * low_n * low_d, 6 * high_n * high_d, 80)
    n, d = (np.asarray(x, dtype=np.float64) for x in law.optimal(budgets))
    ends = [interval_of_optimum(law, float(c)).num_params for c in budgets[::4]]
    if all(pair is not None for pair in ends):
        left, right = np.array(ends).T
        c = budgets[::4]
        ax.fill(np.r_[left, right[::-1]], np.r_[c / (6 * left), (c / (6 * right))[::-1]], color=colours.blue, alpha=0.2,
                linewidth=0, label="its 90 % band")  # fmt: skip
    ax.plot(n, d, color=colours.blue, linewidth=1.8, label=f"optimum by {law.name}")
    if shown:
        ax.scatter([m.num_params for m in shown], [m.num_tokens for m in shown], s=30, marker="s", zorder=4,
                   color=colours.amber, label="known models")  # fmt: skip
        for model in shown:
            offset, align = _SIDES[model.side]
            ax.annotate(model.name, (model.num_params, model.num_tokens), offset, textcoords="offset points",
                        fontsize=8, color=colours.ink, zorder=6, ha=align)  # fmt: skip
    if runs:
        ax.scatter([r[1] for r in runs], [r[2] for r in runs], s=24 if len(runs) > 6 else 60, zorder=5,
                   marker="o" if len(runs) > 6 else "*", color=colours.red, label="runs")  # fmt: skip
        if len(runs) <= 6:
            placed: set[tuple[float, float]] = set()
            for name, n_run, d_run, _ in runs:
                if (n_run, d_run) not in placed:
                    ax.annotate(name, (n_run, d_run), (8, -3), textcoords="offset points", fontsize=8, zorder=6,
                                color=colours.ink)  # fmt: skip
                placed.add((n_run, d_run))
    for x, y, ha, va, text in (
        (0.02, 0.97, "left", "top", "parameter-limited:\nmore tokens than the size is worth"),
        (0.98, 0.03, "right", "bottom", "data-limited:\na larger model than the tokens fill"),
    ):
        ax.text(x, y, text, transform=ax.transAxes, ha=ha, va=va, fontsize=8.5, style="italic", color=colours.quiet,
                bbox={"facecolor": colours.paper, "edgecolor": "none", "pad": 1.5, "alpha": 0.85})  # fmt: skip
    log_axis(ax, "x", low_n, high_n)
    log_axis(ax, "y", low_d, high_d)
    title = "Parameters against tokens" if runs else "Known models: parameters against tokens"
    return finish(ax, title, "N, parameters", "D, tokens")
