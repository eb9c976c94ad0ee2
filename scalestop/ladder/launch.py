"""Where a ladder's workers run: here, on a cluster through submitit or Ray, or wherever printed commands are run."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any, Literal, Protocol

import torch
from rich.console import Console

from scalestop.errors import InputError
from scalestop.ladder.show import progress_shown
from scalestop.ladder.store import Ladder
from scalestop.ladder.work import DISK_TROUBLE, cannot_write, main, work

Launcher = Literal["local", "slurm", "ray", "print"]
_POLL_SECONDS = 1.0


class Engine(Protocol):
    """What runs a ladder's workers. Another one needs these three, and that its workers call `work.main`.

    Workers agree among themselves who trains what, by locks in the ladder's folder: an engine knows nothing of rungs,
    may start fewer workers than it was asked for, or start one twice.
    """

    def submit(self, ladder: Ladder, workers: int) -> str:
        """Start workers, and return in a line what was started; "" for nothing to say.

        Raises:
            InputError: If it cannot.
        """

    def wait(self, ladder: Ladder) -> None:
        """Return when all workers have ended.

        Raises:
            InputError: If the ladder's folder cannot be written.
        """

    def cancel(self) -> None:
        """End the workers that this process would leave behind; their rungs keep what they have saved."""


def engine(launcher: Launcher, workers: int, parameters: Mapping[str, Any] | None = None) -> Engine:
    """Return an engine by its launcher's name; see `launch`.

    Raises:
        InputError: If what it needs is not installed.
    """
    if launcher == "slurm":
        return Slurm(parameters or {})
    if launcher == "ray":
        from scalestop.ladder.ray_engine import Ray  # for whoever asks for it

        return Ray(parameters or {})
    return InProcess() if workers == 1 else Processes()


def launch(
    ladder: Ladder,
    launcher: Launcher,
    workers: int,
    console: Console,
    parameters: Mapping[str, Any] | None = None,
    wait: bool = True,
) -> list[str]:
    """Train a ladder's rungs, and wait for those that other processes are training.

    Args:
        ladder: The ladder.
        launcher: `local`, `slurm`, `ray`, or `print` for one command a rung on standard output.
        workers: Processes, or array tasks.
        console: Where to show progress.
        parameters: For submitit, such as `{"slurm_partition": "gpu", "timeout_min": 60}`, or for Ray's tasks.
        wait: Whether to wait for an array's end.

    Returns:
        Names of the rungs that are not done.

    Raises:
        InputError: If there are no workers, submitit is not installed, or the folder cannot be written.
    """
    if workers < 1:
        raise InputError(f"workers: must be at least 1; got {workers!r}")
    if launcher == "print":
        print(*(f"{command}\n" for command in commands(ladder)), sep="", end="", flush=True)
    else:
        run_on(engine(launcher, workers, parameters), ladder, workers, console, wait or launcher != "slurm")
    return [rung.name for rung in ladder.rungs if not ladder.is_done(rung)]


def run_on(runs: Engine, ladder: Ladder, workers: int, console: Console, wait: bool = True) -> None:
    """Run a ladder's workers on an engine.

    Args:
        runs: The engine.
        ladder: The ladder.
        workers: How many to start.
        console: Where to show progress.
        wait: Whether to wait for their end.

    Raises:
        InputError: If the engine cannot start them, or the ladder's folder cannot be written.
    """
    if said := runs.submit(ladder, workers):
        console.print(said, highlight=False)
    if not wait:
        return
    try:
        with progress_shown(ladder, workers, console):
            runs.wait(ladder)
    finally:
        runs.cancel()


def commands(ladder: Ladder) -> list[str]:
    """Return one shell command for each rung that is not done, trunks before their branches.

    They may run at once, in any order, on any host that sees the folder, and again; each trains its rung, and the trunk
    that it needs if nobody else has.
    """
    folder = shlex.quote(str(ladder.folder.resolve()))
    return [f"scalestop ladder work {folder} {shlex.quote(rung.name)}" for rung in ladder.open_rungs()]


class InProcess:
    """One worker: this process."""

    def submit(self, ladder: Ladder, workers: int) -> str:
        """Nothing is started."""
        return ""

    def wait(self, ladder: Ladder) -> None:
        """Work."""
        work(ladder)

    def cancel(self) -> None:
        """Nothing is left behind."""


class Processes:
    """Workers on this machine, each with its share of the cores and one of the GPUs. They end with this process."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []

    def submit(self, ladder: Ladder, workers: int) -> str:
        """Start them."""
        threads = max(1, (os.cpu_count() or 1) // workers)
        gpus = torch.cuda.device_count()
        try:
            for number in range(workers):
                environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
                if gpus > 1:
                    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus)))).split(",")
                    environment["CUDA_VISIBLE_DEVICES"] = visible[number % len(visible)]
                command = [sys.executable, "-m", "scalestop.ladder.work", str(ladder.folder), str(threads)]
                self._processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, env=environment))
        except BaseException:
            self.cancel()
            raise
        return ""

    def wait(self, ladder: Ladder) -> None:
        """Wait for each."""
        for process in self._processes:
            if process.wait() == DISK_TROUBLE:
                raise cannot_write(ladder, "a worker could not save; its disk may be full")

    def cancel(self) -> None:
        """Kill them."""
        for process in self._processes:
            process.kill()
            process.wait()


class Slurm:
    """Array tasks of a cluster, through submitit.

    Args:
        parameters: As for `submit`.
    """

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._parameters = parameters
        self._jobs: list[Any] = []

    def submit(self, ladder: Ladder, workers: int) -> str:
        """Queue the array."""
        self._jobs = submit(ladder, workers, self._parameters)
        return f"submitted {len(self._jobs)} tasks: {', '.join(str(job.job_id) for job in self._jobs)}"

    def wait(self, ladder: Ladder) -> None:
        """Wait for the tasks, and for whoever else trains a rung."""
        while not all(job.done() for job in self._jobs) or any(map(ladder.is_held, ladder.open_rungs())):
            time.sleep(_POLL_SECONDS)

    def cancel(self) -> None:
        """The cluster's tasks outlive whoever waits for them; `scancel` ends them."""


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
