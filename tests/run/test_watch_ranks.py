"""The watch: it looks as seldom as it can and still stops on the exact step, on one rank and over several.

Over several ranks "steps never exceed twice the largest seen" has to mean *the largest known at the last reduction*: a
rank cannot see another's growth without communication, which is what the watch saves. Were growth since the last
reduction allowed to compound, a run could double at every step and pass any limit before any schedule of checks.
"""

from __future__ import annotations

import random

import pytest
from counting import Clock, N, count, plan_of
from ranks import Ranks

from scalestop.accounting.meter import Meter
from scalestop.accounting.tokens import TokenAccumulator
from scalestop.run.watch import RunWatch


def split(total: int, parts: int, rng: random.Random) -> list[int]:
    cuts = sorted(rng.randint(0, total) for _ in range(parts - 1))
    return [b - a for a, b in zip([0, *cuts], [*cuts, total], strict=True)]


def global_growth(seed: int, world: int):
    """Global steps up to twice the largest known one, anyhow split over the ranks; often exactly twice."""

    def draw(rank: int, watch: RunWatch, step: int) -> int:
        rng = random.Random(f"{seed}/{step}")  # the same on every rank, as is the largest known step
        known = watch.meter.largest_step.tokens or 8
        bound = 2 * known if known < 400 else known
        total = bound if rng.random() < 0.2 else rng.randint(0, bound)
        return split(total, world, rng)[rank]

    return draw


def own_growth(seed: int):
    """Each rank's steps up to twice its own largest at the last reduction, which bounds the global one as well."""
    known: dict[int, tuple[int, int]] = {}
    largest: dict[int, int] = {}

    def draw(rank: int, watch: RunWatch, step: int) -> int:
        rng = random.Random(f"{seed}/{rank}/{step}")
        if known.get(rank, (-1, 0))[0] != watch.reductions:
            known[rank] = watch.reductions, largest.get(rank, 4)
        bound = known[rank][1] * (2 if known[rank][1] < 200 else 1)
        tokens = bound if rng.random() < 0.2 else rng.randint(1, bound)
        largest[rank] = max(largest.get(rank, 0), tokens)
        return tokens

    return draw


@pytest.mark.parametrize(("overshoot", "runs"), [("allow", 200), ("never", 100)])
def test_random_runs_stop_where_reducing_every_step_would(overshoot, runs):
    spared = 0
    for seed in range(runs):
        rng = random.Random(seed)
        world, limit = rng.choice([2, 3, 4]), rng.randint(500, 40_000)
        budget = rng.choice([f"{limit} tokens", 6 * N * limit + rng.randint(0, 599)])
        ranks = Ranks(world, plan_of(budget, overshoot, rng.choice([None, 8])))
        ranks.run(global_growth(seed, world) if overshoot == "allow" else own_growth(seed))
        steps = len(ranks.steps[0])
        decisions = {watch.decision for watch in ranks.watches}
        assert len(decisions) == 1 and next(iter(decisions)).stop
        assert all(len(row) == steps for row in ranks.steps)
        assert steps == ranks.reference(), f"seed {seed}"
        assert ranks.watches[0].usage.tokens == sum(map(sum, ranks.steps))
        if overshoot == "never":
            assert ranks.watches[0].late_by is None
        spared += steps - ranks.watches[0].reductions
    assert spared > 10 * runs  # it is not by reducing every step


@pytest.mark.parametrize("world", [1, 2, 4])
def test_never_does_not_exceed_while_no_step_exceeds_the_largest_known(world):
    """The bound comes from the plan, or from the first step; the stop is as close to the limit as one step allows."""
    for seed in range(60):
        rng = random.Random(seed)
        bound, limit = rng.randint(1, 300), rng.randint(2000, 20_000)
        planned = rng.random() < 0.5
        ranks = Ranks(world, plan_of(f"{limit} tokens", "never", bound * world if planned else None))
        ranks.run(
            lambda rank, watch, step, seed=seed, bound=bound: (
                bound if step == 0 else random.Random(f"{seed}/{rank}/{step}").randint(0, bound)
            )
        )
        total = sum(map(sum, ranks.steps))
        assert limit - bound * world < total <= limit, f"seed {seed}"


def test_a_jump_costs_at_most_the_reported_steps():
    late_runs = 0
    for seed in range(60):
        rng = random.Random(seed)
        jump = rng.randint(30, 150)
        ranks = Ranks(2, plan_of("10000 tokens", tokens_per_step=16))
        ranks.run(lambda rank, watch, step, jump=jump: 8 if step < jump else 800)
        late = len(ranks.steps[0]) - ranks.reference()
        reported = {watch.late_by for watch in ranks.watches}
        assert len(reported) == 1
        reported = reported.pop()
        assert late <= (reported or 0) and late >= 0, f"seed {seed}"
        late_runs += late > 0
    assert late_runs > 5  # otherwise this shows nothing


@pytest.mark.parametrize("exponent", [2, 3, 4, 5, 6])
def test_reductions_grow_with_the_logarithm_of_the_steps(exponent):
    """Constant steps. Measured: 15 at 1e2, 21 at 1e3, 28 at 1e4, 35 at 1e5, 41 at 1e6."""
    steps = 10**exponent
    reductions, stopped = reductions_for(steps)
    assert stopped == steps
    assert reductions <= 8 * exponent


def reductions_for(steps: int, world: int = 2) -> tuple[int, int]:
    """Reductions of a run of constant steps, and the step it stopped at; the other ranks are mirrors of this one."""
    meter = Meter(6 * N, world_size=world)
    watch = RunWatch(meter, TokenAccumulator(), Clock(), lambda values: [world * value for value in values])
    plan = plan_of(f"{steps * world * 10} tokens", tokens_per_step=world * 10)
    watch.start()
    watch.look(plan)
    batch = count(10)
    while not watch.decision.stop:
        if watch.end_batch(batch, stepped=True):
            watch.look(plan)
    return watch.reductions, meter.optimizer_steps


@pytest.mark.parametrize("budget", ["500 s", "1500 GPU-seconds"])
def test_time_over_ranks_stops_all_at_the_same_step(budget):
    ranks = Ranks(3, plan_of(budget))
    ranks.run(lambda rank, watch, step: 5)
    assert [len(row) for row in ranks.steps] == [500, 500, 500]
    assert ranks.watches[0].reductions < 40
    assert ranks.watches[0].usage.seconds == 500.0 and ranks.watches[0].usage.device_seconds == 1500.0


def test_a_rank_that_does_not_answer_leaves_an_estimate_that_says_so():
    watch = RunWatch(Meter(6 * N, world_size=2), TokenAccumulator(), Clock(), lambda values: [2 * v for v in values])
    watch.start()
    watch.end_batch(count(10), stepped=False)
    exact = watch.state_dict(lambda values: [value + 1 if value == 10 else value for value in values])
    assert exact["exact"] is True and exact["meter"]["tokens"] == 11
    alone = watch.state_dict(lambda values: None)
    assert alone["exact"] is False and alone["meter"]["tokens"] == 20
