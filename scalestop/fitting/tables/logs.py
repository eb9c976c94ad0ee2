"""Runs in the logs of Lightning: the callback's counters beside a loss, from CSVLogger or TensorBoard."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scalestop.errors import InputError
from scalestop.files import parse_json
from scalestop.fitting.tables.columns import as_number

TOKENS = "scalestop/tokens"
FLOPS = "scalestop/flops"
"""Names under which the callback logs its counters."""

RECORD = "scalestop.json"
LOSS_NAMES = ("val_loss", "val/loss", "valid_loss", "validation_loss", "train_loss", "train/loss", "loss")
"""Metrics taken for the loss, in this order, where none is named."""


def log_folders(folder: Path) -> list[Path]:
    """Return the folders at or below `folder` that hold a `metrics.csv` or TensorBoard event files."""
    found = {path.parent for pattern in ("metrics.csv", "events.out.tfevents.*") for path in folder.rglob(pattern)}
    return sorted(found)


def read_log_folder(folder: Path, loss: str = "loss") -> dict[str, Any]:
    """Read one run's log folder.

    The record beside the log gives N, seed and the rest; the log gives the curve of loss against tokens. Without a
    finished record (the run was killed) the last logged values stand in for the final ones. `loss` takes the record's
    own, else the first of `LOSS_NAMES` that was logged. What is missing is left out of the row; the table reports it.

    Raises:
        InputError: If the event files need the tensorboard package and it is not installed.
    """
    record = read_record(folder / RECORD)
    steps = _read_csv(folder / "metrics.csv") if (folder / "metrics.csv").is_file() else _read_events(folder)
    steps = [_plain_counters(step) for step in steps]
    name = _loss_name(steps, record, loss)
    curve = _curve(steps, name) if name else []
    row = {**record, "run": record.get("run") or str(folder)}
    own_name = record.get("loss_name")
    if curve:
        row["curve"] = curve
        if record.get("loss") is None or (loss != "loss" and own_name != loss):
            row["loss"] = curve[-1][1]
    elif loss != "loss" and own_name != loss:
        row.pop("loss", None)
    for key, counter in (("num_tokens", TOKENS), ("flops", FLOPS)):
        values = [step[counter] for step in steps if counter in step]
        if row.get(key) is None and values:
            row[key] = max(values)
    if loss != "loss" and "loss" in row:
        row[loss] = row["loss"]
    return row


def _plain_counters(step: dict[str, float]) -> dict[str, float]:
    """Drop the callback's own name from its counters: scalestop/NAME/tokens becomes scalestop/tokens."""
    plain = {}
    for name, value in step.items():
        parts = name.split("/")
        plain["/".join((parts[0], parts[-1])) if parts[0] == "scalestop" and len(parts) == 3 else name] = value
    return plain


def read_record(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; an empty one where there is none."""
    try:
        data = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _loss_name(steps: list[dict[str, float]], record: Mapping[str, Any], loss: str) -> str | None:
    logged = {name for step in steps for name in step}
    wanted = (loss,) if loss != "loss" else (str(record.get("loss_name")), *LOSS_NAMES)
    return next((name for name in wanted if name in logged), None)


def _curve(steps: list[dict[str, float]], name: str) -> list[tuple[float, float]]:
    """Pair each logged loss with the tokens at its step: those logged with it, else the nearest by step."""
    known = sorted((step["step"], step[TOKENS]) for step in steps if TOKENS in step and "step" in step)
    if not known:
        return []
    known_steps, known_tokens = zip(*known, strict=True)
    curve: dict[float, float] = {}
    for step in steps:
        if name not in step:
            continue
        tokens = step.get(TOKENS)
        if tokens is None and "step" in step:
            # steps count alike in both rows, and tokens grow evenly between two of them
            tokens = float(np.interp(step["step"], known_steps, known_tokens))
        if tokens is not None and tokens > 0 and math.isfinite(step[name]):
            curve[tokens] = step[name]
    return sorted(curve.items())


def _read_csv(path: Path) -> list[dict[str, float]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [{name: as_number(text) for name, text in row.items()} for row in csv.DictReader(file)]
            return [{name: value for name, value in row.items() if not math.isnan(value)} for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error):  # of a killed run or not a log: its row will lack what it held
        return []


def _read_events(folder: Path) -> list[dict[str, float]]:
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError:
        raise InputError(
            f"records: {folder} holds TensorBoard events, which need the tensorboard package: pip install "
            f"'scalestop[tensorboard]', or log with CSVLogger"
        ) from None
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    steps: dict[int, dict[str, float]] = {}
    for tag in accumulator.Tags()["scalars"]:
        for event in accumulator.Scalars(tag):
            steps.setdefault(event.step, {"step": float(event.step)})[tag] = float(event.value)
    return [steps[step] for step in sorted(steps)]
