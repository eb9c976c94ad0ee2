from __future__ import annotations

import os

import pytest
from ladder_toys import micro, record_of
from report_toys import record, write_run

from scalestop.cli import main
from scalestop.commands.watch import bar
from scalestop.ladder.plan import plan_ladder
from scalestop.ladder.store import Ladder


def watch(capsys, folder):
    assert main(["watch", str(folder), "--once"]) == 0
    return capsys.readouterr().out


def test_a_live_run_shows_budget_rate_time_left_and_loss(capsys, tmp_path):
    found = record(flops=1e12)
    write_run(tmp_path, found, ended=False, points=10)
    # the last three tenths are still to come
    lines = (tmp_path / "metrics.csv").read_text().splitlines()[:15]
    (tmp_path / "metrics.csv").write_text("\n".join(lines) + "\n0.1")
    out = watch(capsys, tmp_path)
    assert "70.0%" in out and "left    18 s" in out and "1.67e10 FLOPs/s a device" in out
    assert "train_loss" in out and "ended" not in out


def test_what_the_run_forecasts_of_itself_is_shown(capsys, tmp_path):
    names = "scalestop/loss_forecast,scalestop/loss_forecast_high,scalestop/loss_forecast_low,scalestop/tokens,step"
    (tmp_path / "metrics.csv").write_text(f"{names}\n1.25,1.375,1.125,100,0\n")
    assert "forecast  1.2500 (1.1250 to 1.3750) at its end, by the run so far" in watch(capsys, tmp_path)


def test_the_newest_run_of_a_folder_is_shown_and_says_how_it_ended(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("old", "new"):
        write_run(tmp_path / name, record())
    for file in (tmp_path / "old").iterdir():
        os.utime(file, (1, 1))
    out = watch(capsys, tmp_path)
    assert "/new" in out and "/old" not in out
    assert "ended   BUDGET_EXHAUSTED: the budget is spent" in out
    # without --once it ends as well, as the run has
    assert main(["watch", str(tmp_path)]) == 0


def test_a_ladder_shows_how_many_are_done_and_how_far_the_others_are(capsys, tmp_path):
    ladder = Ladder.open(plan_ladder(micro(tmp_path)))
    first, second = ladder.rungs[:2]
    ladder.finish(first, record_of(first))
    work = ladder.work(second)
    work.mkdir(parents=True)
    (work / "progress").write_text(str(second.num_tokens // 2))
    out = watch(capsys, ladder.folder)
    assert f"1 of {len(ladder.rungs)} runs" in out and "loss 3.0000" in out
    line = next(line for line in out.splitlines() if line.startswith(second.name))
    assert "50.0%" in line or "49.9%" in line


@pytest.mark.parametrize(
    ("share", "text"), [(0, "─" * 30 + " 0.0%"), (0.5, "━" * 15 + "─" * 15 + " 50.0%"), (1.2, "━" * 30 + " 120.0%")]
)
def test_a_bar_is_as_long_as_its_share(share, text):
    assert bar(share) == text


def test_where_there_is_nothing_to_watch_it_says_so(capsys, tmp_path):
    for words, complaint in (
        ([str(tmp_path / "nowhere")], "folder: there is no folder"),
        ([str(tmp_path)], "folder: no metrics.csv and no scalestop.json in"),
        ([str(tmp_path), "--every", "0"], "every: a positive number of seconds; got 0.0"),
    ):
        assert main(["watch", *words]) == 2
        assert complaint in capsys.readouterr().err
