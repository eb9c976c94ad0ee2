"""Where a ladder's workers run: in this process, in several on this machine, or on a cluster through submitit."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any, Literal

import torch
from rich.console import Console

from scalestop.errors import InputError
from scalestop.ladder.show import progress_shown
from scalestop.ladder.store import Ladder
from scalestop.ladder.work import DISK_TROUBLE, cannot_write, main, work

Launcher = Literal["local", "slurm"]
_POLL_SECONDS = 1.0


def launch(
    ladder: Ladder,
    launcher: Launcher,
    workers: int,
    console: Console,
    slurm: Mapping[str, Any] | None = None,
    wait: bool = True,
) -> list[str]:
    """Train a ladder's rungs, and wait for those that other processes are training.

    Args:
        ladder: The ladder.
        launcher: `local` or `slurm`.
        workers: Processes, or array tasks.
        console: Where to show progress.
        slurm: Parameters for submitit, such as `{"slurm_partition": "gpu", "timeout_min": 60}`.
        wait: Whether to wait for the array's end.

    Returns:
        Names of the rungs that are not done.

    Raises:
        InputError: If there are no workers, submitit is not installed, or the folder cannot be written.
    """
    if workers < 1:
        raise InputError(f"workers: must be at least 1; got {workers!r}")
    if launcher == "slurm":
        jobs = submit(ladder, workers, slurm or {})
        console.print(f"submitted {len(jobs)} tasks: {', '.join(str(job.job_id) for job in jobs)}", highlight=False)
        if wait:
            with progress_shown(ladder, workers, console):
                while not all(job.done() for job in jobs) or any(map(ladder.is_held, ladder.open_rungs())):
                    time.sleep(_POLL_SECONDS)
    elif workers == 1:
        with progress_shown(ladder, workers, console):
            work(ladder)
    else:
        with progress_shown(ladder, workers, console):
            _run_processes(ladder, workers)
    return [rung.name for rung in ladder.rungs if not ladder.is_done(rung)]


def _run_processes(ladder: Ladder, workers: int) -> None:
    """Run workers as processes that end with this one, each with its share of the cores and one of the GPUs."""
    threads = max(1, (os.cpu_count() or 1) // workers)
    gpus = torch.cuda.device_count()
    processes = []
    try:
        for number in range(workers):
            environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
            if gpus > 1:
                visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus)))).split(",")
                environment["CUDA_VISIBLE_DEVICES"] = visible[number % len(visible)]
            command = [sys.executable, "-m", "scalestop.ladder.work", str(ladder.folder), str(threads)]
            processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, env=environment))
        for process in processes:
            if process.wait() == DISK_TROUBLE:
                raise cannot_write(ladder, "a worker could not save; its disk may be full")
    finally:
        for process in processes:
            process.kill()
            process.wait()


class ArrayTask:
    """A worker as submitit's task. Preempted, it is queued again, and goes on from its rung's last checkpoint."""

    def __call__(self, folder: str) -> int:
        """Work at the ladder in a folder; see `work.main`. An allocation does not wait for others' rungs."""
        return main(folder, stay=False)

    def checkpoint(self, folder: str) -> Any:
        """Return what submitit shall queue when the job is preempted or runs out of time: the same again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, folder)


def submit(ladder: Ladder, workers: int, parameters: Mapping[str, Any]) -> list[Any]:
    """Submit workers as one job array.

    Args:
        ladder: The ladder; its folder must be seen by all hosts, on a file system with locks.
        workers: Array tasks.
        parameters: For submitit's `update_parameters`; `cluster` chooses its executor (`slurm`, or `local` to try).

    Raises:
        InputError: If submitit is not installed, or knows no such parameter.
    """
    try:
        import submitit
    except ImportError:
        raise InputError("launcher: 'slurm' needs submitit; pip install scalestop[slurm]") from None
    given = dict(parameters)
    try:
        executor = submitit.AutoExecutor(folder=ladder.folder / "jobs", cluster=given.pop("cluster", "slurm"))
        executor.update_parameters(**{"name": "scalestop-ladder", **given})
        return list(executor.map_array(ArrayTask(), [str(ladder.folder.resolve())] * workers))
    except (RuntimeError, ValueError, TypeError, NameError) as error:
        raise InputError(f"slurm: {' '.join(str(error).split())[:400]}") from None
