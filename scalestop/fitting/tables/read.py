"""Reading runs: record files, folders, globs, CSV, JSON lines, tables in memory, and logs of Lightning."""

from __future__ import annotations

import csv
import glob
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, TypeAlias

from scalestop.errors import InputError, shown
from scalestop.files import as_path, parse_json
from scalestop.fitting.tables.columns import Columns
from scalestop.fitting.tables.logs import log_folders, read_log_folder, read_record
from scalestop.fitting.tables.table import RunTable, table_of

Row: TypeAlias = tuple[str, int, Mapping[str, Any]]
"""Source, row number, values by column."""


def read_runs(records: Any, *, loss: str = "loss", columns: Columns = None, keep: Iterable[str] = ()) -> RunTable:
    """Read runs from wherever they are.

    Args:
        records: One of
            a file: a run record (`scalestop.json`), `.jsonl` with one run a line, or `.csv` with a header;
            a folder: every record, `.jsonl` and `.csv` below it, and logs that Lightning's CSVLogger or
            TensorBoardLogger wrote beside a record;
            a glob of those, such as `"runs/*/scalestop.json"`;
            a pandas DataFrame; a mapping of columns; or a list of run records, mappings, files or folders.
            Columns: `params` and `tokens` (counts), `loss` (nats per token), and where known `flops` (FLOPs),
            `unique_tokens`, `run`, `seed`, `weight`, `held_out`. Without `tokens`, D is flops/(6·params). Other usual
            names serve as well (`columns.ALIASES`): N, D, C, n_params, train_tokens, val_loss, ...
        loss: Name of the column, or of the logged metric, that holds the loss. `loss` takes, where no column is called
            that, `final_loss`, then a validation loss, then a training loss.
        columns: Which column means what, where its name does not say: `{"params": "n_active"}`, or the same as text,
            `"params=n_active,tokens=seen"`.
        keep: Columns that a sweep varies, besides the usual ones for learning rate and batch; see `best_rows`.

    Returns:
        The table. Rows that cannot be used are in its `bad_rows`, each with its reason.

    Raises:
        InputError: If nothing is there, nothing is usable, or it is not clear which column means what; the message
            lists the columns seen.
    """
    if isinstance(records, RunTable):
        return records
    return table_of(_rows(records, loss), loss=loss, columns=columns, keep=keep)


def raw_rows(records: Any) -> Iterator[Row]:
    """Yield what `read_runs` reads, every column of it, as it stands in its source."""
    return _rows(records, "loss")


def _rows(records: Any, loss: str) -> Iterator[Row]:
    if isinstance(records, str | Path):
        yield from _path_rows(records, loss)
    elif hasattr(records, "columns") and callable(getattr(records, "to_dict", None)):
        yield from (("DataFrame", i, row) for i, row in enumerate(records.to_dict("records")))
    elif isinstance(records, Mapping):
        yield from _column_rows(records, loss)
    elif isinstance(records, Iterable):
        for i, item in enumerate(records):
            if isinstance(item, str | Path):
                yield from _path_rows(item, loss)
            else:
                yield "records", i, _as_mapping(item, loss)
    else:
        raise InputError(f"records: expected a path, a table or a list of runs; got {type(records).__name__}")


def _as_mapping(item: Any, loss: str) -> Mapping[str, Any]:
    if isinstance(item, Mapping):
        return _with_loss_name(item, loss)
    if is_dataclass(item) and not isinstance(item, type):
        return _with_loss_name(asdict(item), loss)
    raise InputError(f"records: each run is a RunRecord or a mapping; got {type(item).__name__}")


def _with_loss_name(record: Mapping[str, Any], loss: str) -> Mapping[str, Any]:
    """Let a run record be asked for its loss by the metric's name."""
    if loss != "loss" and loss not in record and record.get("loss_name") == loss:
        return {**record, loss: record.get("loss")}
    return record


def _column_rows(columns: Mapping[str, Any], loss: str) -> Iterator[Row]:
    lists = {
        name: list(column)
        for name, column in columns.items()
        if isinstance(column, Iterable) and not isinstance(column, str | bytes) and getattr(column, "shape", True) != ()
    }
    if len(lists) != len(columns):
        yield "records", 0, _as_mapping(columns, loss)  # one run
        return
    lengths = {name: len(column) for name, column in lists.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise InputError(f"records: columns differ in length: {shown}")
    for i, values in enumerate(zip(*lists.values(), strict=True)):
        yield "records", i, dict(zip(lists, values, strict=True))


def _path_rows(path: str | Path, loss: str) -> Iterator[Row]:
    text = str(as_path(path, "records"))
    here = os.path.isdir(text) or os.path.isfile(text)  # of a name too long, Path's own methods raise
    matches = [text] if here else sorted(glob.glob(text, recursive=True))
    if not matches:
        given = shown(str(path))
        raise InputError(f"records: no file, folder or glob matches {given}; give records, a CSV or a folder")
    for match in matches:
        if os.path.isdir(match):
            try:
                yield from _folder_rows(Path(match), loss)
            except OSError as error:  # a part of it is gone by now, or may not be entered
                raise InputError(f"records: {error.filename or match} cannot be read: {error.strerror}") from None
        elif os.path.isfile(match):
            yield from _file_rows(Path(match), loss)
        else:
            raise InputError(f"records: {match} is neither a file nor a folder; give records, a CSV or a folder")


def _folder_rows(folder: Path, loss: str) -> Iterator[Row]:
    logs = log_folders(folder)
    for log in logs:
        yield str(log), 0, read_log_folder(log, loss)
    files = sorted(p for p in folder.rglob("*") if p.suffix in (".json", ".jsonl", ".csv") and p.is_file())
    # a record beside a log has been read with it, and a Lightning metrics.csv is no table of runs
    files = [p for p in files if p.parent not in logs and p.name != "metrics.csv"]
    if not logs and not files:
        raise InputError(
            f"records: {folder} holds no run records (scalestop.json), .jsonl or .csv; give the folder that the "
            f"Trainer logged to"
        )
    for file in files:
        # other JSON, such as a saved law, may lie about in a folder
        if file.suffix == ".json" and file.name != "scalestop.json" and not _looks_like_record(file):
            continue
        yield from _file_rows(file, loss)


def _looks_like_record(file: Path) -> bool:
    return str(read_record(file).get("schema", "")).startswith("scalestop.record")


def _file_rows(file: Path, loss: str) -> Iterator[Row]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"records: {file} cannot be read: {error}") from None
    if file.suffix == ".csv":
        yield from _csv_rows(file, text)
        return
    if file.suffix == ".jsonl":
        items = [(number, _json(line)) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    elif file.suffix == ".json":
        data = _json(text)
        items = list(enumerate(data)) if isinstance(data, list) else [(0, data)]
    else:
        raise InputError(f"records: {file}: expected .json, .jsonl or .csv; got {file.suffix or 'no suffix'!r}")
    for number, item in items:
        # damaged text becomes a row without values, which is then reported as unusable
        yield str(file), number, _with_loss_name(item, loss) if isinstance(item, Mapping) else {}


def _json(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return None


def _csv_rows(file: Path, text: str) -> Iterator[Row]:
    before = csv.field_size_limit(max(len(text), 2**17))  # a long field is its row's trouble, not the file's
    try:
        reader = csv.DictReader(text.splitlines())
        if not reader.fieldnames:
            raise InputError(f"records: {file} is empty; the first line names the columns, such as params,tokens,loss")
        rows = [(reader.line_num, {k: v for k, v in row.items() if k is not None}) for row in reader]
    except csv.Error as error:
        raise InputError(f"records: {file} is no CSV: {error}") from None
    finally:
        csv.field_size_limit(before)
    for number, row in rows:
        yield str(file), number, row
