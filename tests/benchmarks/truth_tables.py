"""Public run tables, each as the runs a law should describe, and how they are cut for a held-out forecast."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from fitting_data import data_folder, gadre_runs, read_columns

from scalestop.errors import InputError, ScalestopWarning
from scalestop.fitting import read_runs

Table = dict[str, np.ndarray]

CUTS = (10, 30, 100)
"""Runs up to the largest compute over these are fitted."""

VALLEY = 1.03
"""Rows within 3 % of the loss envelope over compute are forecast."""

BELOW = (3, 10, 30)
"""Runs from these times the cheapest one's compute are fitted where forecasts reach downwards."""

LEAST_RUNS = 7
"""Runs that a cut must leave to fit."""

_OLMO_SIZES = {"190M": 190354176, "370M": 371262464, "760M": 758220288, "1B": 1279395840}
_OF_THEIR_OWN = ("chinchilla_svg", "gadre_testbed", "sweep_steplaw_dense", "olmo_ladder")
_CURVES = "mpl_curves"


class Split(NamedTuple):
    """A table cut at some compute."""

    name: str
    cut: int
    fitted: Table
    held: Table
    """Valley rows above the cut; below it for `splits_below`."""


def tables(more: tuple[str, ...] = ()) -> dict[str, Table]:
    """Return every table of the data folder by name: columns params, tokens, loss.

    Args:
        more: Further files.
    """
    folder, found = data_folder(), {}
    for path in (*sorted(folder.glob("*.csv")), *map(Path, more)):
        if path.stem in _OF_THEIR_OWN:
            found |= _special(path)
        elif not path.stem.startswith(_CURVES):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ScalestopWarning)
                    runs = read_runs(path)
            except InputError as error:
                print(f"{path.name} left out: {str(error)[:200]}")
                continue
            found[path.stem.removeprefix("runs_")] = {"params": runs.params, "tokens": runs.tokens, "loss": runs.loss}
    return found


def splits(found: dict[str, Table]) -> Iterator[Split]:
    """Yield each table at each cut that leaves enough to fit and something to forecast."""
    for name, table in found.items():
        flops = table["params"] * table["tokens"]
        valley = table["loss"] <= VALLEY * running_minimum(flops, table["loss"])
        for cut in CUTS:
            fitted = flops <= flops.max() / cut * (1 + 1e-9)
            if fitted.sum() >= LEAST_RUNS and np.any(valley & ~fitted):
                yield Split(name, cut, take(table, fitted), take(table, valley & ~fitted))


def splits_below(found: dict[str, Table]) -> Iterator[Split]:
    """Yield each table's dearer runs, to forecast the valley rows below them."""
    for name, table in found.items():
        flops = table["params"] * table["tokens"]
        valley = table["loss"] <= VALLEY * running_minimum(flops, table["loss"])
        for cut in BELOW:
            fitted = flops >= flops.min() * cut * (1 - 1e-9)
            if fitted.sum() >= LEAST_RUNS and np.any(valley & ~fitted):
                yield Split(name, cut, take(table, fitted), take(table, valley & ~fitted))


def take(table: Table, keep: np.ndarray) -> Table:
    """Return some rows of a table."""
    return {name: column[keep] for name, column in table.items()}


def running_minimum(flops: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Return the least loss of each run's compute or less."""
    order = np.argsort(flops, kind="stable")
    least = np.minimum.accumulate(loss[order])
    return least[np.searchsorted(flops[order], flops * 1.0001, side="right") - 1]


def _special(path: Path) -> dict[str, Table]:
    columns = read_columns(path)
    if path.stem == "chinchilla_svg":
        kept = columns["kept"] == 1
        return {"chinchilla": _table(columns["n_params"][kept], columns["n_tokens"][kept], columns["loss"][kept])}
    if path.stem == "gadre_testbed":
        found = {}
        for data in ("c4_original", "rpj", "rw_original"):
            runs = gadre_runs(columns, data)
            body = columns["n_params_no_embed"][columns["train_set"] == data]
            found |= {f"gadre {data}": runs, f"gadre {data}, body": {**runs, "params": body}}
        return found
    if path.stem == "olmo_ladder":
        # the last row of a run is its end
        last = {key: row for row, key in enumerate(zip(columns["size"], columns["chinchilla_multiple"], strict=True))}
        rows = np.array(list(last.values()))
        size = np.array([float(_OLMO_SIZES[str(name)]) for name in columns["size"][rows]])
        tokens = columns["step"][rows] * columns["batch_tokens"][rows]
        losses = (c for c in ("c4_loss", "pile_loss", "cc_loss") if c in columns)
        return {f"olmo {c.removesuffix('_loss')}": _numbers(size, tokens, columns[c][rows]) for c in losses}
    best: dict[tuple[float, float], float] = {}
    for n, d, loss in zip(columns["params"], columns["tokens"], columns["smooth_loss"], strict=True):
        if np.isfinite(loss):
            best[n, d] = min(best.get((n, d), np.inf), float(loss))
    return {"steplaw": _table(*np.array([(n, d, loss) for (n, d), loss in sorted(best.items())]).T)}


def _table(params: np.ndarray, tokens: np.ndarray, loss: np.ndarray) -> Table:
    return {"params": params, "tokens": tokens, "loss": loss}


def _numbers(params: np.ndarray, tokens: np.ndarray, loss: np.ndarray) -> Table:
    """Return the table of the rows that have a loss."""
    has = np.array([str(value) not in ("", "nan") for value in loss])
    return _table(params[has], tokens[has], loss[has].astype(np.float64))
