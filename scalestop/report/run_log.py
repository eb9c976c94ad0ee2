"""What a run logs while it goes: Lightning's `metrics.csv`, read as series over steps."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

FILE_NAME = "metrics.csv"
_OWN = "scalestop"


@dataclass(frozen=True)
class RunLog:
    """Series by name: pairs of step and value, in the order of the steps."""

    series: Mapping[str, tuple[tuple[int, float], ...]] = field(default_factory=dict)

    def last(self, name: str) -> float | None:
        """Return the last value of a series; None where there is none."""
        values = self.series.get(name)
        return values[-1][1] if values else None

    def own(self, name: str) -> float | None:
        """Return the last value of one of the callback's own metrics, such as `budget_used`."""
        return self.last(f"{_OWN}/{name}")

    def against_tokens(self, name: str) -> list[tuple[float, float]]:
        """Return a series as pairs of tokens and value; between two counts tokens grow as the steps do."""
        counted = sorted(self.series.get(f"{_OWN}/tokens", ()))
        if not counted:
            return []
        found = []
        for step, value in self.series.get(name, ()):
            if not math.isfinite(value):
                continue
            before = [pair for pair in counted if pair[0] <= step][-1:] or counted[:1]
            at, tokens = before[0]
            # between two counts tokens grow in proportion to steps
            found.append((tokens * (step + 1) / (at + 1), value))
        return found


def read_log(folder: Path) -> RunLog:
    """Read the log in a run's folder; an empty one where there is none. A line that is being written is left out.

    Args:
        folder: Where the run logs.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return RunLog()
    series: dict[str, list[tuple[int, float]]] = {}
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        for row in csv.DictReader(file):
            step = _number(row.get("step"))
            if step is None or not math.isfinite(step):
                continue
            for name, text in row.items():
                value = _number(text) if isinstance(text, str) else None
                if name not in (None, "step", "epoch") and value is not None:
                    # a callback with a name of its own logs scalestop/NAME/tokens
                    parts = name.split("/")
                    plain = f"{_OWN}/{parts[-1]}" if parts[0] == _OWN else name
                    series.setdefault(plain, []).append((int(step), value))
    return RunLog({name: tuple(values) for name, values in series.items()})


def _number(text: object) -> float | None:
    try:
        return float(str(text)) if text not in (None, "") else None
    except ValueError:
        return None
