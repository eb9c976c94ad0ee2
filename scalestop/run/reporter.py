"""What a run says and keeps: lines on the terminal, its record. None of it may end the run."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from scalestop.errors import InputError, ScalestopWarning
from scalestop.run.files import write_new
from scalestop.run.records import FILE_NAME, RunRecord


class Reporter:
    """Speaks and writes for one run, from rank zero.

    Args:
        name: The run's name, where there are several in one trainer.
        verbose: Whether to print.
        write_record: Whether to write the record.
    """

    def __init__(self, name: str | None, verbose: bool, write_record: bool) -> None:
        self.name = name
        self.record_path: Path | None = None
        """Where the record was written."""
        self._verbose, self._write_record = verbose, write_record
        self._folder: Path | None = None
        self.speaks = True
        """Whether this process is the one that speaks and writes."""

    def take_place(self, folder: Path | None, is_rank_zero: bool) -> None:
        """Take up a run's folder, None if it keeps nothing, and whether this process is the one that speaks."""
        self._folder, self.speaks = folder, is_rank_zero

    def say(self, text: str) -> None:
        """Print; further lines are indented. What cannot be printed, on a closed pipe or a full disk, is lost."""
        if self._verbose and self.speaks:
            label = f"scalestop[{self.name}]" if self.name else "scalestop"
            with suppress(Exception):
                _write(f"{label}: {text}".replace("\n", "\n  ") + "\n")

    def warn(self, text: str) -> None:
        """Warn, with a `ScalestopWarning`.

        Raises:
            ScalestopWarning: If the user's own filter turns warnings into errors.
        """
        if self.speaks:
            try:
                warnings.warn(f"scalestop: {text}", ScalestopWarning, stacklevel=3)
            except ScalestopWarning:
                raise
            except Exception:  # somebody else's way of showing warnings
                return

    def record(self, record: RunRecord) -> None:
        """Write the run's record into its folder."""
        if not (self._write_record and self.speaks) or self._folder is None:
            return
        try:
            self.record_path = keep_record(record, self._folder, self.name)
        except Exception as error:
            self.warn(f"the record could not be written to {self._folder}: {error}")


def keep_record(record: RunRecord, folder: Path, name: str | None = None) -> Path:
    """Write a run's record: over its own from before a resume, never over another run's, and one for each run.

    Args:
        record: The record.
        folder: The run's log directory.
        name: Name of the callback, where there are several.

    Raises:
        OSError: If the folder cannot be written.
    """
    stem, suffix = FILE_NAME.split(".")
    path = folder / (f"{stem}-{name}.{suffix}" if name else FILE_NAME)
    return write_new(path, record.to_json(), lambda file: _is_record_of(file, record.run))


def _is_record_of(path: Path, run: str) -> bool:
    try:
        return RunRecord.load(path).run == run != ""
    except InputError:
        return False


def _write(text: str) -> None:
    """Write to stdout on lines of its own, and leave nothing in its buffer.

    A `print` that fails leaves its text behind, and Python fails on it again as it ends: exit status 120 for a run that
    has done its work.
    """
    out = sys.stdout
    with _beside_bars(out):
        if out is not sys.__stdout__ or not isinstance(out, TextIOWrapper):
            # a notebook or a test has put something of its own in place, or rich what it prints above its bars
            print(text, end="", flush=True)
            return
        out.flush()
        encoded = memoryview(text.encode(out.encoding, "replace"))
        while encoded:
            encoded = encoded[os.write(out.fileno(), encoded) :]


@contextmanager
def _beside_bars(out: Any) -> Iterator[None]:
    """Give the lines of tqdm's bars back: on a terminal they are drawn again below, elsewhere their line is ended."""
    tqdm: Any = getattr(sys.modules.get("tqdm"), "tqdm", None)
    bars = [] if tqdm is None else [bar for bar in list(tqdm._instances) if _is_drawn(bar, out)]
    if not bars:
        yield
    elif out.isatty():
        with tqdm.external_write_mode(out):
            yield
    else:
        print(file=out, flush=True)
        yield


def _is_drawn(bar: Any, out: Any) -> bool:
    """Whether a bar has an open line where `out` writes; one in a notebook is a widget."""
    if bar.disable or hasattr(bar, "container"):
        return False
    file = getattr(bar.fp, "_wrapped", bar.fp)
    if file is out:
        return True
    try:
        same = os.path.sameopenfile(file.fileno(), out.fileno())
        return same or (file.isatty() and out.isatty())
    except (OSError, ValueError, AttributeError):
        return False
