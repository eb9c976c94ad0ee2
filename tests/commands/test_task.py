from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from task_data import task_table

from scalestop.cli import main
from scalestop.fitting.tasks import TaskFit, fit_task


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("task") / "runs.csv"
    columns = task_table()
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def test_it_prints_the_task_its_forecasts_and_where_it_reaches_a_value(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "task",
        str(table),
        "--metric",
        "acc",
        "--bpb",
        "bpb",
        "--reach",
        "0.6",
        "--out",
        str(table.parent / "t.json"),
    ]
    assert main(words) == 0
    said = capsys.readouterr().out.splitlines()
    fit = fit_task(task_table(), "acc", bpb="bpb")
    assert said[0].startswith("acc: 25 runs, ")
    forecasts = [line for line in said if line.startswith("forecast")]
    assert len(forecasts) == 2 and "3.07e22 FLOPs" in forecasts[0] and "3.07e23 FLOPs" in forecasts[1]
    assert f"reach      {fit.reach(0.6)}" in said
    assert TaskFit.load(table.parent / "t.json").predict(1e10, 1e12).estimate == pytest.approx(
        fit.predict(1e10, 1e12).estimate, abs=1e-5
    )
    # a saved task is asked without its runs
    assert main(["task", str(table.parent / "t.json"), "--params", "7B", "--tokens", "4T", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["forecasts"]
    assert row["metric"]["estimate"] == pytest.approx(fit.predict(7e9, 4e12).estimate, abs=1e-5)


def test_it_says_when_a_gate_opens(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["task", str(table), "--metric", "acc", "--bpb", "bpb", "--params", "800M", "--until", ">= 0.4"]
    assert main(words) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("gate")]
    assert "should open at " in line


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "metric: missing"),
        (["--metric", "acc"], "no row has params, tokens, 'loss' and 'acc'"),
        (["--metric", "acc", "--bpb", "bpb", "--tokens", "1T"], "params: give N with --tokens"),
        (["--metric", "acc", "--bpb", "bpb", "--until", ">= 0.4"], "params: give N with --until"),
        (["--metric", "acc", "--bpb", "bpb", "--level", "2"], "level: must lie between 0 and 1"),
        (["--metric", "acc", "--bpb", "bpb", "--params", "1B", "--until", "much"], "until: acc: cannot read 'much'"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(
    table: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["task", str(table), *more]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
