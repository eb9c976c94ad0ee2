"""How sure a fitted law is: the bootstrap draws of its constants, and how its runs scatter around it."""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scalestop.errors import InputError, shown


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
    scatter: NDArray[np.float64] = field(default_factory=lambda: np.empty(0), repr=False, compare=False)
    """log(measured / law) of the fitted runs, widened as far as new runs scatter more than fitted ones; empty where not
    known. 0.01 is 1 %."""

    def __post_init__(self) -> None:
        draws = np.asarray(self.draws, dtype=np.float64)
        if draws.ndim != 2 or draws.shape[1] != len(self.names) or len(draws) < 1:
            raise InputError(f"draws: expected shape (draws, {len(self.names)}); got {draws.shape}")
        scatter = np.asarray(self.scatter, dtype=np.float64)
        if scatter.ndim != 1 or not np.isfinite(scatter).all():
            raise InputError(f"scatter: expected finite numbers in one row; got {self.scatter!r}")
        object.__setattr__(self, "draws", draws)
        object.__setattr__(self, "scatter", scatter)
        object.__setattr__(self, "names", tuple(self.names))

    def column(self, name: str) -> NDArray[np.float64]:
        """Return the draws of one constant, shape (draws,)."""
        return self.draws[:, self.names.index(name)]

    @property
    def knows_scatter(self) -> bool:
        """Whether the scatter of single runs is known."""
        return self.scatter.size > 0

    def of_new_run(self, losses: NDArray[np.float64], level: float = 0.9) -> tuple[float, float]:
        """Return where the loss of one new run will lie: every draw's loss, off by every fitted run's residual.

        The draws alone say how well the runs pin down the law, and one run scatters around it besides. Where
        that scatter is not known, the interval is the law's own.

        Args:
            losses: The run's loss by each draw of the law, nats per token.
            level: Share of the distribution inside.
        """
        spread = np.exp(self.scatter) if self.knows_scatter else np.ones(1)
        low, high = np.quantile(np.multiply.outer(losses, spread), [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

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
            "scatter": [float(f"{value:.6g}") for value in self.scatter],
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
        if unknown := sorted(shown(name, 40).strip("'") for name in set(data) - known):
            raise InputError(f"{where}: unknown field(s) {', '.join(unknown)}; known are {', '.join(sorted(known))}")
        if missing := sorted(known - {"scatter"} - set(data)):  # laws saved before it was kept have none
            raise InputError(f"{where}: missing field(s) {', '.join(missing)}")
        scatter = data.get("scatter", [])
        if not isinstance(scatter, list) or not all(type(x) in (int, float) and abs(x) < math.inf for x in scatter):
            raise InputError(f"{where}: scatter: a list of finite numbers; got {shown(scatter)}")
        try:
            names = tuple(data["names"])
            packed = base64.b64decode(data["draws_f4_columns_zlib_base64"], validate=True)
            # no more than was announced: a few bytes can unpack to more than the memory holds
            raw = zlib.decompressobj().decompress(packed, 4 * len(names) * data["num_draws"] + 1)
            draws = np.frombuffer(raw, dtype="<f4").reshape(len(names), data["num_draws"]).T
            return cls(
                draws=draws.astype(np.float64),
                names=names,
                method=data["method"],
                num_runs=data["num_runs"],
                data_hash=data["data_hash"],
                intervals={k: (float(v[0]), float(v[1])) for k, v in data["intervals"].items()},
                scatter=np.array(scatter, dtype=np.float64),
            )
        except (ValueError, TypeError, AttributeError, LookupError, OverflowError, zlib.error) as error:
            raise InputError(f"{where}: the packed draws cannot be read: {error}") from None
