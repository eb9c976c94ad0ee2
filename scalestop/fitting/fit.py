"""`fit_law`: runs in, a law with its uncertainty and its doubts out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any, Literal, TypeAlias

import numpy as np

from scalestop.errors import InputError, ScalestopWarning
from scalestop.fitting.diagnostics import Diagnostics, leverage_of, outliers_of, seed_noise_of
from scalestop.fitting.findings import fit_findings, table_findings
from scalestop.fitting.intervals import POINT_FIT
from scalestop.fitting.law_fit import LawFit, exponent
from scalestop.fitting.methods.envelope import fit_envelope
from scalestop.fitting.methods.isoflop import fit_isoflop
from scalestop.fitting.methods.kaplan import fit_kaplan
from scalestop.fitting.methods.method import FitOptions, MethodFit
from scalestop.fitting.methods.parametric import fit_parametric
from scalestop.fitting.methods.repeated import fit_repeated
from scalestop.fitting.methods.valley import fit_valley
from scalestop.fitting.plausible import require_counts, unit_findings
from scalestop.fitting.solve.newton import Array
from scalestop.fitting.tables.columns import Columns
from scalestop.fitting.tables.read import read_runs
from scalestop.fitting.tables.sweep import BestOf, best_rows, parse_best_of
from scalestop.fitting.tables.table import RunTable, describe_bad_rows
from scalestop.laws import Finding, LawInfo, ValidRange
from scalestop.laws.base import NCounts
from scalestop.units import human_count

Method: TypeAlias = Literal["valley", "parametric", "isoflop", "envelope", "kaplan", "repeated"]

METHODS: Mapping[str, Callable[[RunTable, FitOptions], MethodFit]] = {
    "valley": fit_valley,
    "parametric": fit_parametric,
    "isoflop": fit_isoflop,
    "envelope": fit_envelope,
    "kaplan": fit_kaplan,
    "repeated": fit_repeated,
}


def fit_law(
    records: Any,
    method: Method = "valley",
    *,
    bootstrap: int = 1000,
    seed: int = 0,
    level: float = 0.9,
    name: str | None = None,
    loss: str = "loss",
    n_counts: NCounts | None = None,
    columns: Columns = None,
    best_of: BestOf = None,
    weights: Sequence[float] | Array | None = None,
    tied: bool = False,
    irreducible: float | None = None,
    delta: float = 1e-3,
    fitted_scale: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> LawFit:
    """Fit a scaling law to runs.

    Args:
        records: Runs: record files, folders or globs; CSV or `.jsonl`; a DataFrame; mappings; see `read_runs`. Those
            marked as held out are left to `backtest`.
        method: `valley` (near the frontier, with intervals that carry what the form gets wrong: to forecast with), or a
            published estimator: `parametric` (Hoffmann et al. 2022, Approach 3), `isoflop` (Approach 2), `envelope`
            (Approach 1, from loss curves within runs), `kaplan` (Kaplan et al. 2020, joint L(N, D)), or `repeated`
            (Muennighoff et al. 2023, from runs with `unique_tokens`).
        bootstrap: Refits to runs drawn with replacement (`valley`: to runs noised anew), for the intervals; 0 for a
            point fit without any.
        seed: Seed of the bootstrap.
        level: Share of the distribution inside each interval.
        name: Name of the law; `fitted-METHOD` if None.
        loss: Column or logged metric that holds the loss, nats per token.
        n_counts: What N means, `total` or `body`; None takes what the records say, else `total`.
        columns: Which column means what, where its name does not say, such as `"params=n_active,tokens=seen"`.
        best_of: Settings that the table sweeps, such as `"lr,batch"`: of the runs at each (N, D) only those of the
            best setting are fitted.
        weights: Weight of each usable row, held out or not, in the records' order; multiplies a `weight` column.
        tied: Hold alpha = beta (parametric, repeated).
        irreducible: Hold E at this, nats per token; 0 for a law without E (parametric, repeated).
        delta: Huber threshold in log loss; Hoffmann et al.'s 1e-3.
        fitted_scale: Maximise the Huber likelihood with a fitted scale (Besiroglu et al. 2024) instead of minimising
            the Huber sum (parametric).
        progress: Called with the refits done and the refits asked for.

    Returns:
        The law, intervals of its constants (bias-corrected and accelerated, with plain percentiles beside; `valley`:
        the law's own value give or take), residuals, diagnostics. What it forecasts has the law's own intervals, those
        of `laws.intervals`.

    Raises:
        InputError: If the records cannot be read, no usable run is among them, their numbers are no counts, or they
            cannot determine the law.
    """
    if method not in METHODS:
        raise InputError(f"method: {method!r} is not one of {', '.join(METHODS)}")
    options = FitOptions(bootstrap, seed, level, tied, irreducible, delta, fitted_scale, progress)
    table = weighted(read_runs(records, loss=loss, columns=columns, keep=parse_best_of(best_of)), weights)
    if table.bad_rows:
        what = f"fit_law left out {len(table.bad_rows)} rows: {describe_bad_rows(table.bad_rows)}"
        warnings.warn(what, ScalestopWarning, stacklevel=2)
    held_out = sum(table.held_out)
    if held_out == len(table):
        raise InputError("records: every run is marked as held out; keep some to fit")
    table = table.take(~np.array(table.held_out))
    table, notes = _distinct(table, best_of)
    if held_out:
        notes.append(Finding("held-out", "note", f"{held_out} runs are marked as held out and were not fitted."))
    require_counts(table)
    raw = METHODS[method](table, options)
    diagnostics = _diagnose(table, raw, method, notes)
    info = _info(table, raw, method, name, n_counts, diagnostics.findings)
    law = raw.law(info, table, method, {})
    fit = LawFit(law, {}, raw.residuals, diagnostics, method, raw.objective, table, options, raw)
    intervals = {name: fit.interval_of_constant(name) for name in raw.names}
    # from the law itself, so that every form's exponents come out alike
    intervals.setdefault("a", fit.interval_of(lambda law: exponent(law, table)))
    intervals.setdefault("b", fit.interval_of(lambda law: 1 - exponent(law, table)))
    ends = {name: (intervals[name].low, intervals[name].high) for name in raw.names}
    return replace(fit, law=raw.law(info, table, method, ends), intervals=intervals)


def weighted(table: RunTable, weights: Sequence[float] | Array | None) -> RunTable:
    """Return the table with each row's weight multiplied by these, shape (R,), positive; None leaves them as they are.

    Raises:
        InputError: If their number or one of them is wrong.
    """
    if weights is None:
        return table
    given = np.asarray(weights, dtype=np.float64)
    if given.shape != table.weight.shape or not np.all(np.isfinite(given) & (given > 0)):
        raise InputError(
            f"weights: expected {len(table)} positive numbers, one a usable run; got shape {given.shape}"
            f"{'' if given.shape != table.weight.shape else ' with some not positive or not finite'}"
        )
    return replace(table, weight=table.weight * given)


def _distinct(table: RunTable, best_of: BestOf) -> tuple[RunTable, list[Finding]]:
    """Return the runs to fit: the best of each point where asked for, and no row twice."""
    notes = []
    best = table.take(best_rows(table, best_of))
    if len(best) < len(table):
        names = " and ".join(parse_best_of(best_of))
        what = f"{len(best)} of {len(table)} runs were fitted: those of the best {names} at each (N, D)."
        if "smooth_loss" in table.columns:
            what += " The least of many noisy losses lies too low; a smoothed one less so: loss='smooth_loss'."
        notes.append(Finding("best-of", "note", what))
    copies = best.copies
    if copies.any():
        what = f"{copies.sum()} rows repeat another row exactly, and were counted once: a copy is no further evidence."
        notes.append(Finding("copies", "warning", what))
    return best.take(~copies), notes


def _info(
    table: RunTable,
    raw: MethodFit,
    method: str,
    name: str | None,
    n_counts: NCounts | None,
    findings: tuple[Finding, ...],
) -> LawInfo:
    said = {c for c in table.n_counts if c in ("total", "body")}
    counts: Any = n_counts or (said.pop() if len(said) == 1 else "total")
    files = sorted({PurePath(source).name for source in table.sources})
    shown = ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
    columns = (table.params, table.tokens, 6 * table.params * table.tokens)
    valid = ValidRange(*((column.min(), column.max()) for column in columns))
    sizes, lengths = (f"{human_count(c.min())} to {human_count(c.max())}" for c in columns[:2])
    return LawInfo(
        name=name or f"fitted-{method}",
        n_counts=counts,
        source=f"fitted by scalestop, method {method}, to {len(table)} runs ({shown})",
        fitted_on=f"{sizes} parameters, {lengths} tokens",
        valid=valid,
        notes=raw.notes,
        findings=findings,
    )


def _diagnose(table: RunTable, raw: MethodFit, method: str, notes: list[Finding]) -> Diagnostics:
    log_ratio = raw.residuals.log_ratio
    whole = len(log_ratio) == len(table)
    runs = raw.left_out or table.group_names
    alone = raw.jackknife if raw.alone is None else raw.alone
    leverage = leverage_of(raw.names, runs, raw.estimate, raw.draws, alone) if len(alone) and len(raw.draws) else ()
    # a run where the law is not meant to hold is no outlier, and makes no trend
    part, log_ratio = (table, log_ratio) if raw.judged is None else (table.take(raw.judged), log_ratio[raw.judged])
    alike = (outliers_of(part, log_ratio), seed_noise_of(part, log_ratio)) if whole else ((), None)
    known = Diagnostics((), leverage, *alike)
    # where priors hold the constants none of them runs away; the method says itself which stayed at theirs
    free, drifts = (raw.draws, False) if raw.judged is None else (raw.draws[:0], True)
    found = [
        *raw.findings,
        *unit_findings(table),
        *table_findings(table, repeated=method == "repeated"),
        *(fit_findings(part, known, raw.names, free, log_ratio, drifts=drifts) if whole else ()),
        *notes,
    ]
    if not len(raw.draws):
        found.append(Finding("point-fit", "note", POINT_FIT))
    found.sort(key=lambda finding: finding.severity != "warning")
    return replace(known, findings=tuple(found))
