"""What a fit should be doubted for, one clear sentence each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scalestop.fitting.diagnostics import Diagnostics
from scalestop.fitting.solve.newton import Array
from scalestop.fitting.tables.sweep import find_sweep
from scalestop.fitting.tables.table import RunTable, describe_bad_rows
from scalestop.laws.findings import Finding, warnings_of

LEVERAGE_SHARE = 0.5
"""Standard errors by which one run of many may move a constant before it is named."""

FEW_RUNS = 10
"""Runs below which drawing them anew says little."""

_SHOWN = 5
_SWEPT_SHARE = 0.3
_SWEEP_SPREAD = 0.005
_ONE_LINE = 0.9995


def table_findings(table: RunTable, *, repeated: bool = False) -> tuple[Finding, ...]:
    """Return what the runs themselves give to think about, by a method that knows of repeated tokens or does not."""
    found: dict[str, str] = {}
    if table.bad_rows:
        many = "1 row was" if len(table.bad_rows) == 1 else f"{len(table.bad_rows)} rows were"
        found["bad-rows"] = f"{many} left out: {describe_bad_rows(table.bad_rows)}."
    counts = {c for c in table.n_counts if c is not None}
    if len(counts) > 1:
        shown = ", ".join(f"{table.n_counts.count(c)} count {c}" for c in sorted(counts))
        found["mixed-n"] = f"N means different things in different runs ({shown}); give all of them alike."
    ratio = table.flops / (6 * table.params * table.tokens)
    if ratio.max() / ratio.min() > 1.1:
        found["flops-disagree"] = (
            f"FLOPs over 6·N·D runs from {ratio.min():.3g} to {ratio.max():.3g}: either N is counted in more than "
            f"one way, or FLOPs contain what 6·N does not, such as attention. The fit uses N and D as given."
        )
    undecayed = [i for i, decayed in enumerate(table.lr_decayed) if decayed is False]
    if undecayed:
        shown = ", ".join(table.run[i] for i in undecayed[:_SHOWN])
        found["lr-not-decayed"] = (
            f"{len(undecayed)} of {len(table)} runs ended before their learning rate had come down ({shown}"
            f"{', ...' if len(undecayed) > _SHOWN else ''}): their losses are too high for their tokens, which "
            f"bends the law (Hoffmann et al. 2022, appendix B)."
        )
    epochs = table.tokens / table.unique_tokens
    several = int(np.sum(epochs > 1.001))
    if several and not repeated:
        found["repeated-tokens"] = (
            f"{several} of {len(table)} runs saw their tokens up to {np.nanmax(epochs):.3g} times; this method "
            f"counts a repeated token as new. Use method='repeated', or leave those runs out."
        )
    found |= _identity_findings(table)
    sweep = find_sweep(table)
    if sweep is not None and sweep.num_runs >= _SWEPT_SHARE * len(table) and sweep.spread > _SWEEP_SPREAD:
        names = ",".join(sweep.settings)
        found["sweep"] = (
            f"{sweep.num_runs} of {len(table)} runs lie at {sweep.num_points} points (N, D) and differ in "
            f"{' and '.join(sweep.settings)}, by {sweep.spread:.1%} of the loss at one point: a sweep, where a law "
            f"describes the best run of each point. Give best_of={names!r}."
        )
    log_n, log_d = np.log(table.params), np.log(table.tokens)
    if np.ptp(log_n) > 0 and np.ptp(log_d) > 0 and np.corrcoef(log_n, log_d)[0, 1] > _ONE_LINE:
        found["one-ratio"] = (
            f"D rises with N in step (D/N {np.exp((log_d - log_n).min()):.3g} to "
            f"{np.exp((log_d - log_n).max()):.3g}), so what each of them is worth, and with it N_opt, is hardly "
            f"determined; add runs of a quarter and of four times the D/N."
        )
    for symbol, unit, values in (("N", "parameters", table.params), ("D", "tokens", table.tokens)):
        if values.max() / values.min() < 8:
            found[f"narrow-{symbol}"] = (
                f"{symbol} spans only x{values.max() / values.min():.2g} ({values.min():.3g} to {values.max():.3g} "
                f"{unit}); its exponent needs about an order of magnitude."
            )
    return warnings_of(found)


def _identity_findings(table: RunTable) -> dict[str, str]:
    """Return what is odd about which rows are one run."""
    found = {}
    rows = np.column_stack([table.params, table.tokens, table.loss])
    copies = len(rows) - len(np.unique(rows, axis=0))
    if copies:
        found["duplicates"] = (
            f"{copies} rows repeat another's N, D and loss exactly under another name or seed; is a run counted twice?"
        )
    if shared := sorted(table.shared_names):
        rest = f" and {len(shared) - 3} more" if len(shared) > 3 else ""
        found["run-names"] = (
            f"run: {', '.join(map(repr, shared[:3]))}{rest} on rows of several N, so no single run is meant; each "
            f"of those rows was taken as a run of its own."
        )
    runs = len(table.group_names)
    if runs < min(FEW_RUNS, 0.75 * len(table)):
        found["few-runs"] = (
            f"{len(table)} rows are of only {runs} runs, by their run column, and intervals come from drawing "
            f"those: rough, and likely too narrow. Where each row is a run of its own, leave the column out."
        )
    return found


def fit_findings(
    table: RunTable, known: Diagnostics, names: Sequence[str], draws: Array, log_ratio: Array, *, drifts: bool = False
) -> tuple[Finding, ...]:
    """Return what the fit gives to think about: constants that are not determined, single runs, trends.

    Args:
        table: The runs whose residuals say something of them.
        known: Leverage, outliers and seed noise.
        names: Constants.
        draws: Refits of constants without priors, shape (M, p).
        log_ratio: log(measured / predicted) of each run.
        drifts: Whether the method allows for a drift with compute itself, and its intervals carry it.
    """
    outliers, seed_noise = known.outliers, known.seed_noise
    found = _undetermined(table, names, draws)
    if outliers:
        shown = "; ".join(f"{o.run} ({o.log_ratio:+.1%}, {o.score:.0f} sd)" for o in outliers[:_SHOWN])
        more = f"; and {len(outliers) - _SHOWN} more" if len(outliers) > _SHOWN else ""
        found["outliers"] = f"{len(outliers)} runs lie far off the law, and were kept: {shown}{more}."
    # of R equal runs each moves a constant by about 1/sqrt(R) standard errors, some by three times that
    usual = 4 / np.sqrt(len(table.group_names))
    heavy = [entry for entry in known.leverage if entry.standard_errors > max(LEVERAGE_SHARE, usual)]
    if heavy:
        shown = "; ".join(
            f"{e.run} moves {e.constant} by {e.shift:+.3g} ({e.standard_errors:.1f} standard errors)" for e in heavy[:3]
        )
        found["leverage"] = f"{len(heavy)} single runs carry much of the fit: {shown}. Repeat them, or add runs nearby."
    slope, bend = (0.0, 0.0) if drifts else _trend(np.log(table.flops), log_ratio)
    if max(abs(slope), abs(bend)) > 4:
        way = ("drift", slope, "dear") if abs(slope) >= abs(bend) else ("bend", bend, "cheap and dear")
        end = f"{way[2]} runs come out {'higher' if way[1] > 0 else 'lower'}"
        found["trend"] = (
            f"Residuals {way[0]} with compute (t = {way[1]:+.1f}): {end} than the law, so the form misses something, "
            f"and extrapolation will too."
        )
    if seed_noise is not None and seed_noise.num_repeats >= 5 and seed_noise.residual_sd > 3 * seed_noise.log_sd:
        found["misfit"] = (
            f"Repeats differ by {seed_noise.log_sd:.2%} of the loss but the runs miss the law by "
            f"{seed_noise.residual_sd:.2%}: more than noise, so the form or the settings differ between runs."
        )
    return warnings_of(found)


def _undetermined(table: RunTable, names: Sequence[str], draws: Array) -> dict[str, str]:
    found: dict[str, str] = {}
    if not len(draws):
        return found
    columns = dict(zip(names, draws.T, strict=True))
    least = float(table.loss.min())
    if "E" in columns and np.ptp(columns["E"]) > 0:
        vanished = float(np.mean(columns["E"] < 1e-3 * least))
        low, high = np.quantile(columns["E"], [0.05, 0.95])
        if vanished > 0.05:
            found["E-undetermined"] = (
                f"E is not determined: {vanished:.0%} of the refits put it at zero. Losses far above E cannot tell "
                f"it from a small exponent; add dearer runs, or give E with irreducible=..."
            )
        elif high - low > 0.5 * least:
            found["E-undetermined"] = (
                f"E is hardly determined: 90 % of the refits put it anywhere from {low:.3g} to {high:.3g} nats, "
                f"with {least:.3g} the least loss measured. Predictions far beyond the runs inherit that."
            )
    for name in ("alpha", "beta"):
        if name in columns:
            stuck = float(np.mean((columns[name] > 9.9) | (columns[name] < 1.1e-3)))
            if stuck > 0.01:
                found[f"{name}-undetermined"] = (
                    f"{name} is not determined: {stuck:.0%} of the refits ran into the bounds 0.001 to 10."
                )
    return found


def _trend(x: Array, y: Array) -> tuple[float, float]:
    """Return the t values of the linear and the quadratic term of y on x."""
    if len(x) < 6 or np.ptp(x) == 0:
        return 0.0, 0.0
    x = (x - x.mean()) / x.std()
    basis = np.linalg.qr(np.stack([np.ones_like(x), x, x * x], axis=1))[0]
    # the factorisation leaves each column's sign open
    basis = basis * np.sign(np.stack([np.ones_like(x), x, x * x], axis=1).T @ basis).diagonal()
    terms = basis.T @ y
    rest = y - basis @ terms
    error = float(np.sqrt(rest @ rest / (len(x) - 3)))
    return (float(terms[1]) / error, float(terms[2]) / error) if error > 0 else (0.0, 0.0)
