"""Claims: which worker trains which rung. The kernel gives a claim back when its owner dies, whatever killed it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from pathlib import Path
from types import TracebackType

from scalestop.errors import InputError

_held: set[int] = set()


class Claim:
    """An exclusive claim on a name, held until released or until the process ends.

    It is a lock of `flock` on a file, so it cannot outlive its owner, SIGKILL and power loss included, and no clock
    decides whether an owner is alive. Over NFS, version 4 carries such locks between hosts. The file stays where it
    is: to remove it would let two processes lock two files of one name.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        _held.add(descriptor)

    @classmethod
    def take(cls, path: Path, *, wait: bool = False) -> Claim | None:
        """Take the claim; None if somebody else has it.

        Args:
            path: The claim's file. Missing folders are made.
            wait: Whether to wait until it is free.

        Raises:
            InputError: If the folder's file system has no locks.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            os.close(descriptor)
            raise InputError(
                f"out: the file system of {path.parent} cannot lock files ({error.strerror}), so workers could train "
                f"one rung twice; choose a folder elsewhere"
            ) from None
        with contextlib.suppress(OSError):  # for people; a full disk takes nothing from the lock
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{socket.gethostname()} {os.getpid()}\n".encode())
        return cls(descriptor)

    def release(self) -> None:
        """Give the claim back."""
        if self._descriptor is not None:
            _held.discard(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Claim:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _forget_after_fork() -> None:
    """A forked child, such as a data worker, must not keep its parent's claims alive."""
    for descriptor in tuple(_held):
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_forget_after_fork)
