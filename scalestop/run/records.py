"""The record of a run: what it was asked, what it used, what came out. One JSON file per run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scalestop.display import data_frame, html_card
from scalestop.errors import InputError, shown
from scalestop.files import parse_json, write_whole
from scalestop.units import human_count, human_flops

if TYPE_CHECKING:
    pass

SCHEMA = "scalestop.record/3"
_READ = ("scalestop.record/1", "scalestop.record/2", SCHEMA)
"""Formats that are read. The first does not say whether its counts are exact, the second keeps validations alone."""
FILE_NAME = "scalestop.json"
DECAYED_SHARE = 0.1
"""A learning rate at or below this share of its peak counts as decayed to its end."""


@dataclass(frozen=True)
class RunRecord:
    """What one run was asked to do, what it used, and what came out; `fit_law` reads many of these."""

    num_params: int
    """N, counted as `n_counts` says."""
    num_tokens: int
    """D: tokens trained on, padding left out, global over ranks."""
    flops: int
    """Training FLOPs used."""
    loss: float | None
    """Final loss, nats per token: the validation loss where there is one. None if none was logged; not finite if the
    run diverged, and then a file holds it as the text `"NaN"` or `"Infinity"`."""
    stop_reason: str
    """Why the run ended; NOT_STOPPED if something else ended it."""
    law: str
    """Law that planned the run."""
    budget: str
    """Budget as text."""
    n_counts: str = "total"
    """Which parameters N means: `total` or `body`."""
    loss_name: str | None = None
    """Metric that `loss` is."""
    loss_error: float | None = None
    """Standard error of `loss`, nats per token, where it is a mean over training; None for a validation."""
    message: str = ""
    """The stop's reason in words."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Parameters by role: total, body, embedding, head, trainable."""
    plan: Mapping[str, Any] = field(default_factory=dict)
    """What was planned: N_opt, D_opt, stop step and reason, predicted loss."""
    usage: Mapping[str, Any] = field(default_factory=dict)
    """Every counter of `Usage`."""
    curve: tuple[tuple[int, float], ...] = ()
    """Validation loss against tokens within the run: (num_tokens, loss) pairs."""
    points: Mapping[str, Any] = field(default_factory=dict)
    """The whole curve by columns: training loss in windows with its spread, rate, counts, and every validation; see
    `run.curve.Curve.state_dict`. Empty in records from before it was kept."""
    foretold: tuple[Mapping[str, float], ...] = ()
    """What was forecast of `loss` on the way: share of the run seen, loss, and the 90 % interval's low and high."""
    run: str = ""
    """Identity of the run; survives resumes."""
    seed: int | None = None
    """Seed given to `seed_everything`; None if it was not called."""
    lr_decayed: bool | None = None
    """Whether the learning rate had come down to at most a tenth of its peak; None if unknown."""
    lr_final_share: float | None = None
    """Final learning rate over its peak."""
    unique_tokens: int | None = None
    """Distinct tokens of the training set, where known; fewer than D means repetition."""
    overshoot: float | None = None
    """How far the deciding counter went past its limit, as a share of it."""
    late_by: int | None = None
    """Steps by which the stop may have come late, after a step over several ranks that no check could expect."""
    started: str | None = None
    """When it began, UTC, ISO 8601, by its end and its seconds of training: at the latest, where a run has paused."""
    exact: bool | None = None
    """Whether the counts are exact; None in a record of before scalestop noted it."""
    inexact_because: str = ""
    """Why they are not."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of Python and of the packages that matter."""
    schema: str = SCHEMA
    """Format of the file."""

    def __repr__(self) -> str:
        loss = "no loss" if self.loss is None else f"loss {self.loss:.4g}"
        size, tokens = human_count(self.num_params), human_count(self.num_tokens)
        flops = human_flops(self.flops)
        return f"RunRecord({self.stop_reason}: N {size} {self.n_counts}, D {tokens}, {flops}, {loss}; law {self.law})"

    def _repr_html_(self) -> str:
        rows = [
            ("ended", f"{self.stop_reason}: {self.message}" if self.message else self.stop_reason),
            ("budget", self.budget),
            ("law", self.law),
            ("N", f"{self.num_params:,} ({self.n_counts})"),
            ("D", f"{self.num_tokens:,} tokens"),
            ("spent", human_flops(self.flops)),
        ]
        if self.loss is not None:
            planned = self.plan.get("loss_at_stop")
            against = f" against {planned:.4g} planned" if isinstance(planned, int | float) else ""
            rows.append(("loss", f"{self.loss:.4g} nats/token ({self.loss_name}){against}"))
        if self.inexact_because:
            rows.append(("counts", f"inexact: {self.inexact_because}"))
        return html_card("Run", rows)

    def to_frame(self) -> Any:
        """Return the loss curve as a pandas DataFrame, a row for each validation.

        Raises:
            InputError: If pandas is not installed.
        """
        return data_frame({"num_tokens": tokens, "loss": loss} for tokens, loss in self.curve)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data: a number that is not finite stands as text, `"NaN"` or `"Infinity"`."""
        return {name: _as_json(value) for name, value in asdict(self).items()}

    def to_json(self) -> str:
        """Return the text of the record's file."""
        return json.dumps(self.to_dict(), indent=2, default=str, allow_nan=False) + "\n"

    def save(self, path: str | Path) -> Path:
        """Write the record atomically: a reader sees the old file or the new one, never half of one.

        Args:
            path: File to write. Missing parent folders are made.
        """
        return write_whole(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> RunRecord:
        """Read a record file.

        Raises:
            InputError: If it is no record; naming the file and each unknown or missing field.
        """
        path = Path(path)
        try:
            data = parse_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: is not JSON: {error}") from None
        return cls.from_dict(data, where=str(path))

    @classmethod
    def from_dict(cls, data: Any, *, where: str = "record") -> RunRecord:
        """Read what `to_dict` returned.

        Raises:
            InputError: Naming each unknown or missing field, another schema, or what is no number.
        """
        if not isinstance(data, Mapping) or data.get("schema") not in _READ:
            got = data.get("schema") if isinstance(data, Mapping) else type(data).__name__
            later = str(got).startswith("scalestop.record/")
            what = "if a later scalestop wrote it, update this one" if later else "no run record of scalestop"
            raise InputError(f"{where}: schema: expected {' or '.join(map(repr, _READ))}, got {shown(got)}; {what}")
        known = {f.name for f in fields(cls)}
        required = {"num_params", "num_tokens", "flops", "loss", "stop_reason", "law", "budget"}
        if missing := sorted(required - set(data)):
            raise InputError(f"{where}: missing field(s) {', '.join(missing)}")
        if unknown := sorted(shown(name, 40).strip("'") for name in set(data) - known):
            raise InputError(f"{where}: unknown field(s) {', '.join(unknown)}")
        values = {**data, "schema": SCHEMA}
        try:
            values["curve"] = tuple((int(tokens), float(loss)) for tokens, loss in values.get("curve", ()))
        except (TypeError, ValueError, OverflowError):
            got = shown(values["curve"])
            raise InputError(f"{where}: curve: expected pairs of tokens and loss; got {got}") from None
        for name in ("num_params", "num_tokens", "flops"):
            if isinstance(values[name], bool) or not isinstance(values[name], int):
                raise InputError(f"{where}: {name}: expected a whole number; got {shown(values[name])}")
        if not isinstance(values.get("points", {}), Mapping):
            raise InputError(f"{where}: points: expected columns by name; got {shown(values['points'])}")
        if not isinstance(values.get("foretold", ()), list | tuple):
            raise InputError(f"{where}: foretold: expected a list; got {shown(values['foretold'])}")
        values["foretold"] = tuple(values.get("foretold", ()))
        for name in ("loss", "loss_error", "lr_final_share", "overshoot"):
            try:
                values[name] = None if values.get(name) is None else float(values[name])
            except (TypeError, ValueError, OverflowError):
                raise InputError(f"{where}: {name}: expected a number; got {shown(values[name])}") from None
        return cls(**values)


def _as_json(value: Any) -> Any:
    """Return a value without the floats that JSON does not have: as text, they read back with `float`."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: _as_json(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(part) for part in value]
    return value
