"""Several ranks in one process, for tests of what they must agree on; no Lightning in here."""

from __future__ import annotations

import threading

from counting import Clock, count

from scalestop.accounting.meter import Meter, Usage
from scalestop.accounting.tokens import TokenAccumulator
from scalestop.run.stopping import decide
from scalestop.run.watch import RunWatch

PATIENCE = 20.0
"""Seconds after which a rank that waits alone counts as hanging."""


class Ranks:
    """Ranks as threads with a real all-reduce between them: who reduces alone hangs, and fails the test."""

    def __init__(self, world: int, plan) -> None:
        self.world, self.plan = world, plan
        self._barrier = threading.Barrier(world)
        self._posted: list[list[int]] = [[] for _ in range(world)]
        self.steps: list[list[int]] = [[] for _ in range(world)]
        self.clocks = [Clock() for _ in range(world)]
        self.watches = [
            RunWatch(
                Meter(plan.flops_per_token, world_size=world),
                TokenAccumulator(),
                self.clocks[rank],
                lambda values, rank=rank: self._reduce(rank, values),
            )
            for rank in range(world)
        ]

    def _reduce(self, rank: int, values):
        self._posted[rank] = list(values)
        self._barrier.wait(PATIENCE)
        sums = [sum(column) for column in zip(*self._posted, strict=True)]
        self._barrier.wait(PATIENCE)
        return sums

    def run(self, draw, max_steps: int = 5000) -> None:
        """Train until the watch stops; `draw(rank, watch, step)` gives the tokens of a rank's next step."""
        failures: list[BaseException] = []

        def train(rank: int) -> None:
            try:
                watch = self.watches[rank]
                watch.start()
                watch.look(self.plan)
                for step in range(max_steps):
                    if watch.decision.stop:
                        return
                    tokens = draw(rank, watch, step)
                    self.steps[rank].append(tokens)
                    self.clocks[rank].now += 1.0
                    watch.begin_batch()
                    if watch.end_batch(count(tokens), stepped=True):
                        watch.look(self.plan)
            except BaseException as error:
                self._barrier.abort()
                failures.append(error)

        threads = [threading.Thread(target=train, args=(rank,)) for rank in range(self.world)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]

    def reference(self) -> int:
        """Step at which a run that reduces after every step stops, on the same batches."""
        tokens, largest = 0, [0] * self.world
        for step, row in enumerate(zip(*self.steps, strict=True), start=1):
            tokens += sum(row)
            largest = [max(a, b) for a, b in zip(largest, row, strict=True)]
            cost = self.plan.flops_per_token
            bound = Usage(tokens=sum(largest), tokens_non_padding=sum(largest), flops=cost * sum(largest))
            usage = Usage(tokens=tokens, tokens_non_padding=tokens, flops=cost * tokens)
            if decide(self.plan, usage, largest_step=bound).stop:
                return step
        return -1
