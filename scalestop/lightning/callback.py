"""The Lightning callback: feeds the watch, tells the user, ends the run. No formula lives here, and no Lightning."""

from __future__ import annotations

import math
import time
import uuid
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from scalestop.accounting.flops import FlopsPerToken, check_flops_spec
from scalestop.accounting.hardware import peak_flops_per_second
from scalestop.accounting.meter import Meter
from scalestop.accounting.samples import NOTE, count_samples
from scalestop.accounting.sizing import Sizing
from scalestop.accounting.tokens import (
    CountTokens,
    TokenAccumulator,
    TokenCounter,
    check_count_tokens,
    is_encoder_decoder,
)
from scalestop.accounting.trainable import TrainableSet
from scalestop.errors import InputError
from scalestop.laws import ScalingLaw
from scalestop.lightning import trainer as _trainer
from scalestop.lightning.host import Ranks, TrainerHost
from scalestop.lightning.rendezvous import Rendezvous
from scalestop.lightning.resume import STATE_KEY, Resume
from scalestop.lightning.save_sums import SaveSums
from scalestop.lightning.saving import record_folder, what_is_wrong_with
from scalestop.lightning.told import Told
from scalestop.planning.budget import Budget, BudgetLike
from scalestop.planning.choice import AUTO, LawLike
from scalestop.planning.rule import Overshoot, Oversized, StopAt, StopRule, Undersized
from scalestop.planning.speed import Speed, parse_flops_per_second
from scalestop.run.agreement import differing, refuse
from scalestop.run.aims import Aims
from scalestop.run.earlier import Earlier, OnMissing
from scalestop.run.feed import BatchFeed
from scalestop.run.gate import Gate
from scalestop.run.live import LiveRun
from scalestop.run.planner import RunPlanner
from scalestop.run.reporter import Reporter
from scalestop.run.state import RunState
from scalestop.run.watch import RunWatch
from scalestop.schedules.undecayed import RecordsLike, read_records, undecayed_penalty


class StoppingCallback(Told):
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
        loss_metric: Logged metric that is the run's loss; `val_loss`, `train_loss` or `loss` if None.
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

    _stage: str | None = None
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
        )
        self._penalty = None if records is None else undecayed_penalty(read_records(records))
        self.budget, self.rule = self._aims.budget, self._aims.rule
        self._anneal = anneal
        self._new_sizing = partial(Sizing, num_params, flops_per_token, active_experts, count_tokens)
        self._count_tokens = count_tokens
        self._count_validation = count_validation
        self._loss_names = (loss_metric,) if loss_metric else ("val_loss", "train_loss", "loss")
        self._earlier = Earlier.parse(on_missing_state, initial_tokens, initial_flops)
        self._record = record
        self._reporter = Reporter(name, verbose, record is not False)
        self._save_checkpoint = save_checkpoint
        self._clock = clock
        # what can be wrong without a model is wrong now, not after the queue
        self._settled = self._aims.settle(num_params)
        self._settled.plan(num_params or 1, tokens_per_step, None)
        self._sent_at_step: int | None = None
        self._trainer: weakref.ref[Any] | None = None
        self._module: weakref.ref[Any] | None = None
        self._forget()

    def _forget(self) -> None:
        """Be ready for a run that has nothing to do with the last one."""
        self._sizing: Sizing = self._new_sizing()
        self._resume = Resume(self._earlier, self.state_key)
        self._state: RunState | None = None
        self._feed: BatchFeed | None = None
        self._live: LiveRun | None = None
        self._trainable: TrainableSet | None = None
        self._fetches_itself = False
        self._save_sums, self._meets = SaveSums(""), Rendezvous("")

    @property
    def law(self) -> ScalingLaw | None:
        """The law that plans the run; None if there is none. `auto` may choose anew once the model is known."""
        return self._settled.settled_law

    # ---- life of a run

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Count parameters before any wrapper shards them."""
        self._stage = stage
        if stage != "fit":
            return
        before = self._trainer() if self._trainer else None, self._module() if self._module else None
        if before[0] is not trainer or before[1] is not pl_module:  # the same model in the same Trainer goes on
            if self._sent_at_step != trainer.global_step or self._state is None:
                self._forget()
            else:  # both were sent to another process
                self._state.watch.go_on(Ranks(trainer))
            self._trainer, self._module = weakref.ref(trainer), weakref.ref(pl_module)
        self._sent_at_step = None
        self._live = self._feed = None
        if not _trainer.builds_later(pl_module):
            self._sizing.count(pl_module)

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Find N and set up the counters; a model built in `configure_model` exists only now."""
        params = self._sizing.count(pl_module)
        self._sizing.recount(pl_module)  # other callbacks freeze in `setup`
        if self._state is None:
            size = self._sizing.num_params or (params.total if params is not None else None)
            self._settled = self._aims.settle(size, params is None or params.embedding > 0)
        cost = self._sizing.price(pl_module, self._settled.convention)
        if self._state is None:
            self._state = self._new_state(trainer, cost)
        counter = TokenCounter(self._count_tokens, encoder_decoder=is_encoder_decoder(pl_module))
        self._feed = BatchFeed(self._state.watch, self._state.steps, counter, _trainer.counts_here(trainer))
        nonce = trainer.strategy.broadcast(uuid.uuid4().hex)
        self._save_sums, self._meets = SaveSums(nonce), Rendezvous(nonce)
        self._take_up_state()

    def _new_state(self, trainer: Any, cost: FlopsPerToken) -> RunState:
        world = _trainer.world_size(trainer)
        meter = Meter(
            cost.model,
            forward_flops_per_token=cost.forward,
            count_validation=self._count_validation,
            world_size=world,
        )
        watch = RunWatch(meter, TokenAccumulator(), self._clock, Ranks(trainer))
        planner = RunPlanner(self._settled, self._sizing.size(self._settled.convention), cost.model, world)
        return RunState(trainer.strategy.broadcast(uuid.uuid4().hex), self.name, self._sizing, watch, planner)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """End a run that should not begin; the plan is stated once the first batch is there."""
        assert self._state is not None
        self._take_up_state()  # some strategies restore callbacks only after on_fit_start
        for line in self._resume.settle(self._state, trainer):
            self._reporter.warn(line)
        host = TrainerHost(trainer, self, self._state, self._save_checkpoint, self._penalty)
        self._reporter.take_place(record_folder(trainer, self._record), trainer.is_global_zero)
        live = self._live = LiveRun(self._state, host, self._reporter, self._loss_names)
        live.peak_flops_per_second = self._aims.speed.peak_flops_per_second
        if live.peak_flops_per_second is None:
            device = trainer.strategy.root_device
            live.peak_flops_per_second = peak_flops_per_second(device, _trainer.precision(trainer))
        if self._anneal and host.schedules.begin_branch(live.plan, self.usage):
            self._state.run = trainer.strategy.broadcast(uuid.uuid4().hex)  # a run of its own from here on
        self._state.steps.attach(trainer.optimizers, lambda: trainer.global_step)
        self._trainable, self._fetches_itself = TrainableSet(pl_module), _trainer.fetches_itself(trainer)
        if self._sizing.recount(pl_module):  # and others when training starts
            self._state.reprice(self._sizing.price(pl_module, self._settled.convention))
            live.plan = self._state.planner.plan()
        self._compare_ranks(trainer)
        live.start()

    def _compare_ranks(self, trainer: Any) -> None:
        """Refuse ranks that plan differently, and learn whether all have as many batches."""
        assert self._live is not None and self._state is not None
        if self._state.watch.meter.world_size == 1:
            return
        batches = trainer.num_training_batches
        facts = self._state.planner.facts(self._live.plan, self._state.watch.usage)
        names = differing({**facts, "batches": str(batches)}, partial(_trainer.maxima_over_ranks, trainer))
        if found := [name for name in names if name in facts]:
            refuse(facts, found, _trainer.gather)
        may_part = "batches" in names or not math.isfinite(batches)
        self._state.watch.meets = self._meets if may_part else None

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """See the batches that a training step takes itself, of a loader that may be new in each epoch."""
        if self._fetches_itself:
            _trainer.watch_fetches(trainer, self._see_fetched)

    def _see_fetched(self, batch: Any) -> None:
        assert self._feed is not None and self._live is not None and self._trainer is not None and self._module
        trainer = self._trainer()
        if not self._live.announced and trainer is not None:
            self._take_first(trainer, self._module(), batch)
        else:
            self._feed.take_another(batch)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Count the batch while it is whole: a training step may take it apart. The first one completes the plan."""
        feed, live = self._feed, self._live
        assert feed is not None and live is not None
        if self._fetches_itself:
            feed.begin()
        elif live.announced:
            feed.take(batch)
        else:
            self._take_first(trainer, pl_module, batch)

    def _take_first(self, trainer: Any, pl_module: Any, batch: Any) -> None:
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
            self._state.reprice(self._sizing.price(pl_module, self._settled.convention, batch))
        ranks = _trainer.accumulation(trainer) * _trainer.data_parallel_size(trainer)
        self._live.announce(count.processed * ranks if count is not None else None)
        if self._resume.owes:
            self._live.begin_at(self._resume.estimate(trainer, count))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Add the batch; after a real optimizer step, see whether it was the last one."""
        feed, live, trainable = self._feed, self._live, self._trainable
        assert feed is not None and live is not None and trainable is not None
        if trainable.changed():
            self._price_anew(pl_module, batch)
        due = feed.add_trained()
        if due or (due is not None and live.keeps_time):
            live.step(due)

    def _price_anew(self, pl_module: Any, batch: Any) -> None:
        """Find what a token costs now that other parameters train."""
        assert self._live is not None and self._state is not None
        before, changed = self._sizing.cost, self._sizing.recount(pl_module)
        if not changed and not self._sizing.needs_batch:
            return
        try:
            cost = self._sizing.price(pl_module, self._settled.convention, batch)
        except InputError as error:
            self._reporter.warn(f"other parameters train by now, and what a token costs is not known: {error}")
            return
        if before is None or cost.model != before.model:
            self._state.reprice(cost)
            params, step = self._sizing.params, self._state.watch.meter.optimizer_steps + 1
            trains = f" ({params.trainable:,} of {params.total:,})" if params is not None else ""
            self._live.note_price(
                f"other parameters train from step {step:,} on{trains}: a token costs {cost.model:,} FLOPs"
            )

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
        if self._live is not None:
            self._live.close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Keep what a preempted or broken run has used. Nothing that goes wrong here hides what ended it."""
        if self._live is not None:
            self._catch_up(trainer)
            preempted = type(exception).__name__ == "SIGTERMException"  # raised on all ranks at one batch
            self._live.break_off(type(exception).__name__, self.state_dict if preempted else None)
        elif (wrong := what_is_wrong_with(trainer.ckpt_path)) is not None:
            exception.add_note(f"scalestop: checkpoint: {wrong}")

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Leave nothing in the process group's store."""
        self._save_sums.close()
        self._meets.close()

    # ---- state

    def state_dict(self) -> dict[str, Any]:
        """Return the global counts and the run's identity."""
        if self._state is None or self._feed is None:
            return {}
        self._catch_up(self._trainer() if self._trainer is not None else None)
        return self._state.state_dict(self._save_sums)

    def _catch_up(self, trainer: Any) -> None:
        """Count the batch at hand if it has been trained on, before this callback's turn to hear of it."""
        if self._feed is not None and trainer is not None and _trainer.batch_is_done(trainer):
            self._feed.catch_up()

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: Mapping[str, Any]) -> None:
        """Look for counts in the checkpoint that a fit goes on from; there may be none."""
        if self._stage == "fit":
            self._resume.see(checkpoint)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep saved counts until the model's size is known; a checkpoint loaded for testing leaves them alone."""
        if self._stage == "fit":
            self._resume.restore(state_dict)

    def _take_up_state(self) -> None:
        assert self._state is not None
        for line in self._resume.take_up(self._state):
            self._reporter.warn(line)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the Trainer behind, and what only lives in it; counts, plan and decision go along."""
        trainer = self._trainer() if self._trainer is not None else None
        left = {"_trainer": None, "_module": None, "_feed": None, "_trainable": None}
        step = trainer.global_step if trainer is not None else self._sent_at_step
        # these two are put here by Lightning, and are the module's
        kept = {name: value for name, value in self.__dict__.items() if name not in ("log", "log_dict")}
        return {**kept, **left, "_sent_at_step": step}
