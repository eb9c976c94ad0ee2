"""The curve law of a ladder, from the points in its records."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from curve_toys import band_pilot
from ladder_toys import micro, record_of

from scalestop.ladder.curves import curves_of, describe_curves, pilot_of
from scalestop.ladder.plan import plan_ladder
from scalestop.ladder.store import DIVERGED, Ladder
from scalestop.run.curve import Curve
from scalestop.run.curve_point import CurvePoint


def points_of(seed: int, size: float, steps: int) -> dict:
    """The curve of a made-up pilot, as a record keeps it."""
    pilot, curve = band_pilot(seed, size, steps), Curve(1)
    for k, (tokens, loss, error) in enumerate(zip(pilot.tokens, pilot.loss, pilot.error, strict=True), 1):
        step = round(tokens / 1_000)
        rate = float(np.interp(tokens, pilot.path.tokens, pilot.path.rate))
        curve.add(CurvePoint(max(step, k), int(tokens), 6 * int(tokens), float(loss), 12 * error**2, 4, rate))
    return curve.state_dict()


@pytest.fixture
def ladder(tmp_path) -> Ladder:
    ladder = Ladder.open(plan_ladder(micro(tmp_path, budgets=["1e8", "2e8", "4e8", "8e8"])))
    for k, rung in enumerate(ladder.rungs):
        ladder.finish(rung, record_of(rung, points=points_of(k, rung.num_params, 4_000 + 500 * k)))
    return ladder


def test_every_pilot_with_a_curve_is_in_it(ladder):
    curves = curves_of(ladder)
    pilots = [rung for rung in ladder.rungs if rung.is_pilot]
    assert curves.law.num_pilots == len(pilots) >= 8
    assert curves.law.sizes == tuple(sorted({float(rung.num_params) for rung in pilots}))
    assert curves.band is not None and curves.band.num_pilots == len(pilots)
    assert curves.law.residual < 0.05
    assert describe_curves(curves).startswith(f"curves: a law of {len(pilots)} curves of")


def test_runs_that_diverged_or_kept_no_curve_are_left_out(ladder):
    first, second, *_ = ladder.rungs
    ladder.finish(first, replace(ladder.record(first), stop_reason=DIVERGED))
    ladder.finish(second, replace(ladder.record(second), points={}))
    assert curves_of(ladder).law.num_pilots == len(ladder.rungs) - 2


def test_too_few_make_no_law(ladder):
    for rung in ladder.rungs[2:]:
        ladder.finish(rung, replace(ladder.record(rung), points={}))
    assert curves_of(ladder) is None


def test_a_record_of_before_has_no_curve(ladder):
    record = ladder.record(ladder.rungs[0])
    assert pilot_of(record) is not None
    assert pilot_of(replace(record, points={})) is None
    assert pilot_of(replace(record, points={"stride": 0})) is None
