"""What every scaling law can do, what it knows about itself, and how it is saved."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from scalestop.display import html_card
from scalestop.errors import InputError, shown
from scalestop.files import write_whole
from scalestop.laws.findings import Finding, findings_from_list
from scalestop.laws.provenance import Provenance
from scalestop.laws.uncertainty import Uncertainty
from scalestop.laws.valid import ValidRange

if TYPE_CHECKING:
    from scalestop.laws.curves.family import CurveFamily

SCHEMA = "scalestop.law/2"
_SCHEMAS = ("scalestop.law/1", SCHEMA)
"""Version 2 added `provenance` and `findings`; files of version 1 have neither."""

Floats: TypeAlias = float | NDArray[np.float64]
"""A number, or an array of them; a function of several broadcasts them as numpy does."""

NCounts: TypeAlias = Literal["total", "body"]
"""Which parameters a law's N means: `total` (tied weights once), or `body` (no embeddings, no output head)."""


class Optimum(NamedTuple):
    """The compute-optimal model size and token count of a budget."""

    num_params: Floats
    """N_opt, counted as the law counts N."""
    num_tokens: Floats
    """D_opt, in tokens."""


@dataclass(frozen=True)
class LawInfo:
    """What a law says of itself."""

    name: str
    """The name `get_law` knows it by, or the user's own."""
    n_counts: NCounts
    """Which parameters its N means."""
    source: str
    """Paper with table or equation, or the records it was fitted to."""
    fitted_on: str = "not stated"
    """Data and scale of the runs behind it."""
    valid: ValidRange = field(default_factory=ValidRange)
    """Where it was fitted; outside it every answer is an extrapolation."""
    notes: tuple[str, ...] = ()
    """What a user must know: errata, conventions, known biases."""
    provenance: Provenance | None = None
    """What its runs were trained on and how, as data; `differences` holds a run at hand against it."""
    findings: tuple[Finding, ...] = ()
    """What its fit should be doubted for."""

    def __post_init__(self) -> None:
        if self.n_counts not in ("total", "body"):
            raise InputError(f"n_counts: a law's N counts 'total' or 'body' parameters; got {shown(self.n_counts)}")
        for name in ("name", "source", "fitted_on"):
            if not isinstance(getattr(self, name), str):
                raise InputError(f"{name}: a law's {name} is text; got {shown(getattr(self, name))}")
        if isinstance(self.notes, str) or not all(isinstance(note, str) for note in self.notes):
            raise InputError(f"notes: a list of texts; got {shown(self.notes)}")
        object.__setattr__(self, "notes", tuple(self.notes))
        if self.provenance is not None and not isinstance(self.provenance, Provenance):
            raise InputError(f"provenance: a Provenance, or None; got {self.provenance!r}")
        if not all(isinstance(finding, Finding) for finding in self.findings):
            raise InputError(f"findings: a list of Finding; got {self.findings!r}")
        object.__setattr__(self, "findings", tuple(self.findings))

    @property
    def broken(self) -> tuple[Finding, ...]:
        """The findings for which the law is not to be trained by: constants undetermined, or at a bound."""
        return tuple(finding for finding in self.findings if finding.breaks)


@dataclass(frozen=True)
class ScalingLaw(ABC):
    """A rule for the best model size and token count of a compute budget.

    A law is its constants and what is known about them. It knows nothing of dollars, devices or Trainers. Numbers go
    in and come out as floats, or as numpy arrays that broadcast.

    Subclasses are frozen dataclasses: their own fields, all floats (or None), are the constants.
    """

    info: LawInfo
    """Name, N convention, source, range, notes."""
    uncertainty: Uncertainty | None = None
    """Draws of the constants, as a bootstrap gives them; None where no uncertainty is known."""
    curves: CurveFamily | None = field(default=None, compare=False, repr=False, kw_only=True)
    """How single runs of the law come to their loss; None where their curves were not kept."""

    kind: ClassVar[str]
    """The form's name in saved files."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.__repr__ = ScalingLaw.__repr__  # type: ignore[method-assign]  # or each dataclass makes one of its draws too

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.info.name!r}: {self._constants()}; N {self.info.n_counts})"

    def _repr_html_(self) -> str:
        rows = [
            ("form", self.formula()),
            ("constants", self._constants()),
            ("N counts", f"{self.info.n_counts} parameters"),
            ("source", self.info.source),
            ("fitted on", self.info.fitted_on),
        ]
        rows += [("finding", f"{finding.severity}: {finding.message}") for finding in self.info.findings]
        return html_card(self.info.name, [*rows, *(("note", note) for note in self.info.notes)])

    def _constants(self) -> str:
        return ", ".join(f"{name} {value:.5g}" for name, value in self.constants.items() if value is not None)

    @abstractmethod
    def optimal(self, flops: Floats) -> Optimum:
        """Return N_opt and D_opt for a training compute C.

        Args:
            flops: C in FLOPs, where C = 6·N·D.
        """

    @abstractmethod
    def optimal_tokens(self, num_params: Floats) -> Floats:
        """Return the tokens with which a model of this size is itself compute-optimal.

        Args:
            num_params: N, counted as the law counts it.
        """

    def loss(self, num_params: Floats, num_tokens: Floats) -> Floats:
        """Return the predicted loss in nats per token.

        Args:
            num_params: N, counted as the law counts it.
            num_tokens: D, in tokens.

        Raises:
            InputError: If this law only allocates and predicts no loss; see `has_loss`.
        """
        raise InputError(
            f"law {self.name!r} allocates compute but predicts no loss; use one that does, such as 'besiroglu'"
        )

    @property
    def has_loss(self) -> bool:
        """Whether `loss` predicts anything."""
        return type(self).loss is not ScalingLaw.loss

    @property
    def name(self) -> str:
        """The law's name."""
        return self.info.name

    @property
    def constants(self) -> dict[str, float | None]:
        """The constants by name, in declaration order."""
        return {name: getattr(self, name) for name in self.constant_names()}

    def _plain_constants(self) -> dict[str, float | None]:
        return {name: None if value is None else float(value) for name, value in self.constants.items()}

    @property
    def digest(self) -> str:
        """Eight hex digits of what the law answers: its form, its constants, what N counts.

        Two laws of one digest give the same optimum and loss, whatever their notes, draws and names.
        """
        answers = [self.kind, self.info.n_counts, self._plain_constants()]
        return hashlib.sha256(json.dumps(answers, sort_keys=True).encode()).hexdigest()[:8]

    def drawn(self) -> Self:
        """Return this law with each constant an array of its bootstrap draws, shape (draws,).

        Every method then answers once per draw: `law.drawn().optimal(1e18).num_params` has shape (draws,).

        Raises:
            InputError: If the law carries no draws.
        """
        if self.uncertainty is None:
            raise InputError(f"law {self.name!r} carries no draws of its constants; fit one with scalestop.fit_law")
        if unknown := sorted(set(self.uncertainty.names) - set(self.constant_names())):
            raise InputError(f"law {self.name!r}: its draws name {', '.join(unknown)}, which are no constants of it")
        columns: dict[str, Any] = {name: self.uncertainty.column(name) for name in self.uncertainty.names}
        return replace(self, uncertainty=None, **columns)

    @classmethod
    def constant_names(cls) -> tuple[str, ...]:
        """Names of the constants, in declaration order."""
        return tuple(f.name for f in fields(cls) if f.name not in ("info", "uncertainty", "curves"))

    @classmethod
    def formula(cls) -> str:
        """The form, as one line of text."""
        return next(line.strip() for line in (cls.__doc__ or "").splitlines() if line.strip())

    def to_dict(self) -> dict[str, Any]:
        """Return the law as JSON-ready data; `law_from_dict` reads it back.

        Raises:
            InputError: If a constant is an array, as in a law from `drawn`.
        """
        if arrays := [name for name, value in self.constants.items() if np.ndim(cast(Any, value))]:
            raise InputError(
                f"law {self.name!r}: {', '.join(arrays)} are arrays; save the law that carries the draws, not drawn()"
            )
        data = {
            "schema": SCHEMA,
            "kind": self.kind,
            "name": self.info.name,
            "constants": self._plain_constants(),
            "n_counts": self.info.n_counts,
            "source": self.info.source,
            "fitted_on": self.info.fitted_on,
            "valid": asdict(self.info.valid),
            "notes": list(self.info.notes),
            "provenance": self.info.provenance.stated if self.info.provenance else None,
            "findings": [finding.to_dict() for finding in self.info.findings],
            "uncertainty": self.uncertainty.to_dict() if self.uncertainty else None,
        }
        return data if self.curves is None else {**data, "curves": self.curves.to_dict()}

    def save(self, path: str | Path) -> Path:
        """Write the law as JSON, whole or not at all; `get_law(path)` reads it back.

        Args:
            path: File to write. Missing parent folders are made.

        Raises:
            OSError: If it cannot be written; a file that was there stays.
        """
        path = Path(path)
        write_whole(path.resolve(), json.dumps(self.to_dict(), indent=2) + "\n")  # a link stays one
        return path


def law_from_dict(data: Mapping[str, Any], kinds: Mapping[str, type[ScalingLaw]], *, where: str = "law") -> ScalingLaw:
    """Read what `ScalingLaw.to_dict` wrote.

    Args:
        data: The decoded JSON.
        kinds: The known forms by `kind`.
        where: What to call the data in errors, such as a file name.

    Raises:
        InputError: Naming each unknown or missing field, or a schema or kind that is not known.
    """
    if not isinstance(data, Mapping):
        raise InputError(f"{where}: a law is a JSON object; got {type(data).__name__}")
    data = dict(data)
    kept = data.pop("curves", None)
    if data.get("schema") not in _SCHEMAS:
        known = " or ".join(map(repr, _SCHEMAS))
        raise InputError(f"{where}: schema: expected {known}, got {shown(data.get('schema'))}")
    expected = {"schema", "kind", "constants", "uncertainty", *(f.name for f in fields(LawInfo))}
    if data["schema"] == _SCHEMAS[0]:
        _same_fields(data, expected - {"provenance", "findings"}, where)
        data = {**data, "provenance": None, "findings": []}
    _same_fields(data, expected, where)
    if not isinstance(data["kind"], str) or data["kind"] not in kinds:
        raise InputError(f"{where}: kind: {shown(data['kind'])} is not one of {', '.join(sorted(kinds))}")
    cls = kinds[data["kind"]]
    _same_fields(data["constants"], set(cls.constant_names()), f"{where}: constants")
    _same_fields(data["valid"], {f.name for f in fields(ValidRange)}, f"{where}: valid")
    for name, value in data["constants"].items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise InputError(f"{where}: constants: {name} must be a number; got {shown(value)}")
    if not isinstance(data["notes"], list):
        raise InputError(f"{where}: notes: a list of texts; got {shown(data['notes'])}")
    drawn = data["uncertainty"]
    uncertainty = Uncertainty.from_dict(drawn, where=f"{where}: uncertainty") if drawn is not None else None
    known_runs = data["provenance"]
    provenance = Provenance.from_dict(known_runs, where=f"{where}: provenance") if known_runs is not None else None
    findings = findings_from_list(data["findings"], where=f"{where}: findings")
    curves = None
    if kept is not None:
        from scalestop.laws.curves.family import CurveFamily  # few laws have one, and planning asks for none

        curves = CurveFamily.from_dict(kept, where=f"{where}: curves")
    try:
        about = {f.name: data[f.name] for f in fields(LawInfo)}
        about |= {"valid": ValidRange(**data["valid"]), "provenance": provenance, "findings": findings}
        return cls(info=LawInfo(**about), uncertainty=uncertainty, curves=curves, **data["constants"])
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _same_fields(data: Any, expected: set[str], where: str) -> None:
    if not isinstance(data, Mapping):
        raise InputError(f"{where}: expected a JSON object; got {type(data).__name__}")
    if missing := sorted(expected - set(data)):
        raise InputError(f"{where}: missing field(s) {', '.join(missing)}")
    if unknown := sorted(shown(name, 40).strip("'") for name in set(data) - expected):
        raise InputError(f"{where}: unknown field(s) {', '.join(unknown)}; known are {', '.join(sorted(expected))}")


def plain(value: Any) -> Floats:
    """Return a Python float for 0-d input, and an array otherwise."""
    return float(value) if np.ndim(value) == 0 else np.asarray(value, dtype=np.float64)
