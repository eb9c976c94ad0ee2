"""The band of pilots, healthy runs and a fault."""

from __future__ import annotations

import json
import re

import pytest
from curve_toys import band_pilot, constant

from scalestop.errors import InputError
from scalestop.fitting.band_fit import fit_band
from scalestop.laws.curves.band import CurveBand
from scalestop.laws.curves.rate_path import RatePath


def test_band_holds_healthy_runs_and_finds_a_fault():
    sizes = [1e6, 1e6, 2e6, 2e6, 4e6, 4e6, 8e6, 8e6]
    band = fit_band([band_pilot(k, size, 8_000 + 1_000 * (k % 3)) for k, size in enumerate(sizes)])
    band = CurveBand.from_dict(json.loads(json.dumps(band.to_dict())))
    healthy = [band_pilot(100 + k, 4e6, 9_000) for k in range(40)]
    checks = [band.check(run.num_params, run.path, run.tokens, run.loss, run.error) for run in healthy]
    assert sum(check.crossed for check in checks) <= 1
    assert checks[0].windows == 26
    run = healthy[0]
    got = band.check(run.num_params, run.path, run.tokens[:60], run.loss[:60] + 0.3, run.error[:60])
    assert got.crossed and got.share < 0.15 and got.excess > 0 and "above" in got.message
    far = band_pilot(200, 64e6, 40_000)
    outside = band.check(far.num_params, far.path, far.tokens, far.loss + 1.0, far.error)
    assert not outside.crossed and outside.windows == 0 and "outside its pilots'" in outside.message


def test_band_compares_only_the_schedule_that_its_pilots_had():
    band = fit_band([band_pilot(k, 1e6 * 2 ** (k // 2), 8_000) for k in range(8)])
    run = band_pilot(50, 4e6, 8_000)
    other = RatePath.of_shape(constant, 8e6, 8_000)
    assert band.check(4e6, other, run.tokens, run.loss, run.error).windows < 26
    note = band.schedule_note(4e6, other)
    assert re.search(
        r"otherwise than that of the law's own runs, from \d+\.0% of the run on: there 100% of its peak", note
    )
    assert band.schedule_note(4e6, run.path) is None and band.schedule_note(64e9, other) is None
    with pytest.raises(InputError, match="at least 4"):
        fit_band([run])
