"""One rank of the distributed tests: `torchrun distributed_worker.py CASES.json`.

Runs case after case, so that the imports are paid for once, and writes what it saw to `rank-R.json` after each.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import pytorch_lightning as pl
import torch
import torch.distributed as dist
import toys
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy

from scalestop.errors import ScalestopWarning
from scalestop.run.adapter import save_sums


class Sharded:
    """Sharded over data-parallel ranks by FSDP2; its head split over tensor-parallel ones."""

    def configure_model(self) -> None:
        from torch.distributed.fsdp import fully_shard
        from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module
        from torch.distributed.tensor.placement_types import Replicate

        mesh = self.device_mesh
        if mesh["tensor_parallel"].size() > 1:
            plan = {"head": ColwiseParallel(output_layouts=Replicate())}
            parallelize_module(self, mesh["tensor_parallel"], plan)
        if mesh["data_parallel"].size() > 1:
            for part in (self.embedding, self.head):  # Lightning calls the training step, not the module
                fully_shard(part, mesh=mesh["data_parallel"])


class ShardedToy(Sharded, toys.Toy):
    """Automatic optimization."""


class ShardedManualToy(Sharded, toys.ManualToy):
    """Two optimizers by hand."""


class Uneven(torch.utils.data.Dataset):
    """Rank 1's batches are longer, and both ranks' are ragged."""

    def __init__(self, rank: int, batches: int) -> None:
        self.rows, self.rank, self.batches = toys.Rows(4 * batches, ragged=True, seed=rank), rank, batches

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, index):
        rows = [self.rows[4 * index + i] for i in range(4)]
        return toys.padded(rows[: 2 + 2 * self.rank])


class LogsRank(Callback):
    """A metric that is another one on each rank."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.log("rank", float(trainer.global_rank))


class SavesAlone(Callback):
    """Asks for the state on one rank only, as a user's own saving code may."""

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if batch_idx == 3 and trainer.global_rank == 0:
            self.state = next(c for c in trainer.callbacks if hasattr(c, "watch")).state_dict()


class Thaws(Callback):
    """Frozen before the module is wrapped, and free from some step on."""

    def __init__(self, step: int) -> None:
        self.step = step

    def setup(self, trainer, module, stage):
        module.embedding.requires_grad_(False)

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step == self.step:
            module.embedding.requires_grad_(True)


class Jump(torch.utils.data.Dataset):
    """Batches that are 64 times as large from the twentieth step on."""

    def __len__(self) -> int:
        return 200

    def __getitem__(self, index):
        return toys.plain([torch.zeros(toys.LENGTH, dtype=torch.int64)] * (1 if index < 20 else 64))


def strategy_of(case):
    timeout = timedelta(seconds=60)
    if case["strategy"] == "ddp":
        return DDPStrategy(process_group_backend="gloo", timeout=timeout)
    tensor = case.get("tensor_parallel", 1)
    return ModelParallelStrategy(
        data_parallel_size=int(os.environ["WORLD_SIZE"]) // tensor,
        tensor_parallel_size=tensor,
        process_group_backend="gloo",
        timeout=timeout,
    )


def data_of(case, rank: int):
    if case["data"] == "jump":
        return torch.utils.data.DataLoader(Jump(), batch_size=None)
    if case["data"] == "stream":
        return torch.utils.data.DataLoader(toys.Stream(case["batches"][rank]), batch_size=None)
    if case["data"] == "uneven":
        return torch.utils.data.DataLoader(Uneven(rank, case.get("batches", 40)), batch_size=None)
    return toys.loader(case.get("rows", 400), ragged=case["data"] == "ragged")  # Lightning adds a DistributedSampler


def run(case: dict, folder: Path) -> dict:
    """Train one case on this rank and return what it saw."""
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.manual_seed(0)
    save_sums.PATIENCE = case.get("patience", 20.0)
    budget = case["budget"][rank] if isinstance(case["budget"], list) else case["budget"]
    options = {"oversized": "ignore", **case.get("options", {}), **case.get("options_by_rank", [{}, {}])[rank]}
    if case.get("function_price"):
        options["flops_per_token"] = lambda module, batch: case["function_price"][rank]
    callback = toys.stopping(budget, **options)
    callbacks = [callback]
    if case.get("saves_alone"):
        callbacks.append(SavesAlone())
    if "thaw" in case:
        callbacks.append(Thaws(case["thaw"]))
    if case.get("logs_rank"):
        callbacks.append(LogsRank())
    trainer_options = dict(case.get("trainer", {}))
    if world > 1:
        trainer_options["strategy"] = strategy_of(case)
    sharded = case["strategy"] == "model_parallel"
    if case.get("manual"):  # stepped every so many batches
        module = (ShardedManualToy if sharded else toys.ManualToy)(case["manual"])
    else:
        module = ShardedToy() if sharded else toys.Toy()
    told = []
    warnings.showwarning = lambda message, category, *rest: told.append((category, str(message)))
    warnings.simplefilter("always", ScalestopWarning)
    trainer = toys.train(
        callbacks,
        folder,
        module,
        data_of(case, rank),
        trainer_class=pl.Trainer,
        devices=int(os.environ["LOCAL_WORLD_SIZE"]),
        num_nodes=world // int(os.environ["LOCAL_WORLD_SIZE"]),
        ckpt_path=case.get("ckpt_path"),
        **trainer_options,
    )
    result = {
        "batches": [asdict(batch) for batch in trainer.toy.batches],
        "global_step": trainer.global_step,
        "usage": asdict(callback.usage),
        "reason": str(callback.stop_reason),
        "num_params": callback.plan.num_params,
        "stop_step": callback.plan.stop_step,
        "flops_per_token": callback.plan.flops_per_token,
        "reductions": callback.watch.reductions,
        "late_by": callback.watch.late_by,
        "looks": callback._live.follower.metrics,
        "curve": [[point.step, point.loss, point.count] for point in callback.curve.points],
        "checkpoint": str(callback.checkpoint_path),
        "warnings": [text for category, text in told if issubclass(category, ScalestopWarning)],
    }
    if case.get("saves_alone") and rank == 0:
        result["alone"] = {k: v for k, v in callbacks[1].state.items() if k in ("exact", "meter")}
    return result


def run_or_fail(case: dict, folder: Path) -> dict:
    """As `run`; what it raises is a result where that is expected."""
    if not case.get("may_fail"):
        return run(case, folder)
    try:
        return run(case, folder)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def main(path: str) -> None:
    torch.set_num_threads(1)
    cases, folder, results = json.loads(Path(path).read_text()), Path(path).parent, {}
    for name, case in cases.items():
        if case.get("ckpt_of"):
            case["ckpt_path"] = results[case["ckpt_of"]]["checkpoint"]
        results[name] = run_or_fail(case, folder / name)
        (folder / f"rank-{os.environ['RANK']}.json").write_text(json.dumps(results))
    if any(case["data"] == "stream" for case in cases.values()):
        return  # the ranks have parted, and one that waits for the other is no longer there
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
