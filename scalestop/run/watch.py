"""A run under watch: counts, plan and rule together, and when to look again. No Lightning in here.

The hot path adds ints. `decide` is asked, and ranks are reduced, only where a limit could have been met:

- On one rank the count is always known, so a run looks when the tokens that could reach a limit have been added. This
  needs no assumption about the next step.
- Over several ranks no rank knows the others' batches, and all must look at the same step. After each look the next
  one is set by `steps_to_next_check`, from the largest step known by then.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from scalestop.accounting.meter import Meter, Reduce, Usage
from scalestop.planning.planned import Plan
from scalestop.planning.rule import StopReason
from scalestop.run.clock import steady
from scalestop.run.stopping import StopDecision, decide, steps_to_next_check, tokens_to_next_check

if TYPE_CHECKING:
    from scalestop.accounting.tokens import TokenAccumulator, TokenCount

_NEVER = 2**63


class RunWatch:
    """Counts a run and decides when it ends.

    Args:
        meter: The counters.
        masks: Holds counts that are still on an accelerator.
        clock: Seconds from an arbitrary start.
        reduce: Sums ints over the ranks; needed where the meter's `world_size` is above 1.
    """

    def __init__(
        self,
        meter: Meter,
        masks: TokenAccumulator,
        clock: Callable[[], float],
        reduce: Reduce | None = None,
    ) -> None:
        self.meter = meter
        self.decision = StopDecision(False, StopReason.NOT_STOPPED, "not started")
        """The latest decision."""
        self.reductions = 0
        """Collective reductions so far."""
        self.batches = 0
        """Batches so far; the same on every rank, whichever of them count."""
        self.validation_batches = 0
        """Batches of validation so far; the same on every rank, whichever of them count."""
        self.late_by: int | None = None
        """Most steps by which the stop may have come late, because one grew past twice the largest known at the last
        look; None if none did, and then the stop is on the exact step."""
        self.look_every = 0
        """Optimizer steps between looks that are due whatever the counts say; 0 for none."""
        self.meets: Callable[[str], bool] | None = None
        """Whether all ranks have come to a place, where they may leave at different steps; None where they do not."""
        self.apart = False
        """Whether ranks have left at different steps: the counts are then those of the last reduction."""
        self._alone = meter.world_size == 1
        self._masks, self._clock, self._reduce = masks, steady(clock), reduce
        self._job_start: Usage | None = None
        self._busy = self._longest = 0.0
        self._begin = self._tick = self._step_began = self._batch_began = clock()
        self._look_now, self._runs = True, False
        self._ended: StopDecision | None = None
        self._look_at_step, self._look_at_tokens, self._look_at_time = _NEVER, _NEVER, math.inf
        self._looked = Usage()
        self._pace = Usage()
        self._known = Usage()
        self._trusted_largest, self._trusted_longest = _NEVER, math.inf

    @property
    def looked_at(self) -> int:
        """Optimizer steps at the last look."""
        return self._looked.optimizer_steps

    # ---- the hot path

    def start(self) -> None:
        """Begin to count time; what passed before is no training."""
        self._begin = self._tick = self._step_began = self._clock()
        self._busy = 0.0
        self._look_now = self._runs = True
        if self._job_start is None:
            self._job_start = self.meter.usage
        self._looked = self.meter.usage

    def go_on(self, reduce: Reduce) -> None:
        """Count on in another process: its ranks are asked from now on."""
        self._reduce = reduce

    def begin_job(self) -> None:
        """Take what the meter holds by now for the work of earlier jobs."""
        self._job_start = self._looked = self.meter.usage

    def begin_batch(self) -> None:
        """Note that a training step begins."""
        self._batch_began = self._clock()

    def end_batch(self, count: TokenCount | None, stepped: bool) -> bool:
        """Count a batch that was trained on, and say whether to `look` now; every rank gets the same answer.

        Args:
            count: Its tokens; None for a batch that another rank counts.
            stepped: Whether an optimizer step followed it.
        """
        now = self._clock()
        meter = self.meter
        self._busy += now - self._batch_began
        self.batches += 1
        if count is not None:
            non_padding, in_loss = count.non_padding, count.in_loss
            if type(non_padding) is int and type(in_loss) is int:
                meter.add(count.processed, non_padding, in_loss, count.samples)
            else:
                meter.add(count.processed, 0, 0, count.samples)
                self._masks.add(count)
        if not stepped:
            return False
        took = now - self._step_began
        self._step_began = now
        if took > self._longest:
            self._longest = took
        steps = meter.step(took)
        if self._look_now or steps >= self._look_at_step or (self.look_every and steps % self.look_every == 0):
            return True
        return self._alone and (
            meter.tokens_added >= self._look_at_tokens
            or now >= self._look_at_time
            or meter.largest_step_tokens > self._trusted_largest
            or self._longest > self._trusted_longest
        )

    # ---- looking

    def look_at_next_step(self) -> None:
        """Ask for a look after the coming optimizer step, because something other than the counts has changed."""
        self._look_now = True

    def end(self, decision: StopDecision) -> None:
        """End the run for a reason that no count knows; from the next look on that is the decision, if no limit is met.

        Args:
            decision: The same on every rank.
        """
        self._ended = decision

    def sync(self) -> Usage:
        """Bring the counts up to date over all ranks; every rank must call it at the same moment."""
        self.read_masks()
        self._count_time()
        if self._reduce is not None and self.meter.world_size > 1:
            self.meter.sync(self._reduce)
            self.reductions += 1
        return self.meter.usage

    def meet(self, place: str) -> bool:
        """Whether all ranks have come here, so that counts can be brought up to date.

        Args:
            place: The same on every rank, and never met at before.
        """
        if self.meter.world_size > 1 and self.meets is not None and not self.apart:
            self.apart = not self.meets(place)
        return not self.apart

    def pause(self) -> None:
        """Stop counting time, until `start`: training is over, or interrupted."""
        self._count_time()
        self._runs = False

    def _count_time(self) -> None:
        now = self._clock()
        if self._runs:
            self.meter.add_seconds(now - self._tick)
        self._tick = now

    def read_masks(self) -> None:
        """Move counts that are still on an accelerator here; waits for it."""
        if self._masks.processed:
            count = self._masks.read()
            self.meter.add_masked(int(count.non_padding), int(count.in_loss))
            self._masks.reset()

    def look(self, plan: Plan, waiting_for: str | None = None) -> StopDecision:
        """Decide on synchronised counts, and set when to look again.

        Args:
            plan: The plan.
            waiting_for: What a compute-optimal stop has to wait for; see `decide`.
        """
        usage = self.sync()
        largest = self.meter.largest_step
        job = self.job_usage
        # on steps that were taken: of one that is only expected, the rule still takes the first
        self.decision = decide(plan, usage, job_usage=job, largest_step=largest, waiting_for=waiting_for)
        if self._ended is not None and not self.decision.stop:
            self.decision = self._ended
        if largest.tokens == 0 and plan.tokens_per_step:
            tokens = plan.tokens_per_step
            largest = Usage(tokens=tokens, tokens_non_padding=tokens, flops=tokens * plan.flops_per_token)
        steps = self.meter.optimizer_steps
        if self.decision.stop and self.meter.world_size > 1 and self.late_by is None:
            self.late_by = self._lateness(largest, steps)
        if steps > self._looked.optimizer_steps:
            self._pace = usage.since(self._looked)
        self._looked, self._known = usage, largest
        self._look_now = False
        self._look_at_step = _NEVER
        if self.meter.world_size > 1:
            self._look_at_step = steps + steps_to_next_check(plan, usage, largest, job)
        # reading `usage` folds what is pending, so the threshold is on a count that only grows
        left = tokens_to_next_check(plan, usage, largest, job)
        self._look_at_tokens = _NEVER if left is None else self.meter.tokens_added + left
        # a larger step than any before widens the margin that overshoot="never" keeps
        never = plan.rule.overshoot == "never"
        self._trusted_largest = largest.tokens if never else _NEVER
        self._trusted_longest = self._longest if never else math.inf
        self._look_at_time = self._tick + self._seconds_left(plan, usage, largest, job)
        return self.decision

    def _lateness(self, largest: Usage, steps: int) -> int | None:
        """Steps since the last look but one, if a step since then was larger than that look allowed for."""
        counter = self.decision.counter
        if counter is None or counter == "num_params":
            return None
        known, seen = getattr(self._known, counter), getattr(largest, counter)
        skipped = steps - self._looked.optimizer_steps - 1
        return skipped if skipped > 0 and seen > 2 * known else None

    def _seconds_left(self, plan: Plan, usage: Usage, largest: Usage, job: Usage) -> float:
        """Wall time until the first limit in time."""
        left = math.inf
        for limit in plan.limits:
            if limit.counter not in ("seconds", "device_seconds"):
                continue
            used = getattr(usage if limit.scope == "lifetime" else job, limit.counter)
            margin = getattr(largest, limit.counter) if plan.rule.overshoot == "never" else 0.0
            devices = self.meter.world_size if limit.counter == "device_seconds" else 1
            left = min(left, (limit.amount - used - margin) / devices)
        return left

    @property
    def usage(self) -> Usage:
        """What the run has used: exact on one rank; over several, as of the last `sync`."""
        self.read_masks()
        return self.meter.usage

    @property
    def job_usage(self) -> Usage:
        """What this job has used, that is, since the run was first started or taken up here; as `usage`."""
        return self.usage.since(self._job_start or Usage())

    def estimate(self) -> Usage:
        """Return what the run has used by now, the same on every rank and without a reduction.

        On one rank it is exact but for masks still on an accelerator, of which as much is taken for padding as of
        those before. Over several it goes on from the last look at the pace between the last two.
        """
        if self.meter.world_size == 1:
            usage = self.meter.usage
            since = self._clock() - self._tick
            read = usage.tokens - self._masks.processed
            real = usage.tokens_non_padding / read if read > 0 else 1.0
            return replace(
                usage,
                tokens_non_padding=usage.tokens_non_padding + round(self._masks.processed * real),
                seconds=usage.seconds + since,
                device_seconds=usage.device_seconds + since,
            )
        steps = self.meter.optimizer_steps - self._looked.optimizer_steps
        pace = self._pace
        if steps == 0 or pace.optimizer_steps == 0:
            return self._looked
        gained = {
            name: getattr(self._looked, name) + getattr(pace, name) * steps / pace.optimizer_steps
            for name in ("tokens", "tokens_non_padding", "flops", "seconds", "device_seconds")
        }
        return replace(self._looked, **gained)

    @property
    def goodput(self) -> float | None:
        """Share of this fit's wall time spent in training steps; None before any."""
        wall = self._clock() - self._begin
        return min(1.0, self._busy / wall) if wall > 0 and self._busy > 0 else None

    # ---- state

    @property
    def moment(self) -> str:
        """Name of this moment of the run, the same on every rank; another one as soon as a count changes."""
        return f"{self.batches}/{self.validation_batches}/{self.reductions}"

    def state_dict(self, sum_over_ranks: Callable[[list[int]], list[int] | None]) -> dict[str, Any]:
        """Return the global counts as plain data.

        Args:
            sum_over_ranks: Adds up ints over the ranks without assuming that all of them are saving; None if some
                rank did not answer, in which case this rank's share stands in for the others' and is marked so.
        """
        self.read_masks()
        self._count_time()
        if self.meter.world_size == 1:
            return {"meter": self.meter.state_dict(), "exact": True}
        mine = self.meter.pending
        sums = None if self.apart else sum_over_ranks(list(mine.values()))
        exact = sums is not None
        pending = sums if sums is not None else [value * self.meter.world_size for value in mine.values()]
        return {"meter": self.meter.state_dict(dict(zip(mine, pending, strict=True))), "exact": exact}
