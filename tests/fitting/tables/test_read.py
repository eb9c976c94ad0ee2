from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fitting_data import record

from scalestop.errors import InputError
from scalestop.fitting.tables.read import read_runs

COLUMNS = {"params": [1e6, 2e6, 3e6], "tokens": [2e7, 3e7, 4e7], "loss": [3.0, 2.8, 2.7]}


def same_runs(records: object) -> None:
    table = read_runs(records)
    order = np.argsort(table.params)
    for name in ("params", "tokens"):
        np.testing.assert_allclose(getattr(table, name)[order], COLUMNS[name])
    np.testing.assert_allclose(
        table.loss[order], [3.0, 2.9, 2.8] if table.run[0].startswith("run-") else COLUMNS["loss"]
    )


def rows() -> list[dict[str, float]]:
    return [dict(zip(COLUMNS, values, strict=True)) for values in zip(*COLUMNS.values(), strict=True)]


def test_tables_in_memory() -> None:
    same_runs(rows())
    same_runs(COLUMNS)
    same_runs({name: np.array(column) for name, column in COLUMNS.items()})
    same_runs(pd.DataFrame(COLUMNS))
    same_runs(read_runs(rows()))


def test_run_records_and_their_files(tmp_path: Path) -> None:
    records = [record(i) for i in range(3)]
    same_runs(records)
    paths = [r.save(tmp_path / f"version_{i}" / "scalestop.json") for i, r in enumerate(records)]
    same_runs(tmp_path)
    same_runs(str(tmp_path / "*" / "scalestop.json"))
    same_runs(paths)
    assert read_runs(tmp_path).run == ("run-0", "run-1", "run-2")


def test_records_say_what_else_they_know(tmp_path: Path) -> None:
    record(0, seed=7, lr_decayed=False, unique_tokens=10**6, n_counts="body", curve=((10, 5.0), (20, 4.0))).save(
        tmp_path / "scalestop.json"
    )
    table = read_runs(tmp_path / "scalestop.json")
    assert (table.seed, table.lr_decayed, table.n_counts) == ((7,), (False,), ("body",))
    assert table.curve == (((10.0, 5.0), (20.0, 4.0)),)
    assert table.unique_tokens[0] == 10**6


def test_csv_and_json_lines(tmp_path: Path) -> None:
    pd.DataFrame(COLUMNS).to_csv(tmp_path / "runs.csv", index=False)
    same_runs(tmp_path / "runs.csv")
    (tmp_path / "runs.jsonl").write_text("\n".join(json.dumps(row) for row in rows()) + "\n\n")
    same_runs(str(tmp_path / "runs.jsonl"))


def test_bad_lines_are_named_by_file_and_line(tmp_path: Path) -> None:
    table = tmp_path / "runs.csv"
    table.write_text("params,tokens,loss\n1e6,2e7,3.0\n1e6,,3.0\n2e6,3e7,oops\n")
    lines = tmp_path / "runs.jsonl"
    lines.write_text('{"params": 1e6, "tokens": 2e7, "loss": 3.1}\nnot json\n')
    found = [str(row) for row in read_runs([table, lines]).bad_rows]
    assert found == [
        f"{table}, row 3: tokens is missing",
        f"{table}, row 4: loss: 'oops' is not a number; write counts out in full, without units",
        f"{lines}, row 2: params is missing",
    ]


def test_a_record_without_a_loss_is_named(tmp_path: Path) -> None:
    record(0, loss=None).save(tmp_path / "a" / "scalestop.json")
    record(1).save(tmp_path / "b" / "scalestop.json")
    bad = read_runs(tmp_path).bad_rows
    assert [(row.source, row.reason) for row in bad] == [(str(tmp_path / "a" / "scalestop.json"), "loss is missing")]


def test_other_json_in_a_folder_is_no_record(tmp_path: Path) -> None:
    record(0).save(tmp_path / "scalestop.json")
    (tmp_path / "law.json").write_text('{"schema": "scalestop.law/1"}')
    table = read_runs(tmp_path)
    assert len(table) == 1
    assert table.bad_rows == ()


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ("nowhere/*.json", r"no file, folder or glob matches 'nowhere/\*\.json'"),
        (7, "expected a path, a table or a list of runs; got int"),
        ([7], "each run is a RunRecord or a mapping; got int"),
        ({"params": [1, 2], "loss": [1]}, "columns differ in length: params 2, loss 1"),
    ],
)
def test_what_cannot_be_read_is_refused(records: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_runs(records)


def test_an_empty_folder_and_a_strange_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no run records \(scalestop\.json\)"):
        read_runs(tmp_path)
    (tmp_path / "runs.xlsx").write_text("x")
    with pytest.raises(InputError, match=r"expected \.json, \.jsonl or \.csv; got '\.xlsx'"):
        read_runs(tmp_path / "runs.xlsx")
