"""Method `isoflop`: each budget's best size by a parabola, then a power law (Hoffmann et al. 2022, Approach 2)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from scalestop.errors import InputError
from scalestop.fitting.methods.method import Finding, FitOptions, MethodFit, Residuals, in_chunks
from scalestop.fitting.solve.newton import Array
from scalestop.fitting.solve.resample import bootstrap_counts, leave_one_out
from scalestop.fitting.tables.table import RunTable
from scalestop.laws import PowerLawAllocation

NAMES = ("k_N", "a")

SAME_BUDGET = 1.3
"""Runs within this factor of compute count as one budget."""

MIN_RUNS = 4
"""Runs that a parabola needs: three would leave nothing to judge it by."""

WIDE = 4.0
"""A grid reaching further than this factor from its minimum is no parabola any more."""


@dataclass(frozen=True)
class IsoFLOP:
    """Runs of one budget, and the parabola through them."""

    flops: float
    """Geometric mean of the runs' 6·N·D, FLOPs."""
    rows: tuple[int, ...] = field(repr=False)
    """Rows of the table."""
    best_params: float | None
    """N at the minimum; None where it was refused."""
    best_loss: float | None
    """Loss there, nats per token."""
    coefficients: tuple[float, float, float]
    """c0, c1, c2 of loss = c0 + c1·x + c2·x^2, x = log(N / `centre`)."""
    centre: float
    """Geometric mean of the runs' N."""
    refused: str = ""
    """Why there is no minimum; empty if there is one."""

    def loss_at(self, num_params: Array) -> Array:
        """Return the parabola at these N."""
        x = np.log(np.asarray(num_params) / self.centre)
        return np.asarray(np.polynomial.polynomial.polyval(x, self.coefficients))


def group_by_budget(flops: Array, tolerance: float = SAME_BUDGET) -> tuple[list[NDArray[np.int_]], NDArray[np.int_]]:
    """Put runs of like compute together: the fullest window of width `tolerance` first, then the next.

    Args:
        flops: Compute of each run, shape (R,).
        tolerance: Largest over smallest compute within a group.

    Returns:
        The groups' rows, by compute, and the rows that are in no group of at least `MIN_RUNS`.
    """
    order = np.argsort(flops, kind="stable")
    log_c = np.log(flops[order])
    free = np.ones(len(order), dtype=bool)
    groups = []
    while free.any():
        left = np.flatnonzero(free)
        end = np.searchsorted(log_c[left], log_c[left] + np.log(tolerance), side="right")
        sizes = end - np.arange(len(left))
        # of windows equally full, the narrowest
        width = log_c[left[end - 1]] - log_c[left]
        first = int(np.lexsort((width, -sizes))[0])
        if sizes[first] < MIN_RUNS:
            break
        members = left[first : end[first]]
        free[members] = False
        groups.append(np.sort(order[members]))
    groups.sort(key=lambda rows: float(flops[rows].mean()))
    return groups, np.sort(order[free])


def fit_isoflop(table: RunTable, options: FitOptions) -> MethodFit:
    """Fit a parabola in log N to each budget, and N_opt = k_N·C^a through the minima.

    Runs are drawn within their budget in the bootstrap, so that no budget vanishes.

    Args:
        table: The runs.
        options: Only the bootstrap's apply.

    Raises:
        InputError: If fewer than two budgets have a minimum; each refused one is named with its reason.
    """
    options.refuse("isoflop", "tied", "irreducible", "fitted_scale", "delta")
    rows, outside = group_by_budget(6 * table.params * table.tokens)
    groups = [_group(table, members) for members in rows]
    kept = [i for i, group in enumerate(groups) if not group.refused]
    refusals = [
        f"{group.flops:.3g} FLOPs ({len(group.rows)} runs): {group.refused}" for group in groups if group.refused
    ]
    if len(kept) < 2:
        why = "; ".join(refusals) or f"no {MIN_RUNS} runs lie within x{SAME_BUDGET:g} of one compute"
        raise InputError(
            f"records: isoflop needs two budgets with a minimum, got {len(kept)}: {why}. Add sizes on both sides of "
            f"each minimum, or use method='parametric', which needs no budgets in common"
        )
    flops = np.array([groups[i].flops for i in kept])
    minima = np.array([[groups[i].best_params or np.nan for i in kept]])
    estimate = power_law(flops, minima)[0]

    if not np.all(np.isfinite(estimate)):
        shown = ", ".join(f"{n:.3g} at {c:.3g}" for n, c in zip(minima[0], flops, strict=True))
        raise InputError(
            f"records: the best size does not grow with compute (N {shown} FLOPs), so there is no power law; add "
            f"budgets and sizes, or use method='parametric'"
        )

    def refit(counts: Array) -> Array:
        weights = counts * table.weight
        return power_law(flops, np.stack([_minima(table, rows[i], weights) for i in kept], axis=1))

    label = np.full(len(table), len(rows))
    for i, members in enumerate(rows):
        label[members] = i
    counts = bootstrap_counts(table.groups, options.bootstrap, options.seed, strata=label)
    draws = in_chunks(refit, counts, options.progress)
    usable = np.isfinite(draws).all(axis=1)
    if usable.mean() < 0.5 or usable.sum() < 20:
        raise InputError(
            f"records: in {1 - usable.mean():.0%} of the bootstrap samples fewer than two budgets have a minimum, so "
            f"the minima hang on single runs; add runs, or use method='parametric'"
        )
    jackknife = refit(leave_one_out(table.groups))
    jackknife = np.where(np.isfinite(jackknife), jackknife, estimate)
    members = np.concatenate([rows[i] for i in kept])
    predicted = np.concatenate([groups[i].loss_at(table.params[rows[i]]) for i in kept])
    part = table.take(members)
    return MethodFit(
        law_class=PowerLawAllocation,
        names=NAMES,
        estimate=estimate,
        draws=draws[usable],
        jackknife=jackknife,
        objective=float(((part.loss - predicted) ** 2).sum()),
        num_free=3 * len(kept),
        residuals=Residuals(part.params, part.tokens, part.loss, predicted, part.run),
        findings=_findings(table, groups, refusals, outside, 1 - float(usable.mean())),
        notes=(f"{len(kept)} IsoFLOP minima, {flops.min():.3g} to {flops.max():.3g} FLOPs.",),
        detail=tuple(groups),
    )


def _group(table: RunTable, rows: NDArray[np.int_]) -> IsoFLOP:
    log_n = np.log(table.params[rows])
    coefficients, centre = _parabola(log_n, table.loss[rows], table.weight[rows][None, :])
    c0, c1, c2 = coefficients[0]
    flops = float(np.exp(np.log(6 * table.params[rows] * table.tokens[rows]).mean()))
    refused, best, loss = "", None, None
    if len(np.unique(np.round(log_n, 6))) < MIN_RUNS:
        refused = f"fewer than {MIN_RUNS} different sizes"
    elif not c2 > 0:
        refused = "the loss curves downwards in log N, so it has a maximum, not a minimum"
    else:
        log_best = centre - c1 / (2 * c2)
        best, loss = float(np.exp(log_best)), float(c0 - c1**2 / (4 * c2))
        if not log_n.min() < log_best < log_n.max():
            side = "smallest" if log_best <= log_n.min() else "largest"
            refused = (
                f"the minimum (N = {best:.3g}) lies beyond the {side} size "
                f"({np.exp(log_n.min()):.3g} to {np.exp(log_n.max()):.3g})"
            )
            best = loss = None
    return IsoFLOP(
        flops=flops,
        rows=tuple(int(r) for r in rows),
        best_params=best,
        best_loss=loss,
        coefficients=(float(c0), float(c1), float(c2)),
        centre=float(np.exp(centre)),
        refused=refused,
    )


def _parabola(log_n: Array, loss: Array, weights: Array) -> tuple[Array, float]:
    """Return c0, c1, c2 by weighted least squares for each row of weights, shape (M, 3), and the centre of log N."""
    centre = float(log_n.mean())
    scale = float(log_n.std()) or 1.0
    powers = ((log_n - centre) / scale)[:, None] ** np.arange(3)
    normal = np.einsum("mr,ri,rj->mij", weights, powers, powers)
    target = np.einsum("mr,ri,r->mi", weights, powers, loss)
    determined = np.linalg.cond(normal) < 1e10
    solved = np.full((len(weights), 3), np.nan)
    if determined.any():
        solved[determined] = np.linalg.solve(normal[determined], target[determined][:, :, None])[:, :, 0]
    return solved / scale ** np.arange(3), centre


def _minima(table: RunTable, rows: NDArray[np.int_], weights: Array) -> Array:
    """Return N at the minimum for each weighting, shape (M,); NaN where it would be refused."""
    log_n = np.log(table.params[rows])
    coefficients, centre = _parabola(log_n, table.loss[rows], weights[:, rows])
    with np.errstate(invalid="ignore", divide="ignore"):
        log_best = centre - coefficients[:, 1] / (2 * coefficients[:, 2])
        good = (coefficients[:, 2] > 0) & (log_best > log_n.min()) & (log_best < log_n.max())
    return np.where(good, np.exp(np.where(good, log_best, 0.0)), np.nan)


def power_law(flops: Array, minima: Array) -> Array:
    """Fit log N = log k + a·log C to each row of minima (M, groups), leaving out NaN; shape (M, 2), NaN under two."""
    present = np.isfinite(minima)
    count = present.sum(axis=1)
    x = np.where(present, np.log(flops), 0.0)
    y = np.where(present, np.log(np.where(present, minima, 1.0)), 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_x, mean_y = x.sum(axis=1) / count, y.sum(axis=1) / count
        dx = np.where(present, x - mean_x[:, None], 0.0)
        slope = (dx * y).sum(axis=1) / (dx * dx).sum(axis=1)
        k = np.exp(mean_y - slope * mean_x)
    # an allocation grows with compute; a refit that shrinks is as unusable as one with a single minimum
    good = (count >= 2) & (slope > 0)
    return np.where(good[:, None], np.column_stack([k, slope]), np.nan)


def _findings(
    table: RunTable, groups: list[IsoFLOP], refusals: list[str], outside: NDArray[np.int_], lost: float
) -> tuple[Finding, ...]:
    found = [Finding("isoflop-refused", "warning", f"Budget refused, {refusal}.") for refusal in refusals]
    if len(outside):
        found.append(
            Finding(
                "isoflop-single",
                "warning",
                f"{len(outside)} of {len(table)} runs share their compute with too few others and were left out.",
            )
        )
    biased = []
    for group in groups:
        if group.best_params is None:
            continue
        sizes = table.params[list(group.rows)]
        below, above = group.best_params / sizes.min(), sizes.max() / group.best_params
        if max(below, above) > WIDE:
            biased.append(f"{group.flops:.3g} FLOPs reaches x{below:.2g} below and x{above:.2g} above its minimum")
        elif max(below, above) > 2.5 * min(below, above):
            biased.append(f"{group.flops:.3g} FLOPs is off-centre, x{below:.2g} below and x{above:.2g} above")
    if biased:
        shown = "; ".join(biased[:4]) + ("; ..." if len(biased) > 4 else "")
        found.append(
            Finding(
                "isoflop-biased",
                "warning",
                f"{len(biased)} of {len(groups)} grids are wider than x{WIDE:g} around their minimum or off-centre, "
                f"where the true curve is no parabola and the minimum comes out biased: {shown}. method='parametric' "
                f"on the same runs has no such bias.",
            )
        )
    if lost > 0.01:
        found.append(
            Finding(
                "isoflop-lost",
                "warning",
                f"{lost:.0%} of the bootstrap samples had fewer than two minima and were left out of the intervals, "
                f"which are too narrow by that much.",
            )
        )
    return tuple(found)
