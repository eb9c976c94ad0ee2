"""What a fit should be doubted for: said by the fit, kept with the law, repeated by each plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from scalestop.errors import InputError

Severity = Literal["note", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing to know about a fit."""

    code: str
    """Short name of the kind of finding, such as `E-undetermined`."""
    severity: Severity
    message: str
    """A sentence."""

    def __post_init__(self) -> None:
        if self.severity not in ("note", "warning"):
            raise InputError(f"severity: 'note' or 'warning'; got {self.severity!r}")
        for name in ("code", "message"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise InputError(f"{name}: a finding's {name} is text; got {getattr(self, name)!r}")

    @property
    def breaks(self) -> bool:
        """Whether the law's constants are not to be relied on: undetermined, at a bound, or not converged."""
        return self.code.endswith(("-undetermined", "-at-bound")) or self.code == "not-converged"

    def to_dict(self) -> dict[str, str]:
        """Return JSON-ready data."""
        return asdict(self)


def warnings_of(found: Mapping[str, str]) -> tuple[Finding, ...]:
    """Return messages by their codes as warnings."""
    return tuple(Finding(code, "warning", message) for code, message in found.items())


def notes_of(found: Mapping[str, str]) -> tuple[Finding, ...]:
    """Return messages by their codes as notes."""
    return tuple(Finding(code, "note", message) for code, message in found.items())


def findings_from_list(data: Any, *, where: str = "findings") -> tuple[Finding, ...]:
    """Read a list of what `Finding.to_dict` wrote.

    Raises:
        InputError: Naming what is no finding.
    """
    if not isinstance(data, list):
        raise InputError(f"{where}: a list of findings; got {data!r}")
    found = []
    for item in data:
        if not isinstance(item, Mapping) or set(item) != {"code", "severity", "message"}:
            raise InputError(f"{where}: a finding has code, severity and message; got {item!r}")
        try:
            found.append(Finding(**item))
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
    return tuple(found)


def describe_findings(findings: Sequence[Finding]) -> str | None:
    """Return the warnings among a law's findings in one line, the breaking ones first; None without any.

    Args:
        findings: What a fit found, such as `law.info.findings`.
    """
    warnings = [finding for finding in findings if finding.severity == "warning"]
    if not warnings:
        return None
    breaking = [finding.code for finding in warnings if finding.breaks]
    others = [finding.code for finding in warnings if not finding.breaks]
    many = "1 warning" if len(warnings) == 1 else f"{len(warnings)} warnings"
    text = f"its fit ended with {many}: {', '.join(dict.fromkeys(breaking + others))}"
    if breaking:
        text += "; its constants are not determined by its runs, so do not train a large run by it"
    return text
