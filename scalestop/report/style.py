"""One style for all pictures: light and dark, colours that the colour-blind tell apart, clear ticks and legends."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from scalestop.errors import InputError, shown
from scalestop.units import human_count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Theme:
    """Colours of a picture, each as `#rrggbb`."""

    paper: str
    ink: str
    quiet: str
    """Lesser words and lines."""
    grid: str
    blue: str
    """The series are Okabe and Ito's (2008), which the colour-blind tell apart, set for the paper."""
    red: str
    green: str
    purple: str
    amber: str

    @property
    def series(self) -> tuple[str, ...]:
        """The colours of series, in the order in which they are taken."""
        return self.blue, self.red, self.green, self.purple, self.amber


LIGHT = Theme("#ffffff", "#1d2730", "#5c6a76", "#dfe4e8", "#0072b2", "#c8500a", "#00805c", "#a64d84", "#9a6b00")
DARK = Theme("#14191e", "#e8edf1", "#9fadb9", "#2e3841", "#62b6ee", "#ff8f56", "#3ccb9b", "#e79cc6", "#f0bd4a")
THEMES = {"light": LIGHT, "dark": DARK}
ThemeName = Literal["light", "dark"]

SUFFIXES = (".png", ".svg", ".pdf", ".jpg", ".jpeg")
"""Kinds of picture."""
_WIDE, _HIGH = 6.2, 4.4
"""Inches of a picture of one panel: its text can still be read on a phone."""
_BELOW = 3.1
"""Where a legend begins below the axes, in heights of the text: under the ticks and the axis's name."""


def need_matplotlib() -> None:
    """Refuse to draw where matplotlib is missing.

    Raises:
        InputError: Naming the extra that brings it.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise InputError(
            "matplotlib: a picture needs it, and it is not installed; pip install 'scalestop[report]'"
        ) from None


def new_figure(
    rows: int = 1, columns: int = 1, *, size: tuple[float, float] | None = None, theme: ThemeName = "light", **how: Any
) -> tuple[Figure, Any]:
    """Return a figure and its axes, in a theme.

    Args:
        rows: Panels from top to bottom.
        columns: Panels from left to right.
        size: Width and height in inches.
        theme: `light` or `dark`.
        **how: More for `Figure.subplots`, such as `height_ratios`.

    Raises:
        InputError: If matplotlib is missing, or there is no such theme.
    """
    need_matplotlib()
    # the object interface: drawing a picture must not change the backend of the program that asked for it
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if theme not in THEMES:
        raise InputError(f"theme: light or dark; got {shown(theme)}")
    figure = Figure(figsize=size or (_WIDE * columns, _HIGH * rows), layout="constrained")
    FigureCanvasAgg(figure)
    figure.set_facecolor(THEMES[theme].paper)
    axes = figure.subplots(rows, columns, **how)
    for axis in figure.axes:
        axis.set_facecolor(THEMES[theme].paper)
    return figure, axes


def axes_or_new(ax: Axes | None, theme: ThemeName) -> Axes:
    """Return the axes given, or those of a new figure."""
    return new_figure(theme=theme)[1] if ax is None else ax


def theme_of(ax: Axes) -> Theme:
    """Return the theme that can be read on the axes' own ground, whoever made them."""
    from matplotlib.colors import to_rgba

    ground = to_rgba(ax.get_facecolor())
    if ground[3] < 0.5 and ax.figure is not None:
        ground = to_rgba(ax.figure.get_facecolor())
    luminance = 0.2126 * ground[0] + 0.7152 * ground[1] + 0.0722 * ground[2]
    return DARK if ground[3] >= 0.5 and luminance < 0.45 else LIGHT


def finish(ax: Axes, title: str, x: str, y: str, *, legend: bool | Sequence[Any] = True) -> Axes:
    """Dress axes that are drawn: names, grid, ticks that do not collide, and the legend below, where it hides nothing.

    Args:
        ax: The axes.
        title: What is shown, and how to read it.
        x: Name and unit.
        y: Name and unit.
        legend: Whether to name what has a label.
    """
    theme = theme_of(ax)
    ax.set_title(title, fontsize=10.5, loc="left", color=theme.ink, wrap=False)
    ax.set_xlabel(x, fontsize=9.5, color=theme.ink)
    ax.set_ylabel(y, fontsize=9.5, color=theme.ink)
    ax.grid(color=theme.grid, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=9, colors=theme.ink, which="both", length=3)
    ax.tick_params(which="minor", length=0)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.quiet)
    if legend:
        _name_series(ax, theme)
    return ax


def _name_series(ax: Axes, theme: Theme) -> None:
    from matplotlib.transforms import ScaledTranslation

    handles, labels = ax.get_legend_handles_labels()
    once = dict(zip(labels[::-1], handles[::-1], strict=True))  # the first of a name stays
    once = {label: once[label] for label in dict.fromkeys(labels)}
    if not once:
        return
    figure = ax.figure
    assert figure is not None
    below = ax.transAxes + ScaledTranslation(0, -_BELOW * 11 / 72, figure.dpi_scale_trans)
    columns = 1 if max(map(len, once)) > 44 else 2 if max(map(len, once)) > 22 else 3
    ax.legend(
        once.values(), once.keys(), loc="upper left", bbox_to_anchor=(0, 0), bbox_transform=below, fontsize=9,
        frameon=False, labelcolor=theme.ink, ncols=min(columns, len(once)), borderaxespad=0, borderpad=0,
        columnspacing=1.4, handlelength=1.6,
    )  # fmt: skip


def log_axis(
    ax: Axes, which: Literal["x", "y"], low: float, high: float, name: Callable[[float], str] = human_count
) -> None:
    """Make an axis logarithmic between two values, with three to seven ticks whose names do not collide.

    Args:
        ax: The axes.
        which: `x` or `y`.
        low: The least value shown.
        high: The greatest.
        name: How a tick is called.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    getattr(ax, f"set_{which}scale")("log")
    getattr(ax, f"set_{which}lim")(low, high)
    axis = getattr(ax, f"{which}axis")
    axis.set_major_locator(FixedLocator(log_ticks(low, high)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: name(value)))


def log_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Return round values between two, evenly spread on a log scale: at most `most`, and three where there are any.

    Args:
        low: The least.
        high: The greatest.
        most: How many at most.
    """
    first, last, span = math.floor(math.log10(low)), math.ceil(math.log10(high)), high / low
    ladders = [[float(f"1e{k}") for k in range(first, last + 1) if k % step == 0] for step in (12, 8, 6, 4, 3, 2, 1)]
    for digits, widest in (((1, 3), 3e3), ((1, 2, 5), 300), ((1, 1.5, 2, 3, 5, 7), 12)):
        if span < widest:
            ladders.append([digit * 10.0**k for k in range(first, last + 1) for digit in digits])
    if span < 4:
        for step in (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001):
            unit = 10.0 ** math.floor(math.log10(high)) * step
            ladders.append([unit * i for i in range(math.ceil(low / unit), math.floor(high / unit) + 1)])
    inside = [[value for value in each if low * 0.9999 <= value <= high * 1.0001] for each in ladders]
    return max((each for each in inside if len(each) <= most), key=len) or [low, high]


def short_flops(value: float) -> str:
    """Return FLOPs as a tick calls them: 3e21."""
    mantissa, exponent = f"{value:.2e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}e{int(exponent)}"


def colour_scale(theme: Theme, low: float, high: float, name: str = "viridis") -> Any:
    """Return a mappable that gives a value between two, on a log scale, a colour that both papers show."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, LogNorm

    ends = (0.18, 0.86) if theme is LIGHT else (0.3, 1.0)
    shades = [ends[0] + (ends[1] - ends[0]) * i / 255 for i in range(256)]
    return ScalarMappable(LogNorm(low / 1.01, high * 1.01), ListedColormap(colormaps[name](shades)))


def add_bar(ax: Axes, mapped: Any, label: str, name: Callable[[float], str] = short_flops) -> None:
    """Put a colour bar beside axes."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    theme, figure = theme_of(ax), ax.figure
    assert figure is not None
    bar = figure.colorbar(mapped, ax=ax, pad=0.015, aspect=36)
    bar.set_label(label, color=theme.ink, fontsize=9)
    bar.ax.yaxis.set_major_locator(FixedLocator(log_ticks(*bar.mappable.get_clim(), most=6)))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: name(value)))
    bar.ax.tick_params(labelsize=8, colors=theme.ink)
    bar.outline.set_visible(False)


def save(figure: Figure, path: str | Path) -> None:
    """Save a figure, as the suffix says; folders that are missing are made.

    Raises:
        InputError: If it is no kind of picture.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"plot: a picture is one of {', '.join(SUFFIXES)}; got {path.suffix or 'no suffix'!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def inline_svg(ax: Axes, name: str, description: str) -> str:
    """Return a light picture as SVG for a page, whose colours are the page's: one picture serves both themes.

    Args:
        ax: Axes of a figure of their own, in the light theme.
        name: What its ids begin with; another for each picture of a page.
        description: What it shows, for those who do not see it.
    """
    import html

    import matplotlib

    figure = ax.get_figure(root=True)
    assert figure is not None
    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg).replace("url(#", f"url(#{name}-")
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    label = html.escape(description, quote=True)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
    for field in fields(Theme):
        svg = re.sub(getattr(LIGHT, field.name), f"var(--{field.name})", svg, flags=re.IGNORECASE)
    return svg
