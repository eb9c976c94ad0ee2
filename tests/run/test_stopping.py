"""The stop rule as a pure function, and when it has to be asked."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalestop.accounting.meter import Usage
from scalestop.laws import ParametricLaw
from scalestop.laws.base import LawInfo
from scalestop.planning.plan import make_plan
from scalestop.planning.rule import StopReason, StopRule
from scalestop.planning.speed import Speed
from scalestop.run.stopping import StopDecision, decide, steps_to_next_check, tokens_to_next_check

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


def test_a_right_sized_run_is_compute_optimal_whichever_limit_is_met_first():
    """Within the tolerance of D_opt; what went into padding, or waits for a metric, is a spent budget."""
    plan = plan_of(OPTIMAL_FLOPS)
    both = decide(plan, used(10 * OPTIMAL_TOKENS))
    assert both.reason is StopReason.COMPUTE_OPTIMAL and both.counter == "flops" and both.overshoot > 0
    near = math.ceil(0.9 * plan.target_tokens)
    for tokens, reason in ((near, StopReason.COMPUTE_OPTIMAL), (near - 1, StopReason.BUDGET_EXHAUSTED)):
        assert decide(plan, used(10 * OPTIMAL_TOKENS, tokens_non_padding=tokens)).reason is reason
    assert decide(plan, used(10 * OPTIMAL_TOKENS), waiting_for="a metric").reason is StopReason.BUDGET_EXHAUSTED
    small = plan_of(1.3 * OPTIMAL_FLOPS, rule={"undersized": "stop"})
    assert decide(small, used(10 * OPTIMAL_TOKENS)).reason is StopReason.BUDGET_EXHAUSTED


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


@pytest.mark.parametrize(
    ("overshoot", "tokens", "largest", "stops"),
    [
        ("never", 90, 10, False),  # one more ends on the limit and not past it
        ("never", 91, 10, True),
        ("never", 99, 0, False),
        ("never", 99, None, False),
        ("allow", 99, 10, False),
        ("allow", 100, 10, True),
    ],
)
@pytest.mark.parametrize("budget", ["100 tokens", "600000 FLOPs"])
def test_margin_of_100_tokens(overshoot, tokens, largest, stops, budget):
    plan = plan_of(budget, rule={"overshoot": overshoot, "oversized": "ignore", "tolerance": 0.0})
    largest = None if largest is None else used(largest)
    assert decide(plan, used(tokens), largest_step=largest).stop is stops


def test_the_optimum_needs_no_margin():
    """It is a point to reach and nothing to pay for: `never` stops there and not a step early."""
    plan = plan_of(1.05 * OPTIMAL_FLOPS, rule={"overshoot": "never"})
    assert not decide(plan, used(plan.target_tokens - 1), largest_step=used(10)).stop
    assert decide(plan, used(plan.target_tokens), largest_step=used(10)).reason is StopReason.COMPUTE_OPTIMAL


def test_limits_of_job_and_lifetime_read_their_own_counts():
    plan = plan_of("5000 tokens", job_budget="4000 tokens", rule={"oversized": "ignore"})
    assert not decide(plan, used(4999), job_usage=used(3999)).stop
    assert decide(plan, used(5000), job_usage=used(10)).limit == 5000
    assert decide(plan, used(4999), job_usage=used(4000)).limit == 4000
    assert decide(plan, used(4000)).limit == 4000  # all of the run is this job


@pytest.mark.parametrize(
    ("decision", "overshoot"),
    [
        (StopDecision(True, StopReason.TOKEN_LIMIT, "", "tokens", 110, 100), 0.1),
        (StopDecision(True, StopReason.TOKEN_LIMIT, "", "tokens", 90, 100), 0.0),  # as `never` stops
        (StopDecision(True, StopReason.TOKEN_LIMIT, "", "tokens", 0, 100), 0.0),
        (StopDecision(True, StopReason.TOKEN_LIMIT, "", "tokens", None, 100), None),
        (StopDecision(True, StopReason.TOKEN_LIMIT, ""), None),
        (StopDecision(True, StopReason.MODEL_OVERSIZED, "", "num_params", 300, 200), None),
        (StopDecision(False, StopReason.NOT_STOPPED, "", "tokens", 110, 100), None),
    ],
)
def test_overshoot_is_a_share_of_the_limit(decision, overshoot):
    assert decision.overshoot == (None if overshoot is None else pytest.approx(overshoot))


def test_a_decision_is_a_value():
    with pytest.raises(dataclasses.FrozenInstanceError):
        decide(plan_of("1 h"), Usage()).stop = True


# ---- in words


def near(plan):
    """As if drawn from a law with an uncertainty."""
    return dataclasses.replace(plan, target_interval=(14_000.0, 18_000.0))


IGNORE = {"oversized": "ignore"}
PRICED = Speed(usd_per_device_hour=3.0)
RIGHT = plan_of(1.05 * OPTIMAL_FLOPS)
"""1.008e8 FLOPs: N_opt = sqrt(1.008e8 / 6) / 4 = 1025 and D_opt = 16,396 tokens, of which N = 1000 spends 97.6 %."""


@pytest.mark.parametrize(
    ("plan", "usage", "message"),
    [
        (RIGHT, used(8000), "keep training: 48.8% of D_opt, 47.6% of the FLOPs"),
        (plan_of("5000 tokens", rule=IGNORE), used(1000), "keep training: 1k tokens"),
        (
            RIGHT,
            used(16_396),
            "N 1k (total) = 0.976 N_opt is compute-optimal: 16.4k tokens of D_opt 16.4k (100.0%), 9.84e7 FLOPs = 97.6% "
            "of the budget",
        ),
        (
            near(RIGHT),
            used(16_396),
            "N 1k (total) = 0.976 N_opt is compute-optimal: 16.4k tokens of D_opt 16.4k (100.0%) (90 % interval 14k to "
            "18k, stop_at=median), 9.84e7 FLOPs = 97.6% of the budget",
        ),
        (  # four times the compute, so half the size; its own optimum is a little past where the law puts it
            plan_of(4 * OPTIMAL_FLOPS, rule={"undersized": "stop"}),
            used(16_400),
            "N 1k (total) = 0.5 N_opt has its own optimal tokens: 16.4k tokens of D_opt 16k (102.5%), 9.84e7 FLOPs = "
            "25.6% of the budget",
        ),
        (  # 17k tokens at 6 N: 1.02e8 FLOPs, so N_opt 1031 and D_opt 16,492; no budget in FLOPs to take a share of
            plan_of("17000 tokens"),
            used(16_500),
            "N 1k (total) = 0.97 N_opt is compute-optimal: 16.5k tokens of D_opt 16.5k (100.0%), 9.9e7 FLOPs",
        ),
        (
            RIGHT,
            used(20_000),
            "N 1k (total) = 0.976 N_opt is compute-optimal: 20k tokens of D_opt 16.4k (122.0%), 1.2e8 FLOPs = 119.0% "
            "of the budget",
        ),
        (  # the FLOPs went into padding
            RIGHT,
            used(20_000, tokens_non_padding=14_000),
            "1.2e8 FLOPs of the 1.008e8 FLOPs budget (119.0%); N 1k (total) = 0.976 N_opt, 14k tokens of D_opt 16.4k "
            "(85.4%)",
        ),
        (  # and here the rest of it
            RIGHT,
            used(20_000, tokens_non_padding=15_000),
            "N 1k (total) = 0.976 N_opt is compute-optimal: 15k tokens of D_opt 16.4k (91.5%), 1.2e8 FLOPs = 119.0% "
            "of the budget",
        ),
        (  # 5,000 tokens at 6 N: N_opt 559 and D_opt 8,944
            plan_of("5000 tokens", rule=IGNORE),
            used(5500),
            "5.5k tokens of the 5000 tokens budget (110.0%); N 1k (total) = 1.79 N_opt, 5.5k tokens of D_opt 8.94k "
            "(61.5%)",
        ),
        (
            plan_of("90 s", rule=IGNORE),
            used(500, seconds=99.0),
            "1 min 39 s of the 1.5 min budget (110.0%); N 1k (total)",
        ),
        (
            plan_of("2 GPU-hours", speed=PRICED, rule=IGNORE),
            used(500, device_seconds=9000.0),
            "2.5 device-hours of the 2 GPU-hours budget (125.0%); N 1k (total)",
        ),
        (
            plan_of("6 USD", speed=PRICED, rule=IGNORE),
            used(500, device_seconds=9000.0),
            "7.50 USD of the 6 USD budget (125.0%); N 1k (total)",
        ),
        (
            plan_of("1 h", job_budget="400 tokens", rule=IGNORE),
            used(500),
            "500 tokens of the 400 tokens budget of this job (125.0%); N 1k (total)",
        ),
        (  # a hundredth of the compute is a tenth of the size
            plan_of(OPTIMAL_FLOPS / 100),
            used(0),
            "N 1k (total) is more than 2x the compute-optimal 100 for 960000 FLOPs (law toy); the largest model for "
            "this budget is 199; N 1k needs 2.4e7 FLOPs; oversized='warn' trains it all the same",
        ),
    ],
)
def test_a_decision_in_words(plan, usage, message):
    assert decide(plan, usage).message == message


def test_a_model_of_ten_times_the_size_is_held_against_twice_the_optimum():
    decision = decide(plan_of(OPTIMAL_FLOPS / 100), Usage())
    assert (decision.counter, decision.observed, decision.limit) == ("num_params", 1000, pytest.approx(200))


# ---- when to ask


@pytest.mark.parametrize(
    ("overshoot", "taken", "grows", "wait"),
    [
        ("allow", 1000, 10, 45),  # 900 left, in steps of at most 20
        ("never", 1000, 10, 44),  # of which the last 10 are kept
        ("allow", 45, 10, 45),
        ("allow", 44, 10, 44),  # not further than the job has come
        ("allow", 0, 10, 1),
        ("allow", 1000, 451, 1),  # the next one may meet it
        ("allow", 1000, 0, 1),  # nothing known of the steps
    ],
)
@pytest.mark.parametrize("budget", ["1000 tokens", "6000000 FLOPs"])
def test_steps_to_the_next_look_of_1000_tokens_of_which_100_are_used(overshoot, taken, grows, wait, budget):
    plan = plan_of(budget, rule={"oversized": "ignore", "tolerance": 0.0, "overshoot": overshoot})
    assert steps_to_next_check(plan, used(100, optimizer_steps=taken), used(grows)) == wait


@pytest.mark.parametrize(
    ("overshoot", "largest", "left"), [("allow", 10, 900), ("never", 10, 890), ("never", 899, 1), ("never", 950, 1)]
)
@pytest.mark.parametrize("budget", ["1000 tokens", "6000000 FLOPs", "1000 tokens or 5 s", "5 s or 1000 tokens"])
def test_tokens_to_the_next_look_of_1000_of_which_100_are_used(overshoot, largest, left, budget):
    plan = plan_of(budget, rule={"oversized": "ignore", "tolerance": 0.0, "overshoot": overshoot})
    assert tokens_to_next_check(plan, used(100), used(largest)) == left


def test_the_nearer_of_two_limits_is_looked_for():
    rule = {"oversized": "ignore", "tolerance": 0.0}
    for budget in ("1000 tokens or 3000000 FLOPs", "500 tokens or 6000000 FLOPs"):
        plan = plan_of(budget, rule=rule)
        assert tokens_to_next_check(plan, used(100), used(10)) == 400
        assert steps_to_next_check(plan, used(100, optimizer_steps=99), used(10)) == 20


def test_the_limit_of_a_job_is_looked_for_in_its_own_counts():
    """4,000 of the run's 5,000 tokens are used, and 100 of this job's 400: 300 are left."""
    plan = plan_of("5000 tokens", job_budget="400 tokens", rule={"oversized": "ignore", "tolerance": 0.0})
    usage, job = used(4000, optimizer_steps=400), used(100, optimizer_steps=10)
    assert tokens_to_next_check(plan, usage, used(10), job) == 300
    assert steps_to_next_check(plan, usage, used(5), job) == 10
    assert steps_to_next_check(plan, usage, used(50), job) == 3
    assert tokens_to_next_check(plan, used(390, optimizer_steps=39), used(10)) == 10  # all of the run is this job
    assert steps_to_next_check(plan, used(300, optimizer_steps=39), used(10)) == 5
    nearer = plan_of("5000 tokens", job_budget="4000 tokens", rule={"oversized": "ignore", "tolerance": 0.0})
    assert tokens_to_next_check(nearer, used(4900), used(10), job) == 100


def test_the_optimum_is_looked_for_until_it_waits_for_a_metric():
    """16,396 tokens are the optimum and 16,800 the end of the budget."""
    before, there = used(16_000, optimizer_steps=999), used(16_396, optimizer_steps=999)
    assert tokens_to_next_check(RIGHT, before, used(10)) == 396
    assert tokens_to_next_check(RIGHT, there, used(10)) == 404
    assert tokens_to_next_check(RIGHT, used(16_395), used(10)) == 1
    assert steps_to_next_check(RIGHT, before, used(10)) == 19
    assert steps_to_next_check(RIGHT, used(16_395, optimizer_steps=999), used(10)) == 1
    assert steps_to_next_check(RIGHT, there, used(10)) == 20
    never = plan_of(1.05 * OPTIMAL_FLOPS, rule={"overshoot": "never"})
    assert tokens_to_next_check(never, before, used(10)) == 396  # no margin before the optimum
    assert steps_to_next_check(never, before, used(9)) == 22
    assert tokens_to_next_check(never, there, used(10)) == 394


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
