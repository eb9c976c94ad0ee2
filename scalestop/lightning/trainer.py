"""Everything scalestop asks of a Trainer beyond its plain public attributes, in one place.

No `isinstance` on the Trainer: `pytorch_lightning` and `lightning.pytorch` are two class trees with the same behaviour.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from scalestop.laws import Provenance
from scalestop.planning.planned import Plan
from scalestop.planning.rule import StopReason
from scalestop.run.adapter.resume import STATE_KEY
from scalestop.run.earlier import Found
from scalestop.schedules.horizons import Scheduled


def world_size(trainer: Any) -> int:
    """Processes that train together; 1 without torch.distributed."""
    return int(trainer.world_size) if dist.is_available() and dist.is_initialized() else 1


def data_parallel_size(trainer: Any) -> int:
    """Ranks that see different batches: the world, less tensor-parallel copies."""
    mesh = _device_mesh(trainer)
    if mesh is not None and "data_parallel" in (mesh.mesh_dim_names or ()):
        return int(mesh["data_parallel"].size())
    return world_size(trainer)


def counts_here(trainer: Any) -> bool:
    """Whether this rank's batches count: one tensor-parallel rank of each group does, the others see the same batch."""
    mesh = _device_mesh(trainer)
    if mesh is not None and "tensor_parallel" in (mesh.mesh_dim_names or ()):
        return int(mesh["tensor_parallel"].get_local_rank()) == 0
    return True


def _device_mesh(trainer: Any) -> Any:
    mesh = getattr(trainer.strategy, "_device_mesh", None)
    return mesh if mesh is not None and hasattr(mesh, "mesh_dim_names") else None


def sum_over_ranks(trainer: Any, values: Sequence[int]) -> list[int]:
    """Add up ints over all ranks, element by element. A collective: every rank must call it."""
    tensor = torch.tensor(list(values), dtype=torch.int64, device=trainer.strategy.root_device)
    dist.all_reduce(tensor)
    return [int(value) for value in tensor.tolist()]


def maxima_over_ranks(trainer: Any, values: Sequence[int]) -> list[int]:
    """Return the largest of each int over all ranks. A collective: every rank must call it."""
    tensor = torch.tensor(list(values), dtype=torch.int64, device=trainer.strategy.root_device)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return [int(value) for value in tensor.tolist()]


def gather(value: Any) -> list[Any]:
    """Return every rank's value, by rank. A collective: every rank must call it."""
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def logging_step(trainer: Any) -> int:
    """The step that Lightning's own metrics of this batch are logged under."""
    loop = trainer.fit_loop.epoch_loop
    return int(getattr(loop, "_batches_that_stepped", max(0, int(trainer.global_step) - 1)))


def log_directory(trainer: Any) -> Path:
    """Folder of this run's logs. A collective under several ranks: every rank must call it."""
    return Path(trainer.log_dir or trainer.default_root_dir)


def fetches_itself(trainer: Any) -> bool:
    """Whether the training step takes its batches itself (`training_step(dataloader_iter)`)."""
    kinds = type(trainer.fit_loop._data_fetcher).__mro__
    return any(kind.__name__ == "_DataLoaderIterDataFetcher" for kind in kinds)


def watch_fetches(trainer: Any, seen: Callable[[Any], None]) -> None:
    """Have each batch shown that a training step takes itself: hooks see the last one alone, and an old one again.

    Args:
        trainer: The Trainer, whose fetcher keeps the batch it has handed out.
        seen: Called with a batch when it is handed out.
    """
    fetcher = trainer.fit_loop._data_fetcher
    if not hasattr(fetcher, "_watchers"):

        class Watched(type(fetcher)):  # type: ignore[misc]
            @property
            def _batch(self) -> Any:
                return self.__dict__["_batch"]

            @_batch.setter
            def _batch(self, batch: Any) -> None:
                self.__dict__["_batch"] = batch
                if batch is not None:
                    for watcher in self._watchers:
                        watcher(batch)

        fetcher._watchers = []
        fetcher.__class__ = Watched
    if seen not in fetcher._watchers:
        fetcher._watchers.append(seen)


def found_in(checkpoint: Mapping[str, Any], state_key: str) -> Found:
    """Return how far a checkpoint is, and whose counts it holds.

    Args:
        checkpoint: As Lightning loads it.
        state_key: The callback's own.
    """
    others = [str(key) for key in checkpoint.get("callbacks") or {} if str(key).startswith(STATE_KEY)]
    loops = checkpoint.get("loops") or {}
    try:
        batches = int(loops["fit_loop"]["epoch_loop.batch_progress"]["total"]["processed"])
    except (KeyError, TypeError, ValueError):
        batches = 0
    names = [key.removeprefix(STATE_KEY).strip("{}").replace("'name': ", "name=") for key in others if key != state_key]
    return Found(int(checkpoint.get("global_step", 0)), batches, tuple(names))


def found(trainer: Any, seen: Found | None) -> Found | None:
    """Return what the fit goes on from, in optimizer steps rather than those of all optimizers; None for a new run.

    Args:
        trainer: The Trainer, once it has restored what it goes on from.
        seen: What the checkpoint told, if it holds callbacks at all.
    """
    if seen is None and trainer.ckpt_path is not None:
        seen = Found(int(trainer.global_step), 0)
    optimizers = 1 if trainer.lightning_module.automatic_optimization else max(1, len(trainer.optimizers))
    return replace(seen, steps=seen.steps // optimizers) if seen is not None else None


def batch_is_done(trainer: Any) -> bool:
    """Whether the batch at hand has been trained on, so that a checkpoint of this moment goes on after it."""
    batches = trainer.fit_loop.epoch_loop.batch_progress.current
    # one that the module skipped is fetched and finished, but never started
    return bool(batches.processed == batches.started == batches.ready)


def builds_later(pl_module: Any) -> bool:
    """Whether the module makes (some of) its layers in `configure_model`, after `setup`."""
    method = getattr(type(pl_module), "configure_model", None)
    # the base classes of both namespaces define an empty one
    return method is not None and not method.__module__.endswith(".core.hooks")


def seed() -> int | None:
    """Seed given to `seed_everything`; None if it was not called."""
    value = os.environ.get("PL_GLOBAL_SEED", "")
    return int(value) if value.isdigit() else None


def learning_rate(trainer: Any) -> float | None:
    """The first param group's learning rate."""
    with suppress(Exception):
        return float(trainer.optimizers[0].param_groups[0]["lr"])
    return None


def training_loss(trainer: Any, pl_module: Any, outputs: Any) -> torch.Tensor | None:
    """The batch's mean loss out of what `on_train_batch_end` is handed, on its device; None if there is none.

    Under automatic optimization Lightning hands out a detached copy, divided by the batches of an optimizer step.
    """
    loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        return None
    if type(loss) is not torch.Tensor and hasattr(loss, "to_local"):
        loss = loss.to_local()  # of a DTensor, which is the same on all ranks of its mesh
    if not pl_module.automatic_optimization:
        return loss.detach().clone()
    batches = trainer.accumulate_grad_batches
    return loss if batches == 1 else loss * batches


def accumulation(trainer: Any) -> int:
    """Batches per optimizer step under automatic optimization; 1 under manual."""
    if not trainer.lightning_module.automatic_optimization:
        return 1
    return int(trainer.accumulate_grad_batches)


def provenance(trainer: Any) -> Provenance | None:
    """Return text and recipe of the run, as its datamodule and its module tell them; None if neither does.

    Each may have an attribute `provenance`: a mapping of fields of `Provenance`, as `TextData` and `TinyGPT` have.
    """
    told: dict[str, Any] = {}
    for source in (trainer.lightning_module, trainer.datamodule):
        with suppress(Exception):  # somebody else's attribute of that name
            told |= Provenance(**source.provenance).stated
    return Provenance(**told) if told else None


def conflicts(trainer: Any, plan: Plan) -> list[str]:
    """Say which of the Trainer's own settings get in the way of the planned stop.

    Args:
        trainer: The Trainer, its data set up.
        plan: The plan.
    """
    lines = []
    stop = plan.stop_step
    loop = trainer.fit_loop
    per_epoch = steps_per_epoch(trainer)
    floor, setting = max(
        (trainer.min_steps or 0, f"min_steps={trainer.min_steps}"),
        (
            (loop.min_epochs or 0) * per_epoch,
            f"min_epochs={loop.min_epochs}" + (" (min_steps sets it)" if trainer.min_steps else ""),
        ),
        key=lambda pair: pair[0],
    )
    if floor and (stop is None or stop < floor):
        until = f"step {floor:,}" if math.isfinite(floor) else "the end of the epoch"
        when = "a stop" if stop is None else f"the planned stop at step {stop:,}"
        lines.append(f"{setting} vetoes {when}: training would go on to {until} and past the budget; lower it")
    if plan.stop_reason is StopReason.MODEL_OVERSIZED:
        return lines
    ceiling, setting = min(
        (trainer.max_steps if trainer.max_steps >= 0 else math.inf, f"max_steps={trainer.max_steps}"),
        (
            loop.max_epochs * per_epoch if (loop.max_epochs or -1) >= 0 else math.inf,
            f"max_epochs={loop.max_epochs} ({per_epoch:,} steps each)",
        ),
        key=lambda pair: pair[0],
    )
    if math.isfinite(ceiling) and stop is not None and ceiling < stop:
        lines.append(
            f"{setting} ends the run at step {int(ceiling):,}, before the planned stop at step {stop:,} "
            f"({ceiling / stop:.0%} of the way); raise it, or set max_epochs=-1 to let the budget decide"
        )
    return lines


def schedules(trainer: Any) -> list[Scheduled]:
    """The run's learning-rate schedulers, and how often the Trainer steps each."""
    found = []
    for config in trainer.lr_scheduler_configs:
        frequency, batches = max(1, int(config.frequency)), accumulation(trainer)
        if not trainer.lightning_module.automatic_optimization:
            steps = math.nan  # the module steps them itself
        elif str(config.interval) == "step":
            # Lightning counts the frequency in batches, and looks only where an optimizer step was taken
            steps = math.lcm(frequency, batches) / batches
        else:
            steps = frequency * steps_per_epoch(trainer)
        found.append(Scheduled(config.scheduler, steps))
    return found


def steps_per_epoch(trainer: Any) -> float:
    """Optimizer steps in an epoch; infinite for data without length."""
    batches = trainer.num_training_batches
    return math.ceil(batches / accumulation(trainer)) if math.isfinite(batches) else math.inf


def precision(trainer: Any) -> str:
    """The Trainer's precision, such as `bf16-mixed`."""
    return str(getattr(trainer, "precision", None) or "32-true")
