"""The final loss: found under its name, averaged where nothing was validated, and never dropped without a word."""

from __future__ import annotations

import math

import pytest

from scalestop.run.curve import Curve
from scalestop.run.curve_point import window
from scalestop.run.final_loss import FinalLoss, LossNames, final_loss, validation_metrics

ANY = LossNames()


@pytest.mark.parametrize(
    ("logged", "validation", "training"),
    [
        (["val_loss", "train_loss"], "val_loss", "train_loss"),
        (["val/loss", "train/loss"], "val/loss", "train/loss"),
        (["loss/validation", "loss"], "loss/validation", "loss"),
        (["eval_loss", "eval_accuracy", "lr"], "eval_loss", None),
        (["ValidLoss", "trainLoss"], "ValidLoss", "trainLoss"),
        (["val_loss/dataloader_idx_0", "val_loss/dataloader_idx_1"], "val_loss/dataloader_idx_0", None),
        (["val_accuracy", "valuation"], None, None),
        (["train_loss_step", "train_loss_epoch"], None, "train_loss_step"),
    ],
)
def test_losses_are_found_by_their_names(logged, validation, training):
    assert (ANY.validation(logged), ANY.training(logged)) == (validation, training)


def test_the_one_asked_for_is_taken_and_a_mistyped_one_is_asked_about():
    assert LossNames("my_metric").validation(["val_loss", "my_metric"]) == "my_metric"
    asked = LossNames("val_los")
    assert asked.validation(["val_loss"]) == "val_loss"
    assert asked.complaint(["val_loss", "train_loss", "scalestop/tokens"]) == (
        "loss_metric: no metric is logged as 'val_los'. Did you mean 'val_loss'? Logged are: train_loss, val_loss"
    )
    assert LossNames("val_loss").complaint(["val_loss"]) is ANY.complaint(["val_loss"]) is None


def curve_of(*losses: float) -> Curve:
    curve = Curve(1)
    for step, loss in enumerate(losses, 1):
        curve.add(window([loss - 0.1, loss + 0.1], step=step, tokens=step * 10, flops=step))
    return curve


def test_a_validation_at_the_stop_is_the_final_loss():
    curve = curve_of(*[2.0] * 100)
    curve.add_validation(100, 1000, {"val/loss": 2.2})
    assert final_loss(ANY, {"val/loss": 2.2, "train_loss": 1.9}, curve, 1000) == FinalLoss(2.2, "val/loss")


def test_without_one_it_is_a_mean_with_its_error():
    curve = curve_of(*[3.0] * 98, 2.0, 2.2)
    curve.add_validation(50, 500, {"val_loss": 5.0})  # long ago
    found = final_loss(ANY, {"train_loss": 1.0, "val_loss": 5.0}, curve, 1000)
    values = [1.9, 2.1, 2.1, 2.3]
    spread = math.sqrt(sum((v - 2.1) ** 2 for v in values) / 3 / 4)
    assert found == FinalLoss(pytest.approx(2.1), "train_loss (mean of the last 2%)", pytest.approx(spread))


def test_a_run_that_diverged_at_its_end_has_no_finite_loss():
    found = final_loss(ANY, {"train_loss": 2.0}, curve_of(*[2.0] * 99, math.nan), 1000)
    assert math.isnan(found.loss)


def test_what_was_logged_stands_where_no_curve_was_kept():
    assert final_loss(ANY, {"train/loss": 2.5, "scalestop/loss_predicted": 9.0}, Curve(), 1000) == (
        FinalLoss(2.5, "train/loss")
    )
    assert final_loss(ANY, {}, Curve(), 1000) == FinalLoss(None, None)


def test_every_metric_of_a_validation_is_kept_and_none_of_training():
    metrics = {"val_loss": 2.0, "val_accuracy": 0.4, "train_loss": 1.0, "scalestop/tokens": 5, "budget": 1, "text": "x"}
    assert validation_metrics(metrics, ANY) == {"val_loss": 2.0, "val_accuracy": 0.4}
