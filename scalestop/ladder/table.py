"""A ladder's runs as one table: what the law is fitted to, and what else was trained."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from scalestop.files import write_whole
from scalestop.ladder.rung import Rung
from scalestop.ladder.store import DIVERGED, Ladder
from scalestop.run.records import RunRecord

FILE_NAME = "runs.csv"


def run_rows(ladder: Ladder) -> tuple[list[dict[str, Any]], list[RunRecord]]:
    """Return the ended runs as rows for `fit_law`, and the records of those that diverged.

    All but the pilots are marked as held out, with which `fit_law` leaves them alone. Branches of one trunk share its
    noise, and so are one run to the bootstrap.

    Args:
        ladder: The ladder.
    """
    rows, diverged = [], []
    for rung in ladder.rungs:
        record = ladder.record(rung)
        if record is None:
            continue
        if record.stop_reason == DIVERGED:
            diverged.append(record)
        else:
            rows.append(_row(rung, record))
    return rows, diverged


def write_table(ladder: Ladder) -> Path:
    """Write the ended runs to `runs.csv` in the ladder's folder; `scalestop fit` on it gives the ladder's law.

    Args:
        ladder: The ladder.

    Returns:
        The file.
    """
    rows, _ = run_rows(ladder)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["run"], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: "" if value is None else value for name, value in row.items()} for row in rows)
    return write_whole(ladder.folder / FILE_NAME, text.getvalue())


def _row(rung: Rung, record: RunRecord) -> dict[str, Any]:
    seconds = record.usage.get("seconds")
    return {
        "run": rung.trunk or rung.name,
        "kind": "held out" if rung.kind == "run" and rung.held_out else rung.kind,
        "held_out": not rung.is_pilot,
        "params": record.num_params,
        "tokens": record.num_tokens,
        "flops": record.flops,
        "loss": record.loss,
        "seed": record.seed,
        "budget": rung.budget,
        "shape": rung.shape,
        "body_params": record.params.get("body"),
        "batch_size": rung.batch_size,
        "steps": rung.steps,
        "lr": rung.lr,
        "new_flops": rung.new_flops,
        "seconds": round(float(seconds), 1) if seconds else None,
        "n_counts": record.n_counts,
        "lr_decayed": record.lr_decayed,
        "unique_tokens": record.unique_tokens,
    }
