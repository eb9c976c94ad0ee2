from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap

from scalestop.errors import InputError
from scalestop.fitting.intervals import interval


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
def test_intervals_are_those_of_scipy(level: float) -> None:
    # a skewed sample, where the two kinds of interval differ
    sample = np.random.default_rng(0).lognormal(sigma=1.0, size=40)
    drawn = np.random.default_rng(1).integers(40, size=(40_000, 40))
    draws = sample[drawn].mean(axis=1)
    jackknife = np.array([np.delete(sample, i).mean() for i in range(40)])
    ours = interval(sample.mean(), draws, jackknife, level)
    for method, ends in (("BCa", (ours.low, ours.high)), ("percentile", ours.percentile)):
        theirs = bootstrap(
            (sample,), np.mean, method=method, confidence_level=level, n_resamples=40_000, rng=np.random.default_rng(2)
        ).confidence_interval
        # both are Monte Carlo; the two kinds lie ten times further apart than this
        assert ends == pytest.approx((theirs.low, theirs.high), rel=0.012)
    assert ours.standard_error == pytest.approx(sample.std() / np.sqrt(40), rel=0.02)


def test_a_symmetric_estimate_has_the_same_interval_by_both_ways() -> None:
    draws = np.concatenate([-np.linspace(0, 3, 2001)[1:], np.linspace(0, 3, 2001)])
    found = interval(0.0, draws, np.array([-1.0, 1.0]))
    assert (found.low, found.high) == pytest.approx(found.percentile, abs=0.01)
    assert 0.0 in found
    assert 2.9 not in found


def test_an_estimate_outside_its_draws_stays_finite() -> None:
    found = interval(10.0, np.linspace(0, 1, 100), np.array([9.0, 11.0]))
    assert np.isfinite([found.low, found.high]).all()
    assert found.low > 0.9
    # an interval that leaves its own estimate out says nothing true
    assert found.high == 10.0
    assert 10.0 in found


def test_a_constant_that_was_held_has_no_width() -> None:
    found = interval(1.7, np.full(50, 1.7), np.full(9, 1.7))
    assert (found.low, found.high, found.standard_error) == pytest.approx((1.7, 1.7, 0.0))


@pytest.mark.parametrize("level", [0.0, 1.0, 90])
def test_a_level_is_a_share(level: float) -> None:
    with pytest.raises(InputError, match=r"level: must lie between 0 and 1, such as 0\.9"):
        interval(1.0, np.ones(3), np.ones(3), level)


def test_a_point_has_no_interval_and_says_so_when_asked() -> None:
    found = interval(1.7, np.empty(0), np.empty(0))
    assert found.is_point
    assert str(found) == "1.7 (no interval)"
    with pytest.raises(InputError, match=r"point fit \(bootstrap=0\): it has no intervals\. Fit with bootstrap=1000"):
        _ = 1.7 in found
    assert not interval(1.7, np.ones(3), np.ones(3)).is_point
