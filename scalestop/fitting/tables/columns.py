"""Which column of a table means what: usual names, names that the user gives, and errors that list what was seen."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from scalestop.errors import InputError


def _words(**texts: str) -> dict[str, Sequence[str]]:
    return {name: text.split() for name, text in texts.items()}


ALIASES: Mapping[str, Sequence[str]] = _words(
    params="params num_params n_params parameters num_parameters n_parameters param_count parameter_count "
    "total_params model_size",
    tokens="tokens num_tokens n_tokens train_tokens training_tokens num_train_tokens total_tokens tokens_seen",
    flops="flops num_flops total_flops train_flops training_flops training_flop compute training_compute",
    unique_tokens="unique_tokens num_unique_tokens",
    run="run run_id",
    **{name: name for name in ("seed", "weight", "n_counts", "lr_decayed", "held_out", "kept", "curve")},
)
"""Column names understood, without regard to case or spaces. Counts, FLOPs and nats per token; never millions.

Two that answer to one name must agree. `name` is no run's identity: it may well be the model family of all rows.
"""

LOSSES: Sequence[tuple[str, ...]] = (
    ("loss",),
    ("final_loss", "final_val_loss", "final_validation_loss"),
    ("val_loss", "valid_loss", "validation_loss", "eval_loss", "test_loss"),
    ("train_loss", "training_loss", "final_train_loss"),
)
"""Losses by precedence: the first of these groups that a table has is taken, as other losses are other quantities."""

SYMBOLS: Mapping[str, str] = {"params": "N", "tokens": "D", "flops": "C", "loss": "L"}
"""Single capitals, understood where they hold numbers: `C` may well be a configuration."""

SETTINGS: Mapping[str, Sequence[str]] = _words(
    lr="lr learning_rate peak_lr max_lr lr_peak",
    batch="batch batch_size bs global_batch_size batch_tokens batch_sequences tokens_per_step",
)
"""Settings that tables sweep, by the names they go by."""

Columns: TypeAlias = Mapping[str, str] | str | None
"""Which column means what: `{"params": "n_active"}`, or the same as text, `"params=n_active,tokens=d"`."""

NAMES = ("params", "tokens", "loss", *(name for name in ALIASES if name not in ("params", "tokens")))


def parse_columns(columns: Columns) -> dict[str, str]:
    """Return which column means what, by our names.

    Raises:
        InputError: If the text cannot be read, or a name on its left is none of ours.
    """
    if columns is None:
        return {}
    if isinstance(columns, str):
        pairs = [part.partition("=") for part in columns.split(",") if part.strip()]
        if bad := [left for left, sign, right in pairs if not sign or not right.strip()]:
            raise InputError(f"columns: expected name=column,name=column; got {bad[0]!r} without '=' and a column")
        if len({left.strip() for left, _, _ in pairs}) < len(pairs):
            raise InputError(f"columns: one name is given twice in {columns!r}; give each once")
        columns = {left.strip(): right.strip() for left, _, right in pairs}
    if not isinstance(columns, Mapping):
        raise InputError(f"columns: expected a mapping or text such as 'params=n_active'; got {columns!r}")
    if unknown := sorted(set(columns) - set(NAMES)):
        raise InputError(f"columns: {unknown[0]!r} is nothing a table holds; give any of {', '.join(NAMES)}")
    return {str(name): str(column) for name, column in columns.items()}


class ColumnReader:
    """Reads rows under our own column names, and remembers which columns it has seen."""

    def __init__(self, columns: Columns = None, loss: str = "loss", keep: Iterable[str] = ()) -> None:
        """Prepare to read.

        Args:
            columns: Which column means what, where the usual names do not say.
            loss: The column that holds the loss; `loss` takes the first of `LOSSES` that there is.
            keep: Further columns whose values are kept, under the names given here.
        """
        self.given = parse_columns(columns)
        if loss != "loss":
            if self.given.get("loss", loss) != loss:
                raise InputError(f"columns: loss is {self.given['loss']!r} here and loss={loss!r} there; give it once")
            self.given["loss"] = loss
        self.settings = {name: SETTINGS.get(name, (plain_name(name),)) for name in {**SETTINGS, **dict.fromkeys(keep)}}
        self.seen: dict[str, None] = {}
        self.found: set[str] = set()
        self._layouts: dict[tuple[str, ...], dict[str, list[str]]] = {}

    def read(self, raw: Mapping[str, Any], source: str) -> dict[str, Any]:
        """Return a row under our names; other columns are left out. `source` is for errors.

        Raises:
            InputError: If two columns answer to one name and disagree.
        """
        columns = tuple(raw)
        if columns not in self._layouts:
            self._layouts[columns] = self._layout(columns)
            self.seen.update(dict.fromkeys(map(str, columns)))
        layout = self._layouts[columns]
        found: dict[str, Any] = {}
        for name in NAMES:
            present = [column for column in layout[name] if not is_absent(raw[column])]
            if present and name in SYMBOLS and present[-1] == SYMBOLS[name] and name not in self.given:
                # a capital stands last; one that holds a word is something else
                present = present if _is_number(raw[present[-1]]) else present[:-1]
            if len(present) > 1 and not _agree([raw[column] for column in present]):
                names = " and ".join(repr(str(column)) for column in present)
                raise InputError(
                    f"{source}: columns {names} both give {name} and disagree; keep one of them, or say which with "
                    f"columns='{name}={present[0]}'. {self.describe_seen()}"
                )
            if present:
                found[name] = raw[present[0]]
                self.found.add(name)
        present_of = {s: [c for c in layout[f"setting {s}"] if not is_absent(raw[c])] for s in self.settings}
        return found | {"settings": {s: raw[present[0]] for s, present in present_of.items() if present}}

    def _layout(self, columns: Sequence[str]) -> dict[str, list[str]]:
        """Return which of these columns may hold what: for each of our names, and for each setting."""
        plain: dict[str, list[str]] = {}
        for column in columns:
            plain.setdefault(plain_name(str(column)), []).append(column)

        def pick(aliases: Iterable[str]) -> list[str]:
            return [column for alias in aliases for column in plain.get(alias, ())]

        layout = {f"setting {setting}": pick(aliases) for setting, aliases in self.settings.items()}
        for name in NAMES:
            if name in self.given:
                column = self.given[name]
                layout[name] = [column] if column in columns else pick((plain_name(column),))[:1]
                continue
            symbol = [column for column in columns if column == SYMBOLS.get(name)]
            if name == "loss":
                # by what columns there are: a row without its loss does not borrow another quantity
                layout[name] = next((there for tier in LOSSES if (there := pick(tier))), symbol)
            else:
                layout[name] = [*pick(ALIASES[name]), *symbol]
        return layout

    def check(self) -> None:
        """Raise if a column that was asked for by name was in no row.

        Raises:
            InputError: Naming the column, and those that were seen.
        """
        for name, column in self.given.items():
            if self.seen and name not in self.found:
                raise InputError(
                    f"columns: {name}={column}: no row has a value in such a column. {self.describe_seen()}"
                )

    def describe_seen(self) -> str:
        """Return the columns seen, as a sentence."""
        return describe_columns(tuple(self.seen))


def describe_columns(names: Sequence[str]) -> str:
    """Return the columns of a table, as a sentence: forty of them at most."""
    more = f" and {len(names) - 40} more" if len(names) > 40 else ""
    return f"Columns seen: {', '.join(names[:40])}{more}." if names else "No columns were seen."


def plain_name(name: str) -> str:
    """Return a column's name in lower case, with underscores for all that is neither letter nor digit."""
    return re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_")


def is_absent(value: Any) -> bool:
    """Return whether a cell is empty."""
    # a run record's own `params` are its parameters by role; its N is `num_params`
    return value is None or isinstance(value, Mapping) or (isinstance(value, str) and not value.strip())


def as_number(value: Any) -> float:
    """Return a cell as a number; NaN where it is none."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _is_number(value: Any) -> bool:
    return math.isfinite(as_number(value))


def _agree(values: Sequence[Any]) -> bool:
    """Return whether cells say the same: numbers to what another format keeps, all else letter for letter."""
    if all(map(_is_number, values)):
        first, *rest = map(float, values)
        return all(math.isclose(first, other, rel_tol=1e-6) for other in rest)
    return len(set(map(str, values))) == 1
