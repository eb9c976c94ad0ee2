"""A file that concurrent processes add lines to, on one machine or over a shared folder, and nothing is lost.

One JSON object a line, only ever appended, under an exclusive `flock` on the file itself. Why not SQLite: its
write-ahead log works on one host only (https://www.sqlite.org/wal.html), and its rollback journal is a second file that
other hosts have to see in time. Why not a file that is replaced: over NFS another host may still open the one that is
gone. Here there is one file. The kernel gives the lock back when its owner dies, whatever killed it; taking it makes an
NFS client (version 4) read the file anew; a line is on the disk (`fsync`) before `add` returns; and a line that a kill
or a full disk left unfinished is no line: the next writer cuts it off.
"""

from __future__ import annotations

import fcntl
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scalestop.errors import InputError
from scalestop.files import parse_json


class Ledger(ABC):
    """What a ledger said when it was last read; only what has come since is read again.

    Nothing stays open between two transactions, so one may be forked, pickled, and used in threads.

    Args:
        path: The file.
        argument: Its argument's name, for errors.
        hint: How one comes by such a file, for the error of one that is not there.
    """

    def __init__(self, path: Path, argument: str, hint: str) -> None:
        self.path = path
        self._argument, self._hint = argument, hint
        self._file: tuple[int, int] | None = None
        self._end = 0
        self._handle = -1

    @abstractmethod
    def forget(self) -> None:
        """Take up an empty ledger."""

    @abstractmethod
    def take(self, entry: Any) -> None:
        """Take in one more line.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: If it is no line of such a ledger.
        """

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read what is new, and hold off writers until the block ends.

        Raises:
            InputError: If the file cannot be read, or is no such ledger.
        """
        with self._locked(os.O_RDONLY, fcntl.LOCK_SH):
            yield

    @contextmanager
    def writing(self, create: bool = False) -> Iterator[None]:
        """Read what is new, and hold the file alone until the block ends; `add` writes.

        Args:
            create: Whether to make the file if there is none.

        Raises:
            InputError: If the file cannot be opened or read, or is no such ledger.
        """
        with self._locked(os.O_RDWR | (os.O_CREAT if create else 0), fcntl.LOCK_EX):
            yield

    def add(self, entry: Mapping[str, Any]) -> None:
        """Write one line, down to the disk, or nothing; within `writing`.

        Raises:
            OSError: If it cannot be written.
        """
        line, end = json.dumps(entry).encode() + b"\n", self._end
        os.ftruncate(self._handle, end)  # what somebody who was killed left unfinished
        try:
            written = 0
            while written < len(line):
                written += os.pwrite(self._handle, line[written:], end + written)
            os.fsync(self._handle)
        except OSError:
            os.ftruncate(self._handle, end)
            raise
        self._end = end + len(line)
        self.take(entry)

    @contextmanager
    def _locked(self, flags: int, kind: int) -> Iterator[None]:
        try:
            handle = os.open(self.path, flags, 0o644)
        except OSError as error:
            hint = f"; {self._hint}" if isinstance(error, FileNotFoundError) else ""
            raise self._refuse(f"cannot be opened: {error.strerror or error}{hint}") from None
        try:
            try:
                fcntl.flock(handle, kind)
            except OSError as error:
                raise self._refuse(
                    f"cannot be locked, so that processes would not see each other's lines ({error.strerror}); choose "
                    f"a folder on another file system"
                ) from None
            self._handle = handle
            self._read()
            yield
        finally:
            self._handle = -1
            os.close(handle)  # gives the lock back

    def _read(self) -> None:
        state = os.fstat(self._handle)
        if self._file != (state.st_dev, state.st_ino) or state.st_size < self._end:
            self.forget()
            self._file, self._end = (state.st_dev, state.st_ino), 0
        try:
            new = os.pread(self._handle, state.st_size - self._end, self._end)
        except OSError as error:
            raise self._refuse(f"cannot be read: {error.strerror or error}") from None
        for line in new.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                return
            try:
                self.take(parse_json(line.decode()))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                self._file = None
                why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
                raise self._refuse(f"cannot be used: byte {self._end}: {why[:200]}") from None
            self._end += len(line)

    def _refuse(self, why: str) -> InputError:
        return InputError(f"{self._argument}: {self.path} {why}")
