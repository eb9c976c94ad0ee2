"""The page of a recommendation: its parts, with the valley, the frontier and the plane."""

from __future__ import annotations

from scalestop.laws import ScalingLaw
from scalestop.planning.advice.recommendation import Recommendation
from scalestop.planning.advice.unique import repeating
from scalestop.report.law_plot import Run, plot_frontier, plot_plane, plot_valley
from scalestop.report.pages import Page
from scalestop.report.style import inline_svg
from scalestop.units import human_count, human_flops


def recommendation_page(found: Recommendation, law: ScalingLaw, *, pictures: bool = True) -> Page:
    """Return a recommendation as a page.

    Args:
        found: The recommendation.
        law: The law behind it.
        pictures: Whether to draw; Markdown has no use for pictures.
    """
    shown = {}
    if found.wall is not None and found.wall.best is not found.wall.free:
        law = repeating(law, found.wall.unique_tokens)
    if pictures:
        n, d, flops = found.train.num_params, found.train.num_tokens, found.flops
        valley = plot_valley(law, flops, marked=(n, d))
        marks = [("this budget", flops), ("2x", 2 * flops), ("10x", 10 * flops)]
        frontier = plot_frontier(law, (flops / 1e3, flops * 30), marks=marks)
        here: list[Run] = [("recommended", n, d, None)]
        size = human_count(n)
        shown = {
            "Alternatives": [
                inline_svg(valley, "valley", f"Loss against model size at {human_flops(flops)}; recommended is {size}"),
                inline_svg(plot_plane(law, here), "plane", "Parameters against tokens, with the law's optimum"),
            ],
            "The next 2x": [inline_svg(frontier, "frontier", "The least loss for the compute, with 2x and 10x marked")],
        }
    return Page(
        title=f"What to train for {found.budget}",
        subtitle=f"{human_flops(found.flops)} by law {found.basis.law}",
        parts=found.sections,
        headline=found.decision,
        pictures=shown,
    )
