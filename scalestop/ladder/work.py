"""A worker: takes one rung after the other until none is left. `python -m scalestop.ladder.work FOLDER`."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from scalestop.errors import InputError, shown
from scalestop.files import disk_trouble, write_whole
from scalestop.ladder.apart import end_with_parent
from scalestop.ladder.run import train_apart, train_rung
from scalestop.ladder.store import Ladder

_WAIT_SECONDS = 1.0
DISK_TROUBLE = os.EX_IOERR
"""Exit code of a worker that could not write."""


def work(
    ladder: Ladder, wait: Callable[[float], None] = time.sleep, *, stay: bool = True, only: str | None = None
) -> list[str]:
    """Train whatever rungs are free, until all are done.

    A rung that another process is training is left to it; if that process ends without having ended the rung, this
    one goes on with it. A rung that raises here is left for the next start of the ladder, and the others are trained.

    Args:
        ladder: The ladder.
        wait: Waits so many seconds, while others train what is left; for tests.
        stay: Whether to wait for what others are training; without it, only for a trunk that branches need.
        only: Name of a rung: that one is trained, and first its trunk if nobody else has. None trains them all.

    Returns:
        Names of the rungs that raised. Why is in `work/NAME/error.txt`.

    Raises:
        InputError: If the ladder's folder cannot be written, as on a full disk. What is in it stays good: the same
            command goes on from there.
    """
    try:
        return _work(ladder, wait, stay, _but(ladder, only))
    except OSError as error:
        if (trouble := disk_trouble(error)) is None:
            raise
        raise cannot_write(ladder, trouble) from None


def cannot_write(ladder: Ladder, trouble: str) -> InputError:
    """Return the error for a folder that cannot be written.

    Args:
        ladder: The ladder.
        trouble: What is wrong, in words.
    """
    return InputError(
        f"out: {ladder.folder} cannot be written: {trouble}. Nothing in it is lost: make room, and the same command "
        f"goes on where it was"
    )


def _but(ladder: Ladder, only: str | None) -> list[str]:
    """Names of the rungs to leave to others."""
    if only is None:
        return []
    mine = next((rung for rung in ladder.rungs if rung.name == only), None)
    if mine is None:
        raise InputError(f"rung: {ladder.folder} has no {shown(only)}; `--launcher print` tells their names")
    return [rung.name for rung in ladder.rungs if rung.name not in (only, mine.trunk)]


def _work(ladder: Ladder, wait: Callable[[float], None], stay: bool, others: list[str]) -> list[str]:
    failed: list[str] = []
    while True:
        taken = ladder.take([*failed, *others])
        if taken is None:
            if not ladder.waits(failed, stay, others):
                return failed
            wait(_WAIT_SECONDS)
            continue
        rung, claim = taken
        with claim:
            try:
                if several_devices(ladder):
                    train_apart(ladder, rung)
                else:
                    train_rung(ladder, rung)
            except Exception as error:  # any user's model runs here, and the other rungs do not depend on it
                if (trouble := disk_trouble(error)) is not None:  # the other rungs would meet it too
                    raise cannot_write(ladder, trouble) from None
                failed.append(rung.name)
                with contextlib.suppress(OSError):
                    write_whole(ladder.work(rung) / "error.txt", traceback.format_exc())
                print(f"scalestop: {rung.name} failed: {error}", file=sys.stderr, flush=True)


def several_devices(ladder: Ladder) -> bool:
    """Whether each rung trains on more devices than one."""
    trainer = ladder.settings.trainer
    return str(trainer.get("devices", 1)) != "1" or str(trainer.get("num_nodes", 1)) != "1"


def main(folder: str | Path, threads: int | None = None, *, stay: bool = True) -> int:
    """Work at the ladder in a folder.

    Args:
        folder: The ladder's.
        threads: CPU threads of this worker; torch's default if None.
        stay: Whether to wait for what others are training.

    Returns:
        0, 1 if a rung failed, or `DISK_TROUBLE` if the folder cannot be written.
    """
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    ladder = Ladder.load(folder)
    try:
        return 1 if work(ladder, stay=stay) else 0
    except InputError:  # whoever started this worker says so, once
        return DISK_TROUBLE


if __name__ == "__main__":
    end_with_parent()
    sys.exit(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None))
