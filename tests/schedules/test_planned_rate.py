"""The rate that is planned, against what torch's schedulers do when they are stepped."""

from __future__ import annotations

import math

import pytest
import torch
from counting import LAW, N
from torch.optim import lr_scheduler as torch_lr

from scalestop.planning.plan import make_plan
from scalestop.planning.rule import StopRule
from scalestop.schedules.budget_lr import BudgetLR, budget_factor
from scalestop.schedules.horizons import Scheduled
from scalestop.schedules.planned_rate import planned_rate

STEPS = 100
PLAN = make_plan(f"{64 * STEPS} tokens", LAW, N, 64, rule=StopRule(oversized="ignore", tolerance=0.0))


def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)


MAKES = {
    "lambda": lambda o: torch_lr.LambdaLR(o, lambda k: 1 / (1 + k)),
    "cosine": lambda o: torch_lr.CosineAnnealingLR(o, T_max=STEPS, eta_min=0.01),
    "linear": lambda o: torch_lr.LinearLR(o, 1.0, 0.1, total_iters=60),
    "constant": lambda o: torch_lr.ConstantLR(o, 0.5, total_iters=20),
    "polynomial": lambda o: torch_lr.PolynomialLR(o, total_iters=80, power=2.0),
    "exponential": lambda o: torch_lr.ExponentialLR(o, 0.97),
    "steps": lambda o: torch_lr.StepLR(o, 30, 0.3),
    "milestones": lambda o: torch_lr.MultiStepLR(o, [20, 70], 0.3),
    "warm-up, then cosine": lambda o: torch_lr.SequentialLR(
        o, [torch_lr.LinearLR(o, 0.1, 1.0, total_iters=10), torch_lr.CosineAnnealingLR(o, T_max=90)], milestones=[10]
    ),
}


@pytest.mark.parametrize("name", MAKES)
@pytest.mark.filterwarnings("ignore:The epoch parameter")
def test_it_is_what_stepping_gives(name):
    stepped = optimizer()
    scheduler = MAKES[name](stepped)
    rate = planned_rate([Scheduled(scheduler, 1)], PLAN)
    for step in range(STEPS):
        assert rate((step + 0.5) / STEPS) == pytest.approx(stepped.param_groups[0]["lr"], rel=1e-6), step
        stepped.step()
        scheduler.step()


def test_a_schedule_that_is_called_every_tenth_step():
    rate = planned_rate([Scheduled(torch_lr.ExponentialLR(optimizer(), 0.5), 10)], PLAN)
    assert rate(0.55) == pytest.approx(0.1 * 0.5**5)


def test_budget_lr_follows_the_run_and_its_own_horizon():
    rate = planned_rate([Scheduled(BudgetLR(optimizer(), warmup=0.1, decay=0.5), 1)], PLAN)
    assert [rate(share) for share in (0.05, 0.3, 0.9)] == [0.1 * budget_factor(u, 0.1, 0.5) for u in (0.05, 0.3, 0.9)]
    longer = BudgetLR(optimizer(), horizon=f"{128 * STEPS} tokens")
    assert planned_rate([Scheduled(longer, 1)], PLAN)(1.0) == 0.1  # half of its way: still on the plateau


@pytest.mark.parametrize(
    "scheduled",
    [
        [],
        [Scheduled(torch_lr.CyclicLR(optimizer(), 0.1, 1.0), 1)],
        [Scheduled(torch_lr.StepLR(optimizer(), 3), math.nan)],
        [Scheduled(torch_lr.StepLR(optimizer(), 3), 1)] * 2,
    ],
)
def test_what_cannot_be_told_is_not(scheduled):
    assert planned_rate(scheduled, PLAN) is None
