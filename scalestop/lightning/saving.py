"""Where a run of a Trainer keeps its files, and saving a checkpoint there without harm to the other ranks."""

from __future__ import annotations

import os
import zipfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from scalestop.lightning import trainer as _trainer
from scalestop.run.files import free_name


def record_folder(trainer: Any, wanted: bool | None) -> Path | None:
    """Return where the run's record belongs: its log directory; None for a run that keeps nothing.

    A Trainer without a logger and without a folder of its own logs to the working directory, where records of
    a test-suite would pile up. There the record goes to its checkpoints, if there are any.

    Args:
        trainer: The Trainer, set up. A collective: every rank must call it.
        wanted: Whether the user wants a record; None if he does not say.
    """
    folder = _trainer.log_directory(trainer)
    if trainer.fast_dev_run or wanted is False:
        return None
    if wanted is None and not trainer.loggers and folder.resolve() == Path.cwd():
        beside = checkpoint_directory(trainer)
        return Path(beside) if beside is not None and "://" not in str(beside) else None
    return folder


def checkpoint_directory(trainer: Any) -> Path | str | None:
    """Return where Lightning's own checkpoints of this run go; None if it saves none."""
    for callback in trainer.checkpoint_callbacks:
        if (found := getattr(callback, "dirpath", None)) is not None:
            return found
    return None


def save_checkpoint(trainer: Any, folder: Path | str, stem: str, run: str) -> Path | str:
    """Save a checkpoint under a name that is free. Every rank must call it, and on all of them it ends alike.

    Args:
        trainer: The Trainer.
        folder: Folder or URL.
        stem: File name less its ending.
        run: The run's identity, which keeps names apart where files cannot be claimed.

    Returns:
        Where it was saved.

    Raises:
        Exception: Whatever the storage raised, here or on another rank; nothing is left under the final name then.
    """
    with ExitStack() as stack:
        name: Path | str | None = None
        trouble: Exception | None = None
        if trainer.is_global_zero:
            try:
                if "://" in str(folder):
                    name = f"{str(folder).rstrip('/')}/{stem}-{run[:8]}.ckpt"
                else:
                    name = stack.enter_context(free_name(Path(folder) / f"{stem}.ckpt"))
            except Exception as error:
                trouble = error
        name = trainer.strategy.broadcast(name)
        if name is None:
            raise trouble or OSError("rank 0 found no name for it")
        try:
            trainer.save_checkpoint(name)
        except Exception as error:
            trouble = error
            # save_checkpoint ends in a barrier, where the ranks that met no error are waiting for this one
            trainer.strategy.barrier("Trainer.save_checkpoint")
        failed = [int(trouble is not None)]
        if _trainer.world_size(trainer) > 1:
            failed = _trainer.sum_over_ranks(trainer, failed)
        if failed[0]:
            raise trouble or OSError("another rank could not write it")
        return name


def what_is_wrong_with(path: Any) -> str | None:
    """Say why a checkpoint file cannot be read, from its size and its ends; None if nothing is seen.

    Args:
        path: A local file; anything else passes.
    """
    with suppress(OSError, TypeError, ValueError):
        size = os.stat(path).st_size
        if not os.path.isfile(path):
            return None
        if size == 0:
            return f"{path} is empty: whatever wrote it was cut off; take another checkpoint"
        with open(path, "rb") as file:
            starts = file.read(2)
        if starts == b"PK" and not zipfile.is_zipfile(path):
            return f"{path} ends in the middle, after {size:,} bytes: it is truncated; take another checkpoint"
    return None
