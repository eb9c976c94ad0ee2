"""`ComputeOptimalStopping` for the Trainer of Hugging Face's transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from scalestop.errors import InputError
from scalestop.planning.planned import Plan
from scalestop.run.adapter.base import RunAdapter
from scalestop.run.adapter.loop import Loop, LoopAdapter, bare_optimizer
from scalestop.run.earlier import Found
from scalestop.schedules.horizons import Scheduled


class ComputeOptimalStopping(LoopAdapter, TrainerCallback, ExportableState):
    """Stops a `transformers.Trainer` at its compute-optimal point, or when its budget is spent, and says why.

    The settings and the rule are those of `scalestop.ComputeOptimalStopping`::

        Trainer(model, args, train_dataset=data, callbacks=[ComputeOptimalStopping(budget="1e18 FLOPs")]).train()

    Batches are counted as they enter the model, padding and labels told apart, so accumulation, several processes
    under Accelerate and resumes are exact. The stop is on a real optimizer step. There the Trainer evaluates and saves
    once more, if it does so at all, and the record lies in `output_dir`. Counts are kept in the Trainer's own
    `trainer_state.json`; `restore_callback_states_from_checkpoint` is not needed.

    transformers cannot end a run before its first step: for a model that is too large, or a budget that is spent
    already, `train()` raises an `InputError` with the reason, once the record is written.

    """

    _hook: Any = None
    _batch: Any = None
    _synced_at = -1

    def report_through(self, trainer: Any) -> None:
        """Have the metrics in whatever the Trainer reports to (W&B, TensorBoard, ...), and not in its history alone.

        The Trainer asks its callbacks in turn, those that report before those of the user; this one is put first.
        """
        callbacks = trainer.callback_handler.callbacks
        callbacks.remove(self)
        callbacks.insert(0, self)

    # ---- life of a run

    def on_init_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Count parameters before any wrapper shards them."""
        if model is not None:
            self._sizing.count(model)

    def on_train_begin(
        self,
        args: Any,
        state: Any,
        control: Any,
        model: Any = None,
        optimizer: Any = None,
        lr_scheduler: Any = None,
        **_: Any,
    ) -> None:
        """State what the run is, and refuse one that should not begin.

        Raises:
            InputError: If it should not, or cannot be planned.
        """
        if getattr(args, "n_gpu", 1) > 1:
            raise InputError("n_gpu: one process for several GPUs copies the model; start one for each with torchrun")
        if self._hook is not None:  # the last run raised, and transformers tells nobody
            self._hook.remove()
        self._hook = self._batch = None
        sizing = self._sizing
        self._forget()
        self._sizing, self._synced_at = sizing, -1
        self._values: dict[str, float] = {}
        scheduler = getattr(lr_scheduler, "scheduler", lr_scheduler)  # Accelerate's holds torch's

        def conflicts(plan: Plan) -> list[str]:
            if plan.stop_step is None or not 0 < state.max_steps < plan.stop_step:
                return []
            return [
                f"max_steps or num_train_epochs ends the run at step {state.max_steps:,}, before the planned stop at "
                f"step {plan.stop_step:,}; raise max_steps to let the budget decide"
            ]

        loop = Loop(
            [bare_optimizer(optimizer)],
            [Scheduled(scheduler, 1)] if scheduler is not None else [],
            None if self._record is False else Path(args.output_dir),
            args.gradient_accumulation_steps,
            int(state.logging_steps) if str(getattr(args.logging_strategy, "value", "")) == "steps" else 0,
            self._values.update,
            conflicts=conflicts,
            step_count=lambda: int(state.global_step),
            passes=lambda: float(state.epoch or 0),
            seed=args.seed,
        )
        saved = self._saved_in(state)
        steps = int(state.global_step)
        found = Found(steps, steps * args.gradient_accumulation_steps) if steps and saved is None else None
        self._begin(model, loop, saved, found)
        if self._ends:
            self._end()
            raise InputError(f"nothing was trained: {self.decision.reason}: {self.decision.message}")
        self._hook = model.register_forward_pre_hook(self._see, with_kwargs=True)

    def _saved_in(self, state: Any) -> Mapping[str, Any] | None:
        if not state.global_step:  # a new run's state holds what its callbacks were at before
            return None
        held = (state.stateful_callbacks or {}).get(type(self).__name__, [])
        for one in held if isinstance(held, list) else [held]:
            kept = one.get("attributes", {})
            if kept.get("key") == self.state_key and kept.get("saved"):
                found: Mapping[str, Any] = kept["saved"]
                return found
        return None

    def _see(self, module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        """Count what enters the model."""
        batch = kwargs or args
        assert self._feed is not None
        if not module.training:
            self._feed.add_validation(batch)
        elif self._batch is None:
            self._take(batch)
            self._batch = batch
        elif torch.is_grad_enabled():  # a loss of several passes
            self._feed.take_another(batch)

    def on_substep_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Add a batch of an accumulation."""
        batch, self._batch = self._batch, None
        self._trained(batch)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Add the batch; after the optimizer's step, see whether it was the last one."""
        self.on_substep_end(args, state, control)
        assert self._state is not None
        if self._ends and not control.should_training_stop:
            control.should_training_stop = True
            control.should_evaluate = control.should_evaluate or _does(args.eval_strategy)
            wanted = self._save_checkpoint
            control.should_save = control.should_save or (_does(args.save_strategy) if wanted is None else wanted)
        if control.should_save and self._synced_at != self._state.watch.batches:
            self._state.watch.sync()  # all ranks are here, and the first one alone is asked for the state
            self._synced_at = self._state.watch.batches

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Have exact counts for a checkpoint of the epoch's end."""
        if control.should_save and self._state is not None:
            self._state.watch.sync()
            self._synced_at = self._state.watch.batches

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Take up what the Trainer logs, and add the run's metrics to it."""
        if self._host is None or logs is None:
            return
        if "train_runtime" not in logs:  # the Trainer's last word is a mean over the whole run
            self._host.values.update({k: v for k, v in logs.items() if not k.startswith("scalestop/")})
        logs.update(self._values)
        if state.log_history:
            state.log_history[-1].update(self._values)
        self._values.clear()

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Mapping[str, Any] | None = None, **_: Any
    ) -> None:
        """Note the loss, and look at the gate's metrics."""
        if self._host is not None and self._live is not None and metrics is not None and self._hook is not None:
            self._host.values.update(metrics)
            self._live.note_validation()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note where the Trainer has saved."""
        if self._live is not None:
            self._live.checkpoint_path = Path(args.output_dir) / f"checkpoint-{state.global_step}"

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Say how the run ended, and keep its record."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
            self._end()

    # ---- state

    def state(self) -> dict[str, Any]:
        """Return what the Trainer writes beside its own state: the global counts and the run's identity."""
        if self._state is None or self._hook is None:
            return {"args": {}, "attributes": {}}
        world = self._ranks.world_size
        exact = world == 1 or self._synced_at == self._state.watch.batches
        # since the ranks' sum a few moments have passed, and nothing else
        saved = self._state.state_dict(lambda key, values: [v * world for v in values] if exact else None)
        return {"args": {}, "attributes": {"key": self.state_key, "saved": saved}}

    @classmethod
    def from_state(cls, state: Any) -> Any:
        """Refuse: a checkpoint does not hold the settings, and counts are read without this.

        Raises:
            InputError: Always.
        """
        raise InputError(
            "restore_callback_states_from_checkpoint: leave it False; ComputeOptimalStopping finds its counts by itself"
        )


def _does(strategy: Any) -> bool:
    return str(getattr(strategy, "value", strategy)) != "no"


ComputeOptimalStopping.__doc__ = (
    f"{ComputeOptimalStopping.__doc__}Args:{(RunAdapter.__doc__ or '').partition('Args:')[2]}"
)
