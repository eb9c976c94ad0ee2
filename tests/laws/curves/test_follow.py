"""Where a run will end, against curves whose end is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from curve_toys import STEP_TOKENS, TRUE, constant, cosine, made_up, some_pilots, wsd

from scalestop.errors import InputError
from scalestop.fitting.curve_fit import fit_curve_law
from scalestop.laws.curves.follow import follow
from scalestop.laws.curves.law import CurveLaw
from scalestop.laws.curves.terms import curve_terms


@pytest.fixture(scope="module")
def law() -> CurveLaw:
    return fit_curve_law(some_pilots())


@pytest.mark.parametrize("shape", [wsd, cosine, constant])
@pytest.mark.parametrize("share", [0.2, 0.5])
def test_a_larger_run_is_forecast(law, shape, share):
    run = made_up(shape, 1e7, 20_000, 99)
    seen = run.tokens <= share * run.path.tokens[-1]
    followed = follow(law, run.num_params, run.path, run.tokens[seen], run.loss[seen])
    got = followed.forecast(noise=0.002)
    assert abs(got.loss - run.loss[-1]) < 0.015
    assert got.low < run.loss[-1] < got.high


def test_decaying_now_is_forecast(law):
    whole = made_up(constant, 3e6, 10_000, 5, noise=0.0)
    seen = whole.tokens <= 5e6
    followed = follow(law, 3e6, whole.path, whole.tokens[seen], whole.loss[seen])
    branch = whole.path.decayed(5e6, 1e6)
    got = followed.forecast(path=branch)
    constants = TRUE + np.array([0.05, 0, 0.08, 0, 0, 0]) * math.log(3)
    true = 2.5 - 0.2 * math.log10(3) + curve_terms(branch, 6e6, constants, 1e7).value[0]
    assert got.loss == pytest.approx(true, abs=0.01)
    assert got.loss < followed.forecast(6e6).loss  # the decay pays


def test_without_pilots_the_interval_is_wider(law):
    run = made_up(wsd, 3e6, 10_000, 7)
    seen = run.tokens <= 0.3 * run.path.tokens[-1]
    prior = CurveLaw.without_pilots(3e6, STEP_TOKENS)
    wide, narrow = (follow(one, 3e6, run.path, run.tokens[seen], run.loss[seen]).forecast() for one in (prior, law))
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    assert wide.low < run.loss[-1] < wide.high


def test_too_few_points_are_named(law):
    run = made_up(wsd, 3e6, 10_000, 7)
    with pytest.raises(InputError, match="3 are needed"):
        follow(law, 3e6, run.path, run.tokens[:8], run.loss[:8])


def test_slope_is_that_of_the_stretched_curve(law):
    run = made_up(cosine, 3e6, 10_000, 3)
    followed = follow(law, 3e6, run.path, run.tokens, run.loss)
    slope = followed.slope()
    near, far = (followed.forecast(1e7 * f, run.path.stretched(f)).loss for f in (0.99, 1.01))
    assert slope.nats_per_token == pytest.approx((near - far) / 2e5, rel=0.1)
    assert slope.deviation > 0
