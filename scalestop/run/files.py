"""Files of a run, in folders that it may share with others: none of them is ever written over another's."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path


def _numbered(path: Path, mark: str) -> Iterator[Path]:
    """Yield `path`, and then the same name with a number: `a.json`, `a-2.json`, ..."""
    yield path
    for number in count(2):
        yield path.with_name(f"{path.stem}{mark}{number}{path.suffix}")


def write_new(path: Path, text: str, is_mine: Callable[[Path], bool]) -> Path:
    """Write a file under the first name that is free or one's own, whole or not at all.

    Names are taken by the file system, so that runs which end at the same moment do not take the same one.

    Args:
        path: The first name to try; `a.json`, then `a-2.json`, ... Missing parent folders are made.
        text: What to write.
        is_mine: Whether an existing file may be replaced.

    Returns:
        The file.

    Raises:
        OSError: If the folder cannot be written; nothing is left there then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        for name in sorted(path.parent.iterdir()):
            if name.name.startswith(path.stem) and name.suffix == path.suffix and is_mine(name):
                os.replace(temporary, name)
                return name
        return next(name for name in _numbered(path, "-") if _take(temporary, name))
    finally:
        Path(temporary).unlink(missing_ok=True)


def _take(temporary: str, name: Path) -> bool:
    """Give a finished file a name, unless the name is taken."""
    try:
        os.link(temporary, name)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        try:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        except FileExistsError:
            return False
        try:
            os.replace(temporary, name)
        except BaseException:
            name.unlink(missing_ok=True)
            raise
    return True


@contextmanager
def free_name(path: Path) -> Iterator[Path]:
    """Hold a name that nobody has, for somebody else to write the file.

    Args:
        path: The first name to try; `a.ckpt`, then `a-v2.ckpt`, ... Missing parent folders are made.

    Yields:
        The name. Nothing lies there, and nobody who asks here gets it before the block ends. If the block raises, what
        it left under the name is removed.

    Raises:
        OSError: If the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for name in _numbered(path, "-v"):
        if name.exists():
            continue
        claim = name.with_name(f".{name.name}.claim")
        try:
            os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            continue
        try:
            if name.exists():  # somebody else was done with it in between
                continue
            try:
                yield name
            except BaseException:
                _remove(name)
                raise
            return
        finally:
            claim.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
