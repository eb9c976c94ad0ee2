"""Quantiles of t, against scipy's."""

from __future__ import annotations

import pytest
from scipy.stats import t

from scalestop.laws.curves.student import t_quantile


@pytest.mark.parametrize("degrees", [1, 2.5, 4, 6, 26, 300])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.95, 0.995])
def test_quantiles_are_scipys(share, degrees):
    assert t_quantile(share, degrees) == pytest.approx(float(t.ppf(share, degrees)), rel=1e-4, abs=1e-9)
