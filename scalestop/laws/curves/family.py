"""What a family of runs knows of its curves, as a law carries it: the curve law, and the band of its pilots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from scalestop.errors import InputError, shown
from scalestop.laws.curves.band import CurveBand
from scalestop.laws.curves.law import CurveLaw

SCHEMA = "scalestop.curves/1"

Series = Literal["training", "validation"]
"""Which loss the curves are of: the training loss in windows, or the loss of the validations."""


@dataclass(frozen=True)
class CurveFamily:
    """The curves of a law's own runs."""

    law: CurveLaw
    """How they fall along a run, over N and schedule."""
    band: CurveBand | None = None
    """Where they lie at each share of a run; None where there were too few runs of one schedule."""
    series: Series = "training"
    """Which loss they are of."""
    source: str = ""
    """The runs behind it."""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data, some 5 kB; `from_dict` reads it back."""
        return {
            "schema": SCHEMA,
            "series": self.series,
            "source": self.source,
            "law": self.law.to_dict(),
            "band": self.band.to_dict() if self.band is not None else None,
        }

    @classmethod
    def from_dict(cls, data: Any, *, where: str = "curves") -> CurveFamily:
        """Read what `to_dict` returned.

        Raises:
            InputError: If it is something else.
        """
        if not isinstance(data, Mapping) or data.get("schema") != SCHEMA:
            got = data.get("schema") if isinstance(data, Mapping) else type(data).__name__
            raise InputError(f"{where}: schema: expected {SCHEMA!r}, got {shown(got)}")
        if data.get("series") not in get_args(Series):
            raise InputError(f"{where}: series: one of {', '.join(get_args(Series))}; got {shown(data.get('series'))}")
        band = data.get("band")
        return cls(
            CurveLaw.from_dict(data.get("law", {}), where=f"{where}: law"),
            None if band is None else CurveBand.from_dict(band, where=f"{where}: band"),
            cast(Series, data["series"]),
            str(data.get("source", "")),
        )
