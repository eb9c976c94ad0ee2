"""Exponents and constants beside the published ones, for every public table at hand.

    python tests/benchmarks/bench_fitting_published.py

Finds the tables as the tests do: in the folder SCALESTOP_DATA, else `../shared/data`. Takes a few seconds.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from fitting_data import chinchilla_runs, data_folder, read_columns

from scalestop.fitting import backtest, fit_law

BOOTSTRAP = 4000
SMALL = 412e6
"""Parameters up to which Gadre et al.'s runs count as small."""


def _row(table: Table, data: str, how: str, name: str, found: Any, published: str, source: str) -> None:
    interval = f"{found.low:.4g} to {found.high:.4g}"
    table.add_row(data, how, name, f"{found.estimate:.5g}", interval, f"{found.standard_error:.3g}", published, source)


def _chinchilla(table: Table) -> None:
    runs = chinchilla_runs()
    data = "chinchilla, 240 runs"
    printed = {
        "E": "1.81686 (SE .0257)",
        "A": "482.006 (SE 124.5)",
        "B": "2085.43 (SE 1293)",
        "alpha": ".34781 (SE .0154)",
        "beta": ".36585 (SE .0206)",
        "a": ".513 (SE .020)",
    }
    for how, options in (
        ("fitted scale", {"fitted_scale": True, "bootstrap": 1000}),
        ("Huber sum", {"bootstrap": BOOTSTRAP}),
    ):
        fit = fit_law(runs, **options)
        for name, value in printed.items():
            _row(table, data, how, name, fit.intervals[name], value, "Besiroglu 2024")
    _row(table, data, "isoflop", "a", fit_law(runs, "isoflop").intervals["a"], ".49", "Hoffmann 2022")
    _row(table, data, "kaplan", "a", fit_law(runs, "kaplan").intervals["a"], "none", "")


def _gadre(table: Table) -> None:
    columns = read_columns(data_folder() / "gadre_testbed.csv")
    ratio, millions = np.round(columns["token_multiplier"]), np.round(columns["n_params"] / 1e6)
    # the paper's law: alpha = beta = 2·eta, from five small runs
    five = ((ratio == 20) & (columns["n_params"] <= SMALL)) | ((millions == 11) & (ratio == 320))
    for name, eta, floor in (
        ("c4_original", ".1212", "1.508"),
        ("rpj", ".1364", "1.837"),
        ("rw_original", ".1272", "1.734"),
    ):
        chosen = columns["train_set"] == name
        for what, rows in (("5 small runs", chosen & five), (f"all {chosen.sum()} runs", chosen)):
            runs = {
                "params": columns["n_params"][rows],
                "tokens": columns["n_tokens"][rows],
                "loss": columns["loss"][rows],
            }
            # least squares, as the paper's, where the five runs are all there is
            options: dict[str, Any] = {"delta": 1.0} if rows.sum() == 5 else {}
            fit = fit_law(runs, tied=True, bootstrap=1000, **options)
            halved = fit.interval_of(lambda law: law.alpha / 2)
            where = f"gadre {name.removesuffix('_original')}, {what}"
            _row(table, where, "alpha = beta", "alpha/2", halved, eta, "Gadre 2024")
            _row(table, where, "alpha = beta", "E", fit.intervals["E"], floor, "Gadre 2024")
            free = fit_law(runs, bootstrap=1000) if rows.sum() > 5 else None
            if free is not None:
                _row(table, where, "parametric", "a", free.intervals["a"], ".5 (imposed)", "Gadre 2024")


def _gadre_backtest(console: Console) -> None:
    columns = read_columns(data_folder() / "gadre_testbed.csv")
    chosen = columns["train_set"] == "rpj"
    runs = {name: column[chosen] for name, column in columns.items()}
    small = runs["n_params"] <= SMALL
    ratio, millions = np.round(runs["token_multiplier"]), np.round(runs["n_params"] / 1e6)
    five = (small & (ratio == 20)) | ((millions == 11) & (ratio == 320))
    console.print("\nGadre et al.'s held-out check, RedPajama (published: 0.71 % and 0.73 %)")
    for what, train in (("5 small runs", five), (f"all {small.sum()} small runs", small)):
        used = train | ~small
        found = backtest(
            {
                "params": runs["n_params"][used],
                "tokens": runs["n_tokens"][used],
                "loss": runs["loss"][used],
                "run": runs["name"][used],
            },
            train=train[used],
            tied=True,
        )
        for p in found.predictions:
            if p.run in ("rpj-open_lm_1b-32.0", "rpj-open_lm_7b-1.0"):
                console.print(
                    f"  {what}, alpha = beta: {p.run} measured {p.measured:.4f}, predicted {p.predicted:.4f} "
                    f"({p.relative_error:+.2%}), {'inside' if p.covered else 'outside'} its 90 % interval",
                    highlight=False,
                )


def main() -> None:
    """Print the tables."""
    try:
        data_folder()
    except pytest.skip.Exception as missing:
        raise SystemExit(str(missing)) from None
    warnings.simplefilter("ignore")
    table = Table(box=SIMPLE_HEAD, header_style="bold")
    for column in ("data", "method", "constant", "ours", "90 % interval", "SE", "published", "source"):
        table.add_column(column, no_wrap=True)
    console = Console(width=140)
    _chinchilla(table)
    _gadre(table)
    console.print(table)
    _gadre_backtest(console)


if __name__ == "__main__":
    main()
