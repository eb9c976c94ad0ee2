"""A plan, a batch's count and a clock, for tests of the watch; no Lightning in here."""

from __future__ import annotations

from scalestop.accounting.tokens import TokenCount
from scalestop.laws import ParametricLaw
from scalestop.laws.base import LawInfo
from scalestop.planning.plan import make_plan
from scalestop.planning.rule import StopRule

LAW = ParametricLaw(LawInfo("toy", "total", "made up"), E=1.0, A=50.0, B=200.0, alpha=0.5, beta=0.5)
N = 100


def plan_of(budget, overshoot="allow", tokens_per_step=None):
    rule = StopRule(oversized="ignore", tolerance=0.0, overshoot=overshoot)
    return make_plan(budget, LAW, N, tokens_per_step, rule=rule)


def count(tokens: int) -> TokenCount:
    return TokenCount(tokens, tokens, tokens, 1)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now
