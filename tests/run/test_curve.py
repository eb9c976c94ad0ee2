"""The curve of a run: small whatever its length, and whole over a resume."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from curve_toys import wsd

from scalestop.errors import InputError
from scalestop.laws.curves.rate_path import RatePath
from scalestop.run.curve import MOST_POINTS, Curve
from scalestop.run.curve_point import CurvePoint, joined, window


def test_curve_stays_small_and_keeps_every_loss():
    curve, losses = Curve.for_steps(100_000), np.random.default_rng(0).normal(3, 0.3, 100_000)
    begin = 0
    for step in range(1, 100_001):
        if curve.is_due(step):
            curve.add(window(losses[begin:step], step=step, tokens=step * 10, flops=step, rate=1.0))
            begin = step
    assert 256 <= len(curve.points) <= MOST_POINTS
    assert sum(point.count for point in curve.points) == begin
    mean = sum(point.loss * point.count for point in curve.points) / begin
    assert mean == pytest.approx(losses[:begin].mean())
    assert curve.points[5].error == pytest.approx(0.3 / math.sqrt(curve.stride), rel=0.3)


def test_unknown_length_doubles_the_stride():
    curve = Curve()
    for step in range(1, 200_001):
        if curve.is_due(step):
            curve.add(CurvePoint(step, step, step, 2.0, rate=0.1))
    assert len(curve.points) <= MOST_POINTS and curve.stride == 512
    assert all(point.step % curve.stride == 0 for point in curve.points)


def test_joining_is_one_window():
    values = [3.0, 2.5, 2.9, 2.7, 2.2]
    halves = joined(window(values[:2], step=2, tokens=2, flops=2), window(values[2:], step=5, tokens=5, flops=5))
    whole = window(values, step=5, tokens=5, flops=5)
    assert halves.loss == pytest.approx(whole.loss) and halves.error == pytest.approx(whole.error)


def test_curve_survives_json_and_a_resume_from_earlier():
    curve = Curve(1)
    for step in range(1, 21):
        curve.add(window([3.0, math.nan], step=step, tokens=step * 8, flops=step, rate=0.1))
    curve.add_validation(20, 160, {"val_loss": 2.0})
    again = Curve.from_state(json.loads(json.dumps(curve.state_dict())))
    assert again == curve
    earlier = Curve.from_state(curve.state_dict(), until_step=12)
    assert earlier.points[-1].step == 12 and not earlier.validations
    assert curve.points[0].nonfinite == 1
    with pytest.raises(InputError, match="one after another"):
        curve.add(CurvePoint(20, 160, 20, 2.0))


@pytest.mark.parametrize("validations", [1, 2, 511, 512, 513, 514, 1025, 5000, 100_000])
def test_validations_are_thinned_evenly_and_the_first_and_last_are_kept(validations):
    curve = Curve()
    for i in range(validations):
        curve.add_validation(i, 64 * i, {"val_loss": float(i)})
    kept = [one.step for one in curve.validations]
    assert len(kept) <= MOST_POINTS and kept[0] == 0 and kept[-1] == validations - 1
    stride = 1 if len(kept) < 3 else kept[1] - kept[0]
    inner = [*range(0, validations, stride)]
    assert kept == inner + ([validations - 1] if inner[-1] != validations - 1 else [])
    assert stride & (stride - 1) == 0 and validations / stride <= 512 < max(513, 4 * validations / stride)


def test_thinned_validations_go_on_after_a_resume_as_if_unbroken():
    whole, first = Curve(), Curve()
    for i in range(3000):
        whole.add_validation(i, i, {"val_loss": float(i)})
        if i < 1234:
            first.add_validation(i, i, {"val_loss": float(i)})
    second = Curve.from_state(first.state_dict())
    assert second == first
    for i in range(1234, 3000):
        second.add_validation(i, i, {"val_loss": float(i)})
    assert second == whole


def test_two_validations_at_one_step_are_one():
    curve = Curve()
    for loss in (3.0, 2.0):
        curve.add_validation(8, 64, {"val_loss": loss})
    assert curve.validations == [(8, 64, {"val_loss": 2.0})] and curve.seen == 1


def test_path_is_what_was_and_what_is_planned():
    planned = RatePath.of_shape(wsd, 1e6, 1_000)
    curve = Curve(8)
    for step in range(8, 505, 8):
        curve.add(CurvePoint(step, step * 1_000, step, 3.0, rate=wsd(step / 1_000)))
    path = curve.path(planned)
    for at in (2e5, 6e5, 1e6):
        assert float(path.effective_tokens(at)) == pytest.approx(float(planned.effective_tokens(at)), rel=5e-3)
    assert path.tokens[-1] == 1e6 and path.steps[-1] == 1_000
