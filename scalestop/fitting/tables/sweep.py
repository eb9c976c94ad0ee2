"""Sweeps of settings: of the runs at one (N, D), those of the best setting are what a law describes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scalestop.errors import InputError
from scalestop.fitting.solve.newton import Array
from scalestop.fitting.tables.columns import describe_columns
from scalestop.fitting.tables.table import RunTable

SAME_POINT = 0.02
"""Runs of one N whose D lie within this share count as one point: D is a whole number of batches, which differ."""

BestOf = str | Sequence[str] | None
"""Settings that a table sweeps, such as `"lr,batch"`."""


@dataclass(frozen=True)
class Sweep:
    """What a table varies besides N and D."""

    settings: tuple[str, ...]
    """Those that take several values at one (N, D)."""
    num_runs: int
    """Runs at points where they do."""
    num_points: int
    """Such points (N, D)."""
    spread: float
    """Median over the points of (largest loss / least loss) - 1."""


def parse_best_of(best_of: BestOf) -> tuple[str, ...]:
    """Return the names in `"lr,batch"`, or in a list of such.

    Raises:
        InputError: If there is none.
    """
    if best_of is None:
        return ()
    names = best_of.split(",") if isinstance(best_of, str) else list(best_of)
    names = [str(name).strip() for name in names if str(name).strip()]
    if not names:
        raise InputError(f"best_of: expected names of settings, such as 'lr,batch'; got {best_of!r}")
    return tuple(dict.fromkeys(names))


def points_of(params: Array, tokens: Array) -> NDArray[np.int_]:
    """Number the points (N, D) that runs lie at, shape (R,): N alike to 0.1 %, D to `SAME_POINT`."""
    labels, sizes, last = np.zeros(len(params), dtype=int), apart(params, 1.001), -1
    for size in range(sizes.max() + 1):
        rows = np.flatnonzero(sizes == size)
        labels[rows] = last + 1 + apart(tokens[rows], 1 + SAME_POINT)
        last = labels[rows].max()
    return labels


def apart(values: Array, factor: float) -> NDArray[np.int_]:
    """Number values upwards, shape (R,): one is another if it lies further than `factor` from the first of the last."""
    labels, label, first = np.zeros(len(values), dtype=int), -1, 0.0
    for i in np.argsort(values, kind="stable"):
        if values[i] > first * factor:
            label, first = label + 1, float(values[i])
        labels[i] = label
    return labels


def best_rows(table: RunTable, best_of: BestOf) -> NDArray[np.int_]:
    """Return the rows of the best setting at each (N, D), in the table's order.

    Runs of one setting, such as its seeds, stand together: the setting with the least mean loss is kept, with all its
    runs. The least of many noisy losses lies a little below what that setting gives on average.

    Args:
        table: The runs.
        best_of: The settings swept; None keeps every row.

    Raises:
        InputError: If the table has no such column, or a row has no value in it.
    """
    names = parse_best_of(best_of)
    if not names:
        return np.arange(len(table))
    for name in names:
        if name not in table.settings:
            raise InputError(f"best_of: no row has a column {name!r}. {describe_columns(table.columns)}")
        missing = [i for i, value in enumerate(table.settings[name]) if value is None]
        if missing:
            raise InputError(
                f"best_of: {len(missing)} of {len(table)} rows have no {name}, the first of them "
                f"{table.origin[missing[0]]}; fill it in, or leave those rows out"
            )
    settings = list(zip(*(map(_cell, table.settings[name]) for name in names), strict=True))
    losses: dict[int, dict[tuple[Any, ...], list[int]]] = {}
    for row, (point, setting) in enumerate(zip(points_of(table.params, table.tokens), settings, strict=True)):
        losses.setdefault(int(point), {}).setdefault(setting, []).append(row)
    kept = [
        row
        for by_setting in losses.values()
        for row in min(by_setting.values(), key=lambda rows: float(np.mean(table.loss[rows])))
    ]
    return np.sort(kept)


def find_sweep(table: RunTable) -> Sweep | None:
    """Return what the table sweeps; None where runs of one (N, D) were all made alike."""
    points = points_of(table.params, table.tokens)
    order = np.argsort(points, kind="stable")
    found: dict[str, None] = {}
    runs, spreads = 0, []
    for rows in np.split(order, np.flatnonzero(np.diff(points[order])) + 1):
        varied = [
            name
            for name, column in table.settings.items()
            if len({_cell(column[row]) for row in rows if column[row] is not None}) > 1
        ]
        if varied:
            found.update(dict.fromkeys(varied))
            runs += len(rows)
            spreads.append(float(table.loss[rows].max() / table.loss[rows].min()) - 1)
    return Sweep(tuple(found), runs, len(spreads), float(np.median(spreads))) if spreads else None


def _cell(value: Any) -> Any:
    """Return a setting's value so that 1e-3 and 0.001 are one."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return str(value)
