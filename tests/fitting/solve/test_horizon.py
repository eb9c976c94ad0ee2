"""The running envelope against scipy's hull, and what a horizon may not see."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from scalestop.fitting.solve.horizon import VALLEY, envelope, horizon


def runs(seed: int = 0, count: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    log_n, log_d = rng.uniform(15, 20, count), rng.uniform(18, 24, count)
    loss = 1.8 + 300 / np.exp(log_n) ** 0.34 + 400 / np.exp(log_d) ** 0.3
    return log_n, log_d, np.log(loss) + 0.003 * rng.standard_normal(count)


@pytest.mark.parametrize("seed", range(1, 6))
def test_the_envelope_is_the_lower_hull(seed: int) -> None:
    log_n, log_d, log_loss = runs(seed)
    knots, values, broken = envelope(log_n + log_d, log_loss)
    assert not len(broken)
    points = np.column_stack([log_n + log_d, log_loss])
    hull = points[ConvexHull(points).vertices]
    # the lower side, up to the least loss: beyond that it is level
    cheapest = points[np.lexsort((points[:, 1], points[:, 0]))][0]
    least = points[points[:, 1].argmin()]
    lower = [p for p in hull if p[0] <= least[0] and _is_lower(p, points)]
    expected = sorted({tuple(p) for p in (*lower, cheapest)})
    assert [(k, v) for k, v in zip(knots, values, strict=True) if k <= least[0]] == expected
    assert np.all(np.diff(values) <= 0)


def _is_lower(point: np.ndarray, points: np.ndarray) -> bool:
    """Whether no chord between others passes below the point."""
    left, right = points[points[:, 0] < point[0]], points[points[:, 0] > point[0]]
    if not len(left) or not len(right):
        return bool(not np.any((points[:, 0] == point[0]) & (points[:, 1] < point[1])))
    share = (point[0] - left[:, None, 0]) / (right[None, :, 0] - left[:, None, 0])
    chord = left[:, None, 1] * (1 - share) + right[None, :, 1] * share
    return bool(np.all(chord > point[1]))


def test_a_broken_run_is_thrown_out_and_named() -> None:
    log_n, log_d, log_loss = runs(1)
    sound = envelope(log_n + log_d, log_loss)
    row = int(np.argsort(log_n + log_d)[30])
    log_loss[row] -= 0.4
    knots, values, broken = envelope(log_n + log_d, log_loss)
    assert list(broken) == [row]
    at = np.linspace(knots[0], knots[-1], 50)
    # but for a vertex that it was itself
    assert np.abs(np.interp(at, knots, values) - np.interp(at, sound[0], sound[1])).max() < 0.02
    found = horizon(log_n, log_d, log_loss, np.ones(60), float((log_n + log_d).max()))
    assert list(found.broken) == [row]


def test_a_horizon_sees_no_dearer_run() -> None:
    log_n, log_d, log_loss = runs(2)
    compute = log_n + log_d
    top = float(np.median(compute))
    seen = horizon(log_n, log_d, log_loss, np.ones(60), top)
    changed = np.where(compute > top, log_loss - 0.3, log_loss)
    again = horizon(log_n, log_d, changed, np.ones(60), top)
    for name in ("weight", "below", "centre", "log_least", "top", "bottom"):
        np.testing.assert_array_equal(getattr(again, name), getattr(seen, name))
    assert not seen.weight[compute > top].any()
    assert np.isinf(seen.excess[compute > top]).all()


def test_weight_falls_up_the_sides() -> None:
    log_n, log_d, log_loss = runs(3)
    found = horizon(log_n, log_d, log_loss, np.full(60, 2.0), float((log_n + log_d).max()))
    np.testing.assert_allclose(found.weight, 2 / (1 + (found.excess / VALLEY) ** 2) ** 2)
    assert found.excess.min() >= -1e-12
    assert found.outside(np.array([found.top + 2, found.bottom - 3, found.top - 1])) == pytest.approx([2, 3, 0])
