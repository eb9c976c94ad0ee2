"""A curve law as JSON."""

from __future__ import annotations

import json

import pytest
from curve_toys import some_pilots

from scalestop.errors import InputError
from scalestop.fitting.curve_fit import fit_curve_law
from scalestop.laws.curves.law import CurveLaw


@pytest.fixture(scope="module")
def law() -> CurveLaw:
    return fit_curve_law(some_pilots())


def test_law_survives_json(law):
    again = CurveLaw.from_dict(json.loads(json.dumps(law.to_dict())))
    assert again.mean == pytest.approx(law.mean, rel=1e-6)
    assert again.within == law.within and again.sizes == law.sizes
    with pytest.raises(InputError, match="schema"):
        CurveLaw.from_dict({})


@pytest.mark.parametrize("change", [{"mean": [1.0]}, {"mean": None}, {"kernel": "cubic"}, {"sizes": 3}, {"within": []}])
def test_what_is_no_curve_law_is_named(law, change):
    with pytest.raises(InputError, match="mine: cannot be read"):
        CurveLaw.from_dict({**law.to_dict(), **change}, where="mine")
