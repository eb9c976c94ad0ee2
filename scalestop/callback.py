"""The Lightning callback: feeds the watch, tells the user, ends the run. No formula lives here."""

from __future__ import annotations

import time
import uuid
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import Callback

from scalestop import _trainer
from scalestop._planner import Aims, RunPlanner
from scalestop._reporter import Reporter, seen
from scalestop._sizing import Sizing
from scalestop._steps import StepSensor
from scalestop.accounting.flops import FlopsPerToken
from scalestop.accounting.hardware import peak_flops_per_second
from scalestop.accounting.meter import Meter, Usage
from scalestop.accounting.params import ParamCount
from scalestop.accounting.tokens import (
    CountTokens,
    TokenAccumulator,
    TokenCount,
    TokenCounter,
    is_encoder_decoder,
)
from scalestop.errors import InputError
from scalestop.gate import Gate
from scalestop.laws import DEFAULT_LAW, ScalingLaw, get_law
from scalestop.metrics import delivered, progress, run_metrics
from scalestop.planning.budget import Budget, BudgetLike
from scalestop.planning.planned import Plan
from scalestop.planning.rule import Overshoot, Oversized, StopAt, StopReason, StopRule, Undersized
from scalestop.planning.speed import Speed, parse_flops_per_second
from scalestop.records import build_record, describe_end, law_fingerprint
from scalestop.schedule import begin_branch
from scalestop.stopping import StopDecision
from scalestop.undecayed import RecordsLike, read_records, undecayed_penalty
from scalestop.watch import RunWatch

_SAVE_TOGETHER_SECONDS = 20.0
"""How long a rank that saves waits for the others' counts before it saves an estimate."""


class ComputeOptimalStopping(Callback):
    """Stops a run at its compute-optimal point, or when its budget is spent, or before it starts if it is too large.

    Drop it into a Trainer::

        Trainer(max_epochs=-1, callbacks=[ComputeOptimalStopping(budget="1e18 FLOPs")])

    It counts every token that the model is trained on and the FLOPs they cost, prints a plan before the first step,
    stops after a real optimizer step, says why, saves a checkpoint there and writes a `RunRecord`.

    Args:
        budget: What the run may spend: `"1e18 FLOPs"`, `"0.5 PF-days"`, `"2B tokens"`, `"8 GPU-hours"`, `"12h"`,
            `"500 USD"`, a number of FLOPs, or several in a list, of which the first one reached counts.
        law: The scaling law that knows the optimum: a name (see `list_laws()`), a file, or a law.
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
        law: str | Path | ScalingLaw = DEFAULT_LAW,
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
        record: bool = True,
        verbose: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.name = name
        # by name alone, so that a raised budget finds its counts again; made once, as Lightning asks at every hook
        self.state_key = self._generate_state_key(name=name)
        self._aims = Aims(
            budget=Budget.parse(budget),
            job_budget=None if job_budget is None else Budget.parse(job_budget),
            law=get_law(law),
            rule=StopRule(tolerance, oversize_factor, oversized, undersized, stop_at, overshoot),
            gate=Gate.parse(until),
            speed=Speed(parse_flops_per_second(peak_flops_per_second), mfu, usd_per_device_hour=usd_per_device_hour),
            tokens_per_step=tokens_per_step,
            penalty=None if records is None else undecayed_penalty(read_records(records)),
        )
        self.budget, self.law, self.rule = self._aims.budget, self._aims.law, self._aims.rule
        self._gate = self._aims.gate
        self._anneal = anneal
        self._new_sizing = partial(Sizing, num_params, flops_per_token, active_experts, count_tokens)
        self._count_tokens = count_tokens
        self._token_rule = "own function" if count_tokens is not None else "by shape and mask"
        self._count_validation = count_validation
        self._loss_names = (loss_metric,) if loss_metric else ("val_loss", "train_loss", "loss")
        self._reporter = Reporter(name, verbose, save_checkpoint, record)
        self._clock = clock
        # what can be wrong without a model is wrong now, not after the queue
        self._aims.plan(num_params or 1, tokens_per_step, None)
        self._trainer: weakref.ref[Any] | None = None
        self._module: weakref.ref[Any] | None = None
        self._forget()

    def _forget(self) -> None:
        self.plan: Plan | None = None
        """What the run will do; None before `fit`."""
        self._sizing = self._new_sizing()
        self.watch: RunWatch | None = None
        """The counts and the rule at work; None before `fit`."""
        self._restored: dict[str, Any] = {}
        self._run = uuid.uuid4().hex
        self._planner: RunPlanner | None = None
        self._steps = StepSensor()
        self._curve: list[tuple[int, float]] = []
        self._world = 1
        self._reported = Usage()
        self._stop_saved_at: int | None = None
        self._steps_before = 0
        self._batch: TokenCount | None = None
        self._open = self._step_counted = self._due = False

    # ---- what users read

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
    def record_path(self) -> Path | None:
        """Where the record was written; None if it was not."""
        return self._reporter.record_path

    @property
    def checkpoint_path(self) -> Path | None:
        """Where the checkpoint of the stop was saved; None if it was not."""
        return self._reporter.checkpoint_path

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
        self._reporter.begin(trainer)
        self._run = trainer.strategy.broadcast(self._run)
        self._sizing.count(pl_module)
        self._num_params = self._sizing.size(self.law.info.n_counts)
        self._world = _trainer.world_size(trainer)
        self._counts_here = _trainer.counts_here(trainer)
        cost = self._sizing.price(trainer, pl_module, self.law.info.n_counts)
        self._counter = TokenCounter(self._count_tokens, encoder_decoder=is_encoder_decoder(pl_module))
        self._table_peak = peak_flops_per_second(trainer.strategy.root_device, _trainer.precision(trainer))
        if self.watch is None:
            meter = Meter(
                cost.model,
                forward_flops_per_token=cost.forward,
                count_validation=self._count_validation,
                world_size=self._world,
            )
            self.watch = RunWatch(
                meter, TokenAccumulator(), self._clock, lambda values: _trainer.sum_over_ranks(trainer, values)
            )
        if self._planner is None:
            self._planner = RunPlanner(self._aims, self._num_params, cost.model, self._world)
        self._take_up_state()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """State the plan, say what stands in its way, and end a run that should not begin."""
        planner = self._planner
        assert self.watch is not None and planner is not None
        self._take_up_state()  # some strategies restore callbacks only after on_fit_start
        self.plan = planner.begin(trainer, self._counter)
        if self._anneal and begin_branch(planner.schedules, progress(self.plan.limits, self.usage)):
            self._run = trainer.strategy.broadcast(uuid.uuid4().hex)  # a run of its own from here on
        self.plan = planner.with_decay_note(self.plan)
        self._reporter.say(f"plan\n{self.plan}")
        for line in planner.conflicts(trainer, self.plan):
            self._reporter.warn(line)
        if self.plan.too_large and self.rule.oversized == "warn":
            self._reporter.warn(f"N is {self.plan.size_ratio:.2f} N_opt; training on, as oversized='warn' asks")
        self._batch, self._open, self._step_counted = None, False, False
        self._stop_saved_at = None
        self._steps_before = self.watch.meter.optimizer_steps
        self._steps.attach(trainer)
        self.watch.start()
        self._reported = self.usage
        self._look(trainer)
        self._tell_time()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Count the batch while it is whole: a training step may take it apart."""
        self._batch = self._counter(batch) if self._counts_here else None
        self._open = True
        self.watch.begin_batch()  # type: ignore[union-attr]

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Add the batch; after a real optimizer step, see whether it was the last one."""
        watch = self.watch
        assert watch is not None
        if self._open:
            self._close_batch(trainer)
        if not self._step_counted:
            return
        self._step_counted = False
        every = trainer.log_every_n_steps
        logs = every > 0 and watch.meter.optimizer_steps % every == 0
        looks = self._due or logs
        if looks:
            self._look(trainer)
        if self._planner.schedules:  # type: ignore[union-attr]
            self._tell_time()  # before the stop is saved, so that its file holds the rate it ended with
        if looks:
            stop = self.decision.stop
            if logs or stop:
                self._report(trainer)
            if stop and self._stop_saved_at is None:
                self._save_stop(trainer)

    def _close_batch(self, trainer: Any) -> None:
        """Count the batch, and the optimizer step if it made one."""
        watch = self.watch
        assert watch is not None
        self._open = False
        stepped = self._steps.moved(trainer)
        self._due = watch.end_batch(self._batch, stepped)
        self._batch = None
        if stepped:
            self._step_counted = True

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Count validation in its own counter."""
        if self.watch is None or self._stage != "fit" or not self._counts_here:
            return
        try:
            self.watch.meter.add_validation(self._counter(batch).processed)
        except InputError:  # validation batches may look otherwise; that matters only if they are to be paid for
            if self._count_validation:
                raise

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Note the loss, and look at the gate's metrics."""
        if self.watch is None or self.plan is None or self._stage != "fit" or trainer.sanity_checking:
            return
        self._gate.require(trainer.callback_metrics)
        usage = self.watch.sync()
        if self._gate.conditions or self._count_validation:
            self.watch.look_at_next_step()
        loss, _ = seen(trainer.callback_metrics, self._loss_names)
        if loss is not None and usage.tokens_non_padding:
            self._curve.append((usage.tokens_non_padding, loss))

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Bring the counts and the decision up to date for the record."""
        if self.watch is not None and self.plan is not None:
            if self.decision.stop:
                self.watch.sync()
            else:
                self.watch.look(self.plan, self._waiting_for(trainer))
            self.watch.pause()
            if self._stop_saved_at not in (None, self.watch.meter.optimizer_steps):
                self._save_stop(trainer)  # min_steps or the like held the stop back
        self._steps.detach()

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Print the closing line and write the record."""
        if self.plan is None:
            return
        loss, loss_name = seen(trainer.callback_metrics, self._loss_names)
        late = self.watch.late_by if self.watch is not None else None
        self._reporter.say(describe_end(self.plan, self.law, self.usage, self.decision, loss, late))
        self._write_record(trainer, loss, loss_name, self.decision)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Keep what a preempted or broken run has used."""
        self._steps.detach()
        if self.plan is None or self.watch is None:
            return
        self.watch.pause()
        if type(exception).__name__ == "SIGTERMException":
            self._reporter.checkpoint(trainer, "preempted")
        why = f"the run was ended by {type(exception).__name__}"
        loss, loss_name = seen(trainer.callback_metrics, self._loss_names)
        self._write_record(trainer, loss, loss_name, StopDecision(False, StopReason.NOT_STOPPED, why))

    # ---- planning and deciding

    def _tell_time(self) -> None:
        assert self.plan is not None and self.watch is not None and self._planner is not None
        self._planner.tell_time(self.plan, self.watch.estimate(), self.name or "")

    def _look(self, trainer: Any) -> None:
        assert self.watch is not None and self.plan is not None
        decision = self.watch.look(self.plan, self._waiting_for(trainer))
        self._steps.see_rate(_trainer.learning_rate(trainer))
        if not decision.stop:
            self._correct_plan(trainer)
        if self.plan.allocation is None and not decision.stop:
            self._measure_speed(trainer)
        if self.decision.stop:
            trainer.should_stop = True

    def _waiting_for(self, trainer: Any) -> str | None:
        """Return the gate's unmet conditions; ranks may have logged different values, and all follow the first."""
        if not self._gate.conditions:
            return None
        assert self.plan is not None
        target = self.plan.target_tokens
        reached = target is not None and self.usage.tokens_non_padding >= target
        # where nothing is validated, a metric of the training epoch is there once the first one is over
        if reached and trainer.current_epoch > 0 and not _trainer.validates(trainer):
            self._gate.require(trainer.callback_metrics)
        unmet: str | None = trainer.strategy.broadcast(self._gate.waiting_for(trainer.callback_metrics))
        return unmet

    def _correct_plan(self, trainer: Any) -> None:
        """Hold the plan against the first real step."""
        assert self.watch is not None and self.plan is not None and self._planner is not None
        self.plan, said, conflicts = self._planner.correct(trainer, self.plan, self.usage.since(self._reported))
        if not self._planner.checked:
            self.watch.look_at_next_step()
        for line in said:
            self._reporter.say(line)
        for line in conflicts:
            self._reporter.warn(line)

    def _measure_speed(self, trainer: Any) -> None:
        """Where neither peak nor MFU was given: find the optimum of the time or money with a measured speed."""
        assert self.watch is not None and self.plan is not None and self._planner is not None
        found = self._planner.measure(self.plan, self.watch.job_usage)
        if found is None:
            self.watch.look_at_next_step()
            return
        self.plan, said = found
        self._reporter.say(said)
        for line in _trainer.conflicts(trainer, self.plan):
            self._reporter.warn(line)
        self.watch.look(self.plan)

    def _save_stop(self, trainer: Any) -> None:
        assert self.watch is not None
        self._stop_saved_at = self.watch.meter.optimizer_steps
        self._reporter.checkpoint(trainer, "stop")

    # ---- telling and keeping

    def _report(self, trainer: Any) -> None:
        """Log through the Trainer's loggers; a broken logger must not end the run."""
        assert self.plan is not None and self.watch is not None
        usage = self.watch.usage
        job = self.watch.job_usage
        values = run_metrics(self.plan, self.law, usage, job)
        peak = self._aims.speed.peak_flops_per_second or self._table_peak
        values |= delivered(self.plan, usage.since(self._reported), usage, self._world, peak, job)
        if (goodput := self.watch.goodput) is not None:
            values["goodput"] = goodput
        self._reported = usage
        self._reporter.log(trainer, self, values)

    def _write_record(self, trainer: Any, loss: float | None, loss_name: str | None, decision: StopDecision) -> None:
        assert self.plan is not None and self.params is not None and self.watch is not None
        steps = self.watch.meter.optimizer_steps
        if steps == self._steps_before > 0:
            return  # nothing happened in this fit; the record of what did stands, its loss included
        final = _trainer.learning_rate(trainer)
        record = build_record(
            plan=self.plan,
            params=self.params,
            usage=self.usage,
            decision=decision,
            loss=loss,
            loss_name=loss_name,
            curve=self._curve,
            run=self._run,
            seed=_trainer.seed(),
            late_by=self.watch.late_by if self.watch is not None else None,
            lr_final_share=final / self._steps.peak_rate if final is not None and self._steps.peak_rate > 0 else None,
        )
        self._reporter.record(record)

    # ---- state: plain ints, strings and dicts, so that weights_only loading takes it

    def state_dict(self) -> dict[str, Any]:
        """Return the global counts and the run's identity."""
        if self.watch is None:
            return {}
        trainer = self._trainer() if self._trainer is not None else None
        if self._open and trainer is not None and _trainer.batch_is_done(trainer):
            self._close_batch(trainer)  # some other callback saves before this one's turn; Lightning takes it as done
        # the ranks' own counts differ: the key is of what they all share, at this moment alone
        key = f"scalestop/{self._run}/{self.name}/{self.watch.batches}/{self.watch.reductions}"
        return {
            **self.watch.state_dict(lambda values: _trainer.sum_through_store(key, values, _SAVE_TOGETHER_SECONDS)),
            "run": self._run,
            "curve": [[tokens, loss] for tokens, loss in self._curve],
            "peak_lr": self._steps.peak_rate,
            "measured_flops_per_second": self._planner.measured if self._planner is not None else None,
            "fingerprint": self._fingerprint(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep saved counts until the model's size is known; a checkpoint loaded for testing leaves them alone."""
        if getattr(self, "_stage", None) == "fit":
            self._restored = state_dict

    def _take_up_state(self) -> None:
        state, self._restored = self._restored, {}
        if not state or self.watch is None or self._planner is None:
            return
        self.watch.meter.load_state_dict(state["meter"])
        self._run, self._steps.peak_rate = state["run"], state["peak_lr"]
        self._planner.measured = state["measured_flops_per_second"]
        self._curve = [(int(tokens), float(loss)) for tokens, loss in state["curve"]]
        if not state["exact"]:
            self._reporter.warn(
                "the checkpoint was saved by one rank alone: its counts since the last reduction are estimates"
            )
        for name, now in self._fingerprint().items():
            before = state["fingerprint"].get(name)
            if before != now:
                self._reporter.warn(
                    f"{name} was {before!r} when this run was saved and is {now!r}; counts go on from there"
                )

    def _fingerprint(self) -> dict[str, Any]:
        return {
            "num_params": self._num_params,
            "n_counts": self.law.info.n_counts,
            "law": law_fingerprint(self.law),
            "flops_per_token": self.cost.model if self.cost else None,
            "token_rule": self._token_rule,
        }
