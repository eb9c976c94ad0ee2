"""What it costs to stop a run whose learning rate has not come down, measured on finished runs."""

from __future__ import annotations

import glob
import math
import os
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from scalestop.errors import InputError, shown
from scalestop.files import as_path, parse_json
from scalestop.run.records import FILE_NAME, SCHEMA, RunRecord
from scalestop.units import human_count

RecordsLike: TypeAlias = str | Path | Sequence["str | Path | RunRecord"]
"""A record file, a `.jsonl` of records, a folder, a glob; or a list of those and of records."""

_SAME = 0.02
"""Runs whose N and D differ by no more than this share are held against each other."""


@dataclass(frozen=True)
class UndecayedPenalty:
    """By how much loss runs end worse whose learning rate has not decayed."""

    loss: float
    """Median difference to the runs that have, nats per token."""
    low: float
    """Smallest difference, nats per token."""
    high: float
    """Largest difference, nats per token."""
    pairs: int
    """Undecayed runs that have a decayed one to be held against."""
    num_params: tuple[int, int]
    """Smallest and largest N of those runs."""
    num_tokens: tuple[int, int]
    """Smallest and largest D of those runs."""

    def __str__(self) -> str:
        n, d = (
            human_count(low) if low == high else f"{human_count(low)} to {human_count(high)}"
            for low, high in (self.num_params, self.num_tokens)
        )
        return (
            f"{self.loss:+.3f} nats/token ({self.low:+.3f} to {self.high:+.3f} in {self.pairs} "
            f"pair{'s' if self.pairs > 1 else ''} of runs with N {n}, D {d})"
        )


def undecayed_penalty(records: Iterable[RunRecord]) -> UndecayedPenalty | None:
    """Return by how much loss an undecayed run ends worse than a decayed one of the same N and D.

    Each undecayed run is held against the decayed ones whose N (counted alike) and D differ from its own by at most
    2 %: those of its own seed where there are any, else all, and of several their median. Returns the median difference
    with its range; None if no two runs can be compared.
    """
    known = [r for r in records if r.loss is not None and math.isfinite(r.loss) and r.lr_decayed is not None]
    decayed = [r for r in known if r.lr_decayed]
    gaps, compared = [], []
    for run in known:
        if run.lr_decayed:
            continue
        like = [other for other in decayed if _alike(run, other)]
        like = [other for other in like if other.seed == run.seed] or like
        if like:
            gaps.append((run.loss or 0.0) - statistics.median(other.loss or 0.0 for other in like))
            compared.append(run)
    if not gaps:
        return None
    params, tokens = [r.num_params for r in compared], [r.num_tokens for r in compared]
    ends = (min(params), max(params)), (min(tokens), max(tokens))
    return UndecayedPenalty(statistics.median(gaps), min(gaps), max(gaps), len(gaps), *ends)


def _alike(one: RunRecord, other: RunRecord) -> bool:
    return (
        one.n_counts == other.n_counts
        and one.loss_name == other.loss_name
        and abs(one.num_params / other.num_params - 1) <= _SAME
        and abs(one.num_tokens / max(1, other.num_tokens) - 1) <= _SAME
    )


def read_records(source: RecordsLike) -> list[RunRecord]:
    """Read run records from where they are.

    Args:
        source: A record file, a `.jsonl` with one record a line, a folder that holds such, a glob; or a list of those
            and of records.

    Raises:
        InputError: If nothing is there, or a file that was named is no record.
    """
    if not isinstance(source, str | Path):
        if not isinstance(source, Iterable):
            raise InputError(f"records: files, folders, globs or run records; got {shown(source)}")
        found = []
        for item in source:
            found += [item] if isinstance(item, RunRecord) else read_records(item)
        return found
    text = str(as_path(source, "records"))
    here = os.path.isdir(text) or os.path.isfile(text)  # of a name too long, Path's own methods raise
    found = []
    for match in [text] if here else sorted(glob.glob(text, recursive=True)):
        path = Path(match)
        if path.is_dir():
            files = sorted({*path.rglob(f"{Path(FILE_NAME).stem}*.json"), *path.rglob("*.jsonl")})
            found += [record for file in files for record in _of_file(file, strict=False)]
        elif path.is_file():  # and no device or broken link
            found += _of_file(path, strict=True)
    if not found:
        raise InputError(
            f"records: no run records at {shown(str(source))}; give a {FILE_NAME}, a .jsonl, a folder or a glob"
        )
    return found


def _of_file(path: Path, strict: bool) -> list[RunRecord]:
    """Read one file; others' JSON that lies about in a folder is passed over."""
    try:
        text = path.read_text(encoding="utf-8")
        items = [
            parse_json(line) for line in (text.splitlines() if path.suffix == ".jsonl" else [text]) if line.strip()
        ]
    except (OSError, ValueError) as error:
        if strict:
            raise InputError(f"records: {path} cannot be read: {error}") from None
        return []
    if not strict:
        items = [item for item in items if isinstance(item, dict) and item.get("schema") == SCHEMA]
    return [RunRecord.from_dict(item, where=f"records: {path}") for item in items]
