"""Processes that start at once: forked from one that has imported torch and Lightning, so that it is paid for once.

Each is a process of its own, with its own folder, environment and exit code. What a test says about imports, or about
the command line itself, needs a real `python` instead.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scalestop.cli import main

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["pytorch_lightning", "scalestop.commands.train", "scalestop.commands.ladder", "toys"])


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


class Forked:
    """A process that runs `work(*arguments)`; its exit code is what that returns, 0 for None.

    Args:
        work: A function that can be imported.
        arguments: Its arguments.
        folder: Working directory.
        variables: Its environment; this process's if None.
    """

    def __init__(
        self, work: Callable[..., Any], *arguments: Any, folder: Path, variables: Mapping[str, str] | None = None
    ) -> None:
        self._said = [tempfile.NamedTemporaryFile(mode="r") for _ in range(2)]  # noqa: SIM115
        names = [file.name for file in self._said]
        settings = (str(folder), dict(os.environ if variables is None else variables), names)
        self._process = CONTEXT.Process(target=_begin, args=(*settings, work, arguments))
        self._process.start()

    def wait(self, seconds: float = 300.0) -> Done:
        """Wait for its end; one that goes on for longer is killed, and fails the test."""
        self._process.join(seconds)
        late = self._process.is_alive()
        if late:
            self._process.kill()
            self._process.join()
        out, err = (file.read() for file in self._said)
        for file in self._said:
            file.close()
        assert not late, f"goes on after {seconds:g} s\n{out[-3000:]}\n{err[-3000:]}"
        return Done(self._process.exitcode, out, err)


def _begin(folder: str, variables: dict[str, str], names: list[str], work: Callable[..., Any], arguments: tuple):
    for descriptor, name in zip((1, 2), names, strict=True):
        file = os.open(name, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, descriptor)
        os.close(file)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    sys.path.insert(0, folder)
    sys.exit(work(*arguments))


def run_script(path: Path, *words: str) -> None:
    """As `python path words` does."""
    sys.argv = [str(path), *words]
    runpy.run_path(str(path), run_name="__main__")


def run_code(code: str, *words: str) -> None:
    """As `python -c code words` does."""
    sys.argv = ["-c", *words]
    exec(code, {"__name__": "__main__"})


def scalestop(*words: object, folder: Path, variables: Mapping[str, str] | None = None) -> Done:
    """Run a command line as a process."""
    return Forked(main, [str(word) for word in words], folder=folder, variables=variables).wait()
