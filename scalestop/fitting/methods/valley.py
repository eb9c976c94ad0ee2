"""Method `valley`: a law for the runs near the frontier, with intervals that carry what the form gets wrong.

1. Runs far above the running envelope of loss over compute count little (`solve.horizon`).
2. A surface with room for an interaction and a power is fitted under weak priors (`valley_hypotheses`), and far cheaper
   runs are trusted less, by a drift for each factor of compute.
3. The drift, and whether there is a floor at all, are averaged over, by how each forecast the dearer runs of the table
   from its cheaper ones (`valley_evidence`).
4. Intervals are those of the draws and of the drift, stretched by how far earlier forecasts missed theirs
   (`laws.intervals` makes them; this method says how wide).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from scalestop.errors import InputError
from scalestop.fitting.methods.enough import require_floor, require_spread
from scalestop.fitting.methods.method import FitOptions, MethodFit, Residuals
from scalestop.fitting.methods.valley_draws import average, draw
from scalestop.fitting.methods.valley_evidence import BACKWARD, FORWARD, Valley, weigh
from scalestop.fitting.methods.valley_findings import valley_findings
from scalestop.fitting.methods.valley_hypotheses import HYPOTHESES, LEAST_NOISE, replicates_of
from scalestop.fitting.solve.coupled import NAMES, to_constants
from scalestop.fitting.solve.horizon import Horizon, horizon
from scalestop.fitting.solve.newton import Array
from scalestop.fitting.tables.table import RunTable
from scalestop.laws import CoupledLaw
from scalestop.laws.coupled import coupled_loss

BALANCE = 0.08
"""Error of log N_opt per factor of e of compute outside the runs, beyond what the draws carry. Measured on the minima
of held-out budgets of five isoFLOP tables (draws alone held 78 % of them)."""

SIDES = 0.2
"""Error of log loss up the valley's sides, over the excess there: the form's sides are too steep or too shallow by a
sixth to a third on public tables (median over runs 3 to 20 % above the envelope)."""

MIN_RUNS = 6
"""Runs that a valley fit needs; the priors do the rest, and say so in the width."""

_NEGLIGIBLE = 1e-3  # a run this light cannot move a constant by a hundredth of its error
_JUDGED = 0.25  # weight from which a run's residual says something of the run: 4 % above the envelope
_REPLICATES = 3  # degrees of freedom from which seed noise is believed
_SWEEP = 0.02  # runs of one (N, D) that differ by more are a sweep of recipes, not seeds


def fit_valley(table: RunTable, options: FitOptions) -> MethodFit:
    """Fit the coupled law near the frontier, and draw refits from its posterior.

    Args:
        table: The runs.
        options: `bootstrap` is the number of draws; `irreducible` applies.

    Raises:
        InputError: If the runs cannot determine the law: too few, or of too few sizes, token counts or budgets.
    """
    options.refuse("valley", "tied", "fitted_scale", "delta")
    if len(table) < MIN_RUNS:
        raise InputError(f"records: a law of N and D needs at least {MIN_RUNS} runs; got {len(table)}. Add runs")
    require_spread(table)
    require_floor(table, options)
    law, draws, valley, sure = _solve(table, options)
    estimate, draws = (_constants(theta, valley.top, options) for theta in (law[None], draws))
    estimate = estimate[0]
    predicted = np.asarray(coupled_loss(table.params, table.tokens, *estimate))
    residuals = Residuals(table.params, table.tokens, table.loss, predicted, table.run)
    return MethodFit(
        law_class=CoupledLaw,
        names=NAMES,
        estimate=estimate,
        draws=draws,
        jackknife=np.empty((0, len(NAMES))),
        objective=float(valley.weight @ residuals.log_ratio**2),
        num_free=len(NAMES),
        residuals=residuals,
        findings=valley_findings(table, valley, given_floor=options.irreducible is not None),
        notes=() if options.irreducible is None else (f"E was held at {options.irreducible:g}.",),
        detail=valley,
        sure=sure,
        judged=valley.weight >= _JUDGED,
    )


def _constants(theta: Array, top: Horizon, options: FitOptions) -> Array:
    constants = to_constants(theta, top.centre, float(np.exp(top.log_least)))
    if options.irreducible is not None:
        constants[:, NAMES.index("E")] = options.irreducible
    return constants


def _solve(table: RunTable, options: FitOptions) -> tuple[Array, Array, Valley, dict[str, Any]]:
    """Return the law and its draws in the solver's coordinates, what led to them, and what an interval is made of."""
    # in an order of its own, so that the seed gives the same draws whatever the table's
    order = np.lexsort((table.loss, table.tokens, table.params))
    log_n, log_d, log_l = (np.log(values[order]) for values in (table.params, table.tokens, table.loss))
    cell = replicates_of(log_n, log_d)
    # only ratios of weights count, as there is no unit of evidence but the run
    weight = table.weight[order] / table.weight.mean() / _copies(cell, log_l)
    top = horizon(log_n, log_d, log_l, weight, float((log_n + log_d).max()))
    used = top.weight > _NEGLIGIBLE * top.weight.max()
    everywhere = np.zeros(len(table))
    everywhere[order] = top.weight / weight
    log_n, log_d, log_l, weight, cell = log_n[used], log_d[used], log_l[used], weight[used], cell[used]
    replicates = np.bincount(cell, weights=weight)[cell] / weight
    evidence, horizons, fitted = weigh(
        log_n, log_d, log_l, weight, replicates, _seed_noise(cell, log_l), options.irreducible
    )
    here, share = horizons[0], evidence.share
    drift = float(np.sqrt(share @ np.array([k.drift**2 for k in HYPOTHESES])))
    valley = Valley(evidence, everywhere, order[top.broken], drift, here, fitted)
    sure = {
        "noise": float(np.sqrt(share @ fitted.noise[0] ** 2)),
        "inflation": evidence.inflation,
        "degrees": evidence.degrees,
        # upwards the top has set level and slope already
        "drift": evidence.inflation * FORWARD * drift,
        "drift_below": evidence.inflation * BACKWARD * drift,
        "drift_params": evidence.inflation * BALANCE,
        "sides": SIDES,
    }
    draws = draw(fitted, evidence, options.bootstrap, options.seed, options.progress)
    law = average(fitted, evidence, here, hold_floor=options.irreducible is not None)
    return law, draws, valley, sure


def _copies(cell: NDArray[np.int_], log_loss_seen: Array) -> Array:
    """Return how often each row stands in the table, digit for digit: a row written twice is one run."""
    rows = np.column_stack([cell, np.round(log_loss_seen, 12)])
    _, index, counts = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
    return np.asarray(counts[index.ravel()], dtype=np.float64)


def _seed_noise(cell: NDArray[np.int_], log_loss_seen: Array) -> float:
    """Return the least noise to believe: the scatter of runs of one (N, D), where the table has enough of them."""
    counts = np.bincount(cell)
    means = np.bincount(cell, weights=log_loss_seen) / np.maximum(counts, 1)
    freedom = float(np.maximum(counts - 1, 0).sum())
    if freedom < _REPLICATES:
        return LEAST_NOISE
    scatter = float(np.sqrt(((log_loss_seen - means[cell]) ** 2).sum() / freedom))
    return min(max(scatter, LEAST_NOISE), _SWEEP)
