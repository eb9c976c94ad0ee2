"""Counters: exact ints on one rank and over many, kept through saves whatever the number of ranks."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalestop.accounting.meter import Meter, Usage
from scalestop.errors import InputError

COST = 600
batches = st.lists(
    st.tuples(st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1), st.integers(0, 64), st.booleans()), max_size=60
)


def feed(meter: Meter, rows) -> None:
    for tokens, real, learned, samples, steps in rows:
        non_padding = int(tokens * real)
        meter.add(tokens, non_padding=non_padding, in_loss=int(non_padding * learned), samples=samples)
        if steps:
            meter.step()


def recount(rows) -> dict[str, int]:
    real = [int(tokens * share) for tokens, share, *_ in rows]
    return {
        "tokens": sum(row[0] for row in rows),
        "tokens_non_padding": sum(real),
        "tokens_in_loss": sum(int(r * row[2]) for r, row in zip(real, rows, strict=True)),
        "samples": sum(row[3] for row in rows),
        "flops": COST * sum(row[0] for row in rows),
    }


def counts(usage: Usage) -> dict[str, int]:
    return {
        name: getattr(usage, name) for name in ("tokens", "tokens_non_padding", "tokens_in_loss", "samples", "flops")
    }


def together(meters: list[Meter]) -> None:
    """Reduce as a process group would: everyone's numbers first, then the same sums to all."""
    payloads: list[list[int]] = []

    class Seen(Exception):
        pass

    def take(values):
        payloads.append(list(values))
        raise Seen

    for meter in meters:
        with pytest.raises(Seen):
            meter.sync(take)
    sums = [sum(column) for column in zip(*payloads, strict=True)]
    for meter in meters:
        meter.sync(lambda _: sums)


@given(batches)
def test_one_rank_equals_a_recount_at_every_moment(rows):
    meter = Meter(COST)
    for i, row in enumerate(rows):
        feed(meter, [row])
        assert counts(meter.usage) == recount(rows[: i + 1])
    assert meter.usage.optimizer_steps == sum(row[4] for row in rows)


@given(st.lists(batches, min_size=2, max_size=4), st.integers(1, 5))
def test_ranks_add_up_whenever_they_are_reduced(per_rank, every):
    meters = [Meter(COST, world_size=len(per_rank)) for _ in per_rank]
    for start in range(0, 60, every):
        for meter, rows in zip(meters, per_rank, strict=True):
            feed(meter, [(*row[:4], False) for row in rows[start : start + every]])
        together(meters)
    expected = recount([row for rows in per_rank for row in rows])
    assert all(counts(meter.usage) == expected for meter in meters)


@given(batches, st.integers(1, 4), batches, st.integers(1, 4), batches)
def test_saved_counts_survive_any_change_of_world_size(first, world, second, new_world, third):
    """1 -> any -> any ranks: the state is the global count, so nothing is multiplied or lost."""
    one = Meter(COST)
    feed(one, first)
    state = one.state_dict()
    seen = list(first)
    for size, rows in ((world, second), (new_world, third)):
        meters = [Meter(COST, world_size=size) for _ in range(size)]
        for rank, meter in enumerate(meters):
            meter.load_state_dict(state)
            feed(meter, [(*row[:4], False) for row in rows[rank::size]])
        seen += rows
        pending = [sum(column) for column in zip(*(m.pending.values() for m in meters), strict=True)]
        state = meters[0].state_dict(dict(zip(meters[0].pending, pending, strict=True)))
        for meter in meters:
            assert meter.state_dict(dict(zip(meter.pending, pending, strict=True))) == state
    final = Meter(COST)
    final.load_state_dict(state)
    assert counts(final.usage) == recount(seen)


@given(st.lists(st.lists(st.integers(0, 1000), min_size=3, max_size=3), min_size=1, max_size=20))
def test_largest_step_is_never_below_the_largest_global_step(steps):
    meters = [Meter(COST, world_size=3) for _ in range(3)]
    for step in steps:
        for meter, tokens in zip(meters, step, strict=True):
            meter.add(tokens // 2)
            meter.add(tokens - tokens // 2)  # two micro-batches make one step
            meter.step()
    together(meters)
    assert all(meter.largest_step.tokens >= max(sum(step) for step in steps) for meter in meters)
    assert meters[0].largest_step.flops == COST * meters[0].largest_step.tokens


def test_reading_does_not_disturb():
    meter = Meter(COST)
    meter.add(7)
    assert meter.usage == meter.usage
    assert meter.state_dict() == meter.state_dict()
    added = meter.tokens_added
    meter.usage  # noqa: B018
    assert meter.tokens_added == added == 7


def test_counts_are_exact_where_floats_are_not():
    meter = Meter(6 * 10**12)
    meter.add(2**53)
    meter.add(1)
    assert meter.usage.tokens == 2**53 + 1
    assert meter.usage.flops == 6 * 10**12 * (2**53 + 1)


@pytest.mark.parametrize(("counted", "expected"), [(False, 10 * COST), (True, 10 * COST + 30 * COST // 3)])
def test_validation_has_its_own_counter_and_is_paid_for_only_when_asked(counted, expected):
    meter = Meter(COST, count_validation=counted)
    meter.add(10)
    meter.add_validation(30)
    usage = meter.usage
    assert (usage.tokens, usage.validation_tokens, usage.validation_flops) == (10, 30, 30 * COST // 3)
    assert usage.flops == expected == meter.state_dict()["flops"]


def test_a_run_worked_out_by_hand():
    """Two steps: batches of 10 tokens (7 of words, 5 with a loss) and 4, then one of 20 whose mask is read later."""
    meter = Meter(60)
    meter.add(10, non_padding=7, in_loss=5, samples=2)
    meter.add(4, samples=1)
    meter.add_seconds(1.25)
    assert meter.step(1.25) == 1
    meter.add(20, non_padding=0, in_loss=0, samples=4)
    meter.add_masked(non_padding=18, in_loss=16)
    meter.add_validation(9)
    meter.add_seconds(0.5)
    assert meter.step(0.5) == 2 == meter.optimizer_steps
    assert meter.usage == Usage(
        tokens=34,
        tokens_non_padding=29,
        tokens_in_loss=25,
        flops=34 * 60,
        optimizer_steps=2,
        samples=7,
        seconds=1.75,
        device_seconds=1.75,
        validation_tokens=9,
        validation_flops=9 * 20,
    )
    assert meter.largest_step == Usage(
        tokens=20,
        tokens_non_padding=20,
        tokens_in_loss=20,
        flops=20 * 60,
        optimizer_steps=1,
        seconds=1.25,
        device_seconds=1.25,
    )


def test_nothing_used_is_nothing_in_every_counter():
    assert set(dataclasses.asdict(Usage()).values()) == {0}
    assert Meter(COST).usage == Usage()
    assert Meter(COST).largest_step == Usage(optimizer_steps=1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Usage().tokens = 1


@pytest.mark.parametrize(("options", "forward"), [({}, 33), ({"forward_flops_per_token": 50}, 50)])
def test_a_validation_token_costs_a_third_unless_told(options, forward):
    """100 FLOPs a token: a third of it is no whole number, and a count of FLOPs is one."""
    meter = Meter(100, **options)
    meter.add_validation(3)
    assert meter.usage.validation_flops == 3 * forward == meter.state_dict()["validation_flops"]


def test_the_smallest_cost_is_one():
    assert Meter(1).flops_per_token == 1


def test_a_batch_counts_with_its_own_step_and_with_no_other():
    meter = Meter(COST)
    meter.add(5)
    meter.add(6)
    meter.step()
    meter.add(9)
    assert meter.largest_step_tokens == 11  # the 9 are in no step yet
    meter.step()
    meter.step()
    assert (meter.largest_step.tokens, meter.largest_step.seconds) == (11, 0.0)


def test_the_longest_step_is_kept_whatever_order_they_come_in():
    meter = Meter(COST)
    longest = []
    for seconds in (0.5, 2.0, 1.0):
        meter.step(seconds)
        longest.append(meter.largest_step.seconds)
    assert longest == [0.5, 2.0, 2.0]


def test_over_ranks_the_largest_step_is_known_by_the_last_reduction():
    """Largest steps of 30 tokens in 2 s and of 12 in 4 s: 42 tokens, 6 device-seconds, 3 s of wall time."""
    meters = [Meter(COST, world_size=2) for _ in range(2)]
    for meter, tokens, seconds in zip(meters, (30, 12), (2.0, 4.0), strict=True):
        meter.add(tokens)
        meter.step(seconds)
    assert meters[0].largest_step == Usage(optimizer_steps=1)
    together(meters)
    for meter in meters:
        step = meter.largest_step
        assert (step.tokens, step.flops, step.seconds, step.device_seconds) == (42, 42 * COST, 3.0, 6.0)


def test_over_ranks_what_is_not_reduced_is_pending():
    meters = [Meter(COST, world_size=2) for _ in range(2)]
    meters[0].add(30, non_padding=20, in_loss=10, samples=3)
    meters[1].add(12, samples=1)
    for meter in meters:
        meter.add_validation(6)
        meter.add_seconds(1.5)
        meter.step()
    assert meters[0].usage == Usage(optimizer_steps=1)
    assert meters[0].pending == {
        "tokens": 30,
        "tokens_non_padding": 20,
        "tokens_in_loss": 10,
        "samples": 3,
        "validation_tokens": 6,
        "flops": 30 * COST,
        "validation_flops": 6 * COST // 3,
        "nanoseconds": 1_500_000_000,
    }
    together(meters)
    assert set(meters[0].pending.values()) == {0}
    expected = Usage(42, 32, 22, 42 * COST, 1, 4, 1.5, 3.0, 12, 12 * COST // 3)
    assert meters[0].usage == meters[1].usage == expected


def test_a_state_is_what_a_reduction_would_have_given():
    """Saved over two ranks before they are reduced, and after: the same counts."""
    meters = [Meter(COST, world_size=2, count_validation=True) for _ in range(2)]
    for meter, tokens in zip(meters, (30, 12), strict=True):
        meter.add(tokens, samples=2)
        meter.add_validation(6)
        meter.add_seconds(1.5)
        meter.step(1.5)
    both = {name: meters[0].pending[name] + meters[1].pending[name] for name in meters[0].pending}
    before = meters[0].state_dict(both)
    assert before == {
        "tokens": 42,
        "tokens_non_padding": 42,
        "tokens_in_loss": 42,
        "samples": 4,
        "validation_tokens": 12,
        "nanoseconds": 3_000_000_000,
        "flops": 42 * COST + 12 * COST // 3,
        "validation_flops": 12 * COST // 3,
        "wall_nanoseconds": 1_500_000_000,
        "optimizer_steps": 1,
        "largest_step": 30,
    }
    together(meters)
    assert meters[0].state_dict() == {**before, "largest_step": 42}


def test_a_resumed_meter_goes_on_and_knows_the_largest_step():
    """A step of 31 tokens, taken up on two ranks: 16 a rank is the least that is not below it."""
    one = Meter(COST)
    one.add(31)
    one.add_seconds(2.0)
    one.step(2.0)
    again = Meter(COST)
    again.add(1000)  # a sanity check before the state is restored, say
    again.load_state_dict(one.state_dict())
    assert again.usage == one.usage
    assert again.largest_step.tokens == 31
    again.add(5)
    assert again.step() == 2 and again.largest_step.tokens == 31
    assert again.usage == Usage(36, 36, 36, 36 * COST, 2, 0, 2.0, 2.0)
    fresh = Meter(COST)
    fresh.load_state_dict(one.state_dict())
    fresh.add(40)
    fresh.step()
    assert fresh.largest_step.tokens == 40
    meters = [Meter(COST, world_size=2) for _ in range(2)]
    for meter in meters:
        meter.load_state_dict(one.state_dict())
        assert (meter.largest_step_tokens, meter.largest_step.tokens) == (16, 31)
    together(meters)
    assert meters[0].largest_step.tokens == 32


@pytest.mark.parametrize("counted", [False, True])
def test_each_token_is_charged_at_the_price_of_its_time(counted):
    """10 tokens at 60 and 5 at 90; 3 of validation at 20 and 4 at 31. One rank and two, reduced or saved, agree."""
    one = Meter(60, count_validation=counted)
    two = [Meter(60, count_validation=counted, world_size=2) for _ in range(2)]
    for meter in (one, *two):
        meter.add(10)
        meter.add_validation(3)
        meter.reprice(90, 31)
        meter.add(5)
        meter.add_validation(4)
        meter.step()
    validation = 3 * 20 + 4 * 31
    flops = 10 * 60 + 5 * 90 + (validation if counted else 0)
    assert (one.usage.flops, one.usage.validation_flops) == (flops, validation)
    assert one.state_dict()["flops"] == flops
    both = {name: 2 * value for name, value in two[0].pending.items()}
    saved = two[0].state_dict(both)
    assert (saved["flops"], saved["validation_flops"]) == (2 * flops, 2 * validation)
    together(two)
    assert (two[1].usage.flops, two[1].usage.validation_flops) == (2 * flops, 2 * validation)
    assert (one.price, one.largest_step.flops) == (90, 15 * 90)


def test_ranks_that_measured_their_price_count_each_its_own_and_expect_their_mean():
    """100 tokens at 60 and 10 at 71. What follows is decided alike: by 66, the mean rounded up."""
    meters = [Meter(60, world_size=2), Meter(71, world_size=2)]
    meters[0].add(100)
    meters[1].add(10)
    for meter in meters:
        meter.step()
    together(meters)
    for meter in meters:
        assert meter.usage.flops == 100 * 60 + 10 * 71
        assert (meter.price, meter.largest_step.flops) == (66, 110 * 66)


@pytest.mark.parametrize(
    ("tokens", "cost", "seconds"),
    [(10**9, 6 * 10**13, 0.0), (2**62, 6, 0.0), (1, 6, 30 * 86_400.0), (2**30, 2**49, 365 * 86_400.0)],
)
def test_a_reduction_of_16384_ranks_fits_64_bits(tokens, cost, seconds):
    """A month in nanoseconds and the FLOPs of a rank each pass 2^63 in sum; their parts do not."""
    world = 16_384
    meter = Meter(cost, world_size=world)
    meter.add(tokens, samples=1)
    meter.add_seconds(seconds)
    meter.step(seconds)
    sent = []

    def reduce(values):
        sent.extend(world * value for value in values)
        return [world * value for value in values]

    meter.sync(reduce)
    assert max(sent) < 2**63 and min(sent) >= 0
    usage = meter.usage
    assert (usage.tokens, usage.flops, usage.samples) == (world * tokens, world * tokens * cost, world)
    assert (usage.seconds, usage.device_seconds) == (seconds, world * seconds)
    assert meter.largest_step.seconds == seconds and meter.largest_step.tokens == world * tokens


def test_time_is_wall_time_once_and_device_time_for_each():
    meters = [Meter(COST, world_size=4) for _ in range(4)]
    for meter in meters:
        meter.add_seconds(2.5)
    together(meters)
    assert (meters[0].usage.seconds, meters[0].usage.device_seconds) == (2.5, 10.0)


def test_state_is_plain_ints():
    state = Meter(COST).state_dict()
    assert all(type(value) is int and type(name) is str for name, value in state.items())


@pytest.mark.parametrize("cost", [0, -6, 6.0, True, None])
def test_no_cost_of_zero(cost):
    with pytest.raises(InputError, match="not built or a shard that is empty"):
        Meter(cost)


def test_no_negative_batch():
    with pytest.raises(InputError, match="cannot hold -1 tokens"):
        Meter(COST).add(-1)


def test_broken_state_is_refused():
    state = Meter(COST).state_dict()
    with pytest.raises(InputError, match="missing samples"):
        Meter(COST).load_state_dict({k: v for k, v in state.items() if k != "samples"})
    with pytest.raises(InputError, match="tokens must be a count; got -1"):
        Meter(COST).load_state_dict({**state, "tokens": -1})


def test_since_is_the_difference():
    assert Usage(tokens=5, seconds=2.0).since(Usage(tokens=2, seconds=0.5)) == Usage(tokens=3, seconds=1.5)


def test_thirty_days_of_16384_ranks_do_not_wrap_a_64_bit_reduction():
    """All ranks add the same: a reduction multiplies by the world size, in the 64 bits that a tensor has."""
    ranks, seconds = 16_384, 30 * 86_400.0 + 0.123456789

    def reduce(values):
        sums = [value * ranks for value in values]
        assert all(-(2**63) <= value < 2**63 for value in (*values, *sums))
        return sums

    meter = Meter(6, world_size=ranks)
    meter.add(10)
    meter.add_seconds(seconds)
    meter.step(seconds)
    meter.sync(reduce)
    assert meter.usage.device_seconds == pytest.approx(ranks * seconds, rel=1e-12)
    assert meter.usage.seconds == pytest.approx(seconds, rel=1e-12)
    assert meter.largest_step.seconds == pytest.approx(seconds, rel=1e-12)
    assert meter.usage.tokens == 10 * ranks
