"""One rank of the fault tests over two: `torchrun ranks_worker.py FOLDER`. Writes what it saw to `rank-R.json`."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
import warnings
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import toys
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.strategies import DDPStrategy

from scalestop.errors import ScalestopWarning


class FullDisk(TorchCheckpointIO):
    """Fails as it writes, and leaves half a file."""

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")


class Strikes(Callback):
    """Raises on both ranks in batch 12, or has the scheduler end the job there."""

    def __init__(self, what: str) -> None:
        self.what = what

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if batch_idx == 12 and self.what == "raises":
            raise ZeroDivisionError
        if batch_idx == 12 and self.what == "preempted":
            os.kill(os.getpid(), signal.SIGTERM)


def run(what: str, folder: Path) -> dict:
    torch.manual_seed(0)
    callback = toys.stopping("3000 tokens", oversized="ignore", save_checkpoint=what != "preempted, unsaved")
    strategy = DDPStrategy(process_group_backend="gloo", timeout=timedelta(seconds=40))
    plugins = [FullDisk()] if what == "full disk" else []
    told, error, module = [], None, toys.Toy()
    warnings.showwarning = lambda message, category, *rest: told.append((category, str(message)))
    warnings.simplefilter("always", ScalestopWarning)
    began = time.monotonic()
    try:
        toys.train(
            [callback, Strikes(what.partition(",")[0])],
            folder,
            module,
            toys.loader(400, ragged=True),
            devices=2,
            strategy=strategy,
            plugins=plugins,
            enable_checkpointing=False,
        )
    except BaseException as raised:
        error = type(raised).__name__
    return {
        "error": error,
        "seconds": time.monotonic() - began,
        "tokens": [batch.non_padding for batch in module.batches],
        "usage": callback.usage.tokens_non_padding,
        "steps": callback.usage.optimizer_steps,
        "reason": str(callback.stop_reason),
        "checkpoint": str(callback.checkpoint_path),
        "record": str(callback.record_path),
        "warnings": [text for category, text in told if issubclass(category, ScalestopWarning)],
    }


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    results = {}
    for what in ("full disk", "preempted", "preempted, unsaved", "raises"):
        results[what] = run(what, folder / what)
        (folder / f"rank-{os.environ['RANK']}.json").write_text(json.dumps(results))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
