"""The runs up to some compute, seen from there: which lie in the valley, and how far below the horizon they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scalestop.fitting.solve.newton import Array

VALLEY = 0.04
"""Excess over the running envelope, in log loss, at which a run's weight has fallen to a quarter. Far up the sides the
form is wrong by more than runs scatter: on seven families of public tables windows of 3 to 8 % forecast alike."""

IN_VALLEY = 0.03
"""Excess up to which a run counts as one of the valley when forecasts are scored."""

_BROKEN = 0.05
_BROKEN_PER_EFOLD = 0.02
# a vertex this far below the envelope of all other runs is a broken run, not the frontier; a gap in compute gives leave
_SURELY = np.log(3.0)
_LOCAL = np.log(10.0)  # the centre of coordinates averages the last decade of compute
_MOST_BROKEN = 0.1


@dataclass(frozen=True)
class Horizon:
    """Runs up to a compute. Arrays have shape (R,)."""

    top: float
    """log(N·D) of the dearest run in sight."""
    bottom: float
    """log(N·D) of the cheapest."""
    seen: NDArray[np.bool_]
    """Which runs are in sight."""
    excess: Array
    """log loss less the envelope of the runs in sight; infinite for others."""
    weight: Array
    """1 on the envelope, falling to 0 up the sides; 0 for runs out of sight."""
    below: Array
    """log(N·D) below the top, at least 0."""
    centre: tuple[float, float]
    """log N and log D of the last decade's valley."""
    log_least: float
    """Log of the envelope at the top: the least loss in sight, L0."""
    broken: NDArray[np.int_]
    """Runs thrown off the envelope that beat even those of three times their compute."""

    def outside(self, log_compute: Array) -> Array:
        """Return how far log(N·D) lies above or below the runs in sight, at least 0, in factors of e."""
        return np.maximum(np.maximum(log_compute - self.top, self.bottom - log_compute), 0.0)


def horizon(log_params: Array, log_tokens: Array, log_loss: Array, weight: Array, top: float) -> Horizon:
    """Look from a compute whose log(N·D) is `top`, without sight of any dearer run; the weight is the user's."""
    compute = log_params + log_tokens
    seen = compute <= top + 1e-6
    knots, values, thrown = envelope(compute[seen], log_loss[seen])
    broken = np.flatnonzero(seen)[thrown]
    # where cheap runs are few the frontier is not known well enough to blame one that lies below the others'
    broken = broken[np.interp(compute[broken] + _SURELY, knots, values) - log_loss[broken] > _BROKEN]
    excess = np.full(len(compute), np.inf)
    excess[seen] = log_loss[seen] - np.interp(compute[seen], knots, values)
    inside = np.where(seen, weight / (1 + (np.where(seen, excess, 0) / VALLEY) ** 2) ** 2, 0.0)
    below = np.maximum(top - compute, 0.0)
    local = inside * np.exp(-below / _LOCAL)
    local = local / local.sum()
    return Horizon(
        top=float(compute[seen].max()),
        bottom=float(compute[seen].min()),
        seen=seen,
        excess=excess,
        weight=inside,
        below=below,
        centre=(float(local @ log_params), float(local @ log_tokens)),
        log_least=float(values[-1]),
        broken=broken,
    )


def envelope(compute: Array, log_loss: Array) -> tuple[Array, Array, NDArray[np.int_]]:
    """Return the running envelope: the lower convex hull of loss over compute, non-increasing, without broken runs.

    log L is convex in log C where a floor or a bend is the only departure from a power law, so no run of the frontier
    lies far below the hull of the others.

    Returns:
        Knots in log(N·D), ascending; log loss there; the runs thrown out.
    """
    keep = np.ones(len(compute), dtype=bool)
    for _ in range(max(1, int(_MOST_BROKEN * len(compute)))):
        vertices = _hull(compute, log_loss, keep)
        broken = _most_broken(compute, log_loss, keep, vertices)
        if broken is None or keep.sum() <= 4:
            break
        keep[broken] = False
    vertices = _hull(compute, log_loss, keep)
    return compute[vertices], np.minimum.accumulate(log_loss[vertices]), np.flatnonzero(~keep)


def _hull(compute: Array, log_loss: Array, keep: NDArray[np.bool_]) -> NDArray[np.int_]:
    """Return the vertices of the lower convex hull of the kept runs, by compute (Andrew's monotone chain)."""
    order = _records(compute, log_loss, keep)
    chain: list[int] = []
    for i in order:
        if chain and compute[i] == compute[chain[-1]]:
            continue
        while len(chain) > 1:
            p, q = chain[-2], chain[-1]
            turn = (compute[q] - compute[p]) * (log_loss[i] - log_loss[p])
            if turn > (log_loss[q] - log_loss[p]) * (compute[i] - compute[p]):
                break
            chain.pop()
        chain.append(int(i))
    return np.array(chain)


def _records(compute: Array, log_loss: Array, keep: NDArray[np.bool_]) -> NDArray[np.int_]:
    """Return the kept runs that no cheaper run beats, by compute: only they can lie on the envelope."""
    order = np.flatnonzero(keep)
    order = order[np.lexsort((log_loss[order], compute[order]))]
    least = np.minimum.accumulate(log_loss[order])
    first = np.append(True, least[1:] < least[:-1])[: len(order)]
    return np.asarray(order[first])


def _most_broken(compute: Array, log_loss: Array, keep: NDArray[np.bool_], vertices: NDArray[np.int_]) -> int | None:
    """Return the vertex furthest below the hull of the other runs, if it is too far for a run of the frontier."""
    worst, found = 0.0, None
    # without one vertex the envelope can only meet the runs next behind it
    behind = keep.copy()
    behind[_records(compute, log_loss, keep)] = False
    near = np.zeros(len(keep), dtype=bool)
    near[_records(compute, log_loss, keep)] = True
    near[_records(compute, log_loss, behind)] = True
    for vertex in vertices:
        others = near.copy()
        others[vertex] = False
        hull = _hull(compute, log_loss, others)
        x, y = compute[hull], log_loss[hull]
        if len(x) < 2:
            return None
        at = compute[vertex]
        if at <= x[0] or at >= x[-1]:
            end = (0, 1) if at <= x[0] else (-1, -2)
            expected = y[end[0]] + (y[end[0]] - y[end[1]]) / (x[end[0]] - x[end[1]]) * (at - x[end[0]])
            expected = min(expected, y[end[0]]) if at >= x[-1] else expected
        else:
            expected = float(np.interp(at, x, y))
        gap = float(np.abs(x - at).min())
        depth = expected - log_loss[vertex] - _BROKEN - _BROKEN_PER_EFOLD * gap
        if depth > worst:
            worst, found = depth, int(vertex)
    return found
