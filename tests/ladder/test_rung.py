"""A rung's name names files: what could lead out of the ladder's folder is no name."""

from __future__ import annotations

import pytest
from ladder_toys import micro

from scalestop.errors import InputError
from scalestop.ladder.plan import plan_ladder
from scalestop.ladder.rung import Rung, is_safe_name

RUNG = Rung("1e8-n10-s0", 10, 640, 38_400, 10**8, 0, 0.01, 1, 64, "8x3", 8).to_dict()


@pytest.mark.parametrize(
    "name",
    [
        *("../../../x", "..", ".", "", "a/b", "/etc/passwd", "a\\b", "~root", ".hidden", "-rf", "a..b", "a b", "a\nb"),
        *("a\0b", "é", "*", "x" * 201, "con:", "$HOME", 5, None, ["a"]),
    ],
)
def test_names_that_could_lead_elsewhere(name):
    assert not is_safe_name(name)
    with pytest.raises(InputError, match="rung: name: letters, digits"):
        Rung.from_dict({**RUNG, "name": name})
    if name is not None:
        with pytest.raises(InputError, match="rung: trunk: letters, digits"):
            Rung.from_dict({**RUNG, "trunk": name})


def test_every_name_that_a_plan_gives_is_safe(tmp_path):
    options = {"lr_factors": [0.25, 4.0], "valley": "2e8", "held_out": ["8e8"], "seeds": [2]}
    for trunk in (False, True):
        for rung in plan_ladder(micro(tmp_path, trunk=trunk, **options)).rungs:
            assert is_safe_name(rung.name) and Rung.from_dict(rung.to_dict()) == rung


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"num_params": "10"}, "num_params: a count of at least 1; got '10'"),
        ({"batch_size": 0}, "batch_size: a count of at least 1; got 0"),
        ({"seed": -1}, "seed, start_tokens and points"),
        ({"points": [1.5]}, "seed, start_tokens and points"),
        ({"points": 5}, "not iterable"),
        ({"lr": "fast"}, "lr: a number, not negative"),
        ({"lr": float("nan")}, "lr: a number, not negative"),
        ({"kind": "race"}, "kind: one of run, trunk, branch"),
        ({"kind": "branch", "trunk": None}, "leaves a trunk"),
        ({"model_args": [1]}, "arguments by name"),
        ({"colour": "red"}, "unexpected keyword argument 'colour'"),
    ],
)
def test_what_is_no_rung_is_told(change, text):
    with pytest.raises(InputError, match=f"rung.*{text}"):
        Rung.from_dict({**RUNG, **change})
    with pytest.raises(InputError, match="rung: 'points'"):
        Rung.from_dict({})
