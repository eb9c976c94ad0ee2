"""The callback keeps the run's curve, looks ahead from it, and ends a run that it says is going wrong."""

from __future__ import annotations

import itertools
import json
import math
import re
import warnings

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset
from toys import PER_BATCH, ManualToy, N, Rows, Toy, loader, plain, stopping, train

from scalestop.errors import InputError, ScalestopWarning
from scalestop.planning.rule import StopReason
from scalestop.run.curve import Curve
from scalestop.run.records import RunRecord

STEPS = 100
BUDGET = f"{STEPS * PER_BATCH} tokens"


def free(budget=BUDGET, **options):
    """A callback whose tokens alone end the run."""
    return stopping(budget, oversized="ignore", tolerance=0.0, **options)


class Noted(Toy):
    """Keeps every loss of its training."""

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **options)
        self.losses = []

    def loss(self, batch):
        loss = super().loss(batch)
        if self.trainer.training:
            self.losses.append(float(loss.detach()))
        return loss


class NotedByHand(Noted, ManualToy):
    """The same, under manual optimization with two optimizers."""

    def __init__(self) -> None:
        ManualToy.__init__(self)
        self.losses = []


@pytest.mark.parametrize("module", [Noted, NotedByHand])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_curve_is_every_loss(tmp_path, module, accumulate):
    if module is NotedByHand and accumulate > 1:
        pytest.skip("Lightning does not accumulate there")
    callback, toy = free(), module()
    train(callback, tmp_path, toy, accumulate_grad_batches=accumulate)
    points = callback.curve.points
    assert sum(point.count for point in points) == len(toy.losses)
    for k, point in enumerate(points):
        window = toy.losses[k * accumulate : (k + 1) * accumulate]
        assert point.loss == pytest.approx(sum(window) / len(window), rel=1e-5)
        assert (point.step, point.tokens) == (k + 1, PER_BATCH * (k + 1) * accumulate)
        assert point.flops == 6 * N * point.tokens and point.rate == pytest.approx(1e-2)


@pytest.mark.filterwarnings("ignore:scalestop. max_steps:scalestop.ScalestopWarning")
def test_record_and_checkpoint_keep_it_and_a_resume_joins_on(tmp_path):
    first = free("60 PF-days", law=None)
    trainer = train(first, tmp_path / "a", Noted(), loader(40), loader(8), val_check_interval=10, max_steps=75)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert first.curve.stride > 75 and first.curve.points[-1].step == 75
    second = free("60 PF-days", law=None)
    data = loader(40), loader(8)
    train(second, tmp_path / "b", Noted(), *data, ckpt_path=tmp_path / "a.ckpt", val_check_interval=10, max_steps=95)
    assert [one.step for one in second.curve.validations] == [*range(10, 80, 10), 80, 90]
    assert second.curve.points[-1].step == 95
    record = RunRecord.load(second.record_path)
    kept = Curve.from_state(record.points)
    assert kept.points == second.curve.points and kept.validations == second.curve.validations
    assert set(kept.validations[0].metrics) == {"val_loss"}
    json.dumps(record.to_dict(), allow_nan=False)


@pytest.mark.filterwarnings("ignore:scalestop. max_steps:scalestop.ScalestopWarning")
def test_a_checkpoint_between_two_points_keeps_what_is_open(tmp_path):
    whole, broken, resumed = (free(f"{2048 * PER_BATCH} tokens") for _ in range(3))
    toy = Noted()
    trainer = train(broken, tmp_path / "a", toy, max_steps=19)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    # the end of a fit closes the point; without it the losses since step 16 are open
    state = torch.load(tmp_path / "a.ckpt", weights_only=True)["callbacks"]
    (kept,) = [value for key, value in state.items() if key.startswith("ComputeOptimalStopping")]
    assert kept["history"]["curve"]["training"]["step"] == [8, 16, 19]
    trainer = train(resumed, tmp_path / "b", Noted(), ckpt_path=tmp_path / "a.ckpt", max_steps=32)
    assert [point.step for point in resumed.curve.points] == [8, 16, 19, 24, 32]
    assert sum(point.count for point in resumed.curve.points) == 32
    assert whole.curve is None  # before its fit


def test_final_loss_without_validation_is_a_mean_and_says_so(tmp_path, capsys):
    callback, toy = free(f"{200 * PER_BATCH} tokens"), Noted()
    train(callback, tmp_path, toy)
    record = RunRecord.load(callback.record_path)
    last = toy.losses[-4:]
    assert record.loss == pytest.approx(sum(last) / 4, rel=1e-5)
    assert record.loss_name == "train_loss (mean of the last 2%)"
    spread = sum((loss - record.loss) ** 2 for loss in last)
    assert record.loss_error == pytest.approx(math.sqrt(spread / 3 / 4), rel=1e-3)
    assert f"loss {record.loss:.3f} against" in capsys.readouterr().out


class Slashed(Toy):
    """Logs its losses under other names."""

    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        self.log("train/loss", loss, batch_size=1)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.loss(batch), batch_size=1)


def test_a_loss_under_another_name_is_found(tmp_path):
    callback = free()
    train(callback, tmp_path, Slashed(), validation=loader(8), val_check_interval=50)
    record = RunRecord.load(callback.record_path)
    assert record.loss_name == "val/loss" and record.loss == record.curve[-1][1]


def test_a_mistyped_loss_metric_is_asked_about_and_the_loss_kept(tmp_path):
    callback = free(loss_metric="val_los")
    with pytest.warns(ScalestopWarning, match="no metric is logged as 'val_los'. Did you mean 'val_loss'"):
        train(callback, tmp_path, validation=loader(8), val_check_interval=50)
    assert RunRecord.load(callback.record_path).loss_name == "val_loss"


def test_a_forecast_is_logged_and_scored(tmp_path, capsys):
    callback = free(f"{512 * PER_BATCH} tokens", show_forecast=True)
    trainer = train(callback, tmp_path, Toy(lr=0.3), validation=loader(8), val_check_interval=50)
    logged = trainer.callback_metrics
    assert float(trainer.progress_bar_metrics["forecast"]) == float(logged["scalestop/loss_forecast"])
    low, middle, high = (float(logged[f"scalestop/loss_forecast{end}"]) for end in ("_low", "", "_high"))
    assert low < middle < high
    record = RunRecord.load(callback.record_path)
    assert [one["share"] >= share for one, share in zip(record.foretold, (0.2, 0.5), strict=True)] == [True, True]
    assert abs(record.foretold[1]["loss"] - record.loss) < 0.2
    assert "; forecast " in capsys.readouterr().out


class Breaks(Toy):
    """Its loss is no number from a step on."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return loss * float("nan") if self.global_step >= 20 else loss


def test_a_loss_that_is_no_number_ends_the_run_if_asked(tmp_path):
    callback = free(on_nonfinite="stop")
    trainer = train(callback, tmp_path, Breaks())
    assert callback.stop_reason is StopReason.DIVERGED and trainer.global_step == 22
    assert "no training loss has been finite since step 20" in callback.decision.message
    assert RunRecord.load(callback.record_path).stop_reason == "DIVERGED"
    silent = free(on_nonfinite="ignore")
    assert train(silent, tmp_path / "b", Breaks()).global_step == STEPS


class Stuck(IterableDataset):
    """Hands out its few rows over and over, and never ends."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def __iter__(self):
        data = Rows(self.rows)
        return itertools.cycle(data[i] for i in range(self.rows))


def warned_of_repeats(caught) -> list[str]:
    return [str(one.message) for one in caught if "the loader repeats itself" in str(one.message)]


def test_a_loader_that_repeats_itself_is_told_of_once(tmp_path):
    with pytest.warns(ScalestopWarning) as caught:
        train(free(), tmp_path, data=DataLoader(Stuck(32), batch_size=4, collate_fn=plain))
    (line,) = warned_of_repeats(caught)
    assert re.search(r"16 of 24 samples had been seen before, in 0 passes over the data", line)


@pytest.mark.parametrize("kind", ["two epochs", "ignored"])
def test_repeats_that_are_meant_are_not(tmp_path, kind):
    data = loader(4 * STEPS // 2) if kind == "two epochs" else DataLoader(Stuck(32), batch_size=4, collate_fn=plain)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(free(on_forecast="ignore" if kind == "ignored" else "warn"), tmp_path, data=data)
    assert warned_of_repeats(caught) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"on_forecast": "halt"}, "on_forecast: one of 'warn', 'stop', 'ignore'; got 'halt'"),
        ({"on_nonfinite": None}, "on_nonfinite: one of 'warn', 'stop', 'ignore'; got None"),
        ({"stop_when": "never"}, "stop_when: 'marginal' or None; got 'never'"),
    ],
)
def test_options_that_are_none_are_named(options, says):
    with pytest.raises(InputError) as error:
        free(**options)
    assert str(error.value) == says
