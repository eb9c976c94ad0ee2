"""Spikes, losses that are not finite, forecasts that miss the law."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from scalestop.laws.curves.follow import Forecast
from scalestop.run.alarms import CourseWatch, SpikeWatch
from scalestop.run.curve_point import CurvePoint, window


def test_spikes_that_come_back_and_one_that_does_not():
    generator = np.random.default_rng(1)
    losses = 3 + 0.05 * generator.standard_normal(300)
    losses[100:103] += 1.0
    calm = SpikeWatch()
    for step, loss in enumerate(losses):
        calm.see(CurvePoint(step, step, step, float(loss)))
    assert (calm.spikes, calm.returned, calm.lost_at) == (1, 1, None)
    losses[200:] += 1.0
    lost = SpikeWatch()
    states = [lost.see(CurvePoint(step, step, step, float(loss))) for step, loss in enumerate(losses)]
    assert lost.lost_at == 207 and states[-1] == "lost"
    assert SpikeWatch.from_state(json.loads(json.dumps(lost.state_dict()))) == lost


def test_losses_that_are_not_finite_are_counted():
    watch = SpikeWatch()
    for step in range(20):
        watch.see(window([3.0, 3.1, math.inf], step=step, tokens=step, flops=step))
    assert watch.nonfinite == 20 and watch.lost_at is None
    for step in range(20, 28):
        state = watch.see(window([math.nan], step=step, tokens=step, flops=step))
    assert state == "lost"


def test_off_course_needs_two_looks():
    watch, bad = CourseWatch(), Forecast(3.0, 2.9, 3.1, 0.06, 1e6, 0.2)
    assert not watch.see(bad, 2.5, 2.7).off
    second = watch.see(bad, 2.5, 2.7)
    assert second.off and second.excess == pytest.approx(0.2) and "worse" in second.message
    assert not watch.see(Forecast(2.7, 2.6, 2.8, 0.06, 1e6, 0.3), 2.5, 2.7).off
