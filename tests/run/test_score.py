"""The scoreboard: worked sums, which forecast counts, and what a seal that was moved is worth."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

import scalestop
from scalestop.accounting.meter import Usage
from scalestop.accounting.params import ParamCount
from scalestop.errors import InputError
from scalestop.laws import get_law
from scalestop.planning.plan import make_plan
from scalestop.run.ended import build_record
from scalestop.run.records import RunRecord
from scalestop.run.score import score, tally, wilson
from scalestop.run.seal import seal_forecast
from scalestop.run.stopping import decide

LAW = get_law("stdlib-bytes")
START = 1_700_000_000.0


def record(loss=None, run="a", size=68_000, budget="1e12 FLOPs", now=START + 50, law=LAW, tokens=None) -> RunRecord:
    """A run that began at START, 50 seconds long."""
    plan = make_plan(budget, law, size, 256)
    d = tokens or plan.stop_tokens
    usage = Usage(tokens=d, tokens_non_padding=d, flops=6 * size * d, optimizer_steps=plan.stop_step, seconds=50.0)
    return build_record(
        plan=plan,
        params=ParamCount(size, size, 0, 0, size, size),
        usage=usage,
        decision=decide(plan, usage),
        loss=plan.loss_at_stop if loss is None else loss,
        loss_name="val_loss",
        run=run,
        now=now,
    )


PLANNED = record()
FORECAST = PLANNED.plan["loss_at_stop"]
LOW, HIGH = PLANNED.plan["loss_interval"]


def test_a_record_holds_its_interval_and_its_start():
    plan = make_plan("1e12 FLOPs", LAW, 68_000, 256)
    assert plan.loss_interval == (LOW, HIGH)
    assert PLANNED.started == "2023-11-14T22:13:20+00:00"
    bare = record(law=replace(LAW, uncertainty=replace(LAW.uncertainty, scatter=(), noise=None)))
    assert bare.plan["loss_interval"] is None  # the law's own interval is not one of runs


def test_sums_worked_by_hand():
    """Misses +.01, -.03 and a run out of its interval by .1, of forecasts F: mean .08/3, two of three inside."""
    records = [record(FORECAST + 0.01, "a"), record(FORECAST - 0.02, "b"), record(HIGH + 0.1, "c")]
    found = scalestop.score(records)
    total = found.all
    high_miss = HIGH + 0.1 - FORECAST
    assert (total.count, total.with_interval, total.inside) == (3, 3, 2)
    assert total.mean_miss == pytest.approx((0.01 - 0.02 + high_miss) / 3)
    assert total.mean_abs_miss == pytest.approx((0.03 + high_miss) / 3)
    assert total.mean_relative == pytest.approx((0.01 - 0.02 + high_miss) / 3 / FORECAST)
    assert total.share_inside == pytest.approx(2 / 3)
    assert "2/3 = 67% (25%-92%)" in str(found)


def test_wilson_worked_by_hand():
    """9 of 10 at z 1.96: (.9 + .19207 ± 1.96·sqrt(.009 + .0096036)) / 1.38415 = .5958 to .9821."""
    low, high = wilson(9, 10, 1.959964)
    assert (low, high) == (pytest.approx(0.596, abs=5e-4), pytest.approx(0.982, abs=5e-4))
    assert wilson(0, 5)[0] == pytest.approx(0) and wilson(5, 5)[1] == pytest.approx(1)


def test_runs_are_grouped_by_how_far_they_lay_beyond():
    top = LAW.info.valid.flops[1]
    records = [record(run=str(i), budget=f"{top * f:.6g} FLOPs", size=round(float(LAW.optimal(top * f).num_params)))
               for i, f in enumerate((0.1, 2, 5, 20, 50, 500))]  # fmt: skip
    found = score(records)
    labels = ["up to x1", "x1 to x3", "x3 to x10", "x10 to x30", "x30 to x100", "over x100"]
    assert [(part.label, part.count) for part in found.by_factor()] == [(label, 1) for label in labels]
    assert [run.factor for run in found.runs] == pytest.approx([0.1, 2, 5, 20, 50, 500], rel=0.15)


def test_a_law_of_ones_own_gives_its_range_when_named(tmp_path):
    own = replace(LAW, info=replace(LAW.info, name="mine"))
    assert score([record(law=own)]).runs[0].factor is None
    assert score([record(law=own)]).by_factor()[0].label == "not known"
    assert score([record(law=own)], laws=[own.save(tmp_path / "law.json")]).runs[0].factor == pytest.approx(1, rel=0.1)


def test_a_run_that_diverged_is_outside_and_in_no_mean():
    total = score([record(math.nan, "a"), record(FORECAST + 0.01, "b")]).all
    assert (total.count, total.inside) == (2, 1) and total.mean_miss == pytest.approx(0.01)
    assert math.isnan(tally("none", []).mean_miss) and tally("none", []).share_inside is None


def test_what_cannot_be_scored_is_left_out_with_its_reason():
    early = record(run="early", tokens=1_000_000)
    without = replace(record(run="bare"), plan={})
    nothing = replace(record(run="none"), loss=None)
    found = score([PLANNED, early, without, nothing])
    assert len(found.runs) == 1
    reasons = "\n".join(found.left_out)
    assert "it ended at 1,000,000 tokens, and the forecast was for" in reasons
    assert "its record has no forecast" in reasons and "no loss was logged" in reasons
    with pytest.raises(InputError, match=r"no run can be held against a forecast: .*no loss was logged"):
        score([nothing])


def seal(**options):
    return seal_forecast(LAW, 68_000, PLANNED.num_tokens, **{"now": START - 60, **options})


def test_an_intact_seal_older_than_the_run_is_its_forecast():
    # the record's own forecast was rewritten afterwards; the seal was not
    moved = replace(record(HIGH + 0.1), plan={**PLANNED.plan, "loss_at_stop": HIGH + 0.1, "loss_interval": (0, 9)})
    assert score([moved]).runs[0].inside
    (run,) = score([moved, seal()]).runs
    assert run.sealed and not run.inside
    assert run.forecast == pytest.approx(FORECAST) and run.interval == pytest.approx((LOW, HIGH))
    assert str(run).endswith("; sealed")


def test_of_several_seals_the_first_counts():
    better = replace(seal(now=START - 10), loss=HIGH + 0.1, digest="")
    better = replace(better, digest=better.computed_digest())
    assert score([record(HIGH + 0.1), better, seal()]).runs[0].forecast == pytest.approx(FORECAST)


@pytest.mark.parametrize(
    ("made", "expect", "remark"),
    [
        (replace(seal(), loss=1.0), (), "is broken: its digest is not that of its content"),
        (seal(now=START + 1), (), "is younger than the run: made 2023-11-14T22:13:21"),
        (seal(), ("0" * 64,), "is not one of those that were written down"),
    ],
)
def test_a_seal_that_was_moved_does_not_count_and_is_told(made, expect, remark):
    (run,) = score([PLANNED, made], expect=expect).runs
    assert not run.sealed and remark in run.remark and remark in str(run)
    assert run.forecast == FORECAST  # what the record says instead


def test_a_digest_that_was_written_down_counts():
    assert score([PLANNED, seal()], expect=[seal().digest]).runs[0].sealed


def test_a_record_that_does_not_say_when_it_began_takes_no_seal():
    (run,) = score([replace(PLANNED, started=None), seal()]).runs
    assert not run.sealed and "does not say when it began" in run.remark


def test_a_seal_for_another_run_waits():
    for other in (seal(run="b"), seal_forecast(LAW, 69_000, PLANNED.num_tokens), seal_forecast(LAW, 68_000, 10**6)):
        found = score([PLANNED, other])
        assert not found.runs[0].sealed
        assert found.seals[0].endswith("no run of this size and length yet")
    assert score([PLANNED, seal(run="a")]).runs[0].sealed


def test_files_folders_and_globs_are_read_and_other_files_passed_over(tmp_path):
    PLANNED.save(tmp_path / "one" / "scalestop.json")
    record(run="b").save(tmp_path / "two" / "scalestop.json")
    seal(path=tmp_path / "seal.json")
    LAW.save(tmp_path / "law.json")
    (tmp_path / "half.json").write_text('{"schema": ')
    lines = "\n".join(json.dumps(record(run=name).to_dict()) for name in "cd")
    (tmp_path / "many.jsonl").write_text(lines + "\n")
    found = score(tmp_path)
    assert found.all.count == 4 and all(run.sealed for run in found.runs)
    assert len(found.left_out) == 1 and "half.json: cannot be read" in found.left_out[0]
    # named twice, it counts once
    assert score([tmp_path, tmp_path / "one" / "scalestop.json"]).all.count == 4
    assert score(str(tmp_path / "*" / "scalestop.json")).all.count == 2
    with pytest.raises(InputError, match=r"law\.json: is neither a run record nor a forecast"):
        score(tmp_path / "law.json")
    with pytest.raises(InputError, match="no file, folder or glob matches 'nowhere'"):
        score("nowhere")
    with pytest.raises(InputError, match="records: expected records, files or folders; got int"):
        score(5)
