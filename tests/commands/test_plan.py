"""`scalestop plan`: which law, and what it says of itself."""

import json

import pytest

from scalestop.commands.plan import run
from scalestop.errors import InputError


def said(capsys, *words):
    assert run(words) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(("budget", "law"), [("1e12 FLOPs", "stdlib-bytes"), ("1e24 FLOPs", "besiroglu")])
def test_by_default_the_nearest_law(capsys, budget, law):
    out = said(capsys, "--budget", budget)
    assert f"\nlaw         {law} (" in out
    assert "\nchosen      auto: " in out
    assert out.count("90 %: ") == 3 and "90 % of runs: " in out


def test_where_the_run_differs_from_the_laws_runs(capsys):
    out = said(capsys, "--budget", "1e12 FLOPs", "--run.vocab_size", "512", "--run.context", "128")
    assert "differs     vocabulary: 512 here, 256 behind the law; a loss per token is another quantity there" in out
    assert out.count("differs") == 1
    with pytest.raises(InputError, match="vocab_size: a positive whole number; got 0"):
        run(("--budget", "1e12 FLOPs", "--run.vocab_size", "0"))


def test_none_is_no_law(capsys):
    out = said(capsys, "--budget", "1e18 FLOPs", "--law", "none", "--params", "1B")
    assert "law     none; no law was asked for: the budget alone ends the run" in out
    with pytest.raises(InputError, match="a plan without num_params needs a law"):
        run(("--budget", "1e18 FLOPs", "--law", "none"))


def test_a_refusal_as_text_and_as_json(capsys):
    words = ("--budget", "1e18 FLOPs", "--law", "besiroglu", "--params", "1B")
    assert "the largest model for this budget is 161M; N 1B needs 3.52e19 FLOPs" in said(capsys, *words)
    data = json.loads(said(capsys, *words, "--json"))
    assert data["flops_needed"] == pytest.approx(3.52e19, rel=2e-3)
    assert data["largest_params"] == pytest.approx(1.61e8, rel=2e-3)
    assert data["refusal"].startswith("the largest model")
    assert data["law_chosen"] == "named"


def test_json_has_the_intervals_and_the_reason(capsys):
    data = json.loads(said(capsys, "--budget", "1e24 FLOPs", "--json"))
    low, high = data["loss_interval"]
    assert low < data["loss_at_stop"] < high
    assert data["allocation"]["params_interval"][0] < data["allocation"]["num_params"]
    assert data["law_reason"].startswith("of the built-in laws its runs are nearest to 1e24 FLOPs")
    assert (
        json.loads(said(capsys, "--budget", "1e18 FLOPs", "--law", "none", "--params", "1B", "--json"))["law"] == "none"
    )
