"""Seals: what is sealed, that any change shows, and that a file is written once."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import fields, replace

import pytest

import scalestop
from scalestop.errors import InputError
from scalestop.laws import get_law
from scalestop.planning.allocation import interval_of_run
from scalestop.run.seal import Forecast, seal_forecast, sha256

LAW = get_law("stdlib-bytes")


def sealed(**options):
    return seal_forecast(LAW, 60_000, 3_000_000, **{"now": 1_700_000_000.0, **options})


def test_it_holds_what_the_law_says_of_the_run():
    made = scalestop.seal_forecast("stdlib-bytes", 60_000, 3_000_000, now=1_700_000_000.0)
    assert made == sealed()
    assert made.loss == float(LAW.loss(60_000.0, 3_000_000.0))
    assert made.loss_interval == interval_of_run(LAW, 60_000, 3_000_000)
    assert (made.created, made.flops) == ("2023-11-14T22:13:20+00:00", 6 * 60_000 * 3_000_000)
    assert made.data_hash == LAW.uncertainty.data_hash
    assert made.factor == pytest.approx(1.08e12 / LAW.info.valid.flops[1])


def test_the_digest_is_sha256_of_canonical_json():
    """Worked without the module: sorted keys, no spaces, the digest itself left out."""
    data = sealed().to_dict()
    digest = data.pop("digest")
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    assert digest == hashlib.sha256(text.encode()).hexdigest()
    assert sha256({"b": [1, 2.5], "a": "ä"}) == hashlib.sha256(b'{"a":"\\u00e4","b":[1,2.5]}').hexdigest()


@pytest.mark.parametrize("name", [field.name for field in fields(Forecast)])
def test_any_change_breaks_it(name):
    made = sealed(budget="1e12 FLOPs", run="big")
    value = getattr(made, name)
    changed = value + "x" if isinstance(value, str) else (0.1, 0.2) if isinstance(value, tuple) else value + 1
    assert made.intact and not replace(made, **{name: changed}).intact


def test_laws_that_differ_in_a_draw_have_other_hashes():
    draws = LAW.uncertainty.draws.copy()
    draws[0, 0] *= 1.01
    other = replace(LAW, uncertainty=replace(LAW.uncertainty, draws=draws))
    assert seal_forecast(other, 60_000, 3_000_000).law_hash != sealed().law_hash


def test_it_survives_its_file_which_may_then_only_be_read(tmp_path):
    made = sealed(path=tmp_path / "deep" / "seal.json")
    assert Forecast.load(tmp_path / "deep" / "seal.json") == made and made.intact
    assert os.stat(tmp_path / "deep" / "seal.json").st_mode & 0o222 == 0


def test_it_is_not_written_twice(tmp_path):
    sealed(path=tmp_path / "seal.json")
    before = (tmp_path / "seal.json").read_text()
    with pytest.raises(InputError, match=r"seal: .*seal\.json is there already, and a forecast is not written twice"):
        sealed(path=tmp_path / "seal.json", now=1_800_000_000.0)
    assert (tmp_path / "seal.json").read_text() == before


def test_a_law_without_scatter_gives_no_interval():
    made = seal_forecast(replace(LAW, uncertainty=None), 60_000, 3_000_000)
    assert made.loss_interval is None and made.data_hash == "" and made.intact
    assert "90 %" not in str(made) and "90 % of runs: " in str(sealed())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("chinchilla-1", 10**9, 10**10), "predicts no loss"),
        (("stdlib-bytes", 0, 10**6), "num_params: must be a positive whole number; got 0"),
        (("stdlib-bytes", 10**5, 1.5e6), "num_tokens: must be a positive whole number; got 1500000.0"),
    ],
)
def test_what_cannot_be_forecast_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        seal_forecast(*arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "scalestop.record/1"}, "x: schema: expected 'scalestop.forecast/1'"),
        ({"loss": "low"}, "x: cannot be read: could not convert"),
        ({"created": "yesterday"}, "x: cannot be read: Invalid isoformat"),
        ({"law_hash": ...}, "x: missing field.* law_hash"),
        ({"more": 1}, "x: unknown field.* more"),
    ],
)
def test_what_is_no_forecast_is_refused(change, message):
    data = {name: value for name, value in {**sealed().to_dict(), **change}.items() if value is not ...}
    with pytest.raises(InputError, match=message):
        Forecast.from_dict(data, where="x")
