from __future__ import annotations

import pytest
from report_toys import record, write_run

from scalestop.report.run_log import read_log


def test_series_are_read_by_name_and_the_last_value_is_at_hand(tmp_path):
    log = read_log(write_run(tmp_path, record(), points=4))
    assert log.own("budget_used") == 1.0 and log.own("eta_seconds") == 0.0
    assert [step for step, _ in log.series["train_loss"]] == [49, 99, 149, 199]
    assert log.last("nothing") is None


def test_a_loss_stands_at_the_tokens_of_its_step(tmp_path):
    found = record()
    log = read_log(write_run(tmp_path, found, points=4))
    tokens = [at for at, _ in log.against_tokens("train_loss")]
    assert tokens == pytest.approx([found.num_tokens * i / 4 for i in (1, 2, 3, 4)])


def test_a_callback_with_a_name_of_its_own_is_read_and_half_a_line_is_left_out(tmp_path):
    (tmp_path / "metrics.csv").write_text("scalestop/mine/tokens,step,train_loss\n100,0,\n,0,3.5\n200,1,\n,1,\n,x")
    log = read_log(tmp_path)
    assert log.series["scalestop/tokens"] == ((0, 100.0), (1, 200.0))
    assert log.against_tokens("train_loss") == [(100.0, 3.5)]


def test_without_a_log_there_are_no_series(tmp_path):
    assert read_log(tmp_path).series == {}
    assert read_log(tmp_path).against_tokens("train_loss") == []
