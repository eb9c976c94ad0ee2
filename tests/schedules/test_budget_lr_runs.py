"""The learning rate of real runs, step by step, against progress recounted from the batches themselves."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.tuner import Tuner
from scheduled import PEAK, Rated
from toys import LENGTH, ManualToy, N, ResumableLoader, loader, stopping, train

from scalestop.planning.rule import StopReason
from scalestop.schedules.budget_lr import BudgetLR, budget_factor


class Clock:
    """Time that passes only where the model says so."""

    def __init__(self, seconds_per_batch) -> None:
        self.now, self.seconds_per_batch = 0.0, seconds_per_batch

    def __call__(self) -> float:
        return self.now


# ---- random regimes


@dataclass(frozen=True)
class Regime:
    """How a run is cut into batches, steps and jobs; the rate must not see any of it."""

    number: int

    def __post_init__(self) -> None:
        draw = random.Random(self.number)
        ragged, accumulate, batch_size = draw.random() < 0.7, draw.randint(1, 4), draw.randint(1, 5)
        per_step = batch_size * accumulate * LENGTH * (0.55 if ragged else 1.0)
        tokens = round(per_step * draw.uniform(25, 60))
        padded_tokens = round(tokens * draw.uniform(0.6, 2.0))
        flops = f"{6 * N * padded_tokens} FLOPs"
        warmup = draw.choice([0.0, 0.05, 0.2])
        facts = {
            "ragged": ragged,
            "accumulate": accumulate,
            "batch_size": batch_size,
            "rows": draw.randint(batch_size * accumulate, 300),
            "tokens": tokens,
            "flops": 6 * N * padded_tokens,
            "budget": draw.choice([[f"{tokens} tokens"], [flops], [f"{tokens} tokens", flops]]),
            "overshoot": draw.choice(["allow", "allow", "never"]),
            "resume_after": draw.choice([None, draw.uniform(0.05, 0.95)]),
            "schedule": {
                "warmup": warmup,
                "decay": draw.choice([0.1, 0.3, 0.5, 1 - warmup]),
                "shape": draw.choice(["1-sqrt", "linear", "cosine", "square"]),
                "floor": draw.choice([0.0, 0.1]),
            },
        }
        for name, value in facts.items():
            object.__setattr__(self, name, value)

    def progress(self, tokens: int, non_padding: int) -> float:
        """Share of the nearest limit, from what the model itself counted."""
        shares = []
        if any("tokens" in limit for limit in self.budget):
            shares.append(non_padding / self.tokens)
        if any("FLOPs" in limit for limit in self.budget):
            shares.append(6 * N * tokens / self.flops)
        return max(shares)

    def factor(self, progress: float) -> float:
        return budget_factor(progress, **self.schedule)

    def run(self, folder) -> tuple[list[float], list[tuple[int, int]], float, object]:
        """Return each step's rate and the counts before it, with those at the end; the last rate; and the callback."""
        torch.manual_seed(self.number)
        data = {"batch_size": self.batch_size, "ragged": self.ragged, "kind": ResumableLoader}
        rates, counts, seen, path = [], [], (0, 0), None
        jobs = (
            [None] if self.resume_after is None else [f"{max(1, round(self.tokens * self.resume_after))} tokens", None]
        )
        for job in jobs:
            model = Rated(start=seen, **self.schedule)
            callback = stopping(
                self.budget, tolerance=0.0, oversized="ignore", overshoot=self.overshoot, job_budget=job
            )
            trainer = train(
                callback,
                folder,
                model,
                loader(self.rows, **data),
                ckpt_path=path,
                accumulate_grad_batches=self.accumulate,
            )
            rates += model.rates
            counts += model.before
            seen, path = model.stepped_at, callback.checkpoint_path
            if callback.decision.limit is not None and " of this job" not in callback.decision.message:
                break
        return rates, [*counts, seen], trainer.optimizers[0].param_groups[0]["lr"], callback


@pytest.mark.parametrize("number", [pytest.param(i, marks=[pytest.mark.slow] if i >= 20 else []) for i in range(100)])
def test_rate_follows_progress_alone_and_ends_at_its_floor(tmp_path, number):
    regime = Regime(number)
    rates, counts, left, callback = regime.run(tmp_path)
    moments, seen = [regime.progress(*count) for count in counts], [tokens for tokens, _ in counts]
    assert len(rates) == callback.usage.optimizer_steps >= 10
    for rate, moment in zip(rates, moments, strict=False):
        assert rate == pytest.approx(PEAK * regime.factor(moment), rel=1e-9, abs=1e-15)
    end = moments[-1]
    longest = max(later - earlier for earlier, later in itertools.pairwise(moments))
    if end < 1:  # one more step, as large as the largest with all its padding, would have gone too far
        assert regime.overshoot == "never"
        largest = max(later - earlier for earlier, later in itertools.pairwise(seen))
        longest = regime.progress(largest, largest)
        assert end + longest > 1
    else:
        assert left == pytest.approx(PEAK * regime.schedule["floor"], abs=1e-15)
    assert left <= PEAK * regime.factor(1 - longest) * (1 + 1e-9)
    assert rates[-1] <= PEAK * regime.factor(1 - (2 if end < 1 else 1) * longest) * (1 + 1e-9)


# ---- limits in time


def slower_later(step: int) -> float:
    return 1.0 if step < 30 else 4.0


def test_a_time_limit_is_met_at_the_floor_though_throughput_drops(tmp_path):
    clock = Clock(slower_later)
    model = Rated(clock, decay=0.3, shape="linear")
    callback = stopping("100 s", clock=clock)
    train(callback, tmp_path, model, log_every_n_steps=1000, enable_checkpointing=False)
    elapsed = [float(min(step, 30) + 4 * max(0, step - 30)) for step in range(len(model.rates) + 1)]
    assert callback.stop_reason is StopReason.TIME_LIMIT
    assert elapsed[-2] < 100 <= elapsed[-1]  # the first step at or past the limit
    expected = [PEAK * budget_factor(seconds / 100, decay=0.3, shape="linear") for seconds in elapsed]
    assert [*model.rates, model.trainer.optimizers[0].param_groups[0]["lr"]] == pytest.approx(expected)
    # at 1 s a step throughout it would have been decaying from step 70 on; the slow steps took its place
    assert sum(rate < PEAK for rate in model.rates[10:]) == pytest.approx(30 / 4, abs=1)


def test_device_hours_are_a_clock_as_well(tmp_path):
    clock = Clock(lambda step: 2.0)
    model = Rated(clock, decay=0.5, shape="linear")
    callback = stopping(f"{100 / 3600} GPU-hours", clock=clock)
    train(callback, tmp_path, model, log_every_n_steps=1000, enable_checkpointing=False)
    assert callback.stop_reason is StopReason.DEVICE_TIME_LIMIT and len(model.rates) == 50
    assert model.rates[38] == pytest.approx(PEAK * (1 - 2 * (0.76 - 0.5)))


def test_an_optimum_that_a_measured_speed_brings_nearer_is_met_at_the_floor(tmp_path):
    """Time alone says nothing of D_opt; once the speed is known it lies far before the end of the time."""
    clock = Clock(lambda step: 1.0)
    model = Rated(clock, decay=0.3, shape="linear")
    # 64 tokens a second: D_opt = 4,352 tokens after 68 steps, and 75 s would do for 4,800
    callback = stopping("75 s", clock=clock, tolerance=0.2)
    train(callback, tmp_path, model, log_every_n_steps=1000, enable_checkpointing=False)
    target = callback.plan.target_tokens
    assert callback.stop_reason is StopReason.COMPUTE_OPTIMAL and target < 75 * 64
    assert callback.usage.tokens - 64 < target <= callback.usage.tokens
    decaying = [
        (rate, 64 * step / target) for step, rate in enumerate(model.rates) if step > 10 and rate < PEAK * (1 - 1e-12)
    ]
    assert decaying[0][1] == pytest.approx(0.7, abs=2 * 64 / target)
    for rate, share in decaying:
        assert rate == pytest.approx(PEAK * budget_factor(share, decay=0.3, shape="linear"))
    assert model.trainer.optimizers[0].param_groups[0]["lr"] == 0.0


def test_a_long_step_at_the_end_still_stops_on_the_exact_step(tmp_path):
    clock = Clock(lambda step: 1.0 if step < 95 else 50.0)
    model = Rated(clock)
    callback = stopping("100 s", clock=clock)
    train(callback, tmp_path, model, log_every_n_steps=1000, enable_checkpointing=False)
    assert len(model.rates) == 96 and model.trainer.optimizers[0].param_groups[0]["lr"] == 0.0
    assert model.rates[-1] == pytest.approx(PEAK * budget_factor(0.95))


# ---- resumes and budgets that change


def test_a_raised_budget_takes_the_rate_back_to_the_plateau(tmp_path):
    first = stopping("640 tokens", tolerance=0.0, oversized="ignore")
    train(first, tmp_path, Rated(warmup=0.1), loader(kind=ResumableLoader))
    saved = torch.load(first.checkpoint_path, weights_only=True)
    assert saved["lr_schedulers"][0]["progress"] == 1.0
    assert saved["optimizer_states"][0]["param_groups"][0]["lr"] == 0.0  # the file holds the rate the run ended with
    model = Rated(warmup=0.1)
    second = stopping("12800 tokens", tolerance=0.0, oversized="ignore")
    train(second, tmp_path, model, loader(kind=ResumableLoader), ckpt_path=first.checkpoint_path)
    expected = [PEAK * budget_factor(64 * step / 12800, warmup=0.0) for step in range(10, 200)]
    assert model.rates == pytest.approx(expected)  # 5 % of the way, where a fresh run would still be warming up
    assert second.usage.tokens == 12800 and model.trainer.optimizers[0].param_groups[0]["lr"] == 0.0


def test_the_stop_may_come_before_the_horizon(tmp_path):
    model = Rated(horizon="6400 tokens", decay=0.5, shape="linear")
    callback = stopping("4800 tokens", tolerance=0.0, oversized="ignore")
    train(callback, tmp_path, model)
    assert callback.usage.tokens == 4800
    expected = [PEAK * budget_factor(step / 100, decay=0.5, shape="linear") for step in range(75)]
    assert model.rates == pytest.approx(expected) and model.rates[-1] == pytest.approx(0.52 * PEAK)
    assert any("the learning rate will not have decayed at the stop" in line for line in callback.plan.warnings)


def test_two_callbacks_and_the_nearer_stop_counts(tmp_path):
    near = stopping("3200 tokens", tolerance=0.0, oversized="ignore", name="near")
    far = stopping("9600 tokens", tolerance=0.0, oversized="ignore", name="far")
    for order in ([near, far], [far, near]):
        model = Rated()
        train(order, tmp_path, model)
        assert len(model.rates) == 50
        assert model.rates[-1] == pytest.approx(PEAK * budget_factor(0.98))


# ---- other ways to train


class TwoByHand(ManualToy):
    def configure_optimizers(self):
        optimizers = super().configure_optimizers()
        return optimizers, [BudgetLR(optimizer, decay=0.5, shape="linear") for optimizer in optimizers]


def test_manual_optimization_with_two_optimizers(tmp_path):
    model = TwoByHand(every=2)
    callback = stopping("3200 tokens", tolerance=0.0, oversized="ignore")
    train(callback, tmp_path, model, loader(40), enable_checkpointing=False)
    assert callback.usage.tokens == 3200 and callback.usage.optimizer_steps == 25
    assert [o.param_groups[0]["lr"] for o in model.trainer.optimizers] == [0.0, 0.0]
    assert [s.progress for s in model.lr_schedulers()] == [1.0, 1.0]


def test_lightnings_rate_finder_is_left_alone(tmp_path):
    options = {"accelerator": "cpu", "logger": False, "default_root_dir": tmp_path, "enable_progress_bar": False}
    trainer = pl.Trainer(max_epochs=-1, callbacks=[stopping(record=False)], **options)
    model = Rated()
    model.on_before_optimizer_step = lambda optimizer: None
    found = Tuner(trainer).lr_find(model, loader(), num_training=20)
    assert len(found.results["lr"]) >= 15 and found.results["lr"][-1] > 0.01
