"""Records: written whole or not at all, read back equal, never over another run's."""

from __future__ import annotations

import json
import math
import os
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import C_OPT, D_OPT, LAW, N, strict_json

from scalestop.accounting.meter import Usage
from scalestop.accounting.params import ParamCount
from scalestop.errors import InputError
from scalestop.laws import get_law
from scalestop.planning.plan import make_plan
from scalestop.run.ended import build_record, describe_end, law_fingerprint
from scalestop.run.records import RunRecord
from scalestop.run.reporter import keep_record
from scalestop.run.stopping import decide

REQUIRED = {
    "num_params": N,
    "num_tokens": D_OPT,
    "flops": C_OPT,
    "loss": 2.5,
    "stop_reason": "COMPUTE_OPTIMAL",
    "law": "toy",
    "budget": "1e9 FLOPs",
}


def record_of(tokens: int = D_OPT + 200, **options) -> RunRecord:
    plan = make_plan(1.05 * C_OPT, LAW, N, 64)
    usage = Usage(tokens=tokens, tokens_non_padding=tokens, flops=6 * N * tokens, optimizer_steps=70)
    arguments = {"loss": 2.5, "loss_name": "val_loss", "curve": [(64, 3.0)], "run": "abc", "lr_final_share": 0.05}
    return build_record(
        plan=plan,
        params=ParamCount(N, 16, 128, 128, N, N),
        usage=usage,
        decision=decide(plan, usage),
        **{**arguments, **options},
    )


def test_round_trip(tmp_path):
    record = record_of()
    path = record.save(tmp_path / "deep" / "down" / "scalestop.json")
    assert RunRecord.load(path) == RunRecord.from_dict(json.loads(json.dumps(record.to_dict())))
    again = RunRecord.load(path)
    assert (again.num_params, again.curve, again.loss) == (N, ((64, 3.0),), 2.5)
    assert again.stop_reason == "COMPUTE_OPTIMAL" and again.lr_decayed is True
    assert again.plan["optimal_tokens"] == pytest.approx(16 * 1.05**0.5 * N)


@pytest.mark.parametrize(
    ("loss", "text"), [(math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity"), (np.float64("nan"), "NaN")]
)
def test_a_loss_that_is_no_number_is_kept_as_what_it_was(tmp_path, loss, text):
    record = record_of(loss=loss, curve=[(64, 3.0), (128, loss)])
    path = record.save(tmp_path / "scalestop.json")
    data = strict_json(path.read_text())
    assert data["loss"] == text and data["curve"] == [[64, 3.0], [128, text]]
    assert data["message"].endswith(f"; val_loss was {loss}")
    again = RunRecord.load(path)
    assert repr(again.loss) == repr(again.curve[1][1]) == repr(float(loss))
    assert again.curve[0] == (64, 3.0)
    assert strict_json(json.dumps(again.to_dict())) == data


def test_no_number_of_a_record_can_spoil_its_file(tmp_path):
    record = replace(record_of(), overshoot=math.inf, lr_final_share=math.nan)
    record = replace(record, plan={"target_interval": (1.0, math.inf), "more": [{"deep": -math.inf}]})
    data = strict_json(record.save(tmp_path / "scalestop.json").read_text())
    assert data["plan"] == {"target_interval": [1.0, "Infinity"], "more": [{"deep": "-Infinity"}]}
    again = RunRecord.load(tmp_path / "scalestop.json")
    assert again.overshoot == math.inf and math.isnan(again.lr_final_share)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"loss": "low"}, "x: loss: expected a number; got 'low'"),
        ({"overshoot": [1]}, r"x: overshoot: expected a number; got \[1\]"),
        ({"curve": [[1, "a"]]}, r"x: curve: expected pairs of tokens and loss; got \[\[1, 'a'\]\]"),
        ({"curve": 5}, "x: curve: expected pairs of tokens and loss; got 5"),
        ({"points": [5]}, r"x: points: expected columns by name; got \[5\]"),
        ({"foretold": 5}, "x: foretold: expected a list; got 5"),
    ],
)
def test_what_is_no_number_is_refused_by_name(changes, text):
    with pytest.raises(InputError, match=f"^{text}$"):
        RunRecord.from_dict({**REQUIRED, "schema": "scalestop.record/1", **changes}, where="x")


@given(st.integers(1, 2**80), st.floats(0.01, 20) | st.none(), st.lists(st.tuples(st.integers(0), st.floats(0, 9))))
def test_numbers_survive_exactly(tokens, loss, curve):
    data = {**REQUIRED, "num_tokens": tokens, "loss": loss, "curve": curve, "schema": "scalestop.record/1"}
    again = RunRecord.from_dict(json.loads(json.dumps(RunRecord.from_dict(data).to_dict())))
    assert (again.num_tokens, again.loss, again.curve) == (tokens, loss, tuple(curve))


def test_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = record_of().save(tmp_path / "scalestop.json")
    before = path.read_text()

    def full(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        record_of(tokens=10**6).save(path)
    assert path.read_text() == before and os.listdir(tmp_path) == ["scalestop.json"]


def test_written_file_is_readable_by_others(tmp_path):
    path = record_of().save(tmp_path / "scalestop.json")
    assert path.stat().st_mode & 0o044 == 0o044


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (
            {},
            "schema: expected 'scalestop.record/1' or .* or 'scalestop.record/3', got None; no run record of scalestop",
        ),
        ([1], "schema: expected 'scalestop.record/1' or .* or 'scalestop.record/3', got 'list'; no run record"),
        (
            {**REQUIRED, "schema": "scalestop.record/9"},
            "got 'scalestop.record/9'; if a later scalestop wrote it, update this one",
        ),
        ({"schema": "scalestop.record/1", "law": "x"}, "missing field.* budget, flops, loss, num_params"),
        ({**REQUIRED, "schema": "scalestop.record/1", "n_tokens": 5}, "unknown field.* n_tokens"),
    ],
)
def test_what_is_no_record_is_refused_by_name(data, text):
    with pytest.raises(InputError, match=text):
        RunRecord.from_dict(data)


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.json: cannot be read"):
        RunRecord.load(tmp_path / "none.json")
    (tmp_path / "half.json").write_text('{"schema": ')
    with pytest.raises(InputError, match=r"half\.json: is not JSON"):
        RunRecord.load(tmp_path / "half.json")


def test_file_of_a_run_is_its_own(tmp_path):
    def keep(run, name=None):
        return keep_record(record_of(run=run), tmp_path, name).name

    assert keep("abc") == keep("abc") == "scalestop.json"
    (tmp_path / "scalestop-2.json").write_text("somebody's notes")
    assert keep("other") == keep("other") == "scalestop-3.json"
    assert keep("other", "small") == "scalestop-small.json"
    (tmp_path / "scalestop.json").unlink()
    assert keep("other") == "scalestop-3.json"  # one record a run, though a nearer name is free again
    assert (tmp_path / "scalestop-2.json").read_text() == "somebody's notes"
    assert len(os.listdir(tmp_path)) == 3


def test_runs_that_end_at_once_in_one_folder_lose_no_record(tmp_path):
    """Eight at a time, four times over, all with one name for their file."""
    together = threading.Barrier(8)

    def end(run: int) -> None:
        for turn in range(4):
            together.wait(30)
            keep_record(record_of(run=f"{run}-{turn}", curve=[]), tmp_path)

    threads = [threading.Thread(target=end, args=(run,)) for run in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = [RunRecord.load(path).run for path in tmp_path.iterdir()]
    assert sorted(kept) == sorted(f"{run}-{turn}" for run in range(8) for turn in range(4))


def test_a_record_of_the_first_release_is_read_and_its_counts_claim_nothing():
    record = RunRecord.load(Path(__file__).parents[1] / "data" / "record-schema-1.json")
    assert (record.num_tokens, record.stop_reason, record.usage["optimizer_steps"]) == (1920, "TOKEN_LIMIT", 30)
    assert record.exact is None and record.inexact_because == ""
    assert RunRecord.from_dict(record.to_dict()) == record


def test_a_record_says_whether_it_is_exact():
    assert record_of().exact is True
    rough = record_of(inexact_because="nobody counted")
    assert (rough.exact, rough.inexact_because) == (False, "nobody counted")


@pytest.mark.parametrize(("share", "decayed"), [(0.0, True), (0.1, True), (0.11, False), (1.0, False), (None, None)])
def test_decayed_means_a_tenth_of_the_peak(share, decayed):
    assert record_of(lr_final_share=share).lr_decayed is decayed


def test_the_end_says_whether_the_loss_was_to_be_expected():
    law = get_law("stdlib-bytes")
    plan = make_plan("3e10 FLOPs", law, 13_424, 256)
    tokens = plan.stop_tokens
    usage = Usage(tokens=tokens, tokens_non_padding=tokens, flops=6 * 13_424 * tokens, optimizer_steps=plan.stop_step)
    low, high = plan.loss_interval
    for loss, where in (
        (low + 0.001, "inside"),
        (high - 0.001, "inside"),
        (low - 0.001, "OUTSIDE"),
        (high + 0.001, "OUTSIDE"),
    ):
        line = describe_end(plan, law, usage, decide(plan, usage), loss)
        miss = loss - plan.loss_at_stop
        assert f"predicted ({miss:+.3f}, {where} the 90 % of runs {low:.3f} to {high:.3f}); " in line
    bare = replace(law, uncertainty=replace(law.uncertainty, scatter=(), noise=None))
    assert f"predicted ({low - plan.loss_at_stop:+.3f}); " in describe_end(plan, bare, usage, decide(plan, usage), low)


def test_end_in_words():
    plan = make_plan(1.05 * C_OPT, LAW, N, 64)
    usage = Usage(tokens=4500, tokens_non_padding=4500, flops=6 * N * 4500, optimizer_steps=71)
    line = describe_end(plan, LAW, usage, decide(plan, usage), 3.0, late_by=2)
    assert line.startswith(
        "COMPUTE_OPTIMAL: N 272 (total) = 0.976 N_opt is compute-optimal: 4.5k tokens of D_opt 4.46k"
    )
    assert "up to 2 steps late" in line and line.endswith("71 steps")
    assert f"loss 3.000 against {LAW.loss(N, 4500):.3f} predicted" in line
    lost = describe_end(plan, LAW, usage, decide(plan, usage), math.nan)
    assert "; loss nan: the run diverged; " in lost
    early = describe_end(plan, LAW, Usage(), decide(plan, Usage()), None)
    assert early.startswith("NOT_STOPPED: the Trainer ended the run before any limit was met (0.0% of D_opt")


def test_fingerprint_tells_laws_of_one_name_apart():
    assert law_fingerprint(LAW) == law_fingerprint(replace(LAW))
    assert law_fingerprint(LAW) != law_fingerprint(replace(LAW, alpha=0.51))
    assert law_fingerprint(LAW).startswith("toy (")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"curve": [[10**400, 1]]}, None),  # an int of any size is a count
        ({"curve": [[1, 10**400]]}, "curve: expected pairs"),
        ({"curve": [["inf", 1]]}, "curve: expected pairs"),
        ({"curve": None}, "curve: expected pairs"),
        ({"curve": 3}, "curve: expected pairs"),
        ({"loss": 10**400}, "loss: expected a number; got 1000"),
        ({"loss": [1]}, "loss: expected a number"),
        ({"num_params": "1M"}, "num_params: expected a whole number; got '1M'"),
        ({"flops": None}, "flops: expected a whole number"),
        ({"num_tokens": 1.5}, "num_tokens: expected a whole number"),
        ({3: 4}, "unknown field.* 3"),
        ({"schema": [1]}, r"schema: expected .* got \[1\]"),
    ],
)
def test_odd_values_are_told_by_field(change, text):
    data = {**record_of().to_dict(), **change}
    if text is None:
        assert RunRecord.from_dict(data).curve[0][0] == 10**400
        return
    with pytest.raises(InputError, match=text):
        RunRecord.from_dict(data)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 100_000, "1" * 5000], ids=["list", "object", "int"])
def test_files_that_no_decoder_takes_are_named(content, tmp_path):
    path = tmp_path / "scalestop.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"scalestop\.json: is not JSON"):
        RunRecord.load(path)
