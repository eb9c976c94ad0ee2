"""When a forecast will fail."""

import json

import pytest

from scalestop import get_law, list_laws
from scalestop.laws import Provenance
from scalestop.planning.advice.checks import Mark, checklist


def marks(*arguments, **words):
    return {item.topic: item for item in checklist(*arguments, **words).items}


@pytest.mark.parametrize("name", sorted(list_laws()))
def test_every_built_in_law_has_one(name):
    found = checklist(get_law(name), 1e9, 2e10)
    assert len({item.topic for item in found.items}) == len(found.items) >= 10
    assert all(item.text for item in found.items)
    assert json.loads(json.dumps(found.to_dict()))["worst"] == str(found.worst)
    assert f"law       {name} (" in str(found)


def test_extrapolation_is_told_once_in_factors_of_ten():
    law = get_law("stdlib-bytes")
    assert marks(law, 5e4, 1e6)["range"].mark is Mark.FINE
    near, far = marks(law, 1e6, 1e8)["range"], marks(law, 1e9, 2e10)["range"]
    assert near.mark is Mark.WATCH and "2.8 factors of ten outside" in near.text
    assert far.mark is Mark.FAILS and "fit a law nearer" in far.text
    assert far.text.count("factors of ten") == 2  # the farthest, and the first of the list


def test_another_tokenizer_fails_and_another_recipe_is_watched():
    law = get_law("stdlib-bytes")
    assert marks(law, 5e4, 1e6)["data"].mark is Mark.UNKNOWN
    assert marks(law, 5e4, 1e6, run=Provenance(tokenizer="gpt2"))["data"].mark is Mark.FAILS
    other = marks(law, 5e4, 1e6, run=Provenance(tokenizer="bytes", optimizer="SGD"))["data"]
    assert other.mark is Mark.WATCH and "optimizer: SGD here" in other.text
    assert marks(law, 5e4, 1e6, run=Provenance(tokenizer="bytes"))["data"].mark is Mark.FINE
    assert marks(get_law("besiroglu"), 1e9, 2e10)["data"].mark is Mark.UNKNOWN


@pytest.mark.parametrize(
    ("unique", "mark"), [(None, Mark.UNKNOWN), (1e11, Mark.FINE), (1e10, Mark.WATCH), (2e9, Mark.FAILS)]
)
def test_repeated_data(unique, mark):
    assert marks(get_law("besiroglu"), 1e9, 2e10, unique_tokens=unique)["repetition"].mark is mark


def test_a_law_that_knows_of_repetition_may_repeat():
    walled = get_law("muennighoff").with_unique_tokens(2e9)
    assert marks(walled, 1e9, 2e10, unique_tokens=2e9)["repetition"].mark is Mark.FINE


@pytest.mark.parametrize(("decayed", "mark"), [(None, Mark.UNKNOWN), (True, Mark.FINE), (False, Mark.FAILS)])
def test_the_rate(decayed, mark):
    assert marks(get_law("besiroglu"), 1e9, 2e10, lr_decayed=decayed)["rate"].mark is mark


def test_pilots_and_intervals():
    assert "240 runs" in marks(get_law("besiroglu"), 1e9, 2e10)["pilots"].text
    assert marks(get_law("kaplan"), 1e9, 2e10)["interval"].mark is Mark.UNKNOWN
    assert checklist(get_law("besiroglu"), 1e9, 2e10, unique_tokens=2e9).worst is Mark.FAILS


def test_findings_are_repeated():
    from dataclasses import replace

    from scalestop.laws import Finding

    law = get_law("besiroglu")
    info = replace(
        law.info,
        findings=(
            Finding("E-undetermined", "warning", "E could be anything"),
            Finding("noise", "warning", "the runs scatter by 5 %"),
        ),
    )
    found = marks(replace(law, info=info), 1e9, 2e10)
    assert found["constants"].mark is Mark.FAILS and found["constants"].text == "E could be anything"
    assert found["recipe"].text == "the runs scatter by 5 %"
