"""What a resumed run goes on with: its checkpoint, and the options that it was started with."""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace
from pytorch_lightning.callbacks import Callback

from scalestop.errors import InputError
from scalestop.files import as_path, write_whole
from scalestop.ladder.points import why_unreadable

OPTIONS = "config.yaml"
"""The options of a run, in its folder."""


@dataclass(frozen=True)
class Resumed:
    """A run to go on with."""

    checkpoint: Path
    """What it goes on from."""
    folder: Path | None
    """Its folder; None for a checkpoint that lies alone, whose run gets a new one."""

    @property
    def words(self) -> list[str]:
        """The command-line words that give the options of the run, before any others."""
        kept = None if self.folder is None else self.folder / OPTIONS
        return ["--config", str(kept)] if kept is not None and kept.is_file() else []

    def hyperparameters(self) -> dict[str, dict[str, Any]]:
        """Return the arguments of model and data that the checkpoint holds, for a run whose folder has no options."""
        content = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        names = {"model": "hyper_parameters", "data": "datamodule_hyper_parameters"}
        return {what: content[name] for what, name in names.items() if isinstance(content.get(name), dict)}


def find(resume: str) -> Resumed:
    """Find what to go on from.

    Args:
        resume: A checkpoint, or the folder of a run, whose latest checkpoint that can be read is taken.

    Raises:
        InputError: If there is none, or none that can be read.
    """
    path = as_path(resume, "resume")
    if os.path.isfile(path):
        if (why := why_unreadable(path)) is not None:
            raise InputError(f"resume: {path} is no checkpoint that can be read: {why}")
        return Resumed(path, path.parent.parent if path.parent.name == "checkpoints" else None)
    found = list((path / "checkpoints").glob("*.ckpt")) if os.path.isdir(path) else []
    if not found:
        raise InputError(f"resume: {str(path)[:300]} is no checkpoint and holds no checkpoints/*.ckpt")
    told = []
    for candidate in sorted(found, key=lambda p: p.stat().st_mtime, reverse=True):
        if (why := why_unreadable(candidate)) is None:
            return Resumed(candidate, path)
        told.append(f"{candidate.name} ({why})")
    raise InputError(f"resume: no checkpoint in {path / 'checkpoints'} can be read: {'; '.join(told)[:400]}")


def keep_options(parser: ArgumentParser, options: Namespace, folder: Path) -> None:
    """Keep a run's options in its folder, paths written out, so that it can go on from anywhere.

    Args:
        parser: Of the options.
        options: With the model's size and the batch filled in.
        folder: The run's.
    """
    kept = options.clone()
    for name in ("config", "resume"):
        kept.pop(name, None)
    law = Path(str(kept.law)).expanduser()
    if law.is_file():
        kept.law = str(law.resolve())
    kept.out = str(as_path(kept.out, "out").resolve())
    path = kept.get("data.init_args.path")
    if isinstance(path, str) and Path(path).expanduser().exists():
        kept["data.init_args.path"] = str(Path(path).expanduser().resolve())
    write_whole(folder / OPTIONS, parser.dump(kept, format="json_indented", skip_check=True) + "\n")  # JSON is YAML


class KeepOptions(Callback):
    """Keeps a run's options in its folder once it trains: a resume that is refused leaves those that were there.

    Args:
        write: Writes them.
    """

    def __init__(self, write: Callable[[], object]) -> None:
        self._write = write

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Write them, from one process."""
        if trainer.is_global_zero:
            self._write()


@contextmanager
def log_kept(folder: Path) -> Iterator[None]:
    """Keep what a run has logged while it goes on: Lightning's CSVLogger deletes the file of the folder it is given.

    A copy stays beside it, `metrics-1.csv` and so on; it takes the file's place again if the block fails before
    anything new was logged.

    Args:
        folder: The run's.
    """
    metrics, number = folder / "metrics.csv", 1
    if not metrics.is_file():
        yield
        return
    while (kept := folder / f"metrics-{number}.csv").exists() and not filecmp.cmp(kept, metrics, shallow=False):
        number += 1
    shutil.copy2(metrics, kept)
    try:
        yield
    except BaseException:
        if not metrics.exists():
            shutil.copy2(kept, metrics)
        raise
