"""Runs in the logs of Lightning: the callback's counters beside a loss, from CSVLogger or TensorBoard."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scalestop.errors import InputError
from scalestop.files import parse_json

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
    finished record (the run was killed) the last logged values stand in for the final ones.

    Args:
        folder: Holds `metrics.csv` or event files, and `scalestop.json`.
        loss: Name of the logged loss; `loss` takes the record's own, else the first of `LOSS_NAMES` that was logged.

    Returns:
        One row for `table_of`. What is missing is left out; the table then reports the row.

    Raises:
        InputError: If the event files need the tensorboard package and it is not installed.
    """
    record = _record(folder / RECORD)
    steps = _read_csv(folder / "metrics.csv") if (folder / "metrics.csv").is_file() else _read_events(folder)
    steps = [_plain_counters(step) for step in steps]
    name = _loss_name(steps, record, loss)
    curve = _curve(steps, name) if name else []
    row = {"run": folder.name, **record}
    if not record.get("run"):
        row["run"] = str(folder)
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


def _record(path: Path) -> dict[str, Any]:
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
    curve: dict[float, float] = {}
    for step in steps:
        if name not in step:
            continue
        tokens = step.get(TOKENS)
        if tokens is None and "step" in step:
            # steps count alike in both rows, and tokens grow evenly between two of them
            tokens = _interpolate(step["step"], known)
        if tokens is not None and tokens > 0 and math.isfinite(step[name]):
            curve[tokens] = step[name]
    return sorted(curve.items())


def _interpolate(step: float, known: list[tuple[float, float]]) -> float:
    before = [pair for pair in known if pair[0] <= step]
    after = [pair for pair in known if pair[0] >= step]
    if before and after:
        (s0, t0), (s1, t1) = before[-1], after[0]
        return t0 if s1 == s0 else t0 + (t1 - t0) * (step - s0) / (s1 - s0)
    return before[-1][1] if before else after[0][1]


def _read_csv(path: Path) -> list[dict[str, float]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [_numbers(row) for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error):  # of a killed run or not a log: its row will lack what it held
        return []


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    values = {}
    for name, text in row.items():
        try:
            values[name] = float(text)
        except (TypeError, ValueError):
            continue
    return values


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
