"""The watch on one rank: the count is always known, so it looks where a limit could be met and nowhere else."""

from __future__ import annotations

import random

import pytest
import torch
from counting import LAW, Clock, N, count, plan_of

from scalestop.accounting.meter import Meter, Usage
from scalestop.accounting.tokens import TokenAccumulator, TokenCount
from scalestop.planning.plan import make_plan
from scalestop.planning.rule import StopReason, StopRule
from scalestop.run.stopping import StopDecision
from scalestop.run.watch import RunWatch


def watch_of(world: int = 1, clock: Clock | None = None) -> RunWatch:
    """A watch on one rank of several that all see the same."""
    meter = Meter(6 * N, world_size=world)
    return RunWatch(meter, TokenAccumulator(), clock or Clock(), lambda values: [world * value for value in values])


def looks_of(watch: RunWatch, plan, tokens, clock: Clock | None = None, most: int = 2000) -> list[int]:
    """Train until the watch stops, with `tokens(step)` a step and a second for each; the steps at which it looked."""
    watch.look(plan)
    looks = []
    for step in range(1, most + 1):
        if watch.decision.stop:
            return looks
        if clock is not None:
            clock.now += 1.0
        if watch.end_batch(count(tokens(step)), stepped=True):
            looks.append(step)
            watch.look(plan)
    raise AssertionError(f"looked at {looks} and went on")


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


def test_goodput_is_of_this_fit_and_never_above_one():
    clock = Clock()
    watch = watch_of(clock=clock)
    watch.begin_batch()
    clock.now += 5.0
    assert watch.goodput is None  # no step has ended
    watch.start()
    clock.now += 1.0
    watch.end_batch(count(1), stepped=True)
    assert watch.goodput == 1.0  # the batch is older than the start
    watch.start()
    assert watch.goodput is None
    clock.now += 3.0
    watch.begin_batch()
    clock.now += 1.0
    watch.end_batch(count(1), stepped=True)
    assert watch.goodput == 0.25


def test_before_it_starts_nothing_is_decided_and_nothing_counted():
    clock = Clock()
    watch = watch_of(clock=clock)
    assert watch.decision == StopDecision(False, StopReason.NOT_STOPPED, "not started")
    assert (watch.reductions, watch.batches, watch.late_by) == (0, 0, None)
    clock.now += 50.0
    assert watch.sync() == watch.usage == watch.job_usage == Usage()
    assert watch.goodput is None


# ---- what is counted


def test_batches_of_a_window_make_one_step_and_ask_for_nothing():
    """Two batches of a second and 60 tokens a step: the limit is met within a window, the look comes at its end."""
    clock = Clock()
    watch = watch_of(clock=clock)
    watch.start()
    watch.look(plan_of("150 tokens"))
    asked = []
    for batch in range(4):
        clock.now += 1.0
        asked.append(watch.end_batch(count(60), stepped=batch % 2 == 1))
    assert asked == [False, False, False, True]
    assert watch.batches == 4 and watch.usage.optimizer_steps == 2
    assert (watch.meter.largest_step.tokens, watch.meter.largest_step.seconds) == (120, 2.0)


def test_a_batch_that_another_rank_counts_is_a_batch_and_no_tokens():
    watch = watch_of()
    watch.start()
    watch.end_batch(None, stepped=True)
    assert watch.batches == 1 and watch.usage == Usage(optimizer_steps=1)


@pytest.mark.parametrize(
    ("non_padding", "in_loss"), [(torch.tensor(7), torch.tensor(5)), (7, torch.tensor(5)), (torch.tensor(7), 5)]
)
def test_counts_on_an_accelerator_are_read_when_somebody_asks(non_padding, in_loss):
    watch = watch_of()
    watch.start()
    watch.end_batch(TokenCount(10, 10, 10, 1), stepped=True)
    watch.end_batch(TokenCount(10, non_padding, in_loss, 2), stepped=True)
    assert watch.meter.usage.tokens_non_padding == 10  # not read yet
    assert watch.usage == Usage(20, 17, 15, 20 * 6 * N, 2, 3)
    assert watch.usage == watch.sync()  # and read once
    assert type(watch.usage.tokens_non_padding) is type(watch.usage.tokens_in_loss) is int


def test_time_is_counted_from_start_to_pause():
    clock = Clock()
    watch = watch_of(clock=clock)
    watch.start()
    clock.now += 2.0
    watch.pause()
    clock.now += 30.0
    assert watch.sync().seconds == 2.0
    watch.start()
    clock.now += 3.0
    assert watch.state_dict(list)["meter"]["nanoseconds"] == 5 * 10**9
    assert watch.sync().seconds == watch.sync().device_seconds == 5.0


def test_a_job_begins_once_however_many_fits_it_has():
    watch = watch_of()
    watch.meter.add(900)
    watch.start()
    watch.end_batch(count(10), stepped=True)
    watch.start()
    watch.end_batch(count(7), stepped=True)
    assert (watch.usage.tokens, watch.job_usage.tokens, watch.job_usage.optimizer_steps) == (917, 17, 2)


# ---- when it looks


def test_a_look_is_due_at_the_first_step_of_a_fit_and_where_one_asks_for_it():
    watch, plan = watch_of(), plan_of("1000 tokens")
    assert watch.end_batch(count(1), stepped=True)
    for ask in (watch.start, watch.look_at_next_step):
        watch.look(plan)
        assert not watch.end_batch(count(1), stepped=True)
        ask()
        assert not watch.end_batch(count(1), stepped=False)
        assert watch.end_batch(count(1), stepped=True)


@pytest.mark.parametrize(
    ("overshoot", "expected_step", "looks"),
    [
        ("allow", None, [10]),
        ("never", None, [1, 9, 10]),  # the first is the largest yet; then at 80 more, where 10 are left: one step
        ("never", 10, [9, 10]),
        ("never", 4, [1, 9, 10]),
        ("never", 40, [6, 9, 10]),  # 60 more before a step of 40 could pass it; then the steps are known to be of 10
    ],
)
@pytest.mark.parametrize("budget", ["100 tokens", "60000 FLOPs"])
def test_looks_of_one_rank_at_100_tokens_in_steps_of_10(overshoot, expected_step, looks, budget):
    watch = watch_of()
    watch.start()
    assert looks_of(watch, plan_of(budget, overshoot, expected_step), lambda step: 10) == looks
    assert watch.usage.tokens == 100 and watch.reductions == 0


def test_never_looks_where_a_step_is_larger_than_any_before_it():
    """Steps of 10, from the fourth of 30: 30, 60, 90 tokens, and one more of 30 would pass 100."""
    watch = watch_of()
    watch.start()
    looks = looks_of(watch, plan_of("100 tokens", "never"), lambda step: 10 if step < 4 else 30)
    assert looks == [1, 4, 5] and watch.usage.tokens == 90


def test_never_takes_a_first_step_that_is_larger_than_its_budget():
    """As the rule says, and as the plan forecasts; what a step takes is only expected before."""
    watch, plan = watch_of(), plan_of("100 tokens", "never", 200)
    watch.start()
    assert looks_of(watch, plan, lambda step: 200) == [1]
    assert plan.stop_step == watch.usage.optimizer_steps == 1


@pytest.mark.parametrize(
    ("budget", "overshoot", "looks"),
    [("10.5 s", "allow", [11]), ("10.5 s", "never", [1, 10]), ("10.5 GPU-seconds", "never", [1, 10])],
)
def test_looks_of_one_rank_at_a_limit_in_time(budget, overshoot, looks):
    """A second a step. `never` looks once a step has a length, and stops where another would pass the limit."""
    clock = Clock()
    watch = watch_of(clock=clock)
    watch.start()
    assert looks_of(watch, plan_of(budget, overshoot), lambda step: 1, clock) == looks


@pytest.mark.parametrize(("lifetime", "job", "stops"), [("1000 s", "10 s", 10), ("105 s", "50 s", 5)])
def test_time_of_a_resumed_run_is_held_against_the_run_and_against_the_job(lifetime, job, stops):
    """The checkpoint has a hundred seconds already."""
    before, clock = Meter(6 * N), Clock()
    before.add_seconds(100.0)
    watch = watch_of(clock=clock)
    watch.meter.load_state_dict(before.state_dict())
    watch.start()
    plan = make_plan(lifetime, LAW, N, job_budget=job, rule=StopRule(oversized="ignore", tolerance=0.0))
    assert looks_of(watch, plan, lambda step: 1, clock) == [stops]
    assert watch.usage.seconds == 100 + stops and watch.job_usage.seconds == stops


# ---- over ranks


def test_looks_of_two_ranks_double_and_then_halve_what_is_left():
    """10,000 tokens in steps of 20: never further ahead than the steps taken, nor than half of those left."""
    watch = watch_of(world=2)
    watch.start()
    looks = looks_of(watch, plan_of("10000 tokens"), lambda step: 10)
    doubling, halving = [1, 2, 4, 8, 16, 32, 64, 128, 256], [378, 439, 469, 484, 492, 496, 498, 499, 500]
    assert looks == doubling + halving
    assert watch.reductions == len(looks) + 1 and watch.late_by is None
    assert watch.usage.tokens == 10_000


@pytest.mark.parametrize(
    ("jump", "size", "stops", "late_by"),
    [
        (257, 20, 378, None),  # twice the known step is allowed for, and meets the limit on the step
        (257, 21, 378, 121),  # more is not: it may have been met at any of the 121 between two looks
        (300, 1000, 378, 121),
        (3, 5000, 4, 1),
        (2, 5000, 2, None),  # no step between two looks
    ],
)
def test_growth_between_two_looks_of_ranks_is_reported(jump, size, stops, late_by):
    watch = watch_of(world=2)
    watch.start()
    plan = plan_of("10000 tokens")
    assert looks_of(watch, plan, lambda step: 10 if step < jump else size)[-1] == stops
    assert watch.late_by == late_by
    watch.look(plan)
    assert watch.late_by == late_by


def test_a_stop_for_size_is_never_late():
    watch = watch_of(world=2)
    watch.start()
    assert watch.look(make_plan("10000 FLOPs", LAW, 10 * N)).reason is StopReason.MODEL_OVERSIZED
    assert watch.late_by is None


def test_an_estimate_on_one_rank_takes_unread_masks_for_like_those_before():
    clock = Clock()
    watch = watch_of(clock=clock)
    watch.start()
    first = TokenCount(10, torch.tensor(8), torch.tensor(8), 1)
    watch.end_batch(first, stepped=True)
    assert watch.estimate().tokens_non_padding == 10  # nothing to go by
    watch.read_masks()
    watch.end_batch(TokenCount(20, torch.tensor(3), torch.tensor(3), 1), stepped=True)
    watch.sync()
    watch.end_batch(TokenCount(50, torch.tensor(40), torch.tensor(40), 1), stepped=True)
    clock.now += 2.5
    expected = Usage(80, 11 + round(50 * 11 / 30), 11, 80 * 6 * N, 3, 3, 2.5, 2.5)
    assert watch.estimate() == watch.estimate() == expected
    watch.sync()
    clock.now += 1.5
    assert watch.estimate() == Usage(80, 51, 51, 80 * 6 * N, 3, 3, 4.0, 4.0)


def test_an_estimate_over_ranks_goes_on_at_the_pace_between_the_last_two_looks():
    """Steps of 20 tokens, 16 of them words, in 1 s, and of 40 in 3 s from the fifth on: looks at 1, 2, 4 and 8."""
    clock = Clock()
    watch, plan = watch_of(world=2, clock=clock), plan_of("100000 tokens")
    watch.start()
    assert watch.estimate() == Usage()
    watch.look(plan)
    estimates = {}
    for step in range(1, 12):
        clock.now += 1.0 if step < 5 else 3.0
        size = 1 if step < 5 else 2
        look = watch.end_batch(TokenCount(10 * size, 8 * size, 8 * size, 1), stepped=True)
        estimates[step] = watch.estimate()
        if look:
            watch.look(plan)
            watch.look(plan)  # no step lies between: the pace is the one before
    assert estimates[1] == Usage()
    assert estimates[5] == Usage(80 + 20, 64 + 16, 64, 100 * 6 * N, 4, 8, 4 + 1.0, 8 + 2.0)
    assert estimates[7] == Usage(4 * 20 + 60, 64 + 48, 64, 140 * 6 * N, 4, 8, 4 + 3.0, 8 + 6.0)
    assert watch.meter.usage == Usage(240, 192, 192, 240 * 6 * N, 11, 16, 16.0, 32.0)
    assert estimates[11] == Usage(240 + 120, 192 + 96, 192, 360 * 6 * N, 8, 16, 16 + 9.0, 32 + 18.0)


def test_an_estimate_of_a_resumed_run_begins_where_it_was_saved():
    before = Meter(6 * N)
    before.add(1000)
    before.step()
    watch = watch_of(world=2)
    watch.meter.load_state_dict(before.state_dict())
    watch.start()
    watch.end_batch(count(10), stepped=True)
    assert watch.estimate() == before.usage


def test_a_state_is_that_of_all_ranks_and_says_where_it_is_not():
    """10 tokens here, 25 on the other rank. If that one does not answer, this one's stand in for them."""
    watch = watch_of(world=2)
    watch.start()
    watch.end_batch(TokenCount(10, torch.tensor(6), torch.tensor(4), 1), stepped=True)
    others = (25, 20, 15, 2, 0, 25 * 6 * N, 0, 0)
    exact = watch.state_dict(lambda values: [mine + other for mine, other in zip(values, others, strict=True)])
    assert exact["exact"] is True
    counted = [exact["meter"][name] for name in ("tokens", "tokens_non_padding", "tokens_in_loss", "samples")]
    assert counted == [35, 26, 19, 3]
    alone = watch.state_dict(lambda values: None)
    assert alone["exact"] is False
    assert [alone["meter"][name] for name in ("tokens", "tokens_non_padding", "samples")] == [20, 12, 2]


def test_the_state_of_one_rank_asks_nobody():
    watch = watch_of()
    watch.start()
    watch.end_batch(TokenCount(10, torch.tensor(6), torch.tensor(4), 1), stepped=True)

    def nobody(values):
        raise AssertionError("asked")

    state = watch.state_dict(nobody)
    assert state == {"meter": watch.meter.state_dict(), "exact": True}
    assert (state["meter"]["tokens_non_padding"], state["meter"]["tokens_in_loss"]) == (6, 4)


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
