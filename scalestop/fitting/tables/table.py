"""The runs behind a fit, as one table with every row accounted for."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from scalestop.display import data_frame
from scalestop.errors import InputError, shown
from scalestop.fitting.solve.newton import Array
from scalestop.fitting.tables.columns import ColumnReader, Columns, is_absent

_NUMBERS = ("params", "tokens", "loss", "flops", "unique_tokens", "weight")
_LABELS = ("run", "seed", "n_counts", "lr_decayed", "held_out", "curve", "origin")


@dataclass(frozen=True)
class BadRow:
    """A row that could not be used, and why."""

    source: str
    """File, or a word for where the row came from."""
    row: int
    """Its number there: the line of a file (the header is line 1), or the position in a list, from 0."""
    reason: str
    """Which field is wrong, and how."""

    def __str__(self) -> str:
        return f"{self.source}, row {self.row}: {self.reason}"


def describe_bad_rows(rows: Sequence[BadRow]) -> str:
    """Return bad rows in words, those of one file with one reason together; at most five such groups."""
    groups: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        groups.setdefault((row.source, row.reason), []).append(row.row)
    lines = []
    for (source, reason), numbers in groups.items():
        listed = ", ".join(str(n) for n in numbers[:8]) + (f" and {len(numbers) - 8} more" if len(numbers) > 8 else "")
        lines.append(f"{source}, row{'s' if len(numbers) > 1 else ''} {listed}: {reason}")
    return "; ".join(lines[:5]) + (f"; and {len(lines) - 5} more reasons" if len(lines) > 5 else "")


@dataclass(frozen=True)
class RunTable:
    """Runs, one row each. Arrays have shape (R,)."""

    params: Array = field(repr=False)
    """N, parameters."""
    tokens: Array = field(repr=False)
    """D, tokens trained on."""
    loss: Array = field(repr=False)
    """Final loss, nats per token."""
    flops: Array = field(repr=False)
    """Training FLOPs; 6·N·D where the source gave none."""
    unique_tokens: Array = field(repr=False)
    """Distinct tokens of the data; NaN where unknown."""
    weight: Array = field(repr=False)
    """Weight of the row in the fit."""
    run: tuple[str, ...] = field(repr=False)
    """Identity of the run; rows of one run are resampled together."""
    seed: tuple[int | None, ...] = field(repr=False)
    n_counts: tuple[str | None, ...] = field(repr=False)
    """What N means, where the source says so."""
    lr_decayed: tuple[bool | None, ...] = field(repr=False)
    """Whether the learning rate had come down by the end, where known."""
    held_out: tuple[bool, ...] = field(repr=False)
    """Whether the source marks the run as one to predict, not to fit."""
    curve: tuple[tuple[tuple[float, float], ...], ...] = field(repr=False)
    """(tokens, loss) pairs within the run; empty where there are none."""
    origin: tuple[str, ...] = field(repr=False)
    """Where each row came from, such as 'runs.csv, row 7'."""
    bad_rows: tuple[BadRow, ...] = ()
    """Rows left out, each with its reason."""
    sources: tuple[str, ...] = ()
    """Files read."""
    settings: Mapping[str, tuple[Any, ...]] = field(default_factory=dict, repr=False)
    """What a sweep varies, such as `lr` and `batch`: a value for each row, None where it has none."""
    columns: tuple[str, ...] = field(default=(), repr=False)
    """Names of all columns seen, for messages."""

    def __len__(self) -> int:
        return len(self.params)

    def to_frame(self) -> Any:
        """Return the runs as a pandas DataFrame, one row each.

        Raises:
            InputError: If pandas is not installed.
        """
        names = ("params", "tokens", "loss", "flops", "unique_tokens", "weight", "run", "seed", "held_out")
        columns = [getattr(self, name) for name in names]
        return data_frame(dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))

    @property
    def data_hash(self) -> str:
        """sha256 of the rows to nine digits, whatever their order, so that it survives a trip through other formats."""
        columns = np.column_stack([self.params, self.tokens, self.loss, self.flops, self.unique_tokens, self.weight])
        rows = sorted(
            (*(f"{v:.9g}" for v in row), run, str(seed))
            for row, run, seed in zip(columns, self._named_runs(), self.seed, strict=True)
        )
        return hashlib.sha256("\n".join(",".join(row) for row in rows).encode()).hexdigest()

    def _named_runs(self) -> tuple[str, ...]:
        # a run without a name is called after its row, which says nothing of the data
        return tuple("" if run == origin else run for run, origin in zip(self.run, self.origin, strict=True))

    @property
    def groups(self) -> np.ndarray:
        """Number of the run that each row belongs to, 0 to the number of runs less 1, shape (R,).

        A name that stands on rows of several N is no run's: each of its rows then counts as a run of its own.
        """
        return np.unique(self._run_labels(), return_inverse=True)[1]

    @property
    def group_names(self) -> tuple[str, ...]:
        """Name of each run, in the order of the numbers in `groups`."""
        return tuple(map(str, np.unique(self._run_labels())))

    def _run_labels(self) -> np.ndarray:
        shared = self.shared_names
        return np.array([origin if run in shared else run for run, origin in zip(self.run, self.origin, strict=True)])

    @property
    def shared_names(self) -> frozenset[str]:
        """Names in `run` that stand on rows of several N, and so are no run's."""
        labels, run = np.unique(np.array(self.run), return_inverse=True)
        smallest, largest = np.full(len(labels), np.inf), np.zeros(len(labels))
        np.minimum.at(smallest, run, self.params)
        np.maximum.at(largest, run, self.params)
        return frozenset(str(label) for label in labels[largest > smallest * 1.001])

    @property
    def copies(self) -> np.ndarray:
        """Whether each row repeats an earlier one exactly: N, D, loss, seed, run and curve alike, shape (R,)."""
        shared, seen = self.shared_names, set()
        found = np.zeros(len(self), dtype=bool)
        names = ("" if run in shared else run for run in self._named_runs())
        numbers = (self.params, self.tokens, self.loss, map(str, self.unique_tokens))
        for row, key in enumerate(zip(*numbers, names, self.seed, self.curve, strict=True)):
            found[row] = key in seen
            seen.add(key)
        return found

    def take(self, keep: Sequence[int] | np.ndarray) -> RunTable:
        """Return the table of these rows, in this order."""
        index = np.arange(len(self))[np.asarray(keep)]
        values: dict[str, Any] = {name: getattr(self, name)[index] for name in _NUMBERS}
        values |= {name: tuple(getattr(self, name)[i] for i in index) for name in _LABELS}
        settings = {name: tuple(column[i] for i in index) for name, column in self.settings.items()}
        return replace(self, **values, settings=settings)

    def describe_row(self, row: int) -> str:
        """Return a row in words, for messages."""
        label = self.origin[row] if self.run[row] == self.origin[row] else f"{self.run[row]} ({self.origin[row]})"
        return f"{label}: N = {self.params[row]:.3g}, D = {self.tokens[row]:.3g}, loss {self.loss[row]:.4g}"


def table_of(
    rows: Iterable[tuple[str, int, Mapping[str, Any]]],
    *,
    loss: str = "loss",
    columns: Columns = None,
    keep: Iterable[str] = (),
) -> RunTable:
    """Build a table from raw rows of (source, row number, values by column name); see `read_runs` for the rest.

    Raises:
        InputError: If two columns answer to one name, one that was asked for is not there, or no row is usable.
    """
    reader = ColumnReader(columns, loss, keep)
    kept: list[dict[str, Any]] = []
    bad: list[BadRow] = []
    sources: dict[str, None] = {}
    for source, number, raw in rows:
        sources[source] = None
        row = reader.read(raw, source)
        try:
            kept.append(_clean(row, f"{source}, row {number}"))
        except InputError as error:
            bad.append(BadRow(source, number, str(error)))
    if not kept:
        shown = describe_bad_rows(bad) or "there are no rows at all"
        raise InputError(
            f"records: no usable run: {shown}. A run needs params, tokens (or flops) and {loss}; say which columns "
            f"hold them with columns='params=...,tokens=...'. {reader.describe_seen()}"
        )
    reader.check()
    values: dict[str, Any] = {name: np.array([row[name] for row in kept], dtype=np.float64) for name in _NUMBERS}
    values |= {name: tuple(row[name] for row in kept) for name in _LABELS}
    varied = {name: tuple(row["settings"].get(name) for row in kept) for name in reader.settings}
    return RunTable(
        **values,
        bad_rows=tuple(bad),
        sources=tuple(sources),
        settings={name: column for name, column in varied.items() if any(cell is not None for cell in column)},
        columns=tuple(reader.seen),
    )


def _clean(values: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Check one row and fill in what follows from the rest.

    Raises:
        InputError: Naming the field.
    """
    if _truth(values.get("kept")) is False:
        raise InputError("kept is false, so the source itself leaves it out")
    params, loss = _positive(values, "params"), _positive(values, "loss")
    flops = _positive(values, "flops", math.nan)
    tokens = _positive(values, "tokens", None if math.isnan(flops) else flops / (6 * params))
    return {
        "params": params,
        "tokens": tokens,
        "loss": loss,
        "flops": 6 * params * tokens if math.isnan(flops) else flops,
        "unique_tokens": _positive(values, "unique_tokens", math.nan),
        "weight": _positive(values, "weight", 1.0),
        "run": _label(values.get("run")) or origin,
        "seed": _whole(values.get("seed"), "seed"),
        "n_counts": _label(values.get("n_counts")),
        "lr_decayed": _truth(values.get("lr_decayed")),
        "held_out": _truth(values.get("held_out")) is True,
        "curve": _pairs(values.get("curve"), "curve"),
        "origin": origin,
        "settings": values["settings"],
    }


def _positive(values: Mapping[str, Any], name: str, instead: float | None = None) -> float:
    """Read a positive number; `instead` where there is none, if that is a number."""
    value = values.get(name)
    if is_absent(value) or (instead is not None and _is_nan(value)):
        if instead is not None:
            return instead
        raise InputError(f"{name} is missing")
    try:
        number = float(value)  # type: ignore[arg-type]
    except OverflowError:  # an int beyond every float
        number = math.inf
    except Exception:  # a cell may be anything, and its __float__ raise anything
        raise InputError(f"{name}: {shown(value)} is not a number; write counts out in full, without units") from None
    if not math.isfinite(number) or number <= 0:
        raise InputError(f"{name}: must be positive and finite; got {shown(value)}")
    return number


def _whole(value: Any, name: str) -> int | None:
    """Read a whole number; None where there is none."""
    if is_absent(value) or _is_nan(value):
        return None
    try:
        return int(float(value))
    except Exception:
        raise InputError(f"{name}: a whole number, or nothing; got {shown(value)}") from None


def _pairs(value: Any, name: str) -> tuple[tuple[float, float], ...]:
    """Read pairs of tokens and loss; empty where there are none."""
    if is_absent(value) or _is_nan(value):
        return ()
    try:
        return tuple((float(tokens), float(loss)) for tokens, loss in value)
    except Exception:
        raise InputError(f"{name}: pairs of tokens and loss, or nothing; got {shown(value)}") from None


def _label(value: Any) -> str | None:
    """Read a name; None where there is none."""
    if is_absent(value):
        return None
    try:
        return str(value)
    except Exception:
        return shown(value)


def _is_nan(value: Any) -> bool:
    """Whether a cell holds no number: NaN, and pandas' NA, which is neither equal nor unequal to anything."""
    try:
        return bool(value != value)
    except Exception:  # arrays, NA, and what else has no truth
        return type(value).__name__ in ("NAType", "NaTType")


def _truth(value: Any) -> bool | None:
    if is_absent(value) or _is_nan(value):
        return None
    if isinstance(value, str):
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(
            value.strip().lower()
        )
    try:
        return bool(value)
    except Exception:  # an array has no truth
        return None
