"""What every adapter is: the settings of a stop rule, and what it does with a model and its batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from scalestop.accounting.fingerprints import RowPrints
from scalestop.accounting.flops import FlopsPerToken, check_flops_spec
from scalestop.accounting.losses import LossAccumulator
from scalestop.accounting.meter import Meter, Reduce
from scalestop.accounting.samples import NOTE, count_samples
from scalestop.accounting.sizing import Sizing
from scalestop.accounting.tokens import CountTokens, TokenAccumulator, TokenCounter, check_count_tokens
from scalestop.accounting.trainable import TrainableSet
from scalestop.errors import InputError
from scalestop.laws import ScalingLaw
from scalestop.planning.budget import Budget, BudgetLike
from scalestop.planning.choice import AUTO, LawLike
from scalestop.planning.rule import Overshoot, Oversized, StopAt, StopRule, Undersized
from scalestop.planning.speed import Speed, parse_flops_per_second
from scalestop.run.adapter.resume import STATE_KEY, Resume
from scalestop.run.adapter.told import Told
from scalestop.run.aims import Aims, OnTrouble, Reactions, StopWhen
from scalestop.run.campaign import Campaign
from scalestop.run.earlier import Earlier, OnMissing
from scalestop.run.feed import BatchFeed
from scalestop.run.final_loss import LossNames
from scalestop.run.gate import Gate
from scalestop.run.history import History
from scalestop.run.live import LiveRun
from scalestop.run.planner import RunPlanner
from scalestop.run.reporter import Reporter
from scalestop.run.state import RunState
from scalestop.run.watch import RunWatch
from scalestop.schedules.undecayed import RecordsLike, read_records, undecayed_penalty


class RunAdapter(Told):
    """The settings that all adapters share, and what they do alike.

    Args:
        budget: What the run may spend: `"1e18 FLOPs"`, `"0.5 PF-days"`, `"2B tokens"`, `"8 GPU-hours"`, `"12h"`,
            `"500 USD"`, a number of FLOPs, or several in a list, of which the first one reached counts.
        law: The scaling law that knows the optimum: a name (see `list_laws()`), a file, or a law; it is obeyed to the
            letter. `auto` takes the built-in law whose runs are nearest to the budget, and lets the budget alone end
            the run where even those are over three factors of ten away. None asks no law, as for data that is no text.
        tolerance: N counts as optimal within this relative distance of N_opt.
        oversize_factor: A model larger than this many N_opt is oversized.
        oversized: What an oversized model gets: `stop` (before its first step), `warn`, or `ignore`.
        undersized: What a model below N_opt gets: `continue` to the end of the budget, or `stop` at its own optimum.
        stop_at: Where in the law's 90 % interval of D_opt to stop; `earliest` and `latest` need a fitted law.
        overshoot: `allow` stops at the first step at or past a hard limit, `never` before the step that would pass it.
        num_params: N, where the count from the module is not the one to use. Counted as the law counts it.
        tokens_per_step: Tokens per optimizer step over all ranks, where the first batch cannot tell before training.
        count_tokens: Function of a batch that returns its tokens (an int or a `TokenCount`), for unusual batches.
        flops_per_token: What a token costs: `6N` (the laws' convention; frozen parameters 4N), `6N+attention`,
            `measured` (once, on a meta copy of the module), a number, or a function of module and batch.
        active_experts: Experts that a token passes in each layer, where a mixture of experts does not say.
        count_validation: Whether validation's forward FLOPs count against the budget.
        job_budget: What this job alone may spend, such as `"4h"` of a longer run; resumes start it afresh.
        peak_flops_per_second: Peak of one device, FLOP/s or text such as `"989 TFLOP/s"`.
        mfu: Share of the peak that training reaches; with the peak, turns time and money into FLOPs for the plan.
        usd_per_device_hour: Price of a device-hour, for budgets in money.
        until: Metrics that a compute-optimal stop waits for, such as `{"val_accuracy": ">= 0.4"}`.
        records: Finished runs: a record file, a `.jsonl`, a folder or a glob. Where they tell, the plan says what an
            undecayed learning rate will cost; see `undecayed_penalty`.
        anneal: Bring `BudgetLR` down from where the checkpoint stands; `decay_to` sets it.
        loss_metric: Logged metric that is the run's loss; if None, one whose name says validation and loss, else the
            mean training loss of the run's last fiftieth.
        on_forecast: When the run's own curve foretells an end above what its law expects, by whole intervals, or leaves
            the band of the law's own runs: `warn`, `stop` (for the forecast alone), or `ignore`.
        on_nonfinite: When losses are not finite, or jump and do not come back: `warn`, `stop`, or `ignore`.
        campaign: A `Campaign` or its file: a budget shared with other runs, charged as this one goes; it ends when
            that is spent.
        stop_when: `marginal` ends the run where its next unit of compute is better spent on a larger model.
        show_forecast: Show the forecast of the final loss in the progress bar.
        name: Tells several of these callbacks in one Trainer apart.
        save_checkpoint: Whether to save a checkpoint at the stop; None saves unless checkpointing is disabled.
        record: Whether to write the `RunRecord`; None leaves it out where a run keeps nothing: without a logger,
            checkpoints or a `default_root_dir` of its own. `fast_dev_run` keeps neither record nor checkpoint.
        on_missing_state: What a checkpoint without counts of this callback leads to: `warn` and count from 0, an
            `error`, or an `estimate` from the batches behind it and the size of the first one, which is marked so.
        initial_tokens: Tokens that the model was trained on before there were counts; a count or `"2B tokens"`. Not
            asked where a checkpoint holds counts.
        initial_flops: What these cost; None for what tokens cost now.
        verbose: Whether to print the plan and the closing line.
        clock: Seconds from an arbitrary start; for tests.

    Raises:
        InputError: If an argument cannot be used; at once where that can be known.
    """

    state_key: str = ""
    """Key of the callback's state in a checkpoint."""

    def __init__(
        self,
        budget: BudgetLike,
        law: LawLike = AUTO,
        *,
        tolerance: float = 0.1,
        oversize_factor: float = 2.0,
        oversized: Oversized = "stop",
        undersized: Undersized = "continue",
        stop_at: StopAt = "median",
        overshoot: Overshoot = "allow",
        num_params: int | None = None,
        tokens_per_step: int | None = None,
        count_tokens: CountTokens | None = None,
        flops_per_token: str | float | Callable[[Any, Any], float] = "6N",
        active_experts: int | None = None,
        count_validation: bool = False,
        job_budget: BudgetLike | None = None,
        peak_flops_per_second: str | float | None = None,
        mfu: float | None = None,
        usd_per_device_hour: float | None = None,
        until: Mapping[str, str] | None = None,
        records: RecordsLike | None = None,
        anneal: bool = False,
        loss_metric: str | None = None,
        on_forecast: OnTrouble = "warn",
        on_nonfinite: OnTrouble = "warn",
        stop_when: StopWhen | None = None,
        campaign: Campaign | str | Path | None = None,
        show_forecast: bool = False,
        name: str | None = None,
        save_checkpoint: bool | None = None,
        record: bool | None = None,
        on_missing_state: OnMissing = "warn",
        initial_tokens: int | str | None = None,
        initial_flops: float | str | None = None,
        verbose: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        check_flops_spec(flops_per_token)
        check_count_tokens(count_tokens)
        self.name = name
        # by name alone, so that a raised budget finds its counts again; made once, as Lightning asks at every hook
        self.state_key = f"{STATE_KEY}{dict(name=name)!r}"
        self._aims = Aims(
            budget=Budget.parse(budget),
            job_budget=None if job_budget is None else Budget.parse(job_budget),
            law=law,
            rule=StopRule(tolerance, oversize_factor, oversized, undersized, stop_at, overshoot),
            gate=Gate.parse(until),
            speed=Speed(parse_flops_per_second(peak_flops_per_second), mfu, usd_per_device_hour=usd_per_device_hour),
            tokens_per_step=tokens_per_step,
            reactions=Reactions(on_forecast, on_nonfinite, stop_when),
            campaign=Campaign(campaign) if isinstance(campaign, str | Path) else campaign,
        )
        self._penalty = None if records is None else undecayed_penalty(read_records(records))
        self.budget, self.rule = self._aims.budget, self._aims.rule
        self._anneal, self._shows_forecast = anneal, show_forecast
        self._new_sizing = partial(Sizing, num_params, flops_per_token, active_experts, count_tokens)
        self._count_tokens = count_tokens
        self._count_validation = count_validation
        self._loss_names = LossNames(loss_metric)
        self._earlier = Earlier.parse(on_missing_state, initial_tokens, initial_flops)
        self._record = record
        self._reporter = Reporter(name, verbose, record is not False)
        self._save_checkpoint = save_checkpoint
        self._clock = clock
        # what can be wrong without a model is wrong now, not after the queue
        self._settled = self._aims.settle(num_params)
        self._settled.plan(num_params or 1, tokens_per_step, None)
        self._forget()

    def _forget(self) -> None:
        """Be ready for a run that has nothing to do with the last one."""
        self._sizing: Sizing = self._new_sizing()
        self._resume = Resume(self._earlier, self.state_key)
        self._state: RunState | None = None
        self._feed: BatchFeed | None = None
        self._live: LiveRun | None = None
        self._trainable: TrainableSet | None = None

    @property
    def law(self) -> ScalingLaw | None:
        """The law that plans the run; None if there is none. `auto` may choose anew once the model is known."""
        return self._settled.settled_law

    def _new_state(self, run: str, cost: FlopsPerToken, ranks: Reduce, world_size: int) -> RunState:
        meter = Meter(
            cost.model,
            forward_flops_per_token=cost.forward,
            count_validation=self._count_validation,
            world_size=world_size,
        )
        watch = RunWatch(meter, TokenAccumulator(), self._clock, ranks)
        planner = RunPlanner(self._settled, self._sizing.size(self._settled.convention), cost.model, world_size)
        return RunState(run, self.name, self._sizing, watch, planner, history=History(LossAccumulator(), RowPrints()))

    def _take_first(self, module: Any, batch: Any, batches_per_step: int, ask: Reduce) -> None:
        """Count the first batch, and complete the plan with it.

        Args:
            module: The model, whose tokens may have to be priced by a batch.
            batch: The batch, before a training step may take it apart.
            batches_per_step: Batches that make an optimizer step, over all ranks.
            ask: Adds up ints over the ranks.
        """
        assert self._feed is not None and self._live is not None and self._state is not None
        try:
            count = self._feed.take(batch)
        except InputError:
            if self.law is not None or self._count_tokens is not None:
                raise
            self._feed.counter = TokenCounter(count_samples)
            self._sizing.count_tokens = count_samples
            count = self._feed.take(batch)
            self._reporter.say(NOTE)
        if self._sizing.needs_batch:
            self._state.reprice(self._sizing.price(module, self._settled.convention, batch))
        self._live.announce(count.processed * batches_per_step if count is not None else None)
        if self._resume.owes:
            self._live.begin_at(self._resume.estimate(count, ask))

    def _price_anew(self, module: Any, batch: Any) -> None:
        """Find what a token costs now that other parameters train."""
        live, state = self._live, self._state
        assert live is not None and state is not None
        before, changed = self._sizing.cost, self._sizing.recount(module)
        if not changed and not self._sizing.needs_batch:
            return
        try:
            cost = self._sizing.price(module, self._settled.convention, batch)
        except InputError as error:
            self._reporter.warn(f"other parameters train by now, and what a token costs is not known: {error}")
            return
        if before is None or cost.model != before.model:
            state.reprice(cost)
            params, step = self._sizing.params, state.watch.meter.optimizer_steps + 1
            trains = f" ({params.trainable:,} of {params.total:,})" if params is not None else ""
            live.note_price(f"other parameters train from step {step:,} on{trains}: a token costs {cost.model:,} FLOPs")
