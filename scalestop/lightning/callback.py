"""The Lightning callback: feeds the watch, tells the user, ends the run. No formula lives here, and no Lightning."""

from __future__ import annotations

import time
import uuid
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from scalestop.accounting.flops import FlopsPerToken, check_flops_spec
from scalestop.accounting.hardware import peak_flops_per_second
from scalestop.accounting.losses import LossAccumulator
from scalestop.accounting.meter import Meter, Usage
from scalestop.accounting.params import ParamCount
from scalestop.accounting.samples import NOTE, count_samples
from scalestop.accounting.sizing import Sizing
from scalestop.accounting.tokens import (
    CountTokens,
    TokenAccumulator,
    TokenCounter,
    check_count_tokens,
    is_encoder_decoder,
)
from scalestop.errors import InputError
from scalestop.laws import ScalingLaw
from scalestop.lightning import trainer as _trainer
from scalestop.lightning.host import TrainerHost
from scalestop.planning.budget import Budget, BudgetLike
from scalestop.planning.choice import AUTO, LawLike
from scalestop.planning.planned import Plan
from scalestop.planning.rule import Overshoot, Oversized, StopAt, StopReason, StopRule, Undersized
from scalestop.planning.speed import Speed, parse_flops_per_second
from scalestop.run.aims import Aims, OnTrouble, Reactions, StopWhen
from scalestop.run.curve import Curve
from scalestop.run.feed import BatchFeed
from scalestop.run.final_loss import LossNames
from scalestop.run.gate import Gate
from scalestop.run.history import History
from scalestop.run.live import LiveRun
from scalestop.run.outlook import scored
from scalestop.run.planner import RunPlanner
from scalestop.run.records import describe_end
from scalestop.run.reporter import Reporter
from scalestop.run.state import RunState
from scalestop.run.stopping import StopDecision
from scalestop.run.watch import RunWatch
from scalestop.schedules.undecayed import RecordsLike, read_records, undecayed_penalty

STATE_KEY = "ComputeOptimalStopping"
"""How the key of the callback's state in a checkpoint begins."""


class StoppingCallback:
    """Stops a run at its compute-optimal point, or when its budget is spent, or before it starts if it is too large.

    This is `scalestop.ComputeOptimalStopping` less its base class, the `Callback` of the namespace that the user has
    imported. Drop it into a Trainer::

        Trainer(max_epochs=-1, callbacks=[ComputeOptimalStopping(budget="1e18 FLOPs")])

    It counts every token that the model is trained on and the FLOPs they cost, prints a plan before the first step,
    stops after a real optimizer step, says why, saves a checkpoint there and writes a `RunRecord`.

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
        stop_when: `marginal` ends the run where its next unit of compute is better spent on a larger model.
        name: Tells several of these callbacks in one Trainer apart.
        save_checkpoint: Whether to save a checkpoint at the stop; None saves unless checkpointing is disabled.
        record: Whether to write the `RunRecord`.
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
        name: str | None = None,
        save_checkpoint: bool | None = None,
        record: bool = True,
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
        )
        self._penalty = None if records is None else undecayed_penalty(read_records(records))
        self.budget, self.rule = self._aims.budget, self._aims.rule
        self._anneal = anneal
        self._new_sizing = partial(Sizing, num_params, flops_per_token, active_experts, count_tokens)
        self._count_tokens = count_tokens
        self._count_validation = count_validation
        self._loss_names = LossNames(loss_metric)
        self._reporter = Reporter(name, verbose, record)
        self._save_checkpoint = save_checkpoint
        self._clock = clock
        # what can be wrong without a model is wrong now, not after the queue
        self._settled = self._aims.settle(num_params)
        self._settled.plan(num_params or 1, tokens_per_step, None)
        self._trainer: weakref.ref[Any] | None = None
        self._module: weakref.ref[Any] | None = None
        self._forget()

    def _forget(self) -> None:
        """Be ready for a run that has nothing to do with the last one."""
        self._sizing: Sizing = self._new_sizing()
        self._restored: dict[str, Any] = {}
        self._state: RunState | None = None
        self._feed: BatchFeed | None = None
        self._host: TrainerHost | None = None
        self._live: LiveRun | None = None

    # ---- what users read

    @property
    def law(self) -> ScalingLaw | None:
        """The law that plans the run; None if there is none. `auto` may choose anew once the model is known."""
        return self._settled.settled_law

    @property
    def plan(self) -> Plan | None:
        """What the run will do; None before `fit`."""
        return self._live.plan if self._live is not None else None

    @property
    def watch(self) -> RunWatch | None:
        """The counts and the rule at work; None before `fit`."""
        return self._state.watch if self._state is not None else None

    @property
    def usage(self) -> Usage:
        """What the run has used so far: exact on one rank; over several, as of the last reduction."""
        return self.watch.usage if self.watch is not None else Usage()

    @property
    def decision(self) -> StopDecision:
        """The latest decision of the stop rule, with its numbers and its message."""
        if self.watch is None:
            return StopDecision(False, StopReason.NOT_STOPPED, "not started")
        return self.watch.decision

    @property
    def stop_reason(self) -> StopReason:
        """Why the run stopped; `NOT_STOPPED` if it has not."""
        return self.decision.reason

    @property
    def params(self) -> ParamCount | None:
        """The model's parameters by role; None before `fit`."""
        return self._sizing.params

    @property
    def cost(self) -> FlopsPerToken | None:
        """What a token costs, and how that was found; None before `fit`."""
        return self._sizing.cost

    @property
    def curve(self) -> Curve | None:
        """The run's curve so far: training loss in windows, rate, counts, validations; None before `fit`."""
        return self._state.history.curve if self._state is not None else None

    @property
    def record_path(self) -> Path | None:
        """Where the record was written; None if it was not."""
        return self._reporter.record_path

    @property
    def checkpoint_path(self) -> Path | None:
        """Where the checkpoint of the stop was saved; None if it was not."""
        return self._live.checkpoint_path if self._live is not None else None

    # ---- life of a run

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Count parameters before any wrapper shards them."""
        self._stage = stage
        if stage != "fit":
            return
        before = self._trainer() if self._trainer else None, self._module() if self._module else None
        if before[0] is not trainer or before[1] is not pl_module:  # the same model in the same Trainer goes on
            self._forget()
            self._trainer, self._module = weakref.ref(trainer), weakref.ref(pl_module)
        if not _trainer.builds_later(pl_module):
            self._sizing.count(pl_module)

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Find N and set up the counters; a model built in `configure_model` exists only now."""
        params = self._sizing.count(pl_module)
        if self._state is None:
            is_text = params.embedding > 0
            self._settled = self._aims.settle(self._sizing.num_params or params.total, is_text)
        cost = self._sizing.price(pl_module, self._settled.convention)
        if self._state is None:
            self._state = self._new_state(trainer, cost)
        counter = TokenCounter(self._count_tokens, encoder_decoder=is_encoder_decoder(pl_module))
        counts_here = _trainer.counts_here(trainer)
        self._feed = BatchFeed(self._state.watch, self._state.steps, counter, counts_here, self._state.history.losses)
        self._take_up_state()

    def _new_state(self, trainer: Any, cost: FlopsPerToken) -> RunState:
        world = _trainer.world_size(trainer)
        meter = Meter(
            cost.model,
            forward_flops_per_token=cost.forward,
            count_validation=self._count_validation,
            world_size=world,
        )
        watch = RunWatch(
            meter, TokenAccumulator(), self._clock, lambda values: _trainer.sum_over_ranks(trainer, values)
        )
        planner = RunPlanner(self._settled, self._sizing.size(self._settled.convention), cost.model, world)
        run, history = trainer.strategy.broadcast(uuid.uuid4().hex), History(LossAccumulator())
        return RunState(run, self.name, self._sizing, watch, planner, history=history)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """End a run that should not begin; the plan is stated once the first batch is there."""
        assert self._state is not None
        self._take_up_state()  # some strategies restore callbacks only after on_fit_start
        gate = self._aims.gate
        host = self._host = TrainerHost(trainer, self, self.name, gate, self._save_checkpoint, self._penalty)
        self._reporter.take_place(host.folder, trainer.is_global_zero)
        live = self._live = LiveRun(self._state, host, self._reporter, self._loss_names)
        live.peak_flops_per_second = self._aims.speed.peak_flops_per_second
        if live.peak_flops_per_second is None:
            device = trainer.strategy.root_device
            live.peak_flops_per_second = peak_flops_per_second(device, _trainer.precision(trainer))
        if self._anneal and host.schedules.begin_branch(live.plan, self.usage):
            self._state.run = trainer.strategy.broadcast(uuid.uuid4().hex)  # a run of its own from here on
        self._state.steps.attach(trainer.optimizers, lambda: trainer.global_step)
        live.start()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Count the batch while it is whole: a training step may take it apart. The first one completes the plan."""
        assert self._feed is not None
        if not _trainer.fetches_itself(trainer):
            self._take(trainer, pl_module, batch)

    def _take(self, trainer: Any, pl_module: Any, batch: Any) -> None:
        assert self._feed is not None and self._live is not None and self._state is not None
        if self._live.announced:
            self._feed.take(batch)
            return
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
            self._state.reprice(self._sizing.price(pl_module, self._settled.convention, batch))
        ranks = _trainer.accumulation(trainer) * _trainer.data_parallel_size(trainer)
        self._live.announce(count.processed * ranks if count is not None else None)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Add the batch; after a real optimizer step, see whether it was the last one."""
        assert self._feed is not None and self._live is not None
        if _trainer.fetches_itself(trainer):
            self._take(trainer, pl_module, batch)
        self._feed.add_loss(_trainer.training_loss(trainer, outputs))
        due = self._feed.add_trained()
        if due is not None:
            self._live.step(due)

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Count validation in its own counter."""
        if self._feed is not None and self._stage == "fit":
            self._feed.add_validation(batch)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Note the loss, and look at the gate's metrics."""
        if self._live is not None and self._stage == "fit" and not trainer.sanity_checking:
            self._live.note_validation()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Bring the counts and the decision up to date for the record."""
        if self._live is not None:
            self._live.finish()

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Print the closing line and write the record."""
        if self._live is None or self._state is None:
            return
        loss, late = self._live.final_loss().loss, self._state.watch.late_by
        also = scored(self._state.history, loss, self._live.share)
        self._reporter.say(describe_end(self._live.plan, self.law, self.usage, self.decision, loss, late, also))
        self._write_record(trainer, self.decision)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Keep what a preempted or broken run has used."""
        if self._live is None:
            return
        self._live.break_off()
        if type(exception).__name__ == "SIGTERMException":
            self._live.save("preempted")
        why = f"the run was ended by {type(exception).__name__}"
        self._write_record(trainer, StopDecision(False, StopReason.NOT_STOPPED, why))

    def _write_record(self, trainer: Any, decision: StopDecision) -> None:
        assert self._live is not None and self._state is not None and self._host is not None
        if self._live.is_idle:
            return  # nothing happened in this fit; the record of what did stands, its loss included
        loss, seed, rate = self._live.final_loss(), self._host.seed(), self._host.learning_rate()
        record = self._state.record(self._live.plan, decision, loss, seed=seed, final_rate=rate)
        self._reporter.record(record)

    # ---- state

    def state_dict(self) -> dict[str, Any]:
        """Return the global counts and the run's identity."""
        if self._state is None or self._feed is None:
            return {}
        trainer = self._trainer() if self._trainer is not None else None
        if trainer is not None and _trainer.batch_is_done(trainer):
            self._feed.catch_up()  # some other callback saves before this one's turn
        return self._state.state_dict(_trainer.sum_at_save)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep saved counts until the model's size is known; a checkpoint loaded for testing leaves them alone."""
        if getattr(self, "_stage", None) == "fit":
            self._restored = state_dict

    def _take_up_state(self) -> None:
        state, self._restored = self._restored, {}
        if state and self._state is not None:
            for line in self._state.load_state_dict(state):
                self._reporter.warn(line)
