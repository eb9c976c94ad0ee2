"""The script behind the `stdlib-bytes` law: its plan, one real run, what a kill leaves behind."""

import importlib
import json
from pathlib import Path

import pytest

from scalestop.lab.dims import dims_for

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("fit_stdlib_law")


def test_plan_has_no_run_twice_and_spends_each_budget(script):
    runs = script.planned_runs()
    assert len({run.name for run in runs}) == len(runs)
    for run in runs:
        spent = 6 * run.dims.num_params * run.steps * run.batch_size * script.CONTEXT
        assert spent == pytest.approx(run.flops, rel=0.01)
    fitted = [run for run in runs if not run.held_out]
    assert max(run.flops for run in fitted) * 2 <= min(run.flops for run in runs if run.held_out)


def test_one_run_leaves_one_line_and_is_not_run_again(script, tmp_path, monkeypatch, capsys):
    run = script.Run(flops=3e8, dims=dims_for(8.4e3), seed=0, held_out=False)
    monkeypatch.setattr(script, "planned_runs", lambda: [run])
    path = tmp_path / "records.jsonl"
    script.sweep(path)
    script.sweep(path)
    (record,) = map(json.loads, path.read_text().splitlines())
    assert capsys.readouterr().out.count("[1/1]") == 1
    assert record["params"] == run.dims.num_params
    assert record["tokens"] == run.steps * run.batch_size * script.CONTEXT
    assert record["flops"] == 6 * record["params"] * record["tokens"] == pytest.approx(3e8, rel=0.02)
    assert 2 < record["loss"] < 5.6


SHOWN = ("params", "tokens", "steps", "loss", "seconds")


def test_half_written_line_is_not_a_record(script, tmp_path, monkeypatch):
    path = tmp_path / "records.jsonl"
    path.write_text('{"run": "a"}\n{"run": "b", "par')
    assert script.read_records(path) == [{"run": "a"}]
    monkeypatch.setattr(script, "planned_runs", lambda: [script.Run(3e8, dims_for(8.4e3), 0, held_out=False)])
    monkeypatch.setattr(script, "train", lambda run: {"run": run.name, **dict.fromkeys(SHOWN, 1)})
    script.sweep(path)
    assert [record["run"] for record in script.read_records(path)] == ["a", "3e08-12x3-seed0"]
