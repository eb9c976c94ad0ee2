"""Text as bytes: the corpus that every Python carries, or the reader's own files.

The embedded corpus is the running interpreter's standard library, read as bytes. It needs no download, is the same on
every machine with the same Python release, and is large enough (about 8 MB) for runs up to some 1e13 FLOPs.

Tokens are bytes: the vocabulary is 256, and a loss is in nats per byte.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scalestop.errors import InputError, shown
from scalestop.files import as_path

SEPARATOR = b"\0"
"""Put between two files; text does not hold this byte, so the model can learn that a file ends here."""

# Left out of the embedded corpus, by the name of any folder on the way to a file:
# - what other people installed, and what many installations lack (Debian splits them off, container images delete
#   them, newer releases drop them): with these the same Python release would be a different corpus on each machine;
# - generated tables: `encodings` holds a hundred near copies of one file, `pydoc_data` is one string of 0.7 MB.
_LEFT_OUT_FOLDERS = frozenset(
    {"site-packages", "dist-packages", "test", "tests", "idle_test", "idlelib", "tkinter", "turtledemo", "lib2to3"}
    | {"distutils", "ensurepip", "encodings", "pydoc_data", "__pycache__"}
)
# Written when Python is built or installed, so they differ between machines.
_LEFT_OUT_PREFIXES = ("_sysconfigdata", "sitecustomize", "usercustomize")

_HELD_OUT_SHARE = 0.06
_MAX_HELD_OUT_SHARE = 1 / 3
_BINARY_PROBE_BYTES = 8192


@dataclass(frozen=True)
class Corpus:
    """Some text as two strings of bytes, one to train on and one held out.

    Attributes:
        train: Bytes to train on, `uint8 [num_train_bytes]`.
        val: Bytes held out for validation, `uint8 [num_val_bytes]`.
        source: Where the text is from: `python-stdlib` or the path that was given.
        num_files: Files read, both parts together.
        split: `files` where whole files are held out, `tail` where the end of the text is.
        sha256: Hash (hex) over the names and contents of all files, in order. Equal hashes mean equal corpora.
        python_version: Release whose library this is, such as `3.12.4`; None for the reader's own text.
    """

    train: Tensor
    val: Tensor
    source: str
    num_files: int
    split: str
    sha256: str
    python_version: str | None = None

    def describe(self) -> dict[str, str | int | None]:
        """All but the text itself, as plain values ready for JSON; sizes in bytes."""
        kept = ("source", "python_version", "num_files", "split", "sha256")
        sizes = {"num_train_bytes": len(self.train), "num_val_bytes": len(self.val)}
        return {**{name: getattr(self, name) for name in kept}, **sizes}


def provenance_of(described: Mapping[str, Any]) -> dict[str, str | int]:
    """Return what `Corpus.describe` told as fields of a `Provenance`; the tokens are bytes.

    Args:
        described: As it was written down, or read again.
    """
    source, release = described["source"], described.get("python_version")
    name = f"sources of the Python {release} standard library" if release else str(source)
    files, train, val = (described[part] for part in ("num_files", "num_train_bytes", "num_val_bytes"))
    split = {"files": "by file", "tail": "at the end"}.get(described["split"], described["split"])
    return {
        "text": f"{name}: {files:,} files, {train:,} training and {val:,} validation bytes, split {split}",
        "text_hash": described["sha256"],
        "tokenizer": "bytes",
        "vocab_size": 256,
    }


def is_held_out(name: str) -> bool:
    """Whether the file of this name, relative to the corpus root and with forward slashes, is held out.

    It depends on nothing but the name, so the same files are held out on every machine and in every release.
    """
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") < _HELD_OUT_SHARE * 2**64


@functools.lru_cache(maxsize=1)
def embedded_corpus() -> Corpus:
    """The running interpreter's standard library sources as bytes.

    Raises:
        InputError: If this Python carries no sources (some embedded builds do not).
    """
    root = Path(sysconfig.get_path("stdlib"))
    files = [
        (name, path)
        for name, path in _files_below(root, "*.py")
        if _LEFT_OUT_FOLDERS.isdisjoint(name.split("/")[:-1])
        and not name.rpartition("/")[2].startswith(_LEFT_OUT_PREFIXES)
    ]
    if not files:
        raise InputError(
            f"this Python has no standard library sources (looked for *.py files in {root}); "
            "give your own text with path='file or folder'"
        )
    return _build([(name, path.read_bytes()) for name, path in files], "python-stdlib", platform.python_version())


def load_corpus(path: str | Path | None = None) -> Corpus:
    """Read a corpus into memory.

    A folder is read recursively in the order of its relative paths. Hidden files and folders are left out, and so are
    binary files: those with a zero byte among their first 8,192 bytes, git's rule.

    Held out is a share of about 6 % of the files, chosen by a hash of each name. Where that is no use (a single file,
    or a choice that takes nothing or more than a third of the bytes) it is the last 6 % of the text instead.

    Args:
        path: Text file or folder; None takes the embedded corpus.

    Raises:
        InputError: If the path does not exist or holds no text.
    """
    if path is None:
        return embedded_corpus()
    root = as_path(path, "path")
    if os.path.isfile(root):  # of a name too long, Path's own methods raise
        found = [(root.name, root)]
    elif os.path.isdir(root):
        found = [(name, file) for name, file in _files_below(root, "*") if not f"/{name}".count("/.")]
    else:
        raise InputError(f"path: no file or folder at {shown(str(path))}; give an existing one, or leave path out")
    try:
        texts = [(name, file.read_bytes()) for name, file in found]
    except OSError as error:
        raise InputError(f"path: {error.filename or root} cannot be read: {error.strerror or error}") from None
    texts = [(name, text) for name, text in texts if text and b"\0" not in text[:_BINARY_PROBE_BYTES]]
    if not texts:
        raise InputError(
            f"path: no text in {str(path)!r} (files seen: {len(found)}; empty, hidden and binary ones do not count); "
            "give a file or folder with text"
        )
    return _build(texts, str(path), None)


def _files_below(root: Path, pattern: str) -> list[tuple[str, Path]]:
    """Names (relative, forward slashes) and paths of all files below a folder, sorted by name."""
    return sorted((path.relative_to(root).as_posix(), path) for path in root.rglob(pattern) if path.is_file())


def _build(texts: list[tuple[str, bytes]], source: str, python_version: str | None) -> Corpus:
    digest = hashlib.sha256()
    for name, text in texts:
        # Lengths go in too: without them two ways of cutting the same bytes into files would have one hash.
        digest.update(f"{name}\0{len(text)}\0".encode("utf-8", "surrogateescape"))
        digest.update(text)
    train = SEPARATOR.join(text for name, text in texts if not is_held_out(name))
    val = SEPARATOR.join(text for name, text in texts if is_held_out(name))
    split = "files"
    if not val or len(val) > _MAX_HELD_OUT_SHARE * (len(train) + len(val)):
        split = "tail"
        whole = SEPARATOR.join(text for _, text in texts)
        cut = len(whole) - max(1, round(_HELD_OUT_SHARE * len(whole)))
        train, val = whole[:cut], whole[cut:]
    first, second = (torch.from_numpy(np.frombuffer(text, dtype=np.uint8).copy()) for text in (train, val))
    return Corpus(first, second, source, len(texts), split, digest.hexdigest(), python_version)
