"""Everything scalestop asks of a Trainer beyond its plain public attributes, in one place.

No `isinstance` on the Trainer: `pytorch_lightning` and `lightning.pytorch` are two class trees with the same behaviour.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from scalestop.planning.planned import Plan
from scalestop.planning.rule import StopReason
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


_SAVE_TOGETHER_SECONDS = 20.0
"""How long a rank that saves waits for the others' counts before it saves an estimate."""


def sum_at_save(key: str, values: Sequence[int], timeout: float | None = None) -> list[int] | None:
    """Add up ints over all ranks without a collective, through the store the process group was made with.

    At checkpoint time there is no telling whether all ranks save or one alone; a collective would hang in the second
    case. Each rank posts its own numbers and waits a while for the others'.

    Args:
        key: The same on every rank for the same moment, and never used for another one.
        values: This rank's numbers.
        timeout: Seconds to wait for the others; some 20 if None.

    Returns:
        The sums, or None if some rank did not post in time.
    """
    try:
        store = dist.distributed_c10d._get_default_store()
        mine = dist.get_rank()
        store.set(f"{key}/{mine}", ",".join(map(str, values)))
        others = [f"{key}/{rank}" for rank in range(dist.get_world_size()) if rank != mine]
        store.wait(others, timedelta(seconds=_SAVE_TOGETHER_SECONDS if timeout is None else timeout))
        rows = [list(values), *([int(x) for x in store.get(other).decode().split(",")] for other in others)]
    except (RuntimeError, ValueError):
        return None
    return [sum(column) for column in zip(*rows, strict=True)]


def logging_step(trainer: Any) -> int:
    """The step that Lightning's own metrics of this batch are logged under."""
    loop = trainer.fit_loop.epoch_loop
    return int(getattr(loop, "_batches_that_stepped", max(0, int(trainer.global_step) - 1)))


def log_directory(trainer: Any) -> Path:
    """Folder of this run's logs. A collective under several ranks: every rank must call it."""
    return Path(trainer.log_dir or trainer.default_root_dir)


def fetches_itself(trainer: Any) -> bool:
    """Whether the training step takes its batches itself (`training_step(dataloader_iter)`)."""
    return type(trainer.fit_loop._data_fetcher).__name__ == "_DataLoaderIterDataFetcher"


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


def training_loss(trainer: Any, outputs: Any) -> torch.Tensor | None:
    """The batch's mean loss out of what `on_train_batch_end` is handed, on its device; None if there is none.

    Under automatic optimization Lightning hands out a detached copy, divided by the batches of an optimizer step.
    """
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        return None
    if hasattr(loss, "to_local"):  # a DTensor; a loss is the same on all ranks of its mesh
        loss = loss.to_local()
    if not trainer.lightning_module.automatic_optimization:
        return loss.detach().clone()
    batches = int(trainer.accumulate_grad_batches)
    return loss.detach() if batches == 1 else loss.detach() * batches


def accumulation(trainer: Any) -> int:
    """Batches per optimizer step under automatic optimization; 1 under manual."""
    if not trainer.lightning_module.automatic_optimization:
        return 1
    return int(trainer.accumulate_grad_batches)


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
