"""Method `isoflop`: each budget's best size by a parabola, then a power law (Hoffmann et al. 2022, Approach 2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scalestop.errors import InputError
from scalestop.fitting.methods.budgets import (
    MIN_RUNS,
    SAME_BUDGET,
    WINDOW,
    IsoFLOP,
    draw_deficit,
    find_budgets,
    fit_budget,
    parabola,
)
from scalestop.fitting.methods.frontier import loss_frontier, power_law, steepness
from scalestop.fitting.methods.method import FitOptions, MethodFit, Residuals
from scalestop.fitting.methods.resampled import resample
from scalestop.fitting.solve.newton import Array
from scalestop.fitting.tables.table import RunTable
from scalestop.laws import PowerLawAllocation
from scalestop.laws.findings import Finding, notes_of, warnings_of
from scalestop.laws.isoflop import IsoFLOPLaw, isoflop_loss

NAMES = ("k_N", "a")
LOSS_NAMES = ("k_N", "a", "E", "K", "gamma", "kappa")

LOSS_BUDGETS = 4
"""Budgets with a minimum from which a frontier of the loss can be told: three would leave nothing to judge it by."""


@dataclass(frozen=True)
class _Budgets:
    """The budgets that have a minimum, as the refits need them."""

    table: RunTable
    groups: tuple[IsoFLOP, ...]

    @property
    def flops(self) -> Array:
        """Compute of each, shape (groups,)."""
        return np.array([group.flops for group in self.groups])

    @property
    def names(self) -> tuple[str, ...]:
        """The constants that so many budgets give."""
        return LOSS_NAMES if len(self.groups) >= LOSS_BUDGETS else NAMES

    def minima(self, weights: Array) -> Array:
        """Return log N, loss and curvature at each minimum, shape (M, 3·groups), NaN where there is none."""
        parts = []
        for group in self.groups:
            rows = np.array(group.window)
            log_n = np.log(self.table.params[rows])
            coefficients, centre = parabola(log_n, self.table.loss[rows], weights[:, rows])
            with np.errstate(invalid="ignore", divide="ignore"):
                c0, c1, c2 = coefficients.T
                at = centre - c1 / (2 * c2)
                # a refit may put it a little beyond the window, not anywhere
                good = (c2 > 0) & (np.abs(at - (log_n.min() + log_n.max()) / 2) < np.ptp(log_n))
                found = np.stack([at, c0 - c1**2 / (4 * c2), c2], axis=1)
            parts.append(np.where(good[:, None], found, np.nan))
        return np.concatenate(parts, axis=1)

    def constants(self, minima: Array) -> Array:
        """Return the constants, shape (M, p), of minima (M, 3·groups)."""
        at, depth, curvature = (minima[:, i::3] for i in range(3))
        allocation = power_law(self.flops, np.exp(at))
        if self.names == NAMES:
            return allocation
        frontier = loss_frontier(self.flops, depth)
        return np.column_stack([allocation, frontier, steepness(depth, curvature, frontier[:, 0])])

    def widen(self, draws: Array, estimate: Array, seed: int) -> Array:
        """Return drawn minima as far from the estimate as the budgets themselves say.

        Reweighted least squares scatter too little, as a parabola runs closest to the runs at the ends of its window,
        which decide most: `draw_deficit` says by how much. And where the minima lie further off their power laws than
        such draws do, each budget is off by something of its own (a random effect): its variance is the excess, known
        from few budgets, so it is drawn from Student's t. The estimate has shape (1, 3·groups), the draws
        (M, 3·groups).
        """
        deficits = [draw_deficit(group, self.table) for group in self.groups]
        spread = (draws - estimate) / np.concatenate(deficits)
        generator = np.random.default_rng([seed, 1])
        for i, (line, tangents) in enumerate(self._power_laws(estimate)):
            free = line.size - tangents.shape[1]
            whole = np.isfinite(spread[:, i::3]).all(axis=1)
            if free < 1 or not whole.any():
                continue
            basis = np.linalg.qr(tangents)[0]
            deviation = spread[whole, i::3]
            usual = float(((deviation - deviation @ basis @ basis.T) ** 2).sum(axis=1).mean())
            excess = (float(((estimate[0, i::3] - line) ** 2).sum()) - usual) / free
            spread[:, i::3] += np.sqrt(max(excess, 0.0)) * generator.standard_t(free, spread[:, i::3].shape)
        return estimate + spread

    def _power_laws(self, estimate: Array) -> list[tuple[Array, Array]]:
        """Return the power laws at the budgets, and how they move with each of their constants, (groups, constants)."""
        log_c = np.log(self.flops)
        one = np.ones_like(log_c)
        k, a = power_law(self.flops, np.exp(estimate[:, 0::3]))[0]
        found = [(np.log(k) + a * log_c, np.stack([one, log_c - log_c.mean()], axis=1))]
        if self.names == LOSS_NAMES:
            E, K, gamma = loss_frontier(self.flops, estimate[:, 1::3])[0]
            above = K * np.exp(-gamma * log_c)
            found.append((E + above, np.stack([one, above, above * (log_c - log_c.mean())], axis=1)))
        return found


def fit_isoflop(table: RunTable, options: FitOptions) -> MethodFit:
    """Fit a parabola in log N to each budget around its minimum, and N_opt = k_N·C^a through the minima.

    From four budgets on the loss is fitted too: E + K·C^-gamma through the depths of the minima, and one steepness of
    their sides; see `IsoFLOPLaw`.

    The intervals come from reweighting whole runs, each by an exponential variate (the Bayesian bootstrap, Rubin 1981):
    a run read at several budgets is one run at all of them, and no budget ever runs out of sizes, as it would were
    runs drawn. `_Budgets.widen` says what is added. Of the options only the bootstrap's apply.

    Raises:
        InputError: If fewer than two budgets have a minimum; each refused one is named with its reason.
    """
    options.refuse("isoflop", "tied", "irreducible", "fitted_scale", "delta")
    rows, outside = find_budgets(6 * table.params * table.tokens)
    groups = tuple(fit_budget(table, members) for members in rows)
    budgets = _Budgets(table, tuple(group for group in groups if not group.refused))
    refusals = [
        f"{group.flops:.3g} FLOPs ({len(group.rows)} runs): {group.refused}" for group in groups if group.refused
    ]
    if len(budgets.groups) < 2:
        why = "; ".join(refusals) or f"no {MIN_RUNS} runs lie within x{SAME_BUDGET:g} of one compute"
        raise InputError(
            f"records: isoflop needs two budgets with a minimum, got {len(budgets.groups)}: {why}. Add sizes on both "
            f"sides of each minimum, or use method='parametric', which needs no budgets in common"
        )
    minima = budgets.minima(table.weight[None, :])
    estimate = budgets.constants(minima)[0]
    if not np.all(np.isfinite(estimate[:2])):
        shown = ", ".join(f"{group.best_params:.3g} at {group.flops:.3g}" for group in budgets.groups)
        raise InputError(
            f"records: the best size does not grow with compute (N {shown} FLOPs), so there is no power law; add "
            f"budgets and sizes, or use method='parametric'"
        )

    def refit(counts: Array) -> Array:
        return budgets.minima(counts * table.weight)

    again = resample(refit, minima[0], table, options, counts=_run_weights(table, options))
    drawn = budgets.constants(budgets.widen(again.draws, minima, options.seed))
    usable = np.asarray(np.isfinite(drawn).all(axis=1))
    if options.bootstrap and (usable.mean() < 0.5 or usable.sum() < 20):
        raise InputError(
            f"records: in {1 - usable.mean():.0%} of the bootstrap samples fewer than two budgets have a minimum, so "
            f"the minima hang on single runs; add runs, or use method='parametric'"
        )
    window = np.concatenate([group.window for group in budgets.groups]).astype(int)
    part = table.take(window)
    if budgets.names == LOSS_NAMES:
        predicted = np.asarray(isoflop_loss(part.params, part.tokens, *estimate))
    else:
        predicted = np.concatenate([group.loss_at(table.params[list(group.window)]) for group in budgets.groups])
    lost = 1 - float(usable.mean()) if len(usable) else 0.0
    return MethodFit(
        law_class=IsoFLOPLaw if budgets.names == LOSS_NAMES else PowerLawAllocation,
        names=budgets.names,
        estimate=estimate,
        draws=drawn[usable],
        jackknife=_or_estimate(budgets.constants(again.jackknife), estimate),
        alone=_or_estimate(budgets.constants(again.alone), estimate),
        left_out=again.left_out,
        objective=float(((part.loss - predicted) ** 2).sum()),
        num_free=len(LOSS_NAMES) if budgets.names == LOSS_NAMES else 3 * len(budgets.groups),
        residuals=Residuals(part.params, part.tokens, part.loss, predicted, part.run),
        findings=_findings(table, groups, refusals, outside, lost),
        notes=(
            f"{len(budgets.groups)} IsoFLOP minima, {budgets.flops.min():.3g} to {budgets.flops.max():.3g} FLOPs; "
            f"{len(window)} runs within about x{WINDOW:g} of them.",
        ),
        detail=groups,
    )


def _run_weights(table: RunTable, options: FitOptions) -> Array:
    """Return one exponential variate a run and draw, for each row, shape (M, R)."""
    generator = np.random.default_rng(options.seed)
    return generator.exponential(size=(options.bootstrap, len(table.group_names)))[:, table.groups]


def _or_estimate(constants: Array, estimate: Array) -> Array:
    """Return refits, with the estimate in place of those that failed."""
    return np.where(np.isfinite(constants), constants, estimate)


def _findings(
    table: RunTable, groups: tuple[IsoFLOP, ...], refusals: list[str], outside: NDArray[np.int_], lost: float
) -> tuple[Finding, ...]:
    refused = (Finding("isoflop-refused", "warning", f"Budget refused, {refusal}.") for refusal in refusals)
    found, notes = {}, {}
    kept = [group for group in groups if group.best_params is not None]
    if len(outside):
        found["isoflop-single"] = (
            f"{len(outside)} of {len(table)} runs share their compute with too few others and were left out."
        )
    far = sum(len(group.rows) - len(group.window) for group in kept)
    if far:
        notes["isoflop-window"] = (
            f"{far} of {sum(len(group.rows) for group in kept)} runs lie further than x{WINDOW:g} from their "
            f"budget's minimum, where the true curve is no parabola, and were left out."
        )
    biased = []
    for group in kept:
        sizes = table.params[list(group.window)]
        below, above = group.best_params / sizes.min(), sizes.max() / group.best_params
        if max(below, above) > 1.5 * WINDOW:
            biased.append(f"{group.flops:.3g} FLOPs reaches x{below:.2g} below and x{above:.2g} above its minimum")
        elif max(below, above) > 2.5 * min(below, above):
            biased.append(f"{group.flops:.3g} FLOPs is off-centre, x{below:.2g} below and x{above:.2g} above")
    if biased:
        shown = "; ".join(biased[:4]) + ("; ..." if len(biased) > 4 else "")
        found["isoflop-biased"] = (
            f"{len(biased)} of {len(groups)} grids have too few sizes near their minimum, or are off-centre, and "
            f"the minimum of the parabola comes out biased: {shown}. method='parametric' on the same runs has no "
            f"such bias."
        )
    if len(kept) < LOSS_BUDGETS:
        notes["isoflop-no-loss"] = (
            f"{len(kept)} budgets have a minimum; from {LOSS_BUDGETS} on the law forecasts the loss too."
        )
    if lost > 0.01:
        found["isoflop-lost"] = (
            f"{lost:.0%} of the bootstrap samples had too few minima and were left out of the intervals, which are "
            f"too narrow by that much."
        )
    return (*refused, *warnings_of(found), *notes_of(notes))
