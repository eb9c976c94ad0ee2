from __future__ import annotations

import math

import numpy as np
import pytest

from scalestop.errors import InputError
from scalestop.fitting.tables.read import read_runs
from scalestop.fitting.tables.table import BadRow, describe_bad_rows

GOOD = {"params": 1e6, "tokens": 2e7, "loss": 3.0}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"loss": math.nan}, "loss: must be positive and finite; got nan"),
        ({"loss": "n/a"}, "loss: 'n/a' is not a number; write counts out in full, without units"),
        ({"params": "7B"}, "params: '7B' is not a number; write counts out in full, without units"),
        ({"params": -3}, "params: must be positive and finite; got -3"),
        ({"tokens": 0}, "tokens: must be positive and finite; got 0"),
        ({"tokens": None}, "tokens is missing"),
        ({"loss": ""}, "loss is missing"),
        ({"unique_tokens": -1}, "unique_tokens: must be positive and finite; got -1"),
        ({"kept": "0"}, "kept is false, so the source itself leaves it out"),
    ],
)
def test_a_bad_row_is_reported_with_its_reason(change: dict[str, object], reason: str) -> None:
    table = read_runs([GOOD, {**GOOD, **change}, GOOD])
    assert len(table) == 2
    assert table.bad_rows == (BadRow("records", 1, reason),)
    assert str(table.bad_rows[0]) == f"records, row 1: {reason}"


def test_nothing_usable_is_an_error_that_names_the_rows() -> None:
    with pytest.raises(InputError, match=r"no usable run: records, rows 0, 1: loss is missing.*needs params, tokens"):
        read_runs([{"params": 1, "tokens": 1}, {"params": 2, "tokens": 2}])
    with pytest.raises(InputError, match="there are no rows at all"):
        read_runs([])


def test_tokens_follow_from_flops_and_flops_from_tokens() -> None:
    table = read_runs([{"params": 1e6, "flops": 6e13, "loss": 3.0}, GOOD, {**GOOD, "flops": 1.3e14}])
    np.testing.assert_allclose(table.tokens, [1e7, 2e7, 2e7])
    np.testing.assert_allclose(table.flops, [6e13, 1.2e14, 1.3e14])


def test_columns_go_by_their_usual_names() -> None:
    row = {"Model Size": 5, "Training Tokens": 7, "Training FLOP": 210, "loss": 2, "other": "x"}
    table = read_runs([row, {"num_params": 5, "n_tokens": 7, "loss": 2}])
    np.testing.assert_array_equal(table.params, 5)
    np.testing.assert_array_equal(table.tokens, 7)


def test_two_columns_for_one_thing_must_agree() -> None:
    with pytest.raises(InputError, match="columns 'params' and 'n_params' both give params and disagree; keep one"):
        read_runs([{**GOOD, "n_params": 9e9}])
    assert read_runs([{**GOOD, "n_params": 1e6}]).params[0] == 1e6


def test_another_loss_can_be_asked_for() -> None:
    rows = [{**GOOD, "loss_code": 1.5}, {**GOOD, "loss_code": 1.7}]
    np.testing.assert_array_equal(read_runs(rows, loss="loss_code").loss, [1.5, 1.7])
    with pytest.raises(InputError, match=r"needs params, tokens \(or flops\) and loss_books"):
        read_runs(rows, loss="loss_books")


def test_rows_of_one_run_share_a_group() -> None:
    table = read_runs([{**GOOD, "run": "b"}, {**GOOD, "run": "a"}, {**GOOD, "run": "b"}, GOOD])
    groups = table.groups
    assert groups[0] == groups[2]
    assert len({int(g) for g in groups}) == 3


def test_the_hash_knows_the_data_and_not_their_order_or_place() -> None:
    rows = [{**GOOD, "loss": 3.0 + i} for i in range(4)]
    table = read_runs(rows)
    assert read_runs(rows[::-1]).data_hash == table.data_hash
    assert read_runs({name: [row[name] for row in rows] for name in GOOD}).data_hash == table.data_hash
    assert read_runs(rows[:3]).data_hash != table.data_hash
    assert read_runs([*rows[:3], {**GOOD, "loss": 6.00001}]).data_hash != table.data_hash
    # a last digit lost on the way through another format
    assert read_runs([*rows[:3], {**GOOD, "loss": 6.0 * (1 + 1e-13)}]).data_hash == table.data_hash


def test_taking_rows_keeps_them_whole() -> None:
    rows = [{**GOOD, "loss": 3.0 + i, "run": f"r{i}", "seed": i} for i in range(4)]
    part = read_runs(rows).take([3, 1])
    assert part.run == ("r3", "r1")
    assert part.seed == (3, 1)
    np.testing.assert_array_equal(part.loss, [6.0, 4.0])


def test_many_bad_rows_are_told_in_few_words() -> None:
    rows = [BadRow("a.csv", i, "loss is missing") for i in range(2, 14)] + [BadRow("b.csv", 1, "params is missing")]
    assert describe_bad_rows(rows) == (
        "a.csv, rows 2, 3, 4, 5, 6, 7, 8, 9 and 4 more: loss is missing; b.csv, row 1: params is missing"
    )
    more = [BadRow(f"{name}.csv", 1, "params is missing") for name in "cdef"]
    assert describe_bad_rows(rows + more).endswith("e.csv, row 1: params is missing; and 1 more reasons")
