"""Rungs that train, break, go on, and diverge."""

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ladder_toys import PRIOR, Breaks, Own, Spikes, WideOnesDiverge, micro, path_of, record_of
from rich.console import Console

from scalestop import RunRecord, fit_law, get_law
from scalestop.errors import InputError
from scalestop.ladder.finish import finish, next_step, valleys
from scalestop.ladder.forecast import expected_accuracy
from scalestop.ladder.plan import plan_ladder, target_rung
from scalestop.ladder.rates import check_rates, forecast_rate
from scalestop.ladder.run import train_rung, with_seconds
from scalestop.ladder.show import Watcher
from scalestop.ladder.store import DIVERGED, Ladder
from scalestop.ladder.table import run_rows
from scalestop.ladder.work import work
from scalestop.laws.findings import Finding


def ladder_of(folder, **changes):
    return Ladder.open(plan_ladder(micro(folder, **changes)))


def records(ladder):
    return {rung.name: ladder.record(rung) for rung in ladder.rungs}


def test_a_rung_ends_at_its_own_tokens_with_its_rate_down(tmp_path):
    ladder = ladder_of(tmp_path)
    for rung in ladder.rungs[:2]:
        record = train_rung(ladder, rung)
        assert record == ladder.record(rung) == RunRecord.load(ladder.record_path(rung))
        assert (record.run, record.num_params, record.num_tokens) == (rung.name, rung.num_params, rung.num_tokens)
        assert record.flops == rung.flops and record.usage["optimizer_steps"] == rung.steps
        assert record.lr_decayed and record.loss_name == "val_loss" and record.seed == rung.seed
        assert record.unique_tokens is not None
        assert not ladder.work(rung).exists()


def test_a_broken_rung_is_left_for_later_and_goes_on_to_the_same_loss(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LADDER_NOTES", str(tmp_path / "broken"))
    changes = {"model": path_of(Breaks), "checkpoint_seconds": 1e-9}
    whole, broken = ladder_of(tmp_path / "whole", **changes), ladder_of(tmp_path / "broken-ladder", **changes)
    rung = broken.open_rungs()[0]
    assert work(broken) == [rung.name]
    assert "out of luck" in capsys.readouterr().err
    assert "out of luck" in (broken.work(rung) / "error.txt").read_text()
    assert len(list(broken.work(rung).glob("step=*.ckpt"))) == 1
    assert all(broken.is_done(other) for other in broken.rungs if other != rung)
    assert work(broken) == []  # goes on from step 12
    assert work(whole) == []
    for name, record in records(whole).items():
        other = records(broken)[name]
        assert other.loss == record.loss and other.num_tokens == record.num_tokens and other.usage["tokens"]
        assert other.usage["optimizer_steps"] == record.usage["optimizer_steps"]


def test_a_diverged_rung_is_recorded_and_left_out_of_the_fit_by_name(tmp_path):
    ladder = ladder_of(tmp_path, model=path_of(WideOnesDiverge), num_sizes=3, spread=3.0)
    assert work(ladder) == []
    rows, lost = run_rows(ladder)
    assert {record.run for record in lost} == {rung.name for rung in ladder.rungs if rung.width >= 8}
    assert {row["run"] for row in rows} == {rung.name for rung in ladder.rungs if rung.width < 8}
    assert rows and lost
    for record in lost:
        assert record.stop_reason == DIVERGED and record.loss is None
        assert "nan by step 20" in record.message
    console = Console(file=io.StringIO(), width=200)
    with pytest.raises(InputError):  # what is left are runs of one size
        finish(ladder, console)
    assert all(record.run in console.file.getvalue() for record in lost)


def test_a_spike_is_a_divergence_too(tmp_path):
    ladder = ladder_of(tmp_path, model=path_of(Spikes), steps=120, budgets=["2e8"], num_sizes=1)
    record = train_rung(ladder, ladder.rungs[0])
    assert record.stop_reason == DIVERGED and "over 1.5 times its lowest" in record.message
    assert record.usage["optimizer_steps"] < ladder.rungs[0].steps


def test_the_rate_rule_is_held_against_a_sweep_of_the_two_smallest_sizes(tmp_path):
    ladder = ladder_of(tmp_path, lr_factors=[0.25, 4.0], num_sizes=3, seeds=[2, 1])
    swept = [rung for rung in ladder.rungs if rung.kind == "sweep"]
    pilots = [rung for rung in ladder.rungs if rung.is_pilot]
    smallest = sorted({rung.num_params for rung in pilots})[:2]
    assert sorted(rung.num_params for rung in swept) == sorted(smallest * 4)
    assert {rung.budget for rung in swept} == {min(rung.budget for rung in pilots)}
    # losses of a known parabola in log rate, 0.02 nats for a factor of e, and seeds that scatter to both sides
    best = {rung.width: 0.6 * ladder.settings.lr(rung.width, rung.tokens_per_step) for rung in swept}
    for rung in ladder.rungs:
        off = math.log(rung.lr / best.get(rung.width, rung.lr))
        ladder.finish(rung, record_of(rung, loss=2.0 + 0.02 * off**2 + (0.1 if rung.seed else -0.1), seed=rung.seed))
    checks = check_rates(ladder)
    assert [check.width for check in checks] == sorted(best)
    for check in checks:
        assert check.best == pytest.approx(best[check.width]) and not check.at_edge
        assert check.ratio == pytest.approx(1 / 0.6)
        assert check.cost == pytest.approx(0.02 * math.log(check.rule / check.best) ** 2)
    target = target_rung(ladder.settings)
    assert target.flops == pytest.approx(ladder.target_flops, rel=0.05)
    far = forecast_rate(checks, target)
    assert far.best == pytest.approx(0.6 * target.lr) and far.extremes == pytest.approx((far.best, far.best))
    assert f"{far.best:.2g}" in str(far) and str(target.width) in str(far)
    fitted = {row["run"] for row in run_rows(ladder)[0] if not row["held_out"]}
    assert fitted == {rung.name for rung in pilots}


def test_a_best_rate_beyond_those_tried_is_said_to_be_at_the_edge(tmp_path):
    ladder = ladder_of(tmp_path, lr_factors=[0.5, 2.0])
    for rung in ladder.rungs:  # the higher the better; one run diverged
        ladder.finish(rung, record_of(rung, loss=3.0 - math.log(rung.lr) / 100))
    assert all(check.at_edge and check.best > check.rule for check in check_rates(ladder)[:2])


def test_valleys_hold_the_laws_optimum_against_the_best_size_measured(tmp_path):
    ladder = ladder_of(tmp_path, num_sizes=3, budgets=["1e8", "3e8", "9e8"], spread=3.0, seeds=[2])
    for i, rung in enumerate(ladder.rungs):
        loss = float(PRIOR.loss(rung.num_params, rung.num_tokens)) * (1.001 if i % 2 else 0.999)
        ladder.finish(rung, record_of(rung, loss=loss, seed=rung.seed))
    console = Console(file=io.StringIO(), width=200)
    fit = finish(ladder, console)
    found = valleys(ladder, fit)
    assert [valley.budget for valley in found] == [int(1e8), int(3e8), int(9e8)]
    for valley in found:
        here = {
            r.num_params: float(PRIOR.loss(r.num_params, r.num_tokens))
            for r in ladder.rungs
            if r.budget == valley.budget
        }
        assert valley.best_params == min(here, key=here.get)
        assert valley.best_loss == pytest.approx(min(here.values()), rel=1e-9)
        assert valley.nearest_loss == pytest.approx(here[valley.nearest_params], rel=1e-9)
        assert 0 <= valley.excess < 0.05
        assert str(valley) in console.file.getvalue()


def test_branches_come_from_one_trunk_and_end_at_their_own_tokens(tmp_path):
    ladder = ladder_of(tmp_path, trunk=True, steps=60, num_sizes=1, budgets=["1e8", "1.3e8"])
    (trunk,) = [rung for rung in ladder.rungs if rung.kind == "trunk"]
    assert work(ladder) == []
    found = records(ladder)
    assert found[trunk.name].lr_final_share == pytest.approx(1.0)
    for branch in ladder.branches(trunk.name):
        record = found[branch.name]
        assert (record.num_params, record.num_tokens) == (branch.num_params, branch.num_tokens)
        assert record.usage["optimizer_steps"] == branch.steps
        assert record.lr_decayed
        assert record.loss < found[trunk.name].loss or branch.num_tokens < trunk.num_tokens
    rows, _ = run_rows(ladder)
    fitted = [row for row in rows if not row["held_out"]]
    assert [row["run"] for row in fitted] == [trunk.name] * 2  # one run to the bootstrap
    # what was spent is the table's sum: the trunk's tokens count once
    assert sum(row["new_flops"] for row in rows) == 6 * trunk.num_params * (
        trunk.num_tokens + sum(branch.num_tokens - branch.start_tokens for branch in ladder.branches(trunk.name))
    )


def test_a_branch_of_a_diverged_trunk_has_diverged(tmp_path):
    changes = {"model": path_of(WideOnesDiverge), "model_args": {n: n for n in ("width", "depth", "num_heads", "lr")}}
    changes["model_args"] |= {"warmup": "warmup", "decay": "decay"}
    ladder = ladder_of(tmp_path, trunk=True, steps=60, num_sizes=1, budgets=["2e9", "2.5e9"], **changes)
    assert all(rung.width >= 8 for rung in ladder.rungs)
    assert work(ladder) == []
    found = records(ladder)
    assert {record.stop_reason for record in found.values()} == {DIVERGED}
    assert len(found) == 3


def test_a_model_of_ones_own_trains_without_editing_code(tmp_path):
    arguments = {"d_model": "width", "rate": "lr", "rise": "warmup", "fall": "decay"}
    ladder = ladder_of(tmp_path, model=path_of(Own), model_args=arguments, budgets=["4e8"])
    assert work(ladder) == []
    for rung in ladder.rungs:
        assert ladder.record(rung).num_params == rung.num_params
        assert ladder.record(rung).num_tokens == rung.num_tokens
        assert ladder.record(rung).lr_decayed


def test_a_sample_of_another_length_is_told(tmp_path):
    ladder = ladder_of(tmp_path, trainer={"accelerator": "cpu", "max_steps": 5}, num_sizes=1, budgets=["1e8"])
    with pytest.raises(InputError, match=r"ended at .* of .* tokens"):
        train_rung(ladder, ladder.rungs[0])
    assert not ladder.is_done(ladder.rungs[0])


def test_predicted_times_follow_the_stated_speed_or_the_measured_steps(tmp_path):
    settings = micro(tmp_path, flops_per_second="1 MFLOP/s")
    stated = with_seconds(settings, plan_ladder(settings).rungs)
    assert [rung.seconds for rung in stated] == pytest.approx([rung.flops / 1e6 for rung in stated])
    settings = micro(tmp_path, num_sizes=1, budgets=["1e8"])
    (measured,) = with_seconds(settings, plan_ladder(settings).rungs)
    assert measured.seconds > 0
    assert not settings.folder.exists()  # to look is not to begin


def test_expected_accuracy_shrinks_with_scatter(tmp_path):
    options = {"num_sizes": 5, "budgets": ["1e9", "3e9", "1e10", "3e10"], "target": "3e11 FLOPs", "spread": 3.0}
    noisy, quiet = (
        expected_accuracy(plan_ladder(micro(tmp_path, noise=noise, **options)), simulations=7, bootstrap=100)
        for noise in (0.02, 0.002)
    )
    assert noisy.loss == quiet.loss
    # not by the tenth that the noise shrinks by: what the form gets wrong, and runs 10x dearer bring, stays
    assert quiet.half_width < noisy.half_width / 1.5
    assert quiet.error < noisy.error


def test_the_watcher_tells_the_share_done_the_time_left_and_the_news(tmp_path):
    ladder = ladder_of(tmp_path)
    now = [0.0]
    watcher = Watcher(ladder, 1, clock=lambda: now[0])
    assert watcher.seconds_left() is None
    rung = ladder.open_rungs()[0]
    ladder.work(rung).mkdir(parents=True)
    (ladder.work(rung) / "progress").write_text(f"{rung.num_tokens // 2}\n")
    now[0] = 10.0
    assert watcher.done() == pytest.approx(rung.flops / 2, rel=0.01)
    assert watcher.seconds_left() == pytest.approx(10 * (watcher.total / watcher.done() - 1))
    assert list(watcher.news()) == []
    record = train_rung(ladder, rung)
    (line,) = watcher.news()
    assert line.startswith(f"[1/4] {rung.name}: loss {record.loss:.4f}")
    assert list(watcher.news()) == []


def test_the_ladder_ends_in_a_law_a_picture_and_a_forecast(tmp_path):
    torch.manual_seed(0)
    ladder = ladder_of(
        tmp_path, num_sizes=3, budgets=["1e8", "2e8", "4e8"], spread=3.0, held_out=["8e8"], target="2e9", steps=20
    )
    assert work(ladder) == []
    console = Console(file=io.StringIO(), width=200)
    fit = finish(ladder, console)
    said = console.file.getvalue()
    law = get_law(ladder.folder / "law.json")
    assert law.E == fit.law.E
    assert (ladder.folder / "fit.png").read_bytes().startswith(b"\x89PNG")
    data = json.loads((ladder.folder / "forecast.json").read_text())
    assert data["target_flops"] == 2e9
    assert 6 * data["num_params"] * data["num_tokens"] == pytest.approx(2e9, rel=1e-3)
    assert data["loss"] == pytest.approx(law.loss(data["num_params"], data["num_tokens"]))
    assert data["pilots_flops"] == sum(rung.flops for rung in ladder.rungs if not rung.held_out)
    (outcome,) = data["held_out"]
    (rung,) = [rung for rung in ladder.rungs if rung.held_out]
    assert outcome["measured"] == ladder.record(rung).loss and outcome["run"] == rung.name
    assert outcome["forecast"] == pytest.approx(law.loss(rung.num_params, rung.num_tokens))
    assert len(fit.table) == 9  # the held-out run is not among them
    assert rung.name not in fit.table.run and math.isfinite(fit.objective)
    for word in ("held out: ", "forecast for 2e9 FLOPs", "scalestop train --law", "9 runs", "runs.csv"):
        assert word in said
    # the table alone gives the same law; and the law says of what text and recipe it is
    again = fit_law(ladder.folder / "runs.csv", bootstrap=20)
    assert again.law.constants == fit.law.constants and len(again.table) == 9
    text, recipe = law.info.notes[-2:]
    assert "sha256" in text and "python-stdlib" in text
    assert recipe.startswith("Recipe: scalestop.lab.tiny_gpt.TinyGPT") and "learning rate 0.2 / width" in recipe
    kept, shipped = law.info.provenance, get_law("stdlib-bytes").info.provenance
    assert kept.text_hash == ladder.text()["sha256"] and kept.context == ladder.settings.context
    own = ("tokenizer", "vocab_size", "model", "optimizer")
    assert all(getattr(kept, name) == getattr(shipped, name) for name in own)
    broken = replace(law, info=replace(law.info, findings=(Finding("E-at-bound", "warning", "E is at its bound"),)))
    assert next_step(law, "train it") == "next: train it"
    assert "not the target: E is at its bound" in next_step(broken, "train it")


def test_runs_on_two_texts_make_no_ladder(tmp_path):
    ladder = ladder_of(tmp_path)
    first, second, *_ = ladder.rungs
    assert train_rung(ladder, first) is not None
    kept = ladder.text()
    assert kept["source"] == "python-stdlib" and len(kept["sha256"]) == 64
    ladder.keep_text({**kept, "source": "the same text, elsewhere"})
    (ladder.folder / "text.json").write_text(json.dumps({**kept, "sha256": "0" * 64}))
    with pytest.raises(InputError, match=r"data: the earlier runs in .* were trained on another text: sha256 was '000"):
        train_rung(ladder, second)
    assert not ladder.is_done(second)


def test_the_valley_is_measured_and_not_fitted(tmp_path):
    ladder = ladder_of(tmp_path, num_sizes=3, budgets=["1e9", "3e9", "9e9"], spread=2.0, valley="3e9", target="9e10")
    for rung in ladder.rungs:
        ladder.finish(rung, record_of(rung, loss=float(PRIOR.loss(rung.num_params, rung.num_tokens)), seed=rung.seed))
    console = Console(file=io.StringIO(), width=200)
    fit = finish(ladder, console)
    far = {rung.name for rung in ladder.rungs if rung.kind == "valley"}
    assert far and not far & set(fit.table.run) and "held out" not in console.file.getvalue()
    (found,) = [valley for valley in valleys(ladder, fit) if valley.budget == 3 * 10**9]
    sizes = [rung.num_params for rung in ladder.rungs if rung.budget == 3 * 10**9]
    assert len(sizes) == 3 + len(far) and min(sizes) <= found.best_params <= max(sizes)
    rows = {row["run"]: row for row in run_rows(ladder)[0]}
    assert all(rows[name]["held_out"] and rows[name]["kind"] == "valley" for name in far)


def test_the_law_is_held_against_runs_below_it(tmp_path):
    grid = {"num_sizes": 3, "budgets": ["1e9", "3e9", "9e9", "27e9"], "spread": 2.0, "target": "9e10", "seeds": [1]}
    ladder = ladder_of(tmp_path, **grid, fit_from="3e9")
    for rung in ladder.rungs:
        off = 3.0 if rung.kind == "below" and rung.num_params == min(r.num_params for r in ladder.rungs) else 1.0
        loss = off * float(PRIOR.loss(rung.num_params, rung.num_tokens))
        ladder.finish(rung, record_of(rung, loss=loss, seed=rung.seed))
    console = Console(file=io.StringIO(), width=200)
    fit = finish(ladder, console)
    below = [rung for rung in ladder.rungs if rung.kind == "below"]
    assert len(below) == 3 and len(fit.table) == 9 and not {rung.name for rung in below} & set(fit.table.run)
    assert "below the fit, 1e9 FLOPs: 2 of 3 runs inside their 90 % intervals; the best at" in console.file.getvalue()
    data = json.loads((ladder.folder / "forecast.json").read_text())
    assert [outcome["inside"] for outcome in data["below"]] == [False, True, True]
    # fitted after all, without training anything anew
    again = ladder_of(tmp_path, **grid)
    assert all(again.is_done(rung) for rung in again.rungs)
    assert len(finish(again, console).table) == 12


@pytest.mark.slow
def test_a_rung_trains_on_two_ranks_with_the_same_tokens_a_step(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    two = {"accelerator": "cpu", "devices": 2, "strategy": "ddp"}
    ladder = ladder_of(tmp_path, num_sizes=1, budgets=["2e8"], trainer=two, checkpoint_seconds=0.2)
    (rung,) = ladder.rungs
    alone = plan_ladder(micro(tmp_path, num_sizes=1, budgets=["2e8"])).rungs[0]
    assert rung.tokens_per_step == pytest.approx(alone.tokens_per_step, rel=0.1)
    assert rung.batch_size == pytest.approx(alone.batch_size / 2, abs=1)
    assert work(ladder) == []
    record = ladder.record(rung)
    assert record.num_tokens == rung.num_tokens and record.usage["optimizer_steps"] == rung.steps
    assert record.loss < 5.5 and record.lr_decayed
