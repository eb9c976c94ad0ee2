"""`scalestop fit`: a law from the records of runs: read, fit, print, save, draw."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from scalestop.commands._console import new_console
from scalestop.commands._json import as_json
from scalestop.commands._parser import new_parser, parse
from scalestop.errors import InputError, ScalestopWarning
from scalestop.files import as_path
from scalestop.fitting.backtest import Backtest, backtest
from scalestop.fitting.fit import Method, fit_law
from scalestop.fitting.law_fit import LawFit
from scalestop.laws.base import NCounts
from scalestop.report.fit_tables import constants_table, optimum_table

PLOTS = (".png", ".svg", ".pdf", ".jpg", ".jpeg")
"""Kinds of picture, by suffix."""

BOOTSTRAP = 4000
"""Refits of the command: standard errors to 1 %."""


def run(words: Sequence[str]) -> int:
    """Fit a law, print it, and save it where asked."""
    parser = new_parser("fit", "Fit a scaling law to the records of runs, with honest intervals.")
    parser.add_argument("records", type=str, nargs="+", help="files, folders or globs of run records, or tables")
    parser.add_function_arguments(fit_law, skip={"records", "weights", "delta", "progress"})
    parser.add_argument("--out", type=str, default=None, help="where to save the law, as JSON")
    parser.add_argument("--plot", type=str, default=None, help="where to save the picture (.png, .svg, .pdf)")
    parser.add_argument("--with_backtest", type=bool, default=False, help="also fit on cheap runs, predict dear ones")
    parser.set_defaults(bootstrap=BOOTSTRAP)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parse(parser, words).as_dict()
    options.pop("config", None)
    return run_fit(data_only=options.pop("json"), **options)


def run_fit(
    records: str | Path | Sequence[str | Path],
    method: Method = "valley",
    *,
    bootstrap: int = BOOTSTRAP,
    name: str | None = None,
    n_counts: NCounts | None = None,
    out: str | Path | None = None,
    plot: str | Path | None = None,
    with_backtest: bool = False,
    data_only: bool = False,
    console: Console | None = None,
    **options: Any,
) -> int:
    """Fit a law to records and show it.

    Args:
        records: Files, folders or globs; see `read_runs`.
        method: How to fit; see `fit_law`.
        bootstrap: Refits for the intervals; 0 for a point fit without any.
        name: Name of the law.
        n_counts: What N means; None takes what the records say.
        out: Where to save the law, as JSON; not saved if None.
        plot: Where to save the picture; not drawn if None.
        with_backtest: Also fit on the cheap runs and predict the dear ones.
        data_only: Print JSON in place of tables.
        console: Where to print, errors as well; standard output if None.
        **options: Further arguments of `fit_law`. What the law is fitted with, its backtest is fitted with.

    Returns:
        The exit code: 0, or, with a console, 2 where the data or an option cannot be used.

    Raises:
        InputError: If the data or an option cannot be used, without a console.
    """
    shown = console or new_console()
    source: Any = records if isinstance(records, str | Path) else list(records)
    try:
        _check(out, plot, options.get("seed", 0))
        with warnings.catch_warnings():
            # left-out rows come in the findings, where they can be read
            warnings.simplefilter("ignore", ScalestopWarning)
            with _progress(shown, disable=data_only) as bar:
                task = bar.add_task("refitting", total=bootstrap)
                fit = fit_law(
                    source,
                    method,
                    bootstrap=bootstrap,
                    name=name,
                    n_counts=n_counts,
                    progress=lambda done, total: bar.update(task, completed=done, total=total),
                    **options,
                )
            tested = backtest(source, method, **options) if with_backtest else None
        if data_only:
            shown.file.write(as_json(fit_to_dict(fit, tested)) + "\n")
        else:
            _show(fit, tested, shown)
        shown = Console(stderr=True) if data_only else shown
        if out is not None:
            shown.print(f"law saved: {escape(str(fit.law.save(as_path(out, 'out'))))}", soft_wrap=True)
        if plot is not None:
            from scalestop.report.fit_plot import plot_fit
            from scalestop.report.loss_plot import held_out_of

            reading = {name: options[name] for name in ("loss", "columns") if name in options}
            plot_fit(fit, as_path(plot, "plot"), held_out=held_out_of(source, **reading))
            shown.print(f"picture saved: {escape(str(plot))}", soft_wrap=True)
    except (InputError, OSError) as error:
        if console is None:
            raise
        console.print(f"scalestop: error: {escape(str(error))}", soft_wrap=True, highlight=False)
        return 2
    return 0


def fit_to_dict(fit: LawFit, tested: Backtest | None = None) -> dict[str, Any]:
    """Return a fit as plain data: the law without its draws, which its file has, and what speaks against it."""
    law = fit.law.to_dict()
    if law.get("uncertainty"):
        law["uncertainty"] = {
            k: v for k, v in law["uncertainty"].items() if not isinstance(v, str | list) or len(v) < 99
        }
    _, top = fit.law.info.valid.flops or (0.0, 1e18)  # as in the table
    return {
        "law": law,
        "method": fit.method,
        "objective": fit.objective,
        "level": fit.options.level,
        "num_runs": len(fit.table),
        "intervals": {name: asdict(found) for name, found in fit.intervals.items()},
        "optima": [asdict(fit.optimum(top * factor)) for factor in (1, 10, 100)],
        "findings": [asdict(finding) for finding in fit.diagnostics.findings],
        "backtest": None if tested is None else asdict(tested),
    }


def _show(fit: LawFit, tested: Backtest | None, shown: Console) -> None:
    shown.print(_headline(fit))
    shown.print(constants_table(fit))
    shown.print(optimum_table(fit))
    _print_findings(fit, shown)
    if tested is not None:
        shown.print("\n[bold]Backtest[/]: fitted on cheap runs, predicting dearer ones")
        shown.print(escape(str(tested)), highlight=False)


def _check(out: str | Path | None, plot: str | Path | None, seed: int) -> None:
    """Refuse what would fail only after the fit.

    Raises:
        InputError: Naming the option.
    """
    if seed < 0:
        raise InputError(f"seed: must not be negative; got {seed}")
    for name, given in (("out", out), ("plot", plot)):
        if given is not None and os.path.isdir(as_path(given, name)):
            raise InputError(f"{name}: {given} is a folder; give a file in it")
    if plot is not None and (suffix := Path(plot).suffix.lower()) not in PLOTS:
        raise InputError(f"plot: a picture is one of {', '.join(PLOTS)}; got {suffix or 'no suffix'!r}")


def _progress(console: Console, disable: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=disable,  # its last line break would stand before an error
    )


def _headline(fit: LawFit) -> str:
    info = fit.law.info
    return (
        f"[bold]{escape(fit.law.name)}[/]: {escape(type(fit.law).formula())}\n"
        f"{escape(info.source)}; {escape(info.fitted_on)}; N counts {info.n_counts} parameters"
    )


def _print_findings(fit: LawFit, console: Console) -> None:
    for finding in fit.diagnostics.findings:
        colour = "yellow" if finding.severity == "warning" else "dim"
        console.print(f"[{colour}]{finding.severity}[/] {escape(finding.message)}", highlight=False, soft_wrap=True)
    if not fit.diagnostics.findings:
        console.print("nothing speaks against this fit", style="dim")
