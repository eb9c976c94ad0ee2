"""What an undecayed stop costs: from records, and in the plan of a run that will not have decayed."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from scheduled import BUDGET, Own, cosine
from toys import Toy, stopping, train

from scalestop.errors import InputError
from scalestop.run.records import RunRecord
from scalestop.schedules.budget_lr import BudgetLR
from scalestop.schedules.undecayed import read_records, undecayed_penalty

COMMITTED = Path(__file__).parents[2] / "examples" / "learning_rate_records.jsonl"


def record(loss, decayed, params=1000, tokens=20_000, seed=0, **fields):
    return RunRecord(
        num_params=params, num_tokens=tokens, flops=6 * params * tokens, loss=loss, stop_reason="BUDGET_EXHAUSTED",
        law="toy", budget="1 FLOPs", seed=seed, lr_decayed=decayed, **fields,
    )  # fmt: skip


def test_median_of_pairs_by_seed():
    runs = [
        record(2.0, True, seed=0),
        record(2.1, True, seed=1),
        record(2.3, False, seed=0),  # +0.3 to its own seed
        record(2.2, False, seed=1),  # +0.1
        record(2.25, False, seed=2),  # +0.2 to the median of both
    ]
    found = undecayed_penalty(runs)
    assert (found.loss, found.low, found.high) == pytest.approx((0.2, 0.1, 0.3)) and found.pairs == 3
    assert str(found) == "+0.200 nats/token (+0.100 to +0.300 in 3 pairs of runs with N 1k, D 20k)"


def test_only_like_is_held_against_like():
    runs = [
        record(2.0, True),
        record(9.0, False, params=1030),
        record(9.0, False, tokens=21_000),
        record(9.0, False, n_counts="body"),
        record(9.0, False, loss_name="train_loss"),
        record(9.0, None),
        record(None, False),
        record(float("nan"), False),
    ]
    assert undecayed_penalty(runs) is None
    assert undecayed_penalty([]) is None
    assert undecayed_penalty([*runs, record(2.5, False, params=1019)]).loss == pytest.approx(0.5)


def test_records_are_read_from_files_folders_and_globs(tmp_path):
    kept = [record(2.0, True, run="a"), record(2.4, False, run="b")]
    kept[0].save(tmp_path / "one" / "scalestop.json")
    kept[1].save(tmp_path / "two" / "scalestop-named-2.json")
    lines = tmp_path / "three" / "runs.jsonl"
    lines.parent.mkdir()
    lines.write_text("".join(json.dumps(r.to_dict()) + "\n" for r in kept))
    (tmp_path / "three" / "other.jsonl").write_text('{"params": 3}\n')
    for source in (
        lines,
        str(lines),
        [tmp_path / "one", str(tmp_path / "two")],
        kept,
        f"{tmp_path}/t*/scalestop*.json",
    ):
        assert {r.run for r in read_records(source)} <= {"a", "b"} and read_records(source)
    assert len(read_records(tmp_path)) == 4
    with pytest.raises(InputError, match=r"records: no run records at .*/nothing'; give a scalestop.json"):
        read_records(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"records: .*other.jsonl: schema: expected .*, got None"):
        read_records(tmp_path / "three" / "other.jsonl")


RUNS = [record(2.0, True), record(2.18, False)]
COST = "expect +0.180 nats/token (+0.180 to +0.180 in 1 pair of runs with N 1k, D 20k) against a decayed one"


@pytest.mark.parametrize(
    ("module", "told"),
    [
        (Toy(), True),
        (Own(cosine(150)), True),
        (Own(partial(BudgetLR, decay=0.0)), True),
        (Own(partial(BudgetLR, horizon="6400 tokens")), True),
        (Own(BudgetLR), False),
        (Own(partial(BudgetLR, horizon="3200 tokens")), False),
        (Own(cosine(50)), False),
        (Own(partial(torch.optim.lr_scheduler.StepLR, step_size=10)), False),  # nobody can tell
    ],
    ids=["no schedule", "cosine 3x", "no decay", "far horizon", "budget", "horizon", "cosine", "unknown"],
)
@pytest.mark.filterwarnings("ignore:.*is made for 150 steps:scalestop.errors.ScalestopWarning")
def test_the_plan_says_what_an_undecayed_stop_costs(tmp_path, capsys, module, told):
    callback = stopping(BUDGET, tolerance=0.0, oversized="ignore", record=False, records=RUNS)
    train(callback, tmp_path, module, enable_checkpointing=False)
    plan = capsys.readouterr().out.split("scalestop: ")[1]
    assert (COST in plan) == told
    assert ("will not have decayed at the stop" in plan) == told


@pytest.mark.skipif(not COMMITTED.exists(), reason="the comparison has not been run")
def test_the_committed_records_tell_the_cost_of_an_undecayed_stop():
    found = undecayed_penalty(read_records(COMMITTED))
    assert found.pairs >= 6 and 0.02 < found.low <= found.loss <= found.high < 0.5
