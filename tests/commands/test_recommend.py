from __future__ import annotations

import json
from pathlib import Path

import pytest

from scalestop.cli import main

ROOT = Path(__file__).parent.parent.parent
RUNS = str(ROOT / "examples" / "stdlib_ladder_runs.csv")


def said(capsys, *words):
    assert main(["recommend", *words]) == 0
    return capsys.readouterr().out


def test_the_decision_comes_first_and_the_commands_last(capsys):
    out = said(capsys, "--budget", "1e21", "--peak", "H100", "--mfu", "0.4", "--devices", "8",
               "--usd_per_device_hour", "2.5")  # fmt: skip
    lines = out.splitlines()
    assert lines[0].startswith("decision      Train 2.78B parameters on 59.9B tokens")
    assert "702 device-hours" in out and "1,755 USD" in out and "law chinchilla" in out
    assert lines[-1].strip() == "scalestop score RUN/scalestop.json forecast.json"


def test_the_commands_that_it_gives_can_be_typed(capsys):
    out = said(capsys, "--budget", "1e21")
    import shlex

    given = [line[14:] for line in out.splitlines() if line[14:].startswith("scalestop ")]
    assert len(given) == 4
    for command in given[:1] + given[2:3]:
        assert main(shlex.split(command)[1:]) == 0


@pytest.mark.parametrize("suffix", [".html", ".md"])
def test_the_page_says_what_the_terminal_says(capsys, tmp_path, suffix):
    path = tmp_path / "deep" / f"page{suffix}"
    out = said(capsys, "--budget", "1e22", "--unique_tokens", "25B", "--out", str(path))
    text = path.read_text()
    assert out.splitlines()[0][14:] in text
    assert "10.1 passes over them" in text and "10.1 passes over them" in out
    assert ("<svg" in text) == (suffix == ".html")
    assert out.rstrip().endswith(f"page saved: {path}")


def test_json_is_strict_and_has_the_answers(capsys):
    found = json.loads(said(capsys, "--budget", "1e21", "--demand", "2T", "--json"), parse_constant=None)
    assert found["train"]["num_params"] == pytest.approx(5.48e8, rel=0.01)
    assert found["serving"]["demand"] == 2e12 and found["decision"].startswith("Train 548M")
    assert found["checks"]["items"] and found["gains"]["gains"]


def test_a_law_is_fitted_to_the_runs_and_held_against_those_it_has_not_seen(capsys):
    out = said(capsys, "--budget", "1e14", "--runs", RUNS)
    assert "fitted to your 50 runs" in out and "your 23 runs that were held out" in out
    assert "--out law.json" in out and "--law law.json" in out


def test_runs_are_held_against_a_law_that_is_named(capsys):
    out = said(capsys, "--budget", "1e14", "--runs", RUNS, "--law", "stdlib-bytes")
    assert "your 50 runs, up to 1e12 FLOPs" in out and "fitted to your" not in out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "budget: missing; write for example: scalestop recommend --budget '1e21 FLOPs'"),
        (["--budget", "12h"], "peak: a budget in time or money is no compute yet"),
        (["--budget", "1e21", "--out", "page.txt"], "out: a page is one of .html, .htm, .md; got '.txt'"),
        (["--budget", "1e21", "--style", "foo"], "style: one of gpt2, llama; got 'foo'"),
        (["--budget", "1e21", "--context", "0"], "context: a positive whole number; got 0"),
        (["--budget", "1e21", "--law", "deepseek"], "law: a recommendation needs a loss"),
    ],
)
def test_what_cannot_be_answered_is_told_in_one_line(capsys, words, complaint):
    assert main(["recommend", *words]) == 2
    assert complaint in capsys.readouterr().err


def test_a_page_of_another_kind_is_refused_before_the_fit(capsys, monkeypatch):
    import scalestop.fitting

    monkeypatch.setattr(scalestop.fitting, "fit_law", lambda *_, **__: pytest.fail("it was fitted"))
    assert main(["recommend", "--budget", "1e14", "--runs", RUNS, "--out", "page.txt"]) == 2
    assert "got '.txt'" in capsys.readouterr().err


def test_no_demand_is_no_demand(capsys):
    assert said(capsys, "--budget", "1e21", "--demand", "0") == said(capsys, "--budget", "1e21")
