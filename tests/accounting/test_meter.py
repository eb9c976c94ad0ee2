"""Counters: exact ints on one rank and over many, kept through saves whatever the number of ranks."""

from __future__ import annotations

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
