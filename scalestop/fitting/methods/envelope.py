"""Method `envelope`: the best size at each compute along the runs' loss curves (Hoffmann et al. 2022, Approach 1)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from scalestop.errors import InputError
from scalestop.fitting.methods.frontier import power_law
from scalestop.fitting.methods.isoflop import NAMES
from scalestop.fitting.methods.method import FitOptions, MethodFit, Residuals, in_chunks
from scalestop.fitting.methods.resampled import bootstrap_counts, leave_out
from scalestop.fitting.solve.newton import Array
from scalestop.fitting.tables.table import RunTable
from scalestop.laws import PowerLawAllocation
from scalestop.laws.findings import warnings_of

NUM_BUDGETS = 1500
"""Log-spaced computes at which the runs are compared, as in the paper."""

_ELEMENTS = 5_000_000
_SCHEDULE = (
    "Losses along a run are measured before its learning rate has come down, and lie above those of a run that ends "
    "there: the envelope favours sizes whose schedule happened to fit. Prefer 'isoflop' or 'parametric' on final "
    "losses."
)


@dataclass(frozen=True)
class Envelope:
    """Loss of every run at every compute, and which run is best there."""

    flops: Array = field(repr=False)
    """Computes, shape (K,)."""
    params: Array = field(repr=False)
    """N of each run, shape (G,)."""
    losses: Array = field(repr=False)
    """Loss of each run at each compute, shape (G, K); infinite where its curve does not reach."""
    best: Array = field(repr=False)
    """N of the best run at each compute, shape (K,); NaN where no minimum is enclosed."""


def fit_envelope(table: RunTable, options: FitOptions) -> MethodFit:
    """Find the size with the lowest loss at each compute, and fit N_opt = k_N·C^a through them.

    A compute counts only where a smaller and a larger size than the best were both still to be compared: at the ends,
    the best of what happened to be there is no minimum. The runs need a `curve` of (tokens, loss), or several rows
    each; of the options only the bootstrap's apply.

    Raises:
        InputError: If there are no curves of at least three sizes, or they enclose no minimum.
    """
    options.refuse("envelope", "tied", "irreducible", "fitted_scale", "delta")
    names, curves = _curves(table)
    if len({round(float(np.log(n)), 3) for n, _ in curves}) < 3:
        raise InputError(
            f"records: envelope needs loss curves of at least 3 sizes; got {len(curves)} runs with a curve. Give "
            f"records with `curve`, log folders, or several rows of one `run`"
        )
    flops, params, losses = _on_common_budgets(curves)
    present = np.ones((1, len(params)))
    best = _best_sizes(params, losses, present)
    estimate = power_law(flops, best)[0]
    if not np.all(np.isfinite(estimate)):
        raise InputError(
            "records: the curves enclose no minimum that grows with compute: at every compute the smallest or the "
            "largest size is best. Add sizes on both sides, or use method='parametric'"
        )

    def refit(counts: Array) -> Array:
        return power_law(flops, _best_sizes(params, losses, counts))

    runs = np.arange(len(params))
    # a refit holds every run's loss at every compute
    chunk = max(1, _ELEMENTS // losses.size)
    draws = in_chunks(refit, bootstrap_counts(runs, options.bootstrap, options.seed), options.progress, chunk)
    usable = np.isfinite(draws).all(axis=1)
    if options.bootstrap and usable.sum() < 20:
        raise InputError("records: too few runs for a bootstrap of the envelope; add runs, or use method='parametric'")
    jackknife = in_chunks(refit, leave_out(runs, runs), None, chunk)
    enclosed = np.isfinite(best[0])
    fitted = estimate[0] * flops[enclosed] ** estimate[1]
    lowest = losses.min(axis=0)[enclosed]
    found = {"envelope-schedule": _SCHEDULE}
    if not usable.all():
        found["envelope-lost"] = (
            f"{1 - usable.mean():.0%} of the bootstrap samples enclosed no minimum and were left out."
        )
    return MethodFit(
        law_class=PowerLawAllocation,
        names=NAMES,
        estimate=estimate,
        draws=draws[usable],
        jackknife=np.where(np.isfinite(jackknife), jackknife, estimate),
        objective=float(((np.log(best[0][enclosed]) - np.log(fitted)) ** 2).sum()),
        num_free=2,
        # the envelope has no loss of its own: its points are their own prediction
        residuals=Residuals(
            best[0][enclosed], flops[enclosed] / (6 * best[0][enclosed]), lowest, lowest, ("",) * int(enclosed.sum())
        ),
        findings=warnings_of(found),
        notes=(f"{int(enclosed.sum())} of {NUM_BUDGETS} computes enclose a minimum.",),
        left_out=tuple(names),
        detail=Envelope(flops, params, losses, best[0]),
    )


def _curves(table: RunTable) -> tuple[list[str], list[tuple[float, Array]]]:
    """Return name and (N, points of (tokens, loss) by tokens) of each run that has at least two points."""
    names, found = [], []
    for group in range(int(table.groups.max()) + 1):
        rows = np.flatnonzero(table.groups == group)
        points = {(float(table.tokens[r]), float(table.loss[r])) for r in rows}
        for row in rows:
            points |= set(table.curve[row])
        curve = np.array(sorted(p for p in points if p[0] > 0 and p[1] > 0))
        if len(curve) >= 2:
            names.append(table.run[rows[0]])
            found.append((float(table.params[rows[0]]), curve))
    return names, found


def _on_common_budgets(curves: list[tuple[float, Array]]) -> tuple[Array, Array, Array]:
    params = np.array([n for n, _ in curves])
    low = min(6 * n * points[0, 0] for n, points in curves)
    high = max(6 * n * points[-1, 0] for n, points in curves)
    flops = np.geomspace(low, high, NUM_BUDGETS)
    losses = np.stack(
        [
            np.interp(np.log(flops / (6 * n)), np.log(points[:, 0]), points[:, 1], left=np.inf, right=np.inf)
            for n, points in curves
        ]
    )
    return flops, params, losses


def _best_sizes(params: Array, losses: Array, counts: Array) -> Array:
    """Return N of the best run among those drawn, shape (M, K); NaN where no smaller or no larger size was in reach."""
    order = np.argsort(params, kind="stable")
    params, losses, drawn = params[order], losses[order], counts[:, order] > 0
    available = np.where(drawn[:, :, None], losses, np.inf)
    winner = available.argmin(axis=1)
    reach = np.isfinite(available)
    smallest = params[reach.argmax(axis=1)]
    largest = params[len(params) - 1 - reach[:, ::-1].argmax(axis=1)]
    best = params[winner]
    return np.where((smallest < best) & (best < largest) & reach.any(axis=1), best, np.nan)
