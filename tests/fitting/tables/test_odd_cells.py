"""Cells, rows and files that nobody expects: each costs itself and nothing else, and is told."""

from __future__ import annotations

import csv
import json
import os

import numpy as np
import pytest

from scalestop.errors import InputError
from scalestop.fitting.tables.read import read_runs
from scalestop.schedules.undecayed import read_records

GOOD = {"params": 1e6, "tokens": 2e7, "loss": 3.0}


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"seed": "abc"}, "seed: a whole number, or nothing; got 'abc'"),
        ({"seed": float("inf")}, "seed: a whole number"),
        ({"seed": [1]}, "seed: a whole number"),
        ({"curve": "up and down"}, "curve: pairs of tokens and loss, or nothing; got 'up and down'"),
        ({"curve": 5}, "curve: pairs"),
        ({"curve": [[1, 2, 3]]}, "curve: pairs"),
        ({"curve": [[10**400, 2]]}, "curve: pairs"),
        ({"params": 10**400}, "params: must be positive and finite; got 1000"),
        ({"tokens": 10**5000}, "tokens: must be positive and finite; got a value of type int that cannot be printed"),
        ({"loss": [[[]]]}, r"loss: \[\[\[\]\]\] is not a number"),
        ({"flops": np.arange(3)}, r"flops: array\(\[0, 1, 2\]\) is not a number"),
    ],
)
def test_an_odd_cell_costs_its_row(cells, reason):
    table = read_runs([GOOD, {**GOOD, **cells}])
    assert len(table) == 1
    (bad,) = table.bad_rows
    assert bad.row == 1
    with pytest.raises(InputError, match=f"row 0: {reason}"):
        read_runs([{**GOOD, **cells}])


def test_cells_that_say_nothing_are_none():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame([GOOD, {**GOOD, "seed": 3, "held_out": True, "flops": 1e14}]).convert_dtypes()
    table = read_runs(frame)
    assert table.seed == (None, 3) and table.held_out == (False, True) and not table.bad_rows
    assert read_runs([{**GOOD, "held_out": np.arange(2), "run": None}]).held_out == (False,)


def test_a_csv_with_a_field_of_megabytes_loses_that_row_alone(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text(f"params,tokens,loss\n1e6,2e7,3\n{'9' * 300_000},2e7,3\n{'x' * 200_000},2e7,3\n2e6,2e7,3\n")
    limit = csv.field_size_limit()
    table = read_runs(path)
    assert list(table.params) == [1e6, 2e6] and [bad.row for bad in table.bad_rows] == [3, 4]
    assert csv.field_size_limit() == limit


def test_a_number_of_four_hundred_digits_loses_its_row_alone(tmp_path):
    path = tmp_path / "runs.jsonl"
    lines = [GOOD, {**GOOD, "params": 10**399}, {**GOOD, "params": 2e6}]
    path.write_text("\n".join(map(json.dumps, lines)))
    table = read_runs(path)
    assert list(table.params) == [1e6, 2e6] and [bad.row for bad in table.bad_rows] == [2]


@pytest.mark.parametrize("load", [read_runs, read_records])
@pytest.mark.parametrize(
    "given", ["/dev/null", "/dev/nul*", "~nobody-at-all", "~nobody-at-all/*.json", "a" * 300, "a\0b", "", "no/such/*"]
)
def test_what_is_no_file_is_told(load, given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="records: "):
        load(given)


@pytest.mark.parametrize("load", [read_runs, read_records])
def test_a_broken_link_is_told(load, tmp_path):
    os.symlink(tmp_path / "gone.json", tmp_path / "scalestop.json")
    with pytest.raises(InputError, match="records: "):
        load(str(tmp_path / "*.json"))


@pytest.mark.parametrize("load", [read_runs, read_records])
@pytest.mark.parametrize("name", ["scalestop.json", "runs.jsonl"])
@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b"1" * 5000], ids=["[", "{", "binary", "long"]
)
def test_damaged_files_are_told(load, name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="records: "):
        load(tmp_path / name)


def test_a_damaged_log_beside_a_record_costs_what_it_held(tmp_path):
    for name, content in (("good", b"step,val_loss,scalestop/tokens\n1,3.0,20000000\n"), ("bad", b"\xff\xfe\0")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.csv").write_bytes(content)
        (tmp_path / name / "scalestop.json").write_text(json.dumps({"num_params": 10**6, "loss_name": ["odd"]}))
    table = read_runs(tmp_path)
    assert list(table.tokens) == [2e7] and len(table.bad_rows) == 1


def test_a_mapping_of_one_run_with_odd_values_is_told():
    with pytest.raises(InputError, match="records: no usable run"):
        read_runs({"params": None, "tokens": b"x", "loss": 3})
