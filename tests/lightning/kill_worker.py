"""Trains one run through many lives: `kill_worker.py FOLDER KILLS SEED`.

Each life is a fork of this process, so that the imports are paid for once. It sends a byte whenever something happens
in it (a hook, a checkpoint being written); after a random number of them it is killed with SIGKILL, wherever it is by
then, and the next life goes on from the last checkpoint that can be read. Prints the final usage of the killed run and
of an unbroken one, and the kills, as JSON.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import signal
import sys
import zipfile
from dataclasses import asdict
from pathlib import Path

import torch
import toys
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

BUDGET = "24000 tokens"


class Tells(Callback):
    """Sends a byte at every hook of a step."""

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe

    def _tell(self, *args) -> None:
        os.write(self.pipe, b".")

    on_train_batch_start = on_before_backward = on_before_optimizer_step = on_train_batch_end = _tell
    on_save_checkpoint = _tell


def live(folder: Path, path: Path | None, pipe: int | None) -> None:
    """Train from a checkpoint to the end and write the usage down."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    callback = toys.stopping(BUDGET, oversized="ignore", verbose=False, save_checkpoint=False)
    keeper = ModelCheckpoint(folder, every_n_train_steps=3, save_top_k=-1, filename="{step}")
    callbacks = [callback, keeper, *([Tells(pipe)] if pipe is not None else [])]
    data = toys.loader(400, ragged=True, kind=toys.ResumableLoader)
    toys.train(callbacks, folder, data=data, ckpt_path=path)
    counts = {k: v for k, v in asdict(callback.usage).items() if "seconds" not in k}
    (folder / "usage.json").write_text(json.dumps({**counts, "reason": str(callback.stop_reason)}))


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that can be read; older ones are cleared away."""
    found = sorted(folder.glob("*.ckpt"), key=lambda path: int(path.stem.split("=")[1].split("-")[0]))
    while found:
        try:
            torch.load(found[-1], weights_only=True)
        except (EOFError, OSError, RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile):
            found.pop().unlink()
            continue
        for old in found[:-2]:
            old.unlink()
        return found[-1]
    return None


def one_life(folder: Path, events: int | None) -> bool:
    """Fork a life and kill it after so many events; None lets it be. Returns whether it ended by itself."""
    path = last_checkpoint(folder)
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(ours)
            live(folder, path, theirs)
            code = 0
        finally:
            os._exit(code)
    os.close(theirs)
    seen = 0
    while events is None or seen < events:
        data = os.read(ours, 1 if events is not None else 4096)
        if not data:
            break
        seen += len(data)
    else:
        os.kill(child, signal.SIGKILL)
    os.close(ours)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    assert os.WEXITSTATUS(status) == 0
    return True


def main(folder: Path, kills: int, seed: int) -> None:
    rng = random.Random(seed)
    (folder / "killed").mkdir()
    (folder / "whole").mkdir()
    killed, resumed_at = 0, []
    while killed < kills:
        path = last_checkpoint(folder / "killed")
        resumed_at.append(0 if path is None else int(path.stem.split("=")[1].split("-")[0]))
        if one_life(folder / "killed", rng.randint(1, 60)):
            break
        killed += 1
    one_life(folder / "killed", None)
    one_life(folder / "whole", None)
    usages = {name: json.loads((folder / name / "usage.json").read_text()) for name in ("killed", "whole")}
    print(json.dumps({**usages, "kills": killed, "resumed_at": resumed_at}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
