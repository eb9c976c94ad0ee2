"""How sure a law is: the draws of its constants, and how its runs scatter around it."""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scalestop.errors import InputError, shown

_NUMBERS = ("noise", "drift", "drift_below", "drift_params", "sides", "inflation", "degrees")
_LATER = {"scatter", "source", *_NUMBERS}
"""Fields that laws saved by earlier versions have not."""
_OPTIONAL = {"noise", "drift_below", "degrees"}
LEAST_DEGREES = 3.0
"""Degrees of freedom above which the series for Student's quantiles holds."""
_NODES = 61
"""Points that stand for a normal distribution: its evenly spaced quantiles."""


@dataclass(frozen=True)
class Uncertainty:
    """Draws of a law's constants, as a bootstrap gives them.

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
    noise: float | None = None
    """Standard deviation of one new run's log loss about the law, where that is known in place of `scatter`."""
    drift: float = 0.0
    """What the form itself gets wrong away from its runs: standard deviation of log loss, for each factor e of compute
    above the fitted range. Draws know nothing of it; backtests do."""
    drift_below: float | None = None
    """The same for each factor e below the fitted range; None where it is as above."""
    drift_params: float = 0.0
    """The same of log N_opt; as the budget is spent either way, of log D_opt too."""
    sides: float = 0.0
    """What the form gets wrong up the valley's sides: standard deviation of log loss, over the log loss in excess of
    the optimum of the same compute."""
    inflation: float = 1.0
    """Factor on the distance of every draw's answer from the law's: how far earlier forecasts missed."""
    degrees: float | None = None
    """Degrees of freedom of Student's t, for intervals that are the law's answer give or take so many root mean square
    distances of the draws' answers; None for intervals between percentiles of the draws."""
    source: str = ""
    """Where the draws come from and how they were made, for draws that are not the fit's own; else empty."""

    def __post_init__(self) -> None:
        draws = np.asarray(self.draws, dtype=np.float64)
        if draws.ndim != 2 or draws.shape[1] != len(self.names) or len(draws) < 1:
            raise InputError(f"draws: expected shape (draws, {len(self.names)}); got {draws.shape}")
        scatter = np.asarray(self.scatter, dtype=np.float64)
        if scatter.ndim != 1 or not np.isfinite(scatter).all():
            raise InputError(f"scatter: expected finite numbers in one row; got {self.scatter!r}")
        for name in _NUMBERS:
            value = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise InputError(f"{name}: a finite number, at least 0; got {value!r}")
        if self.degrees is not None and self.degrees <= LEAST_DEGREES:
            raise InputError(f"degrees: more than {LEAST_DEGREES:g} degrees of freedom; got {self.degrees!r}")
        object.__setattr__(self, "draws", draws)
        object.__setattr__(self, "scatter", scatter)
        object.__setattr__(self, "names", tuple(self.names))

    def column(self, name: str) -> NDArray[np.float64]:
        """Return the draws of one constant, shape (draws,)."""
        return self.draws[:, self.names.index(name)]

    @property
    def knows_scatter(self) -> bool:
        """Whether the scatter of single runs is known."""
        return self.noise is not None or self.scatter.size > 0

    @property
    def scatter_sd(self) -> float | None:
        """Standard deviation of the scatter, in log loss: 0.01 is 1 %; None where it is not known."""
        if self.noise is not None:
            return self.noise
        return float(np.std(self.scatter)) if self.knows_scatter else None

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
            **{name: getattr(self, name) for name in _NUMBERS},
            "source": self.source,
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
        if missing := sorted(known - _LATER - set(data)):
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
                **{name: data[name] for name in (*_NUMBERS, "source") if name in data},
            )
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        except (ValueError, TypeError, AttributeError, LookupError, OverflowError, zlib.error) as error:
            raise InputError(f"{where}: the packed draws cannot be read: {error}") from None


def widened(values: Any, log_sd: float) -> NDArray[np.float64]:
    """Return a distribution, given by points, times a log-normal one of median 1; the same points for a log_sd of 0."""
    values = np.asarray(values, dtype=np.float64).ravel()
    if log_sd == 0:
        return values
    normal = NormalDist()
    scores = np.array([normal.inv_cdf((i + 0.5) / _NODES) for i in range(_NODES)])
    return np.asarray(np.multiply.outer(values, np.exp(log_sd * scores)).ravel())


def student_quantile(share: float, degrees: float) -> float:
    """Return the quantile of Student's t, by its series in 1/degrees (Abramowitz and Stegun 1964, 26.7.5).

    For 5 degrees of freedom and more it is right to 1e-3 at shares up to .995 of the distribution below.
    """
    x = NormalDist().inv_cdf(share)
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return x + sum(term / degrees ** (i + 1) for i, term in enumerate(terms))
