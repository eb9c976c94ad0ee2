"""What a run says and keeps: lines on the terminal, its record. None of it may end the run."""

from __future__ import annotations

import warnings
from pathlib import Path

from scalestop.errors import ScalestopWarning
from scalestop.run.records import RunRecord, record_path


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
        self._folder, self._speaks = Path(), True

    def take_place(self, folder: Path, is_rank_zero: bool) -> None:
        """Take up a run's folder, and whether this process is the one that speaks."""
        self._folder, self._speaks = folder, is_rank_zero

    def say(self, text: str) -> None:
        """Print; further lines are indented."""
        if self._verbose and self._speaks:
            label = f"scalestop[{self.name}]" if self.name else "scalestop"
            print(f"{label}: {text}".replace("\n", "\n  "), flush=True)

    def warn(self, text: str) -> None:
        """Warn, with a `ScalestopWarning`."""
        if self._speaks:
            warnings.warn(f"scalestop: {text}", ScalestopWarning, stacklevel=3)

    def record(self, record: RunRecord) -> None:
        """Write the run's record into its folder."""
        if not (self._write_record and self._speaks):
            return
        try:
            self.record_path = record.save(record_path(self._folder, record.run, self.name))
        except OSError as error:
            self.warn(f"the record could not be written to {self._folder}: {error}")
