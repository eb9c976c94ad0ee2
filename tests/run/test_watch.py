"""The watch on one rank: the count is always known, so it looks where a limit could be met and nowhere else."""

from __future__ import annotations

import random

import pytest
from counting import LAW, Clock, N, count, plan_of

from scalestop.accounting.meter import Meter
from scalestop.accounting.tokens import TokenAccumulator, TokenCount
from scalestop.planning.plan import make_plan
from scalestop.planning.rule import StopReason, StopRule
from scalestop.run.watch import RunWatch


def test_one_rank_stops_on_the_exact_step_whatever_the_steps_do():
    for seed in range(100):
        rng = random.Random(seed)
        limit = rng.randint(1, 30_000)
        watch = RunWatch(Meter(6 * N), TokenAccumulator(), Clock())
        plan = plan_of(f"{limit} tokens")
        watch.start()
        watch.look(plan)
        total = looks = 0
        while not watch.decision.stop:
            assert total < limit
            tokens = rng.choice([0, 1, rng.randint(0, 50), rng.randint(0, 3000)])
            total += tokens
            if watch.end_batch(count(tokens), stepped=True):
                looks += 1
                watch.look(plan)
        assert total >= limit and watch.usage.tokens == total
        assert watch.reductions == 0 and looks <= 2 and watch.late_by is None


def test_never_on_one_rank_stops_where_looking_at_every_step_would():
    """The margin is the largest step so far; one that grows between two looks moves the stop."""
    for seed in range(100):
        rng = random.Random(seed)
        limit = rng.randint(1000, 30_000)
        watch = RunWatch(Meter(6 * N), TokenAccumulator(), Clock())
        plan = plan_of(f"{limit} tokens", "never")
        watch.start()
        watch.look(plan)
        total = largest = 0
        while not watch.decision.stop:
            assert not largest or total + largest <= limit, f"seed {seed}"
            tokens = rng.randint(1, 40) if rng.random() < 0.97 else rng.randint(100, 900)
            total, largest = total + tokens, max(largest, tokens)
            if watch.end_batch(count(tokens), stepped=True):
                watch.look(plan)
        assert total + largest > limit


def test_padding_on_one_rank_costs_looks_but_no_exactness():
    """The threshold is on processed tokens; padding makes it come early, never late."""
    watch = RunWatch(Meter(6 * N), TokenAccumulator(), Clock())
    plan = plan_of("10007 tokens")
    watch.start()
    watch.look(plan)
    real = looks = 0
    while not watch.decision.stop:
        real += 3
        if watch.end_batch(TokenCount(10, 3, 3, 1), stepped=True):
            looks += 1
            watch.look(plan)
    assert real == 10_008 and looks < 60


@pytest.mark.parametrize(("overshoot", "expected"), [("allow", 61.0), ("never", 58.0)])
def test_wall_time_on_one_rank(overshoot, expected):
    """Steps of 1 s and, past the middle, one of 3 s (a validation run, say): the margin of `never` follows it."""
    clock = Clock()
    watch = RunWatch(Meter(6 * N), TokenAccumulator(), clock)
    plan = plan_of("60.5 s", overshoot)
    watch.start()
    watch.look(plan)
    while not watch.decision.stop:
        clock.now += 3.0 if watch.meter.optimizer_steps == 30 else 1.0
        if watch.end_batch(count(1), stepped=True):
            watch.look(plan)
    assert watch.decision.reason is StopReason.TIME_LIMIT
    assert watch.usage.seconds == expected


def test_time_before_the_start_and_between_fits_is_no_training():
    clock = Clock()
    watch = RunWatch(Meter(6 * N), TokenAccumulator(), clock)
    clock.now += 50
    watch.start()
    clock.now += 2
    watch.sync()
    clock.now += 70
    watch.start()
    clock.now += 3
    assert watch.sync().seconds == 5.0


def test_job_limit_starts_where_the_run_was_taken_up():
    meter = Meter(6 * N)
    meter.add(900)
    watch = RunWatch(meter, TokenAccumulator(), Clock())
    plan = make_plan("10000 tokens", LAW, N, job_budget="50 tokens", rule=StopRule(oversized="ignore", tolerance=0.0))
    watch.start()
    watch.look(plan)
    steps = 0
    while not watch.decision.stop:
        steps += 1
        if watch.end_batch(count(10), stepped=True):
            watch.look(plan)
    assert steps == 5 and "of this job" in watch.decision.message


def test_goodput_is_the_share_of_time_in_training_steps():
    clock = Clock()
    watch = RunWatch(Meter(6 * N), TokenAccumulator(), clock)
    watch.start()
    assert watch.goodput is None
    for _ in range(4):
        clock.now += 1.0  # waiting for data
        watch.begin_batch()
        clock.now += 3.0
        watch.end_batch(count(1), stepped=True)
    assert watch.goodput == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("readings", "seconds"),
    [
        ([10.0, 11.0, 13.0], 3.0),
        ([10.0, 11.0, 5.0, 6.0], 2.0),  # stepped back by six, and went on
        ([10.0, 11.0, 5.0, 5.0, 4.0, 6.0], 3.0),
        ([10.0, float("nan"), 12.0], 2.0),
        ([10.0, float("inf"), float("-inf"), 12.0], 2.0),
        ([float("nan"), float("nan"), 500.0, 501.5], 1.5),  # it begins with its first reading
        ([float("nan")] * 5, 0.0),
    ],
)
def test_a_clock_that_steps_back_or_is_no_number_costs_no_count(readings, seconds):
    left = list(readings)
    watch = RunWatch(Meter(6 * N), TokenAccumulator(), lambda: left.pop(0) if len(left) > 1 else left[0])
    plan = plan_of("100000 tokens or 1000 h")
    watch.start()
    watch.look(plan)
    for i in range(20):
        watch.begin_batch()
        if watch.end_batch(count(10), stepped=True):
            watch.look(plan)
        assert watch.meter.tokens_added == 10 * (i + 1)
    usage = watch.sync()
    assert (not watch.decision.stop and watch.goodput is None) or 0 <= watch.goodput <= 1
    assert 0 <= usage.seconds <= seconds and usage.tokens == 200
    state = watch.state_dict(lambda values: values)
    Meter(6 * N).load_state_dict(state["meter"])


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), float("-inf")])
def test_time_is_that_between_good_readings(odd):
    times = iter([0.0, *[0.0] * 3, odd, *[t / 10 for t in range(1, 1000)]])
    watch = RunWatch(Meter(6 * N), TokenAccumulator(), lambda: next(times))
    watch.start()
    before = watch.sync().seconds
    for _ in range(30):
        watch.begin_batch()
        watch.end_batch(count(10), stepped=True)
    passed = watch.sync().seconds - before
    assert passed == pytest.approx(6.0, abs=0.4)
