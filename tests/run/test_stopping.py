"""The stop rule as a pure function, and when it has to be asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalestop.accounting.meter import Usage
from scalestop.laws import ParametricLaw
from scalestop.laws.base import LawInfo
from scalestop.planning.plan import make_plan
from scalestop.planning.rule import StopReason, StopRule
from scalestop.planning.speed import Speed
from scalestop.run.stopping import decide, steps_to_next_check, tokens_to_next_check

LAW = ParametricLaw(LawInfo("toy", "total", "made up"), E=1.0, A=50.0, B=200.0, alpha=0.5, beta=0.5)
N = 1000
OPTIMAL_TOKENS = round(LAW.optimal_tokens(N))  # 16 per parameter
OPTIMAL_FLOPS = 6 * N * OPTIMAL_TOKENS


def used(tokens: int, **more) -> Usage:
    return Usage(**{"tokens": tokens, "tokens_non_padding": tokens, "flops": 6 * N * tokens, **more})


def plan_of(budget, **options):
    rule = StopRule(**options.pop("rule", {}))
    return make_plan(budget, LAW, N, options.pop("tokens_per_step", None), rule=rule, **options)


def test_optimal_point_ends_a_right_sized_run_and_not_one_token_before():
    plan = plan_of(1.05 * OPTIMAL_FLOPS)
    target = plan.target_tokens
    assert not decide(plan, used(target - 1)).stop
    decision = decide(plan, used(target))
    assert decision.stop and decision.reason is StopReason.COMPUTE_OPTIMAL
    assert (decision.counter, decision.observed, decision.limit) == ("tokens_non_padding", target, target)
    assert decision.overshoot == 0.0


def test_padding_spends_the_budget_but_does_not_reach_the_optimum():
    plan = plan_of(1.05 * OPTIMAL_FLOPS)
    padded = Usage(tokens=plan.target_tokens, tokens_non_padding=plan.target_tokens // 2, flops=OPTIMAL_FLOPS)
    assert not decide(plan, padded).stop
    spent = Usage(tokens=10**9, tokens_non_padding=plan.target_tokens // 2, flops=plan.flops_limit)
    assert decide(plan, spent).reason is StopReason.BUDGET_EXHAUSTED


def test_spent_budget_comes_before_the_optimum_when_both_are_met():
    plan = plan_of(OPTIMAL_FLOPS)
    assert decide(plan, used(10 * OPTIMAL_TOKENS)).reason is StopReason.BUDGET_EXHAUSTED


def test_oversized_model_is_refused_before_its_first_token():
    plan = plan_of(OPTIMAL_FLOPS / 100)
    decision = decide(plan, Usage())
    assert decision.stop and decision.reason is StopReason.MODEL_OVERSIZED
    assert decision.observed == N and decision.overshoot is None
    for choice in ("warn", "ignore"):
        assert not decide(plan_of(OPTIMAL_FLOPS / 100, rule={"oversized": choice}), Usage()).stop


@pytest.mark.parametrize(
    ("budget", "usage", "reason"),
    [
        ("1e30 FLOPs or 5000 tokens", used(5000), StopReason.TOKEN_LIMIT),
        ("1e30 FLOPs or 2 GPU-hours", used(10, seconds=3600, device_seconds=7200), StopReason.DEVICE_TIME_LIMIT),
        ("1e30 FLOPs or 1 h", used(10, seconds=3600, device_seconds=7200), StopReason.TIME_LIMIT),
        ("1e30 FLOPs or 6 USD", used(10, seconds=3600, device_seconds=7200), StopReason.COST_LIMIT),
    ],
)
def test_first_of_several_limits_stops_and_is_named(budget, usage, reason):
    plan = plan_of(budget, speed=Speed(usd_per_device_hour=3.0))
    decision = decide(plan, usage)
    assert decision.stop and decision.reason is reason
    assert budget.split(" or ")[1] in decision.message
    below = Usage(**{**vars(usage), "tokens_non_padding": 4999, "seconds": 3599.9, "device_seconds": 7199.9})
    assert not decide(plan, below).stop


def test_money_is_reported_as_money():
    plan = plan_of("6 USD", speed=Speed(usd_per_device_hour=3.0))
    decision = decide(plan, used(10, device_seconds=7300))
    assert "6.08 USD of the 6 USD budget" in decision.message


def test_job_limit_counts_the_job_alone():
    plan = plan_of(1e30, job_budget="4000 tokens")
    old = used(100_000)
    assert not decide(plan, old, job_usage=used(3999)).stop
    decision = decide(plan, old, job_usage=used(4000))
    assert decision.reason is StopReason.TOKEN_LIMIT and "of this job" in decision.message


def test_gate_holds_back_the_optimum_and_nothing_else():
    plan = plan_of(1.05 * OPTIMAL_FLOPS)
    waiting = "val_accuracy >= 0.4 (now 0.2)"
    held = decide(plan, used(plan.target_tokens), waiting_for=waiting)
    assert not held.stop and f"waiting for {waiting}" in held.message
    hard = decide(plan, used(2 * plan.target_tokens), waiting_for=waiting)
    assert hard.stop and hard.reason is StopReason.BUDGET_EXHAUSTED


@given(limit=st.integers(1, 10**5), steps=st.lists(st.integers(1, 500), min_size=1, max_size=200))
def test_never_does_not_exceed_while_steps_stay_within_the_largest_seen(limit, steps):
    """`largest_step` bounds the next step, so stopping where one more would pass the limit never passes it."""
    plan = plan_of(f"{limit} tokens", rule={"overshoot": "never", "oversized": "ignore"})
    bound = max(steps)
    tokens = 0
    for step in steps:
        if decide(plan, used(tokens), largest_step=used(bound)).stop:
            break
        tokens += step
        assert tokens <= limit
    else:
        assert tokens + 0 <= limit  # ended by the data, still within


@given(limit=st.integers(1, 10**5), steps=st.lists(st.integers(1, 500), min_size=1, max_size=200))
def test_allow_stops_at_the_first_step_at_or_past_the_limit(limit, steps):
    plan = plan_of(f"{limit} tokens", rule={"oversized": "ignore", "undersized": "continue", "tolerance": 0.0})
    tokens = 0
    for step in steps:
        assert not decide(plan, used(tokens)).stop
        tokens += step
        if decide(plan, used(tokens)).stop:
            assert tokens - step < limit <= tokens
            break


def test_exact_beyond_floats():
    """At 2**60 tokens a float cannot tell one token from its neighbour; the rule must."""
    limit = 2**60 + 1
    plan = plan_of(f"{limit} tokens", rule={"oversized": "ignore", "tolerance": 0.0})
    assert not decide(plan, Usage(tokens=limit - 1, tokens_non_padding=limit - 1)).stop
    assert decide(plan, Usage(tokens=limit, tokens_non_padding=limit)).stop


# ---- when to ask


@given(
    taken=st.integers(0, 10**6),
    tokens=st.integers(0, 10**6),
    largest=st.integers(1, 10**4),
    limit=st.integers(1, 10**6),
    never=st.booleans(),
)
def test_no_limit_can_be_met_before_the_next_check(taken, tokens, largest, limit, never):
    """Not even if every step until then is twice the largest known one."""
    rule = {"overshoot": "never" if never else "allow", "oversized": "ignore"}
    plan = plan_of(f"{limit} tokens", rule=rule)
    usage = used(tokens, optimizer_steps=taken)
    if decide(plan, usage, largest_step=used(largest)).stop:
        return
    wait = steps_to_next_check(plan, usage, used(largest))
    assert 1 <= wait <= max(1, taken)
    worst = used(tokens + 2 * largest * (wait - 1))
    assert not decide(plan, worst, largest_step=used(largest)).stop


def test_growth_early_in_a_job_is_seen_whatever_the_run_took_before():
    """A resumed run may come with larger batches: the checks start close together again."""
    plan = plan_of("1e9 tokens", rule={"oversized": "ignore"})
    old = used(10_000, optimizer_steps=10_000)
    assert steps_to_next_check(plan, old, used(1), old) == 10_000
    assert steps_to_next_check(plan, old, used(1), Usage()) == 1


@given(tokens=st.integers(0, 10**6), limit=st.integers(1, 10**6), largest=st.integers(0, 1000), never=st.booleans())
def test_tokens_to_next_check_is_where_the_decision_changes(tokens, limit, largest, never):
    rule = {"overshoot": "never" if never else "allow", "oversized": "ignore", "tolerance": 0.0}
    plan = plan_of(f"{limit} tokens", rule=rule)
    if decide(plan, used(tokens), largest_step=used(largest)).stop:
        return
    left = tokens_to_next_check(plan, used(tokens), used(largest))
    assert left >= 1
    assert not decide(plan, used(tokens + left - 1), largest_step=used(largest)).stop
    assert decide(plan, used(tokens + left + 1), largest_step=used(largest)).stop


def test_flops_limit_is_translated_to_tokens_exactly():
    plan = plan_of(6 * N * 100 + 1, rule={"oversized": "ignore"})
    assert tokens_to_next_check(plan, used(0), Usage()) == 101
    assert not decide(plan, used(100)).stop and decide(plan, used(101)).stop


def test_limits_in_time_ask_for_no_tokens():
    plan = plan_of("1h")
    assert tokens_to_next_check(plan, Usage(), Usage()) is None
    assert steps_to_next_check(plan, Usage(optimizer_steps=500), Usage(seconds=1.0)) == 500
    assert steps_to_next_check(plan, Usage(optimizer_steps=10**6), Usage(seconds=1.0)) == 1800
