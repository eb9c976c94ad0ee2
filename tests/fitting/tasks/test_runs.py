"""Reading runs with a metric: which rows are one run, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from task_data import task_table

from scalestop.errors import InputError
from scalestop.fitting.tasks.runs import TaskRun, read_task_runs
from scalestop.run.records import RunRecord

ROWS = [
    {"run": "a", "params": 1e8, "tokens": 2e9, "bpb": 1.2, "acc": 0.4},
    {"run": "b", "params": 1e8, "tokens": 4e9, "bpb": 1.1, "acc": 0.45},
    {"run": "a", "params": 1e8, "tokens": 1e9, "bpb": 1.3, "acc": 0.35},
]


def test_rows_of_one_run_are_its_checkpoints_in_the_order_of_training():
    a, b = read_task_runs(ROWS, "acc", "bpb")
    assert (a.name, b.name) == ("a", "b")
    np.testing.assert_array_equal(a.tokens, [1e9, 2e9])
    np.testing.assert_array_equal(a.metric, [0.35, 0.4])
    assert a.flops == 6 * 1e8 * 2e9


def test_without_names_each_row_is_a_run():
    rows = [{k: v for k, v in row.items() if k != "run"} for row in ROWS]
    assert [len(run.tokens) for run in read_task_runs(rows, "acc", "bpb")] == [1, 1, 1]


def test_a_step_that_rises_within_a_size_is_one_run():
    steps = [(1e8, 10), (1e8, 20), (1e8, 10), (1e8, 30), (2e8, 40)]
    rows = [{"params": n, "step": s, "batch_tokens": 1000, "bpb": 1.0, "acc": 0.5} for n, s in steps]
    runs = read_task_runs(rows, "acc", "bpb")
    assert [list(run.tokens) for run in runs] == [[1e4, 2e4], [1e4, 3e4], [4e4]]


@pytest.mark.parametrize("form", ["csv", "frame", "columns", "jsonl"])
def test_a_table_reads_alike_from_everywhere(form, tmp_path):
    table = task_table(checkpoints=3)
    frame = pd.DataFrame(table)
    if form == "csv":
        frame.to_csv(tmp_path / "t.csv", index=False)
    if form == "jsonl":
        frame.to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    source = {"csv": tmp_path / "t.csv", "jsonl": tmp_path / "t.jsonl", "frame": frame, "columns": table}[form]
    runs = read_task_runs(source, "acc", "bpb")
    assert len(runs) == 25 and all(len(run.tokens) == 3 for run in runs)
    np.testing.assert_allclose(np.concatenate([run.metric for run in runs]), table["acc"])


REQUIRED = {
    "schema": "scalestop.record/1",
    "flops": 6 * 10**18,
    "loss": 2.5,
    "stop_reason": "X",
    "law": "l",
    "budget": "",
}


def test_a_run_record_gives_the_metrics_of_its_curve():
    record = {**REQUIRED, "num_params": 10**9, "num_tokens": 2000, "run": "r", "params": {"total": 10**9}}
    points = [
        {"tokens": 1000, "loss": 3.0, "acc": 0.3},
        {"tokens": 1500, "loss": 2.8},
        {"tokens": 2000, "loss": 2.5, "acc": 0.4},
    ]
    (run,) = read_task_runs([{**record, "curve": points}], "acc", "loss")
    assert (run.params, list(run.tokens), list(run.metric)) == (1e9, [1000, 2000], [0.3, 0.4])
    columns = {"tokens": [1000, 2000], "loss": [3.0, 2.5], "acc": [0.3, 0.4]}
    (same,) = read_task_runs([{**record, "curve": columns}], "acc", "loss")
    np.testing.assert_array_equal(same.metric, run.metric)


def test_a_record_without_the_metric_is_refused_with_what_it_has():
    record = RunRecord.from_dict({**REQUIRED, "num_params": 10**9, "num_tokens": 2000, "curve": [(1, 2.0)]})
    with pytest.raises(InputError, match=r"no row has params, tokens, 'loss' and 'acc'; .*seen are: .*num_params"):
        read_task_runs([record], "acc", "loss")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"acc": 45.0}, "acc: a share between 0 and 1 is needed; got 45. Divide a percentage by 100"),
        ({"bpb": -1.0}, "a: params, tokens and bpb must be positive"),
    ],
)
def test_what_cannot_be_is_named(change, message):
    with pytest.raises(InputError, match=message):
        read_task_runs([{**ROWS[0], **change}, ROWS[1]], "acc", "bpb")


def test_rows_that_are_no_numbers_are_left_out():
    bad = [{**ROWS[0], "acc": "n/a"}, {**ROWS[0], "bpb": float("nan")}, {**ROWS[0], "tokens": None}]
    assert len(read_task_runs([*bad, *ROWS], "acc", "bpb")) == 2


def run_of(metric, loss=None):
    steps = np.arange(1.0, len(metric) + 1)
    return TaskRun("r", 1e9, steps * 1e9, np.ones(len(steps)) if loss is None else loss, np.asarray(metric))


def test_noise_is_what_the_last_ten_leave_around_their_trend():
    rising = np.linspace(0.1, 0.5, 40)
    assert run_of(rising).noise() == pytest.approx(0, abs=1e-12)
    rng = np.random.default_rng(0)
    found = [run_of(rising + 0.01 * rng.normal(size=40)).noise() for _ in range(300)]
    assert np.sqrt(np.mean(np.square(found))) == pytest.approx(0.01, rel=0.05)
    assert run_of([0.1, 0.2, 0.3]).noise() is None


def test_points_of_a_run_are_worth_one_run_half_of_it_its_end():
    run = run_of(np.arange(40) / 100, loss=np.arange(40.0, 0, -1))
    loss, metric, weights = run.points()
    assert weights.sum() == pytest.approx(1) and weights[0] == pytest.approx(0.5 + 0.5 / len(weights))
    # the last window holds checkpoints 36 to 40, and none reaches into the first 12
    assert metric[0] == pytest.approx(np.mean([0.35, 0.36, 0.37, 0.38, 0.39]))
    assert metric.min() >= np.mean(np.arange(8, 13) / 100)
    assert loss[0] == pytest.approx(3.0)
    # of 40 checkpoints two lie within the last 3 % of the tokens, of 400 three are taken
    assert run.end_metric == pytest.approx(np.mean([0.38, 0.39]))
    assert run_of(np.arange(400) / 1000).end_metric == pytest.approx(0.398)


def test_a_short_run_is_its_end():
    loss, metric, weights = run_of([0.3, 0.4]).points()
    assert (list(loss), list(metric), list(weights)) == ([1.0], [0.4], [1.0])
