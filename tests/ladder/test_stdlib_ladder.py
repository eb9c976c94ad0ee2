"""The evidence behind the built-in law `stdlib-bytes`: what its notes and README claim, from the committed runs."""

import csv
import importlib
from pathlib import Path

import pytest

from scalestop import fit_law, get_law
from scalestop.lab import TextData, TinyGPT
from scalestop.ladder.origin import provenance
from scalestop.ladder.plan import plan_ladder
from scalestop.ladder.settings import LadderSettings
from scalestop.ladder.store import Ladder
from scalestop.laws.intervals import interval_of_run

EXAMPLES = Path(__file__).parents[2] / "examples"
LAW = get_law("stdlib-bytes")


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("stdlib_ladder")


@pytest.fixture(scope="module")
def fit():
    return fit_law(EXAMPLES / "stdlib_ladder_runs.csv", bootstrap=1000)


def test_the_runs_give_the_built_in_law(fit):
    assert fit.law.constants == pytest.approx(LAW.constants, rel=1e-6)
    assert len(fit.table) == LAW.uncertainty.num_runs == 50
    assert LAW.uncertainty.knows_scatter
    assert fit.law.info.valid == LAW.info.valid and max(fit.table.flops) < 1.01e12
    text, recipe = LAW.info.notes[-2:]
    assert text.startswith("Text: source python-stdlib") and recipe.startswith("Recipe: scalestop.lab.tiny_gpt.TinyGPT")


def test_held_out_runs_lie_near_the_forecast_and_inside_its_interval(script, fit):
    found = script.held_out(fit, script.read(script.INDEPENDENT))
    dearest = max(fit.table.flops)
    assert [run["flops"] / dearest for run, _, _ in found] == pytest.approx([10, 30], rel=0.01)
    for run, forecast, (low, high) in found:
        assert abs(run["loss"] - forecast) < 0.02 and low <= run["loss"] <= high


def test_the_runs_below_the_fit_lie_inside_its_intervals(script, fit):
    below = script.held_out(fit, script.read(script.INDEPENDENT), "below")
    assert len(below) == 45 and max(run["flops"] for run, _, _ in below) < 0.4 * min(fit.table.flops)
    assert sum(low <= run["loss"] <= high for run, _, (low, high) in below) >= 0.9 * len(below)
    assert all(low > 0.7 * forecast for _, forecast, (low, _) in below if forecast < 3)


def test_the_optimum_lies_on_the_floor_of_a_wide_valley(script, fit):
    valley = script.valley(script.read(script.INDEPENDENT))
    optimum = float(fit.law.optimal(1e12).num_params)
    assert min(valley) < optimum / 8 and max(valley) > 8 * optimum
    nearest = min(valley, key=lambda size: abs(size / optimum - 1))
    assert nearest / optimum == pytest.approx(1, abs=0.1)
    assert valley[nearest] <= 1.01 * min(valley.values())
    assert max(valley.values()) > 1.1 * min(valley.values())  # it is a valley


def test_the_cheaper_ladder_agrees_within_the_intervals(script, fit):
    rows = script.read(script.TRUNKS)
    trunks = fit_law(script.TRUNKS, bootstrap=1000)
    spent = script.spent(rows)
    alone = sum(run["flops"] for run in rows if run["kind"] != "trunk")
    assert spent < 0.77 * alone and spent < 0.57 * script.spent(script.read(script.INDEPENDENT))
    for flops in (1e12, 1e13, 3e13):
        ours, theirs = trunks.optimum(flops), fit.optimum(flops)
        for name in ("num_params", "num_tokens", "loss"):
            a, b = getattr(ours, name), getattr(theirs, name)
            assert max(a.low, b.low) < min(a.high, b.high), (flops, name)


def test_the_script_prints_and_draws(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["stdlib_ladder.py", "--plot", str(tmp_path / "ladder.png")])
    script.main()
    said = capsys.readouterr().out
    assert (
        said.count("  inside\n") == 2 and said.count("15 of 15") == 3 and "OUTSIDE" not in said and "N counts" in said
    )
    assert (tmp_path / "ladder.png").read_bytes().startswith(b"\x89PNG")


def test_the_law_holds_as_data_what_its_ladder_would_say_of_itself(tmp_path):
    """Else a run by the very recipe would be told that it differs."""
    ladder = Ladder.open(plan_ladder(LadderSettings(out=str(tmp_path), target="1e13 FLOPs", law="stdlib-bytes")))
    kept, shipped = provenance(ladder).stated, LAW.info.provenance.stated
    assert len(kept) == 6 and kept == {name: shipped[name] for name in kept}
    text = TextData().provenance
    assert set(text) | set(kept) == set(shipped)
    assert text["tokenizer"] == shipped["tokenizer"] and text["vocab_size"] == shipped["vocab_size"]
    assert TinyGPT().provenance.items() <= kept.items()


def test_nine_in_ten_runs_of_train_end_where_the_law_said():
    """The command that a newcomer runs first, over four factors of ten in compute, three seeds each."""
    with (EXAMPLES / "stdlib_train_runs.csv").open() as file:
        runs = list(csv.DictReader(file))
    assert len(runs) == 21 and {run["stop_reason"] for run in runs} <= {"COMPUTE_OPTIMAL", "BUDGET_EXHAUSTED"}
    for budget in {run["budget"] for run in runs}:
        assert sorted(run["seed"] for run in runs if run["budget"] == budget) == ["0", "1", "2"]
    spans = [interval_of_run(LAW, int(run["num_params"]), int(run["num_tokens"])) for run in runs]
    inside = [low <= float(run["loss"]) <= high for run, (low, high) in zip(runs, spans, strict=True)]
    assert sum(inside) >= 0.9 * len(runs)
