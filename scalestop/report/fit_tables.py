"""The tables of a fit, for a terminal: constants with intervals, and the optimum at larger budgets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from scalestop.fitting.intervals import Interval
from scalestop.fitting.law_fit import LawFit
from scalestop.laws import get_law
from scalestop.units import human_count, human_flops

CHINCHILLA_RUNS = "60e5a1244cdb0c1cfd0398d25b826df662d182063ef488c577457cc55a56328c"
"""`RunTable.data_hash` of the 240 runs that Besiroglu et al. 2024 fit, so that their values can stand beside ours."""

_PUBLISHED_ALLOCATION: Mapping[str, tuple[float, str]] = {
    "isoflop": (0.49, "Hoffmann et al. 2022, Approach 2, on all their runs"),
    "envelope": (0.50, "Hoffmann et al. 2022, Approach 1, on all their runs"),
}


def constants_table(fit: LawFit) -> Table:
    """Return the constants with their intervals, and published values beside where the runs are the published ones."""
    published, where = published_values(fit)
    table = Table(header_style="bold", box=SIMPLE_HEAD)
    table.add_column("constant")
    table.add_column("value", justify="right")
    table.add_column(f"{fit.options.level:.0%} interval", justify="right")
    table.add_column("standard error", justify="right")
    if published:
        table.add_column("published", justify="right")
        table.caption = f"published: {where}"
    for name, found in fit.intervals.items():
        row = [name, f"{found.estimate:.5g}"]
        row += ["", ""] if found.is_point else [f"{found.low:.4g} to {found.high:.4g}", f"{found.standard_error:.3g}"]
        if published:
            row.append(f"{published[name]:.5g}" if name in published else "")
        table.add_row(*row)
    return table


def published_values(fit: LawFit) -> tuple[dict[str, float], str]:
    """Return published constants for these very runs, and their source; empty for other runs."""
    if fit.table.data_hash != CHINCHILLA_RUNS:
        return {}, ""
    if fit.method == "parametric":
        law: Any = get_law("besiroglu")
        values = {name: float(value) for name, value in law.constants.items()}
        return values | {"a": law.a, "b": law.b}, "Besiroglu et al. 2024, the same 240 runs (they fit the scale too)"
    if fit.method in _PUBLISHED_ALLOCATION:
        a, where = _PUBLISHED_ALLOCATION[fit.method]
        return {"a": a, "b": 1 - a}, where
    return {}, ""


def optimum_table(fit: LawFit) -> Table:
    """Return the optimum at the dearest run's compute, at ten and at a hundred times that."""
    table = Table(header_style="bold", box=SIMPLE_HEAD)
    level = f"{fit.options.level:.0%}"
    for column in ("FLOPs", "N_opt", level, "D_opt", level, "D/N", "loss"):
        table.add_column(column, justify="right", no_wrap=True)
    _, high = fit.law.info.valid.flops or (0.0, 1e18)
    for factor in (1, 10, 100):
        best = fit.optimum(high * factor)
        n, d = best.num_params, best.num_tokens
        table.add_row(
            human_flops(high * factor).removesuffix(" FLOPs"),
            human_count(n.estimate),
            _ends(n),
            human_count(d.estimate),
            _ends(d),
            f"{d.estimate / n.estimate:.3g}",
            "" if best.loss is None else f"{best.loss.estimate:.3f}",
        )
    return table


def _ends(found: Interval) -> str:
    return "" if found.is_point else f"{human_count(found.low)} - {human_count(found.high)}"
