"""Points that a run goes on from: found, and loaded as data alone. Nothing in one may run code."""

from __future__ import annotations

import inspect
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch

UNREADABLE = ".unreadable"
"""Suffix of a point that was set aside."""


def why_unreadable(path: Path) -> str | None:
    """Return why a checkpoint cannot be loaded as plain data and tensors; None if it can.

    Args:
        path: A checkpoint file. A folder, as sharded strategies write, is left to them.
    """
    if path.is_dir():
        return None
    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # damaged files raise whatever the damage makes of them
        # torch advises at length to load what should not be loaded; what it found stands behind or between that
        found = [line.strip() for line in str(error).splitlines() if line.strip()]
        facts = [line for line in found if not line.startswith(("Weights only load", "Check the documentation", "("))]
        return " ".join(facts)[:300] or type(error).__name__
    return None


def latest_point(folder: Path) -> Path | None:
    """Return the last resume point in a folder that can be loaded; one that cannot is set aside, and told.

    Args:
        folder: Where a run's resume points are.
    """
    found = sorted(folder.glob("step=*.ckpt"), key=_step_of, reverse=True)
    for path in found:
        why = why_unreadable(path)
        if why is None:
            return path
        os.replace(path, path.with_name(path.name + UNREADABLE))
        print(f"scalestop: {path} is set aside, as it is no plain data: {why}", file=sys.stderr, flush=True)
    return None


def _step_of(path: Path) -> int:
    number = path.stem.partition("=")[2]
    return int(number) if number.isdecimal() else -1


def only_data(trainer: Any, checkpoint: Path | None) -> dict[str, Any]:
    """Return the arguments with which `trainer.fit` goes on from a checkpoint and loads nothing but data.

    Args:
        trainer: A Trainer. Before Lightning 2.6 it cannot be asked for this; `why_unreadable` has looked then.
        checkpoint: Where to go on from; None begins anew.
    """
    if checkpoint is None or "weights_only" not in inspect.signature(trainer.fit).parameters:
        return {"ckpt_path": checkpoint}
    return {"ckpt_path": checkpoint, "weights_only": True}
