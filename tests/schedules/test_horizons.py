"""Schedules of the user's own: where they end against where the run stops, in real runs."""

from __future__ import annotations

import warnings
from functools import partial

import pytest
import torch
from scheduled import BUDGET, STOP, Own, cosine
from torch.optim import lr_scheduler as torch_lr
from toys import N, Stream, loader, stopping, train

from scalestop.errors import ScalestopWarning
from scalestop.schedules.budget_lr import BudgetLR
from scalestop.schedules.horizons import Scheduled, planned_steps


def warm(optimizer, steps=5):
    return torch_lr.LinearLR(optimizer, 0.1, total_iters=steps)


def sequence(*parts, milestones):
    def make(optimizer):
        return torch_lr.SequentialLR(optimizer, [part(optimizer) for part in parts], milestones)

    return make


def chain(*parts):
    return lambda optimizer: torch_lr.ChainedScheduler([part(optimizer) for part in parts])


def from_transformers(name, **options):
    def make(optimizer):
        from transformers import optimization

        return getattr(optimization, name)(optimizer, **options)

    return make


MADE_FOR = [
    (cosine(150), "CosineAnnealingLR", 150),
    (partial(torch_lr.OneCycleLR, max_lr=0.1, total_steps=80), "OneCycleLR", 80),
    (partial(torch_lr.OneCycleLR, max_lr=0.1, epochs=3, steps_per_epoch=25), "OneCycleLR", 75),
    (partial(torch_lr.LinearLR, start_factor=1.0, end_factor=0.0, total_iters=30), "LinearLR", 30),
    (partial(torch_lr.PolynomialLR, total_iters=200), "PolynomialLR", 200),
    (sequence(warm, cosine(100), milestones=[5]), "SequentialLR", 105),
    (sequence(warm, partial(torch_lr.ConstantLR, factor=1.0), cosine(60), milestones=[5, 20]), "SequentialLR", 80),
    (chain(warm, cosine(70)), "ChainedScheduler", 70),
    (
        from_transformers("get_cosine_schedule_with_warmup", num_warmup_steps=5, num_training_steps=300),
        "LambdaLR",
        300,
    ),
    (
        from_transformers("get_linear_schedule_with_warmup", num_warmup_steps=5, num_training_steps=25),
        "LambdaLR",
        25,
    ),
    (
        from_transformers("get_wsd_schedule", num_warmup_steps=5, num_stable_steps=85, num_decay_steps=10),
        "LambdaLR",
        100,
    ),
]


@pytest.mark.parametrize(("make", "name", "steps"), MADE_FOR, ids=[f"{name}-{steps}" for _, name, steps in MADE_FOR])
def test_another_horizon_is_named_with_both_numbers(tmp_path, make, name, steps):
    callback = stopping(BUDGET, tolerance=0.0, oversized="ignore", record=False)
    message = f"{name} is made for {steps} steps, the run stops at about {STOP}: the learning rate will not end where"
    with pytest.warns(ScalestopWarning, match=message) as caught:
        train(callback, tmp_path, Own(make), enable_checkpointing=False)
    assert len([w for w in caught if "is made for" in str(w.message)]) == 1


SILENT = {
    "exact": cosine(STOP),
    "within 5 %": cosine(STOP + 2),
    "restarts": partial(torch_lr.CosineAnnealingWarmRestarts, T_0=7),
    "warm-up only": warm,
    "sequence to the end": sequence(warm, cosine(STOP - 5), milestones=[5]),
    "hidden": partial(torch_lr.LambdaLR, lr_lambda=lambda step: 1.0),
    "by steps": partial(torch_lr.StepLR, step_size=10),
    "constant": partial(torch_lr.ConstantLR, factor=0.5, total_iters=500),
    "none": lambda optimizer: None,
    "transformers, exact": from_transformers(
        "get_cosine_schedule_with_warmup", num_warmup_steps=5, num_training_steps=STOP
    ),
    "transformers, no horizon": from_transformers("get_constant_schedule_with_warmup", num_warmup_steps=5),
}


@pytest.mark.parametrize("make", SILENT.values(), ids=SILENT.keys())
def test_the_same_horizon_or_none_is_not_named(tmp_path, make):
    callback = stopping(BUDGET, tolerance=0.0, oversized="ignore", record=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScalestopWarning)
        train(callback, tmp_path, Own(make), enable_checkpointing=False)
    assert callback.usage.optimizer_steps == STOP


@pytest.mark.parametrize(
    ("config", "options", "calls"),
    [
        ({"interval": "step"}, {}, 50),
        ({"interval": "step", "frequency": 5}, {}, 10),
        ({"interval": "step", "frequency": 2}, {"accumulate_grad_batches": 4}, 50),
        ({"interval": "step", "frequency": 6}, {"accumulate_grad_batches": 4}, 50 / 3),
        ({"interval": "epoch"}, {}, 5),
        ({"interval": "epoch", "frequency": 2}, {}, 2.5),
        ({"interval": "epoch"}, {"accumulate_grad_batches": 4}, 50 / 3),
    ],
)
def test_steps_are_told_from_calls_as_lightning_makes_them(tmp_path, config, options, calls):
    """A cosine of a hundred calls against the calls that the Trainer was really seen to make in the run's 50 steps."""
    accumulate = options.get("accumulate_grad_batches", 1)
    made = []

    class Counted(torch_lr.CosineAnnealingLR):
        def step(self, epoch=None):
            made.append(1)
            super().step(epoch)

    callback = stopping(f"{64 * STOP * accumulate} tokens", tolerance=0.0, oversized="ignore", record=False)
    per_call = STOP / calls
    model = Own(partial(Counted, T_max=100), **config)
    data = loader(40 if accumulate == 1 else 48)  # 10 steps an epoch, or 3
    with pytest.warns(ScalestopWarning, match=f"Counted is made for {round(100 * per_call):,} steps, the run stops at"):
        train(callback, tmp_path, model, data, enable_checkpointing=False, **options)
    assert callback.usage.optimizer_steps == STOP
    assert len(made) - 1 == pytest.approx(calls, abs=1)  # one more when it was made


def test_data_without_a_length_is_named_after_the_first_step(tmp_path):
    callback = stopping(BUDGET, tolerance=0.0, oversized="ignore", record=False)
    with pytest.warns(ScalestopWarning, match="CosineAnnealingLR is made for 150 steps, the run stops at about 50"):
        train(callback, tmp_path, Own(cosine(150)), Stream(), enable_checkpointing=False)


def test_the_end_of_a_job_is_not_the_end_of_the_run(tmp_path):
    options = {"tolerance": 0.0, "oversized": "ignore", "record": False}
    callback = stopping(BUDGET, job_budget=f"{64 * 5} tokens", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScalestopWarning)
        train(callback, tmp_path, Own(cosine(STOP)), enable_checkpointing=False)
    assert callback.usage.optimizer_steps == 5
    assert not any("decayed" in line for line in callback.plan.warnings)


def test_a_horizon_before_the_stop_is_named(tmp_path):
    callback = stopping(BUDGET, tolerance=0.0, oversized="ignore", record=False)
    model = Own(partial(BudgetLR, horizon=f"{6 * N * 1600} FLOPs"))
    with pytest.warns(
        ScalestopWarning, match=r"BudgetLR's horizon .* is reached at 1.6k tokens, the run stops at 3.2k"
    ):
        train(callback, tmp_path, model, enable_checkpointing=False)


def test_waiting_for_a_metric_with_no_rate_left_is_named(tmp_path):
    callback = stopping(until={"train_loss": "<= 100"}, record=False)
    with pytest.warns(ScalestopWarning, match="BudgetLR's rate is 0, so a metric that is not good enough .* a floor"):
        train(callback, tmp_path, Own(BudgetLR), enable_checkpointing=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScalestopWarning)
        fine = stopping(until={"train_loss": "<= 100"}, record=False)
        train(fine, tmp_path, Own(partial(BudgetLR, floor=0.1)), enable_checkpointing=False)


def test_numbers_of_any_kind_are_steps():
    import numpy as np

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    made = torch_lr.CosineAnnealingLR(optimizer, T_max=np.int64(40))
    assert planned_steps(Scheduled(made, 2.0)) == 80
    assert planned_steps(Scheduled(made, float("inf"))) is None
    assert planned_steps(Scheduled(made, float("nan"))) is None
