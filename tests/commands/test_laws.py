"""`scalestop laws`: the list that marks what lies outside, and everything about one law."""

import json

import pytest

from scalestop.commands.laws import describe_law, run
from scalestop.laws import Finding, LawInfo, ParametricLaw, Provenance, get_law, list_laws


def listed(capsys, *words):
    assert run(("list", *words)) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    column = header.index("outside its runs")
    return {line.split()[0]: line[column:].split("  ")[0] for line in lines[:-1]}, header, lines[-1]


@pytest.mark.parametrize(
    ("budget", "marks"),
    [
        ("1e21 FLOPs", {"besiroglu": "no", "stdlib-bytes": "C 9.0 factors of ten above"}),
        ("1e21", {"besiroglu": "no", "stdlib-bytes": "C 9.0 factors of ten above"}),
        ("1e12 FLOPs", {"besiroglu": "C 6.1 factors of ten below", "stdlib-bytes": "no"}),
        ("1e24 FLOPs", {"besiroglu": "C 1.9 factors of ten above", "kaplan": "N 2.9 factors of ten above"}),
    ],
)
def test_the_list_marks_what_lies_outside_and_how_far(capsys, budget, marks):
    found, header, _ = listed(capsys, "--budget", budget)
    assert list(found) == list_laws()
    assert {name: found[name] for name in marks} == marks
    assert " buys " in header


def test_without_a_budget_it_is_1e21_flops_and_marked(capsys):
    found, header, last = listed(capsys)
    assert "1e21 FLOPs buys" in header
    assert found["stdlib-bytes"] == "C 9.0 factors of ten above"
    assert last == "auto would take besiroglu: 1e21 FLOPs lies within its runs, 1.4e18 to 1.3e22 FLOPs"


def test_what_auto_would_take_so_far_off_is_only_advice(capsys):
    *_, last = listed(capsys, "--budget", "1e27 FLOPs")
    assert last.endswith("4.9 factors of ten away; so far off it only advises")


def test_as_json_with_the_answer_to_the_budget(capsys):
    assert run(("list", "--budget", "1e24 FLOPs", "--json")) == 0
    data = {law["name"]: law for law in json.loads(capsys.readouterr().out)}
    assert list(data) == list_laws()
    answer = data["besiroglu"]["answer"]
    low, high = answer["loss_interval"]
    assert low < answer["loss"] < high
    assert [line.split(" = ")[0] for line in answer["outside"]] == ["C", "N", "D"]
    assert data["kaplan"]["answer"]["loss_interval"] is None


def test_show_says_how_sure_a_law_is():
    shown = " ".join(describe_law(get_law("besiroglu")).split())
    assert "1000 draws of the constants, from 240 runs" in shown
    assert "made by tests/published_draws.py" in shown
    assert "alpha: 90 % 0.32" in shown
    assert "runs scatter about it by 0.68% of the loss" in shown
    assert "outside its runs it drifts by 1.78% a factor of ten" in shown
    bare = " ".join(describe_law(get_law("deepseek")).split())
    assert "uncertainty not known: its figures carry no interval" in bare


def test_show_says_what_a_law_was_fitted_to_and_what_its_fit_found():
    info = LawInfo(
        "mine",
        "total",
        "a test",
        provenance=Provenance(text="a corpus", vocab_size=50257),
        findings=(Finding("E-undetermined", "warning", "E is not determined."),),
    )
    lines = describe_law(ParametricLaw(info, E=1.5, A=400.0, B=900.0, alpha=0.35, beta=0.3)).splitlines()
    rows = [line.split(maxsplit=1) for line in lines]
    assert ["its", "text        a corpus"] in rows
    assert ["its", "vocabulary  50,257"] in rows
    assert ["warning", "E-undetermined: E is not determined."] in rows
