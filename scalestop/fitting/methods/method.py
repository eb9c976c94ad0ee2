"""What every fitting method is given and gives back."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scalestop.errors import InputError
from scalestop.fitting.solve.newton import Array
from scalestop.fitting.solve.surface import HUBER_DELTA
from scalestop.fitting.tables.table import RunTable
from scalestop.laws import Finding, LawInfo, ScalingLaw, Uncertainty

Progress = Callable[[int, int], None]
"""Called with the refits done and the refits asked for."""


@dataclass(frozen=True)
class FitOptions:
    """How to fit. What a method has no use for, it refuses."""

    bootstrap: int = 1000
    """Bootstrap refits; 0 for a point fit, without intervals."""
    seed: int = 0
    """Seed of the bootstrap."""
    level: float = 0.9
    """Share of the distribution inside each interval."""
    tied: bool = False
    """Hold alpha = beta."""
    irreducible: float | None = None
    """Hold E at this, nats per token."""
    delta: float = HUBER_DELTA
    """Huber threshold, in log loss."""
    fitted_scale: bool = False
    """Maximise the Huber likelihood with its scale fitted too (Besiroglu et al. 2024), rather than minimise the sum."""
    progress: Progress | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        whole = isinstance(self.bootstrap, int) and not isinstance(self.bootstrap, bool)
        if not whole or (self.bootstrap < 20 and self.bootstrap != 0):
            raise InputError(
                f"bootstrap: must be a whole number of at least 20, so that tails exist; got {self.bootstrap!r}. "
                f"Use 1000 for intervals, 4000 for standard errors to 1 %, 0 for a point fit without intervals"
            )
        if not 0 < self.level < 1:
            raise InputError(f"level: must lie between 0 and 1, such as 0.9; got {self.level!r}")
        if not self.delta > 0:
            raise InputError(f"delta: must be positive, such as 1e-3; got {self.delta!r}")
        if self.irreducible is not None and not (np.isfinite(self.irreducible) and self.irreducible >= 0):
            raise InputError(f"irreducible: E is at least 0 nats per token; got {self.irreducible!r}")

    def refuse(self, method: str, *names: str) -> None:
        """Raise if one of these options was set, which `method` has no use for.

        Raises:
            InputError: Naming the option.
        """
        default = FitOptions()
        for name in names:
            if getattr(self, name) != getattr(default, name):
                raise InputError(f"{name}: method {method!r} has no such option; leave it out, or use 'parametric'")


@dataclass(frozen=True)
class Residuals:
    """Each fitted point against its law: what a residual plot needs."""

    params: Array = field(repr=False)
    """N of each point."""
    tokens: Array = field(repr=False)
    """D of each point."""
    measured: Array = field(repr=False)
    """Measured loss, nats per token."""
    predicted: Array = field(repr=False)
    """The fit's loss there."""
    labels: tuple[str, ...] = field(repr=False)
    """The runs."""

    @property
    def log_ratio(self) -> Array:
        """log(measured / predicted); 0.01 is 1 %."""
        return np.log(self.measured / self.predicted)


@dataclass(frozen=True)
class MethodFit:
    """A method's answer, before intervals and diagnostics are drawn from it."""

    law_class: type[ScalingLaw]
    names: tuple[str, ...]
    """Constants fitted, in the order of the columns below."""
    estimate: Array
    """Shape (p,)."""
    draws: Array
    """Bootstrap refits, shape (M, p)."""
    jackknife: Array
    """Refits with each run left out, shape (G, p)."""
    objective: float
    """What was minimised, at its minimum."""
    num_free: int
    """Constants that were free."""
    residuals: Residuals
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Constants that were given."""
    left_out: tuple[str, ...] = ()
    """The run that each row of `alone`, or else of `jackknife`, leaves out; empty where those are all runs of the
    table, by name."""
    alone: Array | None = None
    """Refits with one run left out, where `jackknife` leaves out blocks of runs; None where it has single runs."""
    detail: Any = None
    """What only this method has, such as the isoFLOP groups."""
    sure: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the law's `Uncertainty`, of a method that knows more than its draws."""
    judged: NDArray[np.bool_] | None = None
    """Which runs' residuals say something of the runs themselves, for outliers and trends; None for all."""

    @property
    def scatter(self) -> Array:
        """The runs' log residuals, as wide as new runs would scatter."""
        # a fit runs closer to its own runs than to new ones, by the constants it had to play with
        runs = len(self.residuals.measured)
        scatter = self.residuals.log_ratio * np.sqrt(runs / max(runs - self.num_free, 1))
        if runs <= SAVED_SCATTER:
            return scatter
        return np.quantile(scatter, (np.arange(SAVED_SCATTER) + 0.5) / SAVED_SCATTER)

    def law(self, info: LawInfo, table: RunTable, method: str, intervals: Mapping[str, tuple[float, float]]) -> Any:
        """Return the fitted law with its draws, and with its runs' scatter if it predicts their loss.

        Without draws it is a law without any uncertainty; `intervals` are those of its constants.
        """
        constants: dict[str, Any] = dict(zip(self.names, (float(v) for v in self.estimate), strict=True))
        law = self.law_class(info=info, **constants, **self.fixed)
        if not len(self.draws):
            return law
        uncertainty = Uncertainty(
            draws=storable(self.draws)[:SAVED_DRAWS],
            names=self.names,
            method=method,
            num_runs=len(table),
            data_hash=table.data_hash,
            intervals=intervals,
            scatter=self.scatter if law.has_loss and "noise" not in self.sure else np.empty(0),
            **self.sure,
        )
        return replace(law, uncertainty=uncertainty)

    def law_of(self, constants: Array, info: LawInfo) -> ScalingLaw:
        """Return a law whose constants are arrays, one value for each row of `constants` (M, p)."""
        estimate: dict[str, Any] = dict(zip(self.names, self.estimate.tolist(), strict=True))
        law = copy.copy(self.law_class(info=info, **estimate, **self.fixed))
        for name, column in zip(self.names, constants.T, strict=True):
            # not through the constructor: a refit may end on a bound that it refuses, such as E = 0
            object.__setattr__(law, name, column)
        return law


def storable(draws: Array) -> Array:
    """Return the draws that a law's file, which keeps float32, can hold.

    Where the runs hardly determine an exponent, a refit may end at an amplitude beyond 3e38; such a draw says no more
    than that, and would be infinite when read back.
    """
    fits = (np.abs(draws) < np.finfo(np.float32).max).all(axis=1)
    return draws[fits] if fits.any() else np.clip(draws, None, np.finfo(np.float32).max)


SAVED_DRAWS = 1000
"""Draws a law carries: enough for its 90 % intervals, and some 25 kB in its file."""

SAVED_SCATTER = 1000
"""Residuals a law carries; of more runs, that many quantiles of them."""


def in_chunks(refit: Callable[[Array], Array], weights: Array, progress: Progress | None, chunk: int = 512) -> Array:
    """Refit to many weightings (M, R), so many at a time, telling `progress` after each chunk of them.

    `refit` takes weights (m, R), and returns constants (m, p).
    """
    if not len(weights):
        return refit(np.ones((1, weights.shape[1])))[:0]
    parts = []
    for i in range(0, len(weights), chunk):
        parts.append(refit(weights[i : i + chunk]))
        if progress is not None:
            progress(min(i + chunk, len(weights)), len(weights))
    return np.concatenate(parts)
