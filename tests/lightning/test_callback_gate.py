"""`until=`: a compute-optimal stop waits for a metric; hard limits do not."""

from __future__ import annotations

import pytest
from toys import C_OPT, LENGTH, Toy, loader, stopping, train

from scalestop.errors import InputError
from scalestop.planning.rule import StopReason

PER_STEP = 4 * LENGTH


class Learns(Toy):
    """Its accuracy goes up by a tenth with each validation."""

    def __init__(self, start: float = 0.0) -> None:
        super().__init__()
        self.accuracy = start

    def on_validation_epoch_end(self):
        self.accuracy += 0.1
        self.log("val_accuracy", self.accuracy)


def gated(tmp_path, bound, budget=1.2 * C_OPT, validation=True, module=None, **options):
    callback = stopping(budget, until={"val_accuracy": bound}, tolerance=0.3, oversize_factor=2.0, **options)
    module = module or Learns()
    data = {"validation": loader(4), "val_check_interval": 10} if validation else {}
    return callback, train(callback, tmp_path, module, loader(80), **data)


def test_optimum_waits_for_the_metric(tmp_path):
    callback, trainer = gated(tmp_path, ">= 0.78")
    optimum = -(-callback.plan.target_tokens // PER_STEP)
    # 0.8 is seen in the eighth validation, after step 80; the stop falls on the next step
    assert optimum == 75 and trainer.global_step == 81
    assert callback.stop_reason is StopReason.COMPUTE_OPTIMAL


def test_metric_that_is_met_in_time_costs_nothing(tmp_path):
    callback, trainer = gated(tmp_path, ">= 0.3")
    assert trainer.global_step == 75 and callback.stop_reason is StopReason.COMPUTE_OPTIMAL


def test_hard_limit_does_not_wait_and_the_decision_says_what_was_waited_for(tmp_path, capsys):
    callback, _ = gated(tmp_path, ">= 2.0")
    assert callback.stop_reason is StopReason.BUDGET_EXHAUSTED
    assert callback.usage.flops >= 1.2 * C_OPT
    held = stopping(until={"val_accuracy": ">= 2.0"})
    train(held, tmp_path, Learns(), loader(80), loader(4), val_check_interval=10, max_steps=70)
    assert held.stop_reason is StopReason.NOT_STOPPED
    assert "compute-optimal, but waiting for val_accuracy >= 2 (now 0.7)" in held.decision.message


def test_missing_metric_is_an_error_that_lists_those_there_are(tmp_path):
    with pytest.raises(InputError, match=r"no metric 'val_accuracy' .* logged are: train_loss, val_loss$"):
        gated(tmp_path, ">= 0.4", module=Toy())


def test_missing_metric_without_any_validation_is_an_error_at_the_optimum(tmp_path):
    with pytest.raises(InputError, match=r"no metric 'val_accuracy' .* logged are: train_loss$"):
        gated(tmp_path, ">= 0.4", module=Toy(), validation=False)


def test_training_metric_serves_as_well(tmp_path):
    class Counts(Toy):
        def training_step(self, batch, batch_idx):
            self.log("progress", float(self.trainer.global_step))
            return super().training_step(batch, batch_idx)

    callback = stopping(1.2 * C_OPT, until={"progress": "> 77"}, tolerance=0.3)
    trainer = train(callback, tmp_path, Counts(), log_every_n_steps=1)
    assert callback.stop_reason is StopReason.COMPUTE_OPTIMAL and 78 <= trainer.global_step <= 80
