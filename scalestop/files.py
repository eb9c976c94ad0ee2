"""Files that anybody may have written: read or refused in one line, and written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from scalestop.errors import InputError, shown


def as_path(given: str | Path, argument: str) -> Path:
    """Return a path with its `~` resolved.

    Args:
        given: What the user wrote.
        argument: Name of the argument, for the error message.

    Raises:
        InputError: If it names a user's home that does not exist, or holds a zero byte.
    """
    if "\0" in str(given):
        raise InputError(f"{argument}: no path: {shown(str(given))} holds a zero byte")
    try:
        return Path(given).expanduser()
    except RuntimeError:  # ~nobody
        raise InputError(f"{argument}: {shown(str(given))}: there is no such user; write the path out") from None


def parse_json(text: str) -> Any:
    """Return decoded JSON.

    Raises:
        ValueError: If it is none, too deeply nested, or holds an int of over 4,300 digits.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(path: Path, argument: str) -> Any:
    """Return what a JSON file holds.

    Args:
        path: The file.
        argument: Name of the argument, for the error message.

    Raises:
        InputError: If it cannot be read or is no JSON.
    """
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{argument}: {path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # of the text's encoding too
        raise InputError(f"{argument}: {path} is not JSON: {error}") from None


def write_whole(path: Path, text: str) -> Path:
    """Write a file that readers see whole or not at all; one that was there stays if that fails.

    Args:
        path: The file. Missing folders are made. A device or a pipe, such as `/dev/stdout`, is written to as it is.
        text: What goes in.

    Raises:
        OSError: If it cannot be written, as on a full disk; no part of it is left.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        with path.open("w", encoding="utf-8") as file:  # of a folder, an error
            file.write(text)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:64]}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_DISK_WORDS = ("No space left on device", "PytorchStreamWriter failed", "Disk quota exceeded")


def disk_trouble(error: BaseException) -> str | None:
    """Return in words what is wrong with the disk, if that is what an error says; None if it says something else.

    Args:
        error: What was raised; torch reports a full disk as a RuntimeError.
    """
    if isinstance(error, OSError) and error.errno in _DISK:
        where = error.filename2 or error.filename
        return (error.strerror or str(error)) + (f": {where}" if where else "")
    if isinstance(error, OSError | RuntimeError):
        return next((words for words in _DISK_WORDS if words in str(error)), None)
    return None
