"""How sure a fitted law is: the bootstrap draws of its constants, and where they came from."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scalestop.errors import InputError


@dataclass(frozen=True)
class Uncertainty:
    """Bootstrap draws of a law's constants.

    Draws keep the correlations between the constants, which single error bars lose: N_opt is often known well where A
    and alpha each are not.
    """

    draws: NDArray[np.float64] = field(repr=False, compare=False)
    """Shape (draws, constants), in the order of `names`."""
    names: tuple[str, ...]
    """Name of each column of `draws`."""
    method: str
    """How the law was fitted, such as 'parametric'."""
    num_runs: int
    """Runs behind the fit."""
    data_hash: str
    """sha256 of the fitted table."""
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """90 % interval of each constant, as reported by the fit."""

    def __post_init__(self) -> None:
        draws = np.asarray(self.draws, dtype=np.float64)
        if draws.ndim != 2 or draws.shape[1] != len(self.names) or len(draws) < 1:
            raise InputError(f"draws: expected shape (draws, {len(self.names)}); got {draws.shape}")
        object.__setattr__(self, "draws", draws)
        object.__setattr__(self, "names", tuple(self.names))

    def column(self, name: str) -> NDArray[np.float64]:
        """Return the draws of one constant, shape (draws,)."""
        return self.draws[:, self.names.index(name)]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data. Draws are kept as float32: 1,000 draws of 5 constants take about 25 kB."""
        packed = zlib.compress(np.ascontiguousarray(self.draws, dtype="<f4").T.tobytes(), 9)
        return {
            "names": list(self.names),
            "num_draws": len(self.draws),
            "draws_f4_columns_zlib_base64": base64.b64encode(packed).decode(),
            "method": self.method,
            "num_runs": self.num_runs,
            "data_hash": self.data_hash,
            "intervals": {name: list(pair) for name, pair in self.intervals.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, where: str = "uncertainty") -> Uncertainty:
        """Read what `to_dict` wrote.

        Raises:
            InputError: Naming each unknown or missing field; or if the packed draws are damaged.
        """
        if not isinstance(data, Mapping):
            raise InputError(f"{where}: expected a JSON object; got {type(data).__name__}")
        known = {*(f.name for f in fields(cls)), "num_draws", "draws_f4_columns_zlib_base64"} - {"draws"}
        if unknown := sorted(set(data) - known):
            raise InputError(f"{where}: unknown field(s) {', '.join(unknown)}; known are {', '.join(sorted(known))}")
        if missing := sorted(known - set(data)):
            raise InputError(f"{where}: missing field(s) {', '.join(missing)}")
        try:
            raw = zlib.decompress(base64.b64decode(data["draws_f4_columns_zlib_base64"], validate=True))
            names = tuple(data["names"])
            draws = np.frombuffer(raw, dtype="<f4").reshape(len(names), data["num_draws"]).T
            return cls(
                draws=draws.astype(np.float64),
                names=names,
                method=data["method"],
                num_runs=data["num_runs"],
                data_hash=data["data_hash"],
                intervals={k: (float(v[0]), float(v[1])) for k, v in data["intervals"].items()},
            )
        except (ValueError, TypeError, AttributeError, IndexError, zlib.error) as error:
            raise InputError(f"{where}: the packed draws cannot be read: {error}") from None
