"""The curves that a law carries, in its file and beside a built-in one."""

from __future__ import annotations

import json

import pytest

from scalestop.errors import InputError
from scalestop.laws import get_law
from scalestop.laws.curves.family import CurveFamily


def test_the_embedded_law_knows_its_runs_curves():
    curves = get_law("stdlib-bytes").curves
    assert curves.series == "training" and curves.band.num_pilots == curves.law.num_pilots == 19
    assert get_law("besiroglu").curves is None


def test_a_saved_law_keeps_them_and_is_the_same_law(tmp_path):
    law = get_law("stdlib-bytes")
    again = get_law(law.save(tmp_path / "mine.json"))
    assert again.curves.to_dict() == law.curves.to_dict()
    assert again.digest == law.digest and again.constants == law.constants


def test_curves_survive_json():
    curves = get_law("stdlib-bytes").curves
    again = CurveFamily.from_dict(json.loads(json.dumps(curves.to_dict())))
    assert again.to_dict() == curves.to_dict()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": "scalestop.curves/9"}, "mine: schema: expected 'scalestop.curves/1', got 'scalestop.curves/9'"),
        ({"series": "test"}, "mine: series: one of training, validation; got 'test'"),
        ({"law": {}}, "mine: law: schema: expected 'scalestop.curve-law/1', got None"),
    ],
)
def test_what_is_none_is_named(change, says):
    data = {**get_law("stdlib-bytes").curves.to_dict(), **change}
    with pytest.raises(InputError) as error:
        CurveFamily.from_dict(data, where="mine")
    assert str(error.value) == says
