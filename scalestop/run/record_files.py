"""Reading run records and sealed forecasts from wherever they are."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from scalestop.errors import InputError
from scalestop.run.records import RunRecord
from scalestop.run.seal import SCHEMA as FORECAST_SCHEMA
from scalestop.run.seal import Forecast


def read_records(records: Any) -> Iterator[tuple[str, RunRecord | Forecast | str]]:
    """Yield each name with its record, its sealed forecast, or the reason why what should be one cannot be read.

    Args:
        records: Records and forecasts: files, folders, globs, `RunRecord`s, `Forecast`s, mappings, or a list of those.

    Raises:
        InputError: If nothing is there, or it is of no such kind.
    """
    if isinstance(records, RunRecord | Forecast):
        yield "", records
    elif isinstance(records, str | Path):
        yield from _read_path(Path(str(records)).expanduser())
    elif isinstance(records, Mapping):
        yield from _decoded(records, "record")
    elif isinstance(records, Iterable):
        for item in records:
            yield from read_records(item)
    else:
        raise InputError(f"records: expected records, files or folders; got {type(records).__name__}")


def _read_path(path: Path) -> Iterator[tuple[str, RunRecord | Forecast | str]]:
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix in (".json", ".jsonl") and p.is_file())
        for file in files:
            # a folder of runs holds other JSON as well, such as laws
            yield from _read_file(file, strict=False)
    elif path.is_file():
        yield from _read_file(path, strict=True)
    else:
        matches = sorted(glob.glob(str(path), recursive=True))
        if not matches:
            raise InputError(f"records: no file, folder or glob matches {str(path)!r}")
        for match in matches:
            yield from _read_path(Path(match))


def _read_file(file: Path, *, strict: bool) -> Iterator[tuple[str, RunRecord | Forecast | str]]:
    try:
        text = file.read_text(encoding="utf-8")
        many = file.suffix == ".jsonl"
        decoded = [json.loads(line) for line in text.splitlines() if line.strip()] if many else [json.loads(text)]
    except (OSError, ValueError) as error:
        yield str(file), f"cannot be read: {error}"
        return
    for number, data in enumerate(decoded, start=1):
        where = f"{file}, line {number}" if many else str(file)
        if isinstance(data, Mapping) and str(data.get("schema", "")).startswith(
            ("scalestop.record", "scalestop.forecast")
        ):
            yield from _decoded(data, where)
        elif strict:
            yield where, "is neither a run record nor a forecast"


def _decoded(data: Mapping[str, Any], where: str) -> Iterator[tuple[str, RunRecord | Forecast | str]]:
    try:
        if str(data.get("schema")) == FORECAST_SCHEMA:
            yield where, Forecast.from_dict(data, where=where)
        else:
            yield where, RunRecord.from_dict(data, where=where)
    except InputError as error:
        yield where, str(error).removeprefix(f"{where}: ")
