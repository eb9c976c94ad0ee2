from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scalestop.errors import InputError
from scalestop.fitting.tables.columns import parse_columns
from scalestop.fitting.tables.read import read_runs

GOOD = {"params": 1e6, "tokens": 2e7, "loss": 3.0}


@pytest.mark.parametrize(
    "row",
    [
        {"N": 1e6, "D": 2e7, "C": 1.2e14, "L": 3.0},
        {"n_params": 1e6, "train_tokens": 2e7, "final_loss": 3.0},
        {"Num Params": 1e6, "num_tokens": 2e7, "val_loss": 3.0},
        {"parameters": 1e6, "training_compute": 1.2e14, "train_loss": 3.0},
        {"model_size": 1e6, "Training FLOPs": 1.2e14, "Validation Loss": 3.0},
        {"params": 1e6, "compute": 1.2e14, "loss": 3.0},
    ],
)
def test_usual_names_are_understood(row: dict[str, float]) -> None:
    table = read_runs([row])
    assert (table.params[0], table.loss[0]) == (1e6, 3.0)
    assert table.tokens[0] == pytest.approx(2e7, rel=1e-12)
    assert table.flops[0] == pytest.approx(1.2e14, rel=1e-12)


def test_losses_have_an_order_and_two_of_one_rank_must_agree() -> None:
    rest = {"params": 1e6, "tokens": 2e7}
    order = ["loss", "final_loss", "val_loss", "train_loss"]
    for i in range(len(order)):
        row = {**rest, **{name: 3.0 + order.index(name) for name in order[i:][::-1]}}
        assert read_runs([row]).loss[0] == 3.0 + i
    with pytest.raises(InputError) as error:
        read_runs([{**rest, "val_loss": 3.0, "test_loss": 3.1}])
    assert str(error.value) == (
        "records: columns 'val_loss' and 'test_loss' both give loss and disagree; keep one of them, or say which with "
        "columns='loss=val_loss'. Columns seen: params, tokens, val_loss, test_loss."
    )
    assert read_runs([{**rest, "val_loss": 3.0, "test_loss": "3.0000000001"}]).loss[0] == 3.0


def test_a_row_without_its_loss_borrows_no_other() -> None:
    rows = [{**GOOD, "val_loss": 3.3}, {**GOOD, "loss": "", "val_loss": 3.3}, {**GOOD, "loss": None, "val_loss": 3.3}]
    table = read_runs(rows)
    assert table.loss.tolist() == [3.0]
    assert [bad.reason for bad in table.bad_rows] == ["loss is missing"] * 2


def test_two_sizes_that_disagree_are_an_error_unless_told_which() -> None:
    row = {**GOOD, "N": 9e5, "note": "x"}
    with pytest.raises(InputError, match=r"columns 'params' and 'N' both give params and dis.*Columns seen: params"):
        read_runs([row])
    assert read_runs([row], columns={"params": "N"}).params[0] == 9e5


def test_a_capital_that_holds_no_number_is_another_column() -> None:
    table = read_runs([{**GOOD, "C": "c4", "D": "web", "N": ""}])
    assert (table.tokens[0], table.flops[0]) == (2e7, 1.2e14)
    # and a small letter is a count of something else
    assert read_runs([{**GOOD, "n": 3, "d": 512, "c": 7}]).params[0] == 1e6


@pytest.mark.parametrize("columns", [{"params": "n_active", "tokens": "Seen"}, " params = n_active, tokens=seen "])
def test_columns_can_be_named(columns: object, tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("n_active,n_params,Seen,loss\n1e6,8e6,2e7,3.0\n")
    table = read_runs(path, columns=columns)  # type: ignore[arg-type]
    assert (table.params[0], table.tokens[0]) == (1e6, 2e7)


def test_a_column_that_is_not_there_is_an_error_with_those_that_are(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("size,seen,loss\n1e6,2e7,3.0\n")
    with pytest.raises(InputError, match=r"params is missing.*columns='params=.*Columns seen: size, seen, loss\."):
        read_runs(path)
    with pytest.raises(InputError, match=r"columns: flops=cost: no row has a value in such a column\. Columns"):
        read_runs(path, columns="params=size,tokens=seen,flops=cost")
    with pytest.raises(InputError, match=r"needs params, tokens \(or flops\) and nll; .*Columns seen: size"):
        read_runs(path, columns="params=size,tokens=seen", loss="nll")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("params", r"columns: expected name=column,name=column; got 'params' without '='"),
        ("params=", r"got 'params' without '=' and a column"),
        ("size=n", r"columns: 'size' is nothing a table holds; give any of params, tokens, loss, flops"),
        ("params=a,params=b", "columns: one name is given twice"),
        (7, r"columns: expected a mapping or text such as 'params=n_active'; got 7"),
    ],
)
def test_columns_that_cannot_be_read_are_refused(columns: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_columns(columns)  # type: ignore[arg-type]


def test_a_loss_named_twice_is_refused() -> None:
    with pytest.raises(InputError, match=r"columns: loss is 'val' here and loss='train' there; give it once"):
        read_runs([GOOD], columns="loss=val", loss="train")


def test_a_name_is_no_run() -> None:
    table = read_runs([{**GOOD, "name": "gpt", "loss": 3.0 + i} for i in range(4)])
    assert len(table.group_names) == 4
    np.testing.assert_array_equal(np.sort(table.groups), np.arange(4))
