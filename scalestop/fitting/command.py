"""The body of `scalestop fit`: read, fit, print, save, draw."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from scalestop.errors import InputError, ScalestopWarning
from scalestop.fitting.backtest import backtest
from scalestop.fitting.fit import Method, fit_law
from scalestop.fitting.law_fit import LawFit
from scalestop.laws import get_law
from scalestop.laws.base import NCounts
from scalestop.units import human_count, human_flops

CHINCHILLA_RUNS = "60e5a1244cdb0c1cfd0398d25b826df662d182063ef488c577457cc55a56328c"
"""`RunTable.data_hash` of the 240 runs that Besiroglu et al. 2024 fit, so that their values can stand beside ours."""

_PUBLISHED_ALLOCATION: Mapping[str, tuple[float, str]] = {
    "isoflop": (0.49, "Hoffmann et al. 2022, Approach 2, on all their runs"),
    "envelope": (0.50, "Hoffmann et al. 2022, Approach 1, on all their runs"),
}


def run_fit(
    records: str | Path | Sequence[str | Path],
    method: Method = "parametric",
    bootstrap: int = 4000,
    out: str | Path | None = None,
    plot: str | Path | None = None,
    *,
    loss: str = "loss",
    n_counts: NCounts | None = None,
    name: str | None = None,
    tied: bool = False,
    irreducible: float | None = None,
    fitted_scale: bool = False,
    level: float = 0.9,
    seed: int = 0,
    with_backtest: bool = False,
    console: Console | None = None,
) -> int:
    """Fit a law to records and show it.

    Args:
        records: Files, folders or globs; see `read_runs`.
        method: How to fit; see `fit_law`.
        bootstrap: Refits for the intervals.
        out: Where to save the law, as JSON; not saved if None.
        plot: Where to save the picture (.png, .svg, .pdf); not drawn if None.
        loss: Column or logged metric that holds the loss.
        n_counts: What N means; None takes what the records say.
        name: Name of the law.
        tied: Hold alpha = beta.
        irreducible: Hold E at this, nats per token.
        fitted_scale: Fit the scale of a Huber likelihood too.
        level: Share of the distribution inside each interval.
        seed: Seed of the bootstrap.
        with_backtest: Also fit on the cheap runs and predict the dear ones.
        console: Where to print; standard output if None. Errors go to standard error, or to the console given.

    Returns:
        The exit code: 0, or 2 where the data or an option cannot be used.
    """
    shown = console or Console()
    source: Any = records if isinstance(records, str | Path) else list(records)
    try:
        with warnings.catch_warnings():
            # left-out rows come in the findings, where they can be read
            warnings.simplefilter("ignore", ScalestopWarning)
            with _progress(shown) as bar:
                task = bar.add_task("refitting", total=bootstrap)
                fit = fit_law(
                    source,
                    method,
                    bootstrap=bootstrap,
                    seed=seed,
                    level=level,
                    name=name,
                    loss=loss,
                    n_counts=n_counts,
                    tied=tied,
                    irreducible=irreducible,
                    fitted_scale=fitted_scale,
                    progress=lambda done, total: bar.update(task, completed=done, total=total),
                )
            tested = backtest(source, method, loss=loss, level=level, tied=tied) if with_backtest else None
        shown.print(_headline(fit))
        shown.print(constants_table(fit))
        shown.print(optimum_table(fit))
        _print_findings(fit, shown)
        if tested is not None:
            shown.print("\n[bold]Backtest[/]: fitted on cheap runs, predicting dearer ones")
            shown.print(escape(str(tested)), highlight=False)
        if out is not None:
            shown.print(f"law saved: {escape(str(fit.law.save(out)))}", soft_wrap=True)
        if plot is not None:
            from scalestop.report.fit_plot import plot_fit

            plot_fit(fit, plot)
            shown.print(f"picture saved: {escape(str(plot))}", soft_wrap=True)
    except (InputError, OSError) as error:
        complaint = console or Console(stderr=True)
        complaint.print(f"scalestop: error: {escape(str(error))}", soft_wrap=True, highlight=False)
        return 2
    return 0


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def _headline(fit: LawFit) -> str:
    info = fit.law.info
    return (
        f"[bold]{escape(fit.law.name)}[/]: {escape(type(fit.law).formula())}\n"
        f"{escape(info.source)}; {escape(info.fitted_on)}; N counts {info.n_counts} parameters"
    )


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
        row = [name, f"{found.estimate:.5g}", f"{found.low:.4g} to {found.high:.4g}", f"{found.standard_error:.3g}"]
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
            f"{human_count(n.low)} - {human_count(n.high)}",
            human_count(d.estimate),
            f"{human_count(d.low)} - {human_count(d.high)}",
            f"{d.estimate / n.estimate:.3g}",
            "" if best.loss is None else f"{best.loss.estimate:.3f}",
        )
    return table


def _print_findings(fit: LawFit, console: Console) -> None:
    for finding in fit.diagnostics.findings:
        colour = "yellow" if finding.severity == "warning" else "dim"
        console.print(f"[{colour}]{finding.severity}[/] {escape(finding.message)}", highlight=False, soft_wrap=True)
    if not fit.diagnostics.findings:
        console.print("nothing speaks against this fit", style="dim")
