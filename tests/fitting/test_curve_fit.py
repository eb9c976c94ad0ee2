"""Curves of pilots in, a curve law out."""

from __future__ import annotations

import numpy as np
import pytest
from curve_toys import TRUE, made_up, some_pilots, wsd

from scalestop.errors import InputError
from scalestop.fitting.curve_fit import better_curve_law, fit_curve_law


def test_constants_come_back():
    law = fit_curve_law(some_pilots())
    found = law.constants(1e6, 1_000).mean
    # alpha alone is pinned down on its own: A is counted at another reference, C goes with beta and gamma
    assert found[1] == pytest.approx(TRUE[1], abs=0.06)
    assert law.residual is not None and law.residual < 0.004
    assert law.sizes == (1e6, 3e6) and law.num_pilots == 6


def test_errors_on_pilots_left_out_are_measured():
    law = fit_curve_law(some_pilots())
    assert all(error is not None and error < 0.03 for error in law.beyond.error[1:])
    assert (np.array(law.within.ratio) >= 0.4).all()
    assert fit_curve_law(some_pilots(), check=False).within.error == (None,) * 5


def test_the_published_kernels_compete():
    assert better_curve_law(some_pilots()).kernel == "power"  # which made these curves


def test_no_pilot_and_one_too_short_are_named():
    with pytest.raises(InputError, match="got none"):
        fit_curve_law([])
    run = made_up(wsd, 1e6, 10_000, 0)
    short = type(run)(1e6, run.path, run.tokens[:12], run.loss[:12], name="short")
    with pytest.raises(InputError, match=r"'short'.*after its warm-up"):
        fit_curve_law([short])
