"""The rate along a run, and how it is thinned."""

from __future__ import annotations

import numpy as np
import pytest
from curve_toys import TRUE

from scalestop.errors import InputError
from scalestop.laws.curves.rate_path import RatePath
from scalestop.laws.curves.terms import curve_terms


def test_a_million_steps_are_thinned_and_say_the_same():
    steps = np.arange(1_000_001, dtype=np.float64)
    rate = np.where(steps < 5e5, 1.0, 0.25)
    long = RatePath(steps * 100, steps, rate)
    short = RatePath(np.array([0, 5e7, 5e7 + 100, 1e8]), np.array([0, 5e5, 5e5 + 1, 1e6]), np.array([1, 1, 0.25, 0.25]))
    assert len(long.tokens) <= 2_000
    for at in (3e7, 6e7, 1e8):
        one, other = (curve_terms(path, at, TRUE, 1e8).value[0] for path in (long, short))
        assert one == pytest.approx(other, abs=1e-5)


def test_path_refuses_what_is_none():
    with pytest.raises(InputError, match="growing"):
        RatePath(np.array([0.0, 2.0, 1.0]), np.array([0.0, 1.0, 2.0]), np.ones(3))
    with pytest.raises(InputError, match="rate"):
        RatePath(np.array([0.0, 1.0]), np.array([0.0, 1.0]), np.zeros(2))
