from __future__ import annotations

import json

import pytest

from scalestop.cli import main
from scalestop.laws import get_law
from scalestop.planning.plan import make_plan


def test_size_and_length_are_forecast(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["forecast", "--law", "stdlib-bytes", "--params", "60k", "--tokens", "2.5M", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["loss"] == float(get_law("stdlib-bytes").loss(60_000.0, 2_500_000.0))
    assert data["warnings"] == []


def test_a_budget_alone_gives_the_right_sized_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["forecast", "--law", "stdlib-bytes", "--budget", "1e14 FLOPs", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    plan = make_plan("1e14 FLOPs", "stdlib-bytes")
    assert (data["num_params"], data["num_tokens"], data["budget"]) == (plan.num_params, plan.stop_tokens, "1e14 FLOPs")
    assert "factors of ten above" in data["warnings"][0]


@pytest.mark.parametrize(
    "words",
    [[], ["--params", "1B"], ["--budget", "1e12 FLOPs", "--params", "900k", "--law", "stdlib-bytes"]],
)
def test_a_forecast_needs_size_and_length(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["forecast", *words]) == 2
    assert "a forecast is of one size and length" in capsys.readouterr().err
