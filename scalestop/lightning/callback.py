"""The Lightning callback: feeds the watch, tells the user, ends the run. No formula lives here, and no Lightning."""

from __future__ import annotations

import math
import uuid
import weakref
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from scalestop.accounting.hardware import peak_flops_per_second
from scalestop.accounting.tokens import TokenCounter, is_encoder_decoder
from scalestop.accounting.trainable import TrainableSet
from scalestop.lightning import trainer as _trainer
from scalestop.lightning.host import Ranks, TrainerHost
from scalestop.lightning.saving import record_folder, what_is_wrong_with
from scalestop.run.adapter.base import RunAdapter
from scalestop.run.adapter.rendezvous import Rendezvous
from scalestop.run.adapter.save_sums import SaveSums
from scalestop.run.agreement import differing, refuse
from scalestop.run.feed import BatchFeed
from scalestop.run.live import LiveRun


class StoppingCallback(RunAdapter):
    """Stops a run at its compute-optimal point, or when its budget is spent, or before it starts if it is too large.

    This is `scalestop.ComputeOptimalStopping` less its base class, the `Callback` of the namespace that the user has
    imported. Drop it into a Trainer::

        Trainer(max_epochs=-1, callbacks=[ComputeOptimalStopping(budget="1e18 FLOPs")])

    It counts every token that the model is trained on and the FLOPs they cost, prints a plan before the first step,
    stops after a real optimizer step, says why, saves a checkpoint there and writes a `RunRecord`.

    """

    _stage: str | None = None
    _sent_at_step: int | None = None
    _trainer: weakref.ref[Any] | None = None
    _module: weakref.ref[Any] | None = None

    def _forget(self) -> None:
        super()._forget()
        self._fetches_itself = False
        self._save_sums, self._meets = SaveSums(""), Rendezvous("")

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
            aims = replace(self._aims, origin=_trainer.provenance(trainer))
            self._settled = aims.settle(size, params is None or params.embedding > 0)
        cost = self._sizing.price(pl_module, self._settled.convention)
        if self._state is None:
            run = trainer.strategy.broadcast(uuid.uuid4().hex)
            self._state = self._new_state(run, cost, Ranks(trainer), _trainer.world_size(trainer))
        counter = TokenCounter(self._count_tokens, encoder_decoder=is_encoder_decoder(pl_module))
        history, counts_here = self._state.history, _trainer.counts_here(trainer)
        kept = history.losses, history.prints
        self._feed = BatchFeed(self._state.watch, self._state.steps, counter, counts_here, *kept)
        nonce = trainer.strategy.broadcast(uuid.uuid4().hex)
        self._save_sums, self._meets = SaveSums(nonce), Rendezvous(nonce)
        self._take_up_state()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """End a run that should not begin; the plan is stated once the first batch is there."""
        assert self._state is not None
        self._take_up_state()  # some strategies restore callbacks only after on_fit_start
        for line in self._resume.settle(
            self._state, _trainer.found(trainer, self._resume.seen), _trainer.accumulation(trainer)
        ):
            self._reporter.warn(line)
        host = TrainerHost(trainer, self, self._state, self._save_checkpoint, self._penalty, self._shows_forecast)
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
            self._take_first_of(trainer, self._module(), batch)
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
            self._take_first_of(trainer, pl_module, batch)

    def _take_first_of(self, trainer: Any, pl_module: Any, batch: Any) -> None:
        ranks = _trainer.accumulation(trainer) * _trainer.data_parallel_size(trainer)
        self._take_first(pl_module, batch, ranks, Ranks(trainer))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Add the batch; after a real optimizer step, see whether it was the last one."""
        feed, live, trainable = self._feed, self._live, self._trainable
        assert feed is not None and live is not None and trainable is not None
        if trainable.changed():
            self._price_anew(pl_module, batch)
        feed.add_loss(_trainer.training_loss(trainer, pl_module, outputs))
        due = feed.add_trained()
        if due is not None and (due or live.keeps_time or live.point_is_due):
            live.step(due)

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
            self._resume.seen = _trainer.found_in(checkpoint, self.state_key)

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


# the settings have one text for all adapters, and `help()` shows it whole
StoppingCallback.__doc__ = f"{StoppingCallback.__doc__}Args:{(RunAdapter.__doc__ or '').partition('Args:')[2]}"
