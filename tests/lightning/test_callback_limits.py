"""Budgets people have: wall time, device-hours, money, slices of a job, validation; and speeds that are measured."""

from __future__ import annotations

import pytest
from toys import C_OPT, LENGTH, N, Toy, loader, stopping, train

from scalestop.errors import InputError
from scalestop.planning.rule import StopReason

PER_STEP = 4 * LENGTH


class Clock:
    """Moves when told; the toy below tells it one second a training step."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Timed(Toy):
    def __init__(self, clock: Clock, validation_seconds: float = 0.0) -> None:
        super().__init__()
        self.clock, self.validation_seconds = clock, validation_seconds

    def training_step(self, batch, batch_idx):
        self.clock.now += 1.0
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        self.clock.now += self.validation_seconds
        super().validation_step(batch, batch_idx)


def timed(tmp_path, budget, seconds=0.0, data=None, validation=None, ckpt_path=None, trainer=None, **options):
    clock = Clock()
    callback = stopping(budget, clock=clock, oversized=options.pop("oversized", "ignore"), **options)
    fitted = train(callback, tmp_path, Timed(clock, seconds), data, validation, ckpt_path=ckpt_path, **(trainer or {}))
    return callback, fitted


@pytest.mark.parametrize(
    ("budget", "options", "reason", "steps"),
    [
        ("12.5 s", {}, StopReason.TIME_LIMIT, 13),
        ("12.5 s", {"overshoot": "never"}, StopReason.TIME_LIMIT, 12),
        ("12.5 GPU-seconds", {}, StopReason.DEVICE_TIME_LIMIT, 13),
        ("1 USD", {"usd_per_device_hour": 300.0}, StopReason.COST_LIMIT, 12),
        (["1e15 FLOPs", "700 tokens", "12.5 s"], {}, StopReason.TOKEN_LIMIT, 11),
        (["1e15 FLOPs", "7000 tokens", "12.5 s"], {}, StopReason.TIME_LIMIT, 13),
        ([f"{6 * N * PER_STEP * 9} FLOPs", "7000 tokens", "12.5 s"], {}, StopReason.BUDGET_EXHAUSTED, 9),
    ],
)
def test_first_limit_reached_stops_and_is_the_reason(tmp_path, budget, options, reason, steps):
    callback, trainer = timed(tmp_path, budget, **options)
    assert callback.stop_reason is reason
    assert trainer.global_step == steps == callback.usage.seconds


def test_validation_between_steps_is_wall_time(tmp_path):
    callback, trainer = timed(tmp_path, "30 s", seconds=5.0, validation=loader(8), trainer={"val_check_interval": 10})
    # 10 steps, 2 batches of 5 s; 10 steps
    assert trainer.global_step == 20 and callback.usage.seconds == 40.0  # ... and the last validation
    assert callback.stop_reason is StopReason.TIME_LIMIT


def test_time_goes_on_over_resumes_and_a_job_starts_afresh(tmp_path):
    first, _ = timed(tmp_path, "20 s", job_budget="8 s")
    assert first.stop_reason is StopReason.TIME_LIMIT and "of this job" in first.decision.message
    assert first.usage.seconds == 8.0
    second, _ = timed(tmp_path, "20 s", job_budget="8 s", ckpt_path=first.checkpoint_path)
    assert second.usage.seconds == 16.0 and "of this job" in second.decision.message
    third, trainer = timed(tmp_path, "20 s", job_budget="8 s", ckpt_path=second.checkpoint_path)
    assert third.usage.seconds == 20.0 and "of this job" not in third.decision.message
    assert trainer.global_step == 20


def test_money_needs_a_price_at_once():
    with pytest.raises(InputError, match="usd_per_device_hour"):
        stopping("500 USD")


def test_given_speed_turns_time_into_flops_and_both_are_in_the_plan(tmp_path, capsys):
    rate = 6 * N * PER_STEP  # what one step a second makes
    callback, _ = timed(tmp_path, "70 s", peak_flops_per_second=2.5 * rate, mfu=0.4, oversized="stop")
    assert callback.plan.allocation.flops == 70 * rate
    assert callback.stop_reason is StopReason.COMPUTE_OPTIMAL
    assert "peak 2.61e+05 FLOP/s x MFU 0.4 x 1 device" in capsys.readouterr().out


@pytest.mark.parametrize(("budget", "options"), [("70 s", {}), ("7 USD", {"usd_per_device_hour": 360.0})])
def test_speed_is_measured_where_none_is_given_and_the_plan_says_so(tmp_path, capsys, budget, options):
    callback, trainer = timed(tmp_path, budget, oversized="stop", **options)
    printed = capsys.readouterr().out
    first, second = printed.split("plan, at the speed measured over this job's steps 6 to 25")
    assert "not known yet: time and money become FLOPs once a speed is given or measured" in first
    assert "1.04e+05 FLOP/s per device, measured, x 1 device" in second
    assert callback.plan.allocation.flops == 70 * 6 * N * PER_STEP
    assert callback.stop_reason is StopReason.COMPUTE_OPTIMAL
    assert trainer.global_step == -(-callback.plan.target_tokens // PER_STEP) < 70


def test_model_that_the_measured_speed_shows_to_be_oversized_stops_then(tmp_path, capsys):
    callback, trainer = timed(tmp_path, "60 s", oversized="stop", data=loader(batch_size=1))
    assert callback.stop_reason is StopReason.MODEL_OVERSIZED and trainer.global_step == 25
    assert "stop     now, MODEL_OVERSIZED" in capsys.readouterr().out


def test_measured_speed_is_kept_over_a_resume(tmp_path, capsys):
    first, _ = timed(tmp_path, "70 s", job_budget="40 s", oversized="stop")
    target = first.plan.target_tokens
    capsys.readouterr()
    second, _ = timed(tmp_path, "70 s", oversized="stop", ckpt_path=first.checkpoint_path)
    assert second.plan.target_tokens == target and second.stop_reason is StopReason.COMPUTE_OPTIMAL
    assert "FLOP/s per device, measured" in capsys.readouterr().out.split("COMPUTE_OPTIMAL after")[0]


def test_no_speed_is_made_up(tmp_path):
    """Too short for the window: the time limit holds, and no optimum is claimed."""
    callback, trainer = timed(tmp_path, "20 s", oversized="stop")
    assert trainer.global_step == 20 and callback.plan.allocation is None and callback.plan.speed.mfu is None


# ---- validation


def test_validation_has_its_own_counter(tmp_path):
    callback = stopping(2 * C_OPT)
    trainer = train(
        callback, tmp_path, data=loader(80), validation=loader(12), val_check_interval=10, num_sanity_val_steps=2
    )
    usage = callback.usage
    assert usage.validation_tokens == trainer.toy.seen_in_validation.tokens > 0
    assert usage.validation_flops == 2 * N * usage.validation_tokens
    assert usage.flops == 6 * N * usage.tokens
    assert usage.tokens == trainer.toy.seen.tokens


def test_validation_is_paid_for_when_asked(tmp_path):
    limit = 6 * N * 30 * PER_STEP
    free, paid = stopping(limit, oversized="ignore"), stopping(limit, oversized="ignore", count_validation=True)
    counts = []
    for callback in (free, paid):
        trainer = train(callback, tmp_path, data=loader(40), validation=loader(12), val_check_interval=10)
        counts.append(trainer.global_step)
    # a validation is 3 batches at a third of the cost, so 10 steps and a validation cost 11 steps
    assert counts == [30, 28]
    assert free.usage.flops == limit and paid.usage.flops == limit + 6 * N * PER_STEP  # its last validation
