"""What a run says and leaves: metrics, progress bar, record; and that none of it can end the run."""

from __future__ import annotations

import csv
import json
import math

import pytest
import torch
from pytorch_lightning import seed_everything
from pytorch_lightning.loggers import CSVLogger
from toys import C_OPT, D_OPT, LAW, LENGTH, N, Toy, loader, stopping, strict_json, train

from scalestop.errors import InputError, ScalestopWarning
from scalestop.fitting import fit_law
from scalestop.run.records import RunRecord

PER_STEP = 4 * LENGTH


def rows_of(logger: CSVLogger) -> list[dict[str, str]]:
    logger.save()
    with open(f"{logger.log_dir}/metrics.csv", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row.get("scalestop/tokens")]


def test_metrics_reach_the_logger_at_its_interval_and_at_the_stop(tmp_path):
    logger = CSVLogger(tmp_path)
    callback = stopping(1.02 * C_OPT, usd_per_device_hour=2.0, peak_flops_per_second="1 TFLOP/s")
    trainer = train(callback, tmp_path, logger=logger)
    rows = rows_of(logger)
    steps = [int(row["step"]) for row in rows]
    assert steps == sorted({*range(9, trainer.global_step, 10), trainer.global_step - 1})
    for step, row in zip(steps, rows, strict=True):
        tokens = (step + 1) * PER_STEP
        assert float(row["scalestop/tokens"]) == tokens
        assert float(row["scalestop/flops"]) == 6 * N * tokens
        assert float(row["scalestop/pf_days"]) == pytest.approx(6 * N * tokens / 8.64e19)
        assert float(row["scalestop/tokens_per_param"]) == pytest.approx(tokens / N)
        assert float(row["scalestop/optimum_reached"]) == pytest.approx(tokens / callback.plan.target_tokens)
        assert float(row["scalestop/budget_used"]) == pytest.approx(tokens / (1.02 * D_OPT), rel=1e-3)
        assert float(row["scalestop/loss_predicted"]) == pytest.approx(LAW.loss(N, tokens))
        hours = float(row["scalestop/device_hours"])
        assert hours > 0 and float(row["scalestop/usd"]) == pytest.approx(2 * hours)
        assert 0 < float(row["scalestop/goodput"]) <= 1
        assert 0 < float(row["scalestop/mfu"]) < 1
        assert float(row["scalestop/eta_seconds"]) >= 0
    assert float(rows[-1]["scalestop/eta_seconds"]) == 0


def test_no_peak_no_mfu(tmp_path):
    logger = CSVLogger(tmp_path)
    train(stopping(), tmp_path, logger=logger)
    assert rows_of(logger) and all("scalestop/mfu" not in row for row in rows_of(logger))


def test_progress_bar_shows_the_budget(tmp_path):
    class Looks(Toy):
        def on_train_batch_end(self, outputs, batch, batch_idx):
            self.shown = self.trainer.progress_bar_metrics

    module = Looks()
    trainer = train(stopping("640 tokens", oversized="ignore"), tmp_path, module)
    assert trainer.progress_bar_metrics["budget"] == 1.0
    assert trainer.callback_metrics["scalestop/tokens"] == 640


def test_names_keep_metrics_apart(tmp_path):
    logger = CSVLogger(tmp_path)
    callbacks = [stopping("640 tokens", oversized="ignore", name=name) for name in ("a", "b")]
    trainer = train(callbacks, tmp_path, logger=logger)
    assert {"scalestop/a/tokens", "scalestop/b/tokens"} <= set(trainer.logged_metrics) | set(trainer.callback_metrics)
    assert {"budget_a", "budget_b"} <= set(trainer.progress_bar_metrics)


class Breaks(CSVLogger):
    def log_metrics(self, metrics, step=None):
        if any(name.startswith("scalestop/") for name in metrics):
            raise ConnectionError("the tracking server is away")
        super().log_metrics(metrics, step)


def test_broken_logger_does_not_end_the_run(tmp_path):
    callback = stopping()
    with pytest.warns(ScalestopWarning) as caught:
        trainer = train(callback, tmp_path, logger=Breaks(tmp_path))
    said = [str(warning.message) for warning in caught]
    assert any("metrics could not be logged: the tracking server is away" in line for line in said)
    assert callback.decision.stop and trainer.global_step == callback.plan.stop_step
    assert callback.record_path.exists()


def test_folder_that_cannot_be_written_does_not_end_the_run(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    callback = stopping()
    with pytest.warns(ScalestopWarning, match="could not be written") as caught:
        trainer = train(callback, blocked / "runs", enable_checkpointing=False)
    assert trainer.global_step == callback.plan.stop_step and callback.decision.stop
    assert callback.record_path is None
    assert any("the record could not be written" in str(w.message) for w in caught)


def test_checkpoint_that_cannot_be_written_does_not_end_the_run(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    callback = stopping(save_checkpoint=True)
    with pytest.warns(ScalestopWarning, match="could not be written") as caught:
        train(callback, blocked / "runs", enable_checkpointing=False)
    assert callback.decision.stop and callback.checkpoint_path is None
    assert any("the checkpoint" in str(w.message) for w in caught)


def test_record_holds_the_run(tmp_path):
    seed_everything(7)
    callback = stopping()
    train(callback, tmp_path, data=loader(40), validation=loader(8), val_check_interval=10)
    assert callback.record_path == tmp_path / "scalestop.json"
    data = json.loads(callback.record_path.read_text())
    assert {
        "schema", "num_params", "num_tokens", "flops", "loss", "stop_reason", "law", "budget", "plan", "usage", "seed",
        "lr_decayed", "versions",
    } <= set(data)  # fmt: skip
    record = RunRecord.load(callback.record_path)
    usage = callback.usage
    assert (record.num_params, record.num_tokens, record.flops) == (N, usage.tokens_non_padding, usage.flops)
    assert record.stop_reason == "COMPUTE_OPTIMAL" and record.law == "toy" and record.seed == 7
    assert record.loss_name == "val_loss" and 0 < record.loss < 4
    assert record.plan["stop_step"] == usage.optimizer_steps and record.usage["tokens"] == usage.tokens
    assert record.params["total"] == N and record.n_counts == "total"
    assert [tokens for tokens, _ in record.curve] == [*range(10 * PER_STEP, D_OPT, 10 * PER_STEP), usage.tokens]
    assert record.lr_final_share == 1.0 and record.lr_decayed is False
    assert record.overshoot == pytest.approx(usage.tokens / callback.plan.target_tokens - 1)
    assert record.late_by is None
    assert "torch" in record.versions


def test_record_of_a_run_that_diverged_is_json_and_says_so(tmp_path, capsys):
    class Diverges(Toy):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            return loss * float("nan") if self.global_step >= 15 else loss

    callback = stopping(f"{30 * PER_STEP} tokens", oversized="ignore")
    with pytest.warns(ScalestopWarning, match="no training loss has been finite since step 15, by step 17"):
        train(callback, tmp_path, Diverges(), data=loader(40), validation=loader(8), val_check_interval=10)
    data = strict_json(callback.record_path.read_text())
    assert (data["loss"], data["loss_name"], data["stop_reason"]) == ("NaN", "val_loss", "TOKEN_LIMIT")
    assert data["message"].endswith("; val_loss was nan")
    record = RunRecord.load(callback.record_path)
    (early, before), *lost = record.curve
    assert early == 10 * PER_STEP and 0 < before < 4
    assert [tokens for tokens, _ in lost] == [20 * PER_STEP, 30 * PER_STEP]
    assert all(math.isnan(loss) for loss in (record.loss, *(loss for _, loss in lost)))
    assert "; loss nan: the run diverged; losses that were not finite: 15; 30 steps" in capsys.readouterr().out
    with pytest.raises(InputError, match="loss: must be positive and finite; got 'NaN'"):
        fit_law(callback.record_path)


def test_record_goes_to_the_loggers_folder_and_can_be_left_out(tmp_path):
    logger = CSVLogger(tmp_path)
    callback = stopping()
    train(callback, tmp_path, logger=logger)
    assert str(callback.record_path) == f"{logger.log_dir}/scalestop.json"
    train(stopping(record=False), tmp_path / "none")
    assert not list((tmp_path / "none").rglob("scalestop.json"))


def test_quiet_when_asked(tmp_path, capsys):
    train(stopping(verbose=False), tmp_path)
    assert "scalestop" not in capsys.readouterr().out


def test_loss_metric_is_the_one_asked_for(tmp_path):
    class Logs(Toy):
        def training_step(self, batch, batch_idx):
            self.log("perplexity", 3.5)
            return super().training_step(batch, batch_idx)

    callback = stopping(loss_metric="perplexity")
    train(callback, tmp_path, Logs())
    record = RunRecord.load(callback.record_path)
    assert (record.loss_name, record.loss) == ("perplexity", 3.5)


def test_lightning_reserves_log_and_log_dict():
    """The Trainer overwrites these two on every callback; a member of ours by that name would be lost."""
    names = set(vars(type(stopping()))) | set(vars(stopping()))
    assert not names & {"log", "log_dict"}


def test_closing_line_gives_loss_against_prediction(tmp_path, capsys):
    callback = stopping(C_OPT, overshoot="never")
    train(callback, tmp_path)
    closing = capsys.readouterr().out.splitlines()[-1]
    predicted = LAW.loss(N, callback.usage.tokens)
    assert f"against {predicted:.3f} predicted" in closing and closing.endswith(
        f"{callback.usage.optimizer_steps} steps"
    )


def test_peak_of_the_learning_rate_is_seen_wherever_it_is(tmp_path):
    """A warm-up that peaks between two looks: the final rate is held against the true peak."""

    class Warms(Toy):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            peak = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 if step == 17 else 0.05)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": peak, "interval": "step"}}

    callback = stopping("1920 tokens", oversized="ignore")
    train(callback, tmp_path, Warms(), log_every_n_steps=10**6)
    record = RunRecord.load(callback.record_path)
    assert record.lr_final_share == pytest.approx(0.05) and record.lr_decayed is True
