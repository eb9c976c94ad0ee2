"""Runs of one budget, and the parabola through those near its minimum."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from scalestop.fitting.solve.newton import Array
from scalestop.fitting.tables.table import RunTable

SAME_BUDGET = 1.3
"""Runs within this factor of compute count as one budget, where their budgets are not exact."""

_LEAST_DEFICIT = 0.2
_EXACT_BUDGET = 1.02
_MOST = 0.8

MIN_RUNS = 4
"""Sizes that a parabola needs: three would leave nothing to judge it by."""

WINDOW = 4.0
"""Runs within this factor of the minimum are fitted. Further off the true curve is no parabola: over a grid x140 wide
the exponent came out .08 off Porian et al. 2024's (arXiv 2406.19146), within this window .02."""


@dataclass(frozen=True)
class IsoFLOP:
    """Runs of one budget, and the parabola through those around the minimum."""

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
    """Where the parabola is centred, parameters."""
    refused: str = ""
    """Why there is no minimum; empty if there is one."""
    window: tuple[int, ...] = field(default=(), repr=False)
    """Those of `rows` that the parabola was fitted to."""

    def loss_at(self, num_params: Array) -> Array:
        """Return the parabola at these N."""
        x = np.log(np.asarray(num_params) / self.centre)
        return np.asarray(np.polynomial.polynomial.polyval(x, self.coefficients))


def find_budgets(flops: Array) -> tuple[list[NDArray[np.int_]], NDArray[np.int_]]:
    """Group runs by budget: by exact budgets where most runs have them, else by like compute.

    Budgets may lie closer together than runs of one budget do in another table. See `group_by_budget`.
    """
    exact = group_by_budget(flops, _EXACT_BUDGET)
    if len(exact[1]) <= (1 - _MOST) * len(flops):
        return exact
    # a few strays come together by chance where budgets are not exact
    return group_by_budget(flops, least=MIN_RUNS + 1)


def group_by_budget(
    flops: Array, tolerance: float = SAME_BUDGET, least: int = MIN_RUNS
) -> tuple[list[NDArray[np.int_]], NDArray[np.int_]]:
    """Put runs of like compute together: the fullest window of width `tolerance` first, then the next.

    Returns:
        The rows of the groups of at least `least` runs, by compute, and the rows that are in no group.
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
        if sizes[first] < least:
            break
        members = left[first : end[first]]
        free[members] = False
        groups.append(np.sort(order[members]))
    groups.sort(key=lambda rows: float(flops[rows].mean()))
    return groups, np.sort(order[free])


def fit_budget(table: RunTable, rows: NDArray[np.int_]) -> IsoFLOP:
    """Fit a parabola in log N to the runs of one budget that lie within `WINDOW` of its minimum.

    The window begins around the best run and follows the minimum until it holds the same runs twice. Where too few
    sizes lie in it, it takes the nearest ones besides; where those curve downwards, it is doubled.
    """
    log_n, loss, weight = np.log(table.params[rows]), table.loss[rows], table.weight[rows]
    flops = float(np.exp(np.log(6 * table.params[rows] * table.tokens[rows]).mean()))
    width, refused = np.log(WINDOW), ""
    while True:
        inside, (c0, c1, c2), centre = _settle(log_n, loss, weight, width)
        if c2 > 0 or inside.all():
            break
        width *= 2
    log_best = centre - c1 / (2 * c2) if c2 > 0 else np.nan
    best, depth = float(np.exp(log_best)), float(c0 - c1**2 / (4 * c2)) if c2 > 0 else np.nan
    if count_sizes(log_n) < MIN_RUNS:
        refused = f"fewer than {MIN_RUNS} different sizes"
    elif not c2 > 0:
        refused = "the loss curves downwards in log N, so it has a maximum, not a minimum"
    elif not log_n.min() < log_best < log_n.max():
        side = "smallest" if log_best <= log_n.min() else "largest"
        refused = (
            f"the minimum (N = {best:.3g}) lies beyond the {side} size "
            f"({np.exp(log_n.min()):.3g} to {np.exp(log_n.max()):.3g})"
        )
    return IsoFLOP(
        flops=flops,
        rows=tuple(int(r) for r in rows),
        best_params=None if refused else best,
        best_loss=None if refused else depth,
        coefficients=(float(c0), float(c1), float(c2)),
        centre=float(np.exp(centre)),
        refused=refused,
        window=tuple(int(r) for r in rows[inside]),
    )


def _settle(log_n: Array, loss: Array, weight: Array, width: float) -> tuple[NDArray[np.bool_], Array, float]:
    """Return which runs the window holds in the end, and the parabola through them with its centre."""
    middle, seen = float(log_n[loss.argmin()]), set()
    while True:
        inside = np.abs(log_n - middle) <= width + 1e-9
        reach = width
        while count_sizes(log_n[inside]) < MIN_RUNS and not inside.all():
            reach = float(np.abs(log_n - middle)[~inside].min())
            inside = np.abs(log_n - middle) <= reach + 1e-9
        coefficients, centre = parabola(log_n[inside], loss[inside], weight[inside][None, :])
        c1, c2 = coefficients[0, 1:]
        held = inside.tobytes()
        if held in seen or not c2 > 0:
            return inside, coefficients[0], centre
        seen.add(held)
        middle = float(np.clip(centre - c1 / (2 * c2), log_n.min(), log_n.max()))


def count_sizes(log_n: Array) -> int:
    """Return how many different sizes there are."""
    return len(np.unique(np.round(log_n, 6)))


def parabola(log_n: Array, loss: Array, weights: Array) -> tuple[Array, float]:
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


def draw_deficit(group: IsoFLOP, table: RunTable) -> Array:
    """Return how much too little a minimum scatters between reweighted fits: standard deviation over the true one.

    For residuals of one variance the covariance of the coefficients is that times A = (X'X)^-1, and reweighting rows
    gives A X' diag(1 - h) X A on average, h the rows' leverages (White 1980's estimator, which MacKinnon and White
    1985 mend by 1 - h). Both, by the delta method, for the minimum's place, depth and curvature: three factors of at
    most 1.
    """
    rows = np.array(group.window)
    root = np.sqrt(table.weight[rows])[:, None]
    x = np.log(table.params[rows] / group.centre)
    powers = root * x[:, None] ** np.arange(3)
    _, c1, c2 = group.coefficients
    at = -c1 / (2 * c2)
    gradients = np.array([[0.0, -1 / (2 * c2), c1 / (2 * c2**2)], [1.0, at, at**2], [0.0, 0.0, 1.0]])
    inverse = np.linalg.pinv(powers.T @ powers)
    left = 1 - np.einsum("ri,ij,rj->r", powers, inverse, powers)
    true = np.einsum("ki,ij,kj->k", gradients, inverse, gradients)
    pull = gradients @ inverse @ powers.T
    drawn = (pull**2 * np.maximum(left, 0.0)).sum(axis=1)
    return np.asarray(np.sqrt(np.clip(drawn / true, _LEAST_DEFICIT**2, 1.0)))
