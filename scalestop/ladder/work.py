"""A worker: takes one rung after the other until none is left. `python -m scalestop.ladder.work FOLDER`."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from scalestop.ladder.apart import end_with_parent
from scalestop.ladder.run import train_apart, train_rung
from scalestop.ladder.store import Ladder, write_whole

_WAIT_SECONDS = 1.0


def work(ladder: Ladder, wait: Callable[[float], None] = time.sleep) -> list[str]:
    """Train whatever rungs are free, until none is.

    A rung that raises is left for the next start of the ladder, and the others are trained.

    Args:
        ladder: The ladder.
        wait: Waits so many seconds, where branches need a trunk that another worker is training; for tests.

    Returns:
        Names of the rungs that raised. Why is in `work/NAME/error.txt`.
    """
    failed: list[str] = []
    while True:
        taken = ladder.take(failed)
        if taken is None:
            if not ladder.waits(failed):
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
                failed.append(rung.name)
                write_whole(ladder.work(rung) / "error.txt", traceback.format_exc())
                print(f"scalestop: {rung.name} failed: {error}", file=sys.stderr, flush=True)


def several_devices(ladder: Ladder) -> bool:
    """Whether each rung trains on more devices than one."""
    trainer = ladder.settings.trainer
    return str(trainer.get("devices", 1)) != "1" or str(trainer.get("num_nodes", 1)) != "1"


def main(folder: str | Path, threads: int | None = None) -> int:
    """Work at the ladder in a folder.

    Args:
        folder: The ladder's.
        threads: CPU threads of this worker; torch's default if None.

    Returns:
        0, or 1 if a rung failed.
    """
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    return 1 if work(Ladder.load(folder)) else 0


if __name__ == "__main__":
    end_with_parent()
    sys.exit(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None))
