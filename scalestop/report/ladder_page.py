"""The page of a ladder: the law it gave, its forecast, the runs that were held out, and where the compute went."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scalestop.fitting.intervals import Interval
from scalestop.fitting.law_fit import LawFit
from scalestop.laws import ScalingLaw, get_law
from scalestop.laws.intervals import interval_of_optimum, interval_of_run
from scalestop.planning.advice.basis import best_spot, signed
from scalestop.planning.advice.checks import checklist
from scalestop.planning.advice.gains import what_next
from scalestop.planning.advice.recommendation import Section, risk_lines
from scalestop.planning.advice.regime import run_name
from scalestop.planning.allocation import spread
from scalestop.report.fit_plot import describe_fit, plot_allocation, plot_residuals
from scalestop.report.law_plot import Run, plot_frontier, plot_plane, plot_valley
from scalestop.report.loss_plot import Points, plot_isoflops, plot_sizes
from scalestop.report.pages import Page
from scalestop.report.run_plot import Spending, plot_spending
from scalestop.report.style import inline_svg
from scalestop.units import human_count, human_flops


@dataclass(frozen=True)
class ReportedLadder:
    """What a page tells of a ladder."""

    name: str
    fit: LawFit
    """The fit of its pilots."""
    law: ScalingLaw
    """The law that it saved; the fit's own where it saved none yet."""
    held_out: Points
    """Runs that the fit has not seen, of those kinds that a forecast is held against."""
    spent: tuple[tuple[str, int, float], ...]
    """Each kind of run: its name, how many, and their FLOPs."""
    target_flops: float
    """Compute of the run to forecast, FLOPs."""
    notes: tuple[str, ...] = ()
    """What else there is to know: the recipe, runs that diverged or are missing."""
    law_path: str = "law.json"
    """How commands name the law."""


def ladder_page(ladder: ReportedLadder) -> Page:
    """Return the page of a ladder.

    Args:
        ladder: The ladder.
    """
    fit, law, target = ladder.fit, ladder.law, ladder.target_flops
    best = best_spot(law, target)
    pilots = float((6 * fit.table.params * fit.table.tokens).sum())
    headline = f"{run_name(best)} for {human_flops(target)}: expect a loss of "
    headline += spread(best.loss or 0.0, interval_of_run(law, best.num_params, best.num_tokens), ".4f")
    size = spread(best.num_params, interval_of_optimum(law, target).num_params)
    short = (
        headline,
        f"N_opt {size}; law {law.name}, fitted to {len(fit.table)} runs, which spent "
        f"{pilots / target:.1%} of that compute.",
    )
    held, inside = _held_out(law, ladder.held_out)
    parts = [Section("In short", short)]
    if held:
        line = f"{inside} of {len(held)} ended inside the 90 % interval that was forecast for them"
        heads = ("compute", "N", "tokens", "measured", "forecast", "miss", "90 % of runs")
        parts.append(Section("Held out", (line,), heads, held))
    rows = tuple((name, f"{count}", human_flops(flops), f"{flops / target:.2%}") for name, count, flops in ladder.spent)
    gains = what_next(law, flops=target)
    steps = tuple((g.what, run_name(g.spot), f"{g.spot.loss:.3f}", signed(-g.gain), g.in_words) for g in gains.gains)
    constants = tuple((name, f"{found.estimate:.5g}", _ends(found)) for name, found in fit.intervals.items())
    formula = tuple(describe_fit(fit).splitlines()[:2])
    findings = tuple(f"{finding.severity}: {finding.message}" for finding in fit.diagnostics.findings)
    command = f"scalestop train --law {ladder.law_path} --budget '{human_flops(target)}'"
    parts += [
        Section("The fit", formula, ("constant", "value", "90 % interval"), constants),
        Section("The forecast"),
        Section("Where the compute went", (), ("kind", "runs", "compute", "of the target"), rows),
        Section("The next 2x", heads=("", "run", "loss", "change", ""), rows=steps),
        Section("Findings", findings or ("nothing speaks against this fit",)),
        Section("Risks", risk_lines(checklist(law, best.num_params, best.num_tokens))),
        Section("Assumptions", (f"law {law.name}: {law.info.source}; {law.info.fitted_on}", *ladder.notes)),
        Section("Commands", commands=(command,)),
    ]
    return Page(
        title=f"Ladder {ladder.name}",
        subtitle=f"{len(fit.table)} pilots, to forecast {human_flops(target)}",
        parts=parts,
        headline=headline,
        pictures=_pictures(ladder),
    )


def _pictures(ladder: ReportedLadder) -> dict[str, Sequence[str]]:
    fit, law, target = ladder.fit, ladder.law, ladder.target_flops
    table, held = fit.table, ladder.held_out
    runs: list[Run] = [
        ("", float(n), float(d), float(loss))
        for source in (table, held)
        for n, d, loss in zip(source.params, source.tokens, source.loss, strict=True)
    ]
    flops = np.array([6 * n * d for _, n, d, _ in runs])
    dearest = float((6 * table.params * table.tokens).max())
    at_valley = [run for run, c in zip(runs, flops, strict=True) if abs(np.log(c / dearest)) < 0.1]
    spendings = [Spending("ladder", tuple((kind, c / target) for kind, _, c in ladder.spent))]
    spent = plot_spending(spendings, "the target's compute")
    return {
        "The fit": [
            inline_svg(plot_isoflops(fit, held), "isoflops", "Loss against size at like compute, and the law"),
            inline_svg(plot_sizes(fit, held), "sizes", "Loss against tokens, with the law's curves of one size"),
            inline_svg(plot_allocation(fit), "allocation", "Best size and tokens against compute, with their bands"),
            inline_svg(plot_residuals(fit, held), "residuals", "Each run's measured over fitted loss"),
        ],
        "The forecast": [
            inline_svg(plot_frontier(law, (float(flops.min()), target * 10), runs, marks=[("target", target)]),
                       "frontier", "The least loss for the compute, up to the target"),
            inline_svg(plot_valley(law, dearest, at_valley), "valley", "Loss against size at the dearest pilots'"),
            inline_svg(plot_plane(law, runs, known=()), "plane", "Parameters against tokens of the runs"),
            inline_svg(plot_plane(get_law()), "known", "Known models, with the default law's optimum"),
        ],
        "Where the compute went": [inline_svg(spent, "spending", "Compute by kind of run")],
    }  # fmt: skip


def _held_out(law: ScalingLaw, points: Points) -> tuple[tuple[tuple[str, ...], ...], int]:
    rows, inside = [], 0
    every = zip(points.params, points.tokens, points.loss, strict=True)
    for n, d, loss in sorted(every, key=lambda p: (round(math.log10(6 * p[0] * p[1]), 1), p[0])):
        forecast, span = float(law.loss(float(n), float(d))), interval_of_run(law, float(n), float(d))
        inside += span is not None and span[0] <= loss <= span[1]
        rows.append(
            (human_flops(6 * n * d), human_count(n), human_count(d), f"{loss:.4f}", f"{forecast:.4f}",
             f"{loss - forecast:+.4f}", "" if span is None else f"{span[0]:.4f} to {span[1]:.4f}")
        )  # fmt: skip
    return tuple(rows), inside


def _ends(found: Interval) -> str:
    return "" if found.is_point else f"{found.low:.4g} to {found.high:.4g}"
