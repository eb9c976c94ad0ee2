"""Pictures of runs: their curves with what was forecast, and where their compute went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from scalestop.laws import ScalingLaw
from scalestop.report.run_log import RunLog
from scalestop.report.style import ThemeName, axes_or_new, finish, log_axis, new_figure, theme_of
from scalestop.run.records import RunRecord
from scalestop.units import human_count

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class ReportedRun:
    """One run as a report has it."""

    name: str
    record: RunRecord
    log: RunLog = field(default_factory=RunLog)

    @property
    def size_and_length(self) -> tuple[str, float, float, float | None]:
        """Name, N, D in tokens, and loss."""
        return self.name, float(self.record.num_params), float(self.record.num_tokens), self.record.loss


def plot_curves(
    runs: Sequence[ReportedRun], law: ScalingLaw | None = None, *, ax: Axes | None = None, theme: ThemeName = "light"
) -> Axes:
    """Draw loss against tokens: what was logged, what was validated, and what was forecast for the end.

    Args:
        runs: The runs.
        law: For one run, also this law's loss at its size, as if each point were the end of a decayed run.
        ax: Where to draw; a new figure if None.
        theme: Of the new figure.

    Returns:
        The axes.
    """
    ax = axes_or_new(ax, theme)
    colours = theme_of(ax)
    shapes, tokens, losses = "osD^v", [], []
    for place, run in enumerate(runs):
        colour = colours.series[place % len(colours.series)]
        alone = len(runs) == 1
        if train := run.log.against_tokens("train_loss"):
            x, y = np.array(train).T
            smooth = _smoothed(y)
            ax.plot(x, smooth, color=colour, linewidth=1, alpha=0.6, label="training, smoothed" if alone else None)
            tokens.append(x[-1])
            # the fall at the start would leave no room for the rest
            losses += [float(v) for v in smooth[x > 0.1 * x[-1]]]
        points = run.log.against_tokens(run.record.loss_name or "val_loss") or list(run.record.curve)
        if run.record.loss is not None and np.isfinite(run.record.loss):
            points = [*[p for p in points if p[0] < 0.999 * run.record.num_tokens],
                      (run.record.num_tokens, run.record.loss)]  # fmt: skip
        if points:
            x, y = np.array(points, dtype=np.float64).T
            ax.plot(x, y, color=colour, marker=shapes[place % len(shapes)], markersize=5, linewidth=1.4,
                    label=(run.record.loss_name or "loss") if alone else run.name)  # fmt: skip
            tokens.append(x[-1])
            losses += [float(v) for v in y[x > 0.1 * x[-1]]]
        ends = [run.log.against_tokens(f"scalestop/loss_forecast_{end}") for end in ("low", "high")]
        if alone and ends[0] and len(ends[0]) == len(ends[1]):
            (x, low), (_, high) = (np.array(end).T for end in ends)
            ax.fill_between(x, low, high, color=colours.green, alpha=0.2, linewidth=0,
                            label="the end as the run foresaw it, 90 %")  # fmt: skip
        forecast, at = run.record.plan.get("loss_at_stop"), run.record.plan.get("stop_tokens")
        if forecast is not None and at:
            low, high = run.record.plan.get("loss_interval") or (forecast, forecast)
            ax.errorbar([at], [forecast], [[forecast - low], [high - forecast]], color=colours.ink, capsize=4,
                        marker="_", markersize=9, linestyle="", zorder=5, label="forecast, 90 % of runs")  # fmt: skip
            tokens.append(at)
            losses += [low, high]
    if not losses:
        ax.set_axis_off()
        ax.text(0.5, 0.5, "No loss was logged.", ha="center", color=colours.ink, transform=ax.transAxes)
        return ax
    last = max(tokens)
    if len(runs) == 1 and law is not None and law.has_loss:
        x = np.linspace(last / 20, last, 100)
        y = np.asarray(law.loss(float(runs[0].record.num_params), x))
        ax.plot(x, y, color=colours.red, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1,
                label=f"{law.name} for runs that end there")  # fmt: skip
    lengths = [run.record.num_tokens for run in runs if run.record.num_tokens]
    if lengths and max(lengths) > 4 * min(lengths):
        log_axis(ax, "x", min(lengths) / 20, last * 1.15)
    else:
        ax.set_xlim(0, last * 1.04)
        ax.xaxis.set_major_formatter(lambda value, _: human_count(value))
    room = max(max(losses) - min(losses), 0.02 * max(losses))
    ax.set_ylim(min(losses) - 0.08 * room, max(losses) + 0.08 * room)
    title = "Loss along the run" if len(runs) == 1 else "Loss along the runs (thin: training, smoothed)"
    return finish(ax, title, "tokens", "loss, nats per token")


def _smoothed(values: np.ndarray) -> np.ndarray:
    """A running mean over a tenth of the values, so that single batches do not hide the curve."""
    width = max(1, len(values) // 10)
    sums = np.cumsum(np.r_[0.0, values])
    first = np.maximum(0, np.arange(len(values)) - width + 1)
    ends = np.arange(1, len(values) + 1)
    return np.asarray((sums[ends] - sums[first]) / (ends - first))


_LEAST = 0.0005
"""Parts of a run's compute below this share are rounding, and are left out."""


@dataclass(frozen=True)
class Spending:
    """Where a run's compute went, each part as a share of the budget's FLOPs, or of what was used where it has none."""

    name: str
    parts: tuple[tuple[str, float], ...]
    """Each part's name and share."""


def spending_of(run: ReportedRun) -> Spending:
    """Return where a run's compute went: training, past the limit, validation, and what was left.

    Args:
        run: The run. Its validation is counted apart, as budgets count training alone.
    """
    record = run.record
    used, validation = float(record.flops), float(record.usage.get("validation_flops") or 0)
    limit = record.plan.get("flops")
    whole = float(limit) if limit and "FLOP" in record.budget else used
    over = max(0.0, used - whole)
    parts = [("training", used - over), ("past the limit", over), ("left of the budget", max(0.0, whole - used)),
             ("validation, beside the budget", validation)]  # fmt: skip
    return Spending(
        run.name, tuple((name, flops / whole) for name, flops in parts if whole > 0 and flops > _LEAST * whole)
    )


def plot_spending(
    spendings: Sequence[Spending], of: str = "the budget", *, ax: Axes | None = None, theme: ThemeName = "light"
) -> Axes:
    """Draw where the compute of runs went, a bar for each.

    Args:
        spendings: See `spending_of`.
        of: What the shares are shares of.
        ax: Where to draw; a new figure if None.
        theme: Of the new figure.

    Returns:
        The axes.
    """
    if ax is None:
        ax = new_figure(size=(6.2, 1.7 + 0.55 * len(spendings)), theme=theme)[1]
    colours = theme_of(ax)
    names = list(dict.fromkeys(name for s in spendings for name, _ in s.parts))
    shades = {"training": colours.blue, "past the limit": colours.red, "left of the budget": colours.grid,
              "validation, beside the budget": colours.amber}  # fmt: skip
    for name in names:
        for place, spending in enumerate(spendings):
            before = 0.0
            for part, share in spending.parts:
                if part == name:
                    shade = shades.get(name) or colours.series[names.index(name) % 5]
                    ax.barh(place, share, left=before, height=0.55, color=shade, label=name)
                before += share
    ax.set_yticks(range(len(spendings)), [s.name for s in spendings])
    ax.set_ylim(len(spendings) - 0.4, -0.6)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    return finish(ax, "Where the compute went", f"share of {of}", "")


def describe_size(run: ReportedRun) -> str:
    """Return N and D of a run as people write them."""
    return f"{human_count(run.record.num_params)} x {human_count(run.record.num_tokens)}"
