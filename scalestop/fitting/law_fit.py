"""A fitted law with its intervals, and what can be asked of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scalestop.display import data_frame, html_card
from scalestop.errors import InputError
from scalestop.fitting.diagnostics import Diagnostics
from scalestop.fitting.intervals import POINT_FIT, Interval, given_ends, interval
from scalestop.fitting.methods.method import FitOptions, MethodFit, Residuals
from scalestop.fitting.solve.newton import Array
from scalestop.fitting.tables.table import RunTable
from scalestop.laws import ScalingLaw
from scalestop.laws.base import plain
from scalestop.laws.checks import positive_array
from scalestop.laws.intervals import interval_about, interval_of_optimum, loss_intervals


@dataclass(frozen=True)
class OptimumIntervals:
    """The optimum of a budget, with intervals."""

    flops: float
    """C, FLOPs."""
    num_params: Interval
    """N_opt."""
    num_tokens: Interval
    """D_opt, tokens."""
    loss: Interval | None
    """The law's loss at its own optimum, nats per token; None for a law without a loss."""
    warnings: tuple[str, ...] = ()
    """How far outside the fitted runs this is."""


@dataclass(frozen=True)
class LossPrediction:
    """The loss expected of a model, with intervals; of several models, arrays of their shape."""

    loss: Interval
    """The law's own loss, nats per token: how well the runs pin down the law."""
    new_run: tuple[Any, Any]
    """Where the loss of one new run will lie: the law's uncertainty and a run's own scatter together."""
    warnings: tuple[str, ...] = ()
    """How far outside the fitted runs this is."""


@dataclass(frozen=True)
class LawFit:
    """A fitted law, how sure it is, and what speaks against it."""

    law: ScalingLaw
    """The law, with its bootstrap draws and its runs' scatter; goes wherever a law goes."""
    intervals: Mapping[str, Interval]
    """Every constant, and the allocation exponents a and b."""
    residuals: Residuals
    """Each run against the law."""
    diagnostics: Diagnostics
    """Findings, leverage, outliers, seed noise."""
    method: str
    """How it was fitted."""
    objective: float
    """What was minimised, at its minimum."""
    table: RunTable = field(repr=False)
    """The runs."""
    options: FitOptions = field(repr=False)
    raw: MethodFit = field(repr=False)
    """Draws, jackknife refits, and what only this method has."""

    def __repr__(self) -> str:
        constants = ", ".join(f"{name} {found}" for name, found in self.intervals.items())
        return f"LawFit({self.method}, {len(self.table)} rows: {constants}; {len(self.diagnostics.findings)} findings)"

    def _repr_html_(self) -> str:
        rows = [("form", type(self.law).formula()), ("runs", f"{len(self.table)} rows; {self.law.info.source}")]
        rows += [(name, str(found)) for name, found in self.intervals.items()]
        rows += [(finding.severity, finding.message) for finding in self.diagnostics.findings]
        return html_card(f"Law {self.law.name}, method {self.method}", rows)

    def to_frame(self) -> Any:
        """Return the constants and their intervals as a pandas DataFrame, one row each.

        Raises:
            InputError: If pandas is not installed.
        """
        names = ("estimate", "low", "high", "standard_error", "level")
        return data_frame(
            {"name": name} | {column: getattr(found, column) for column in names}
            for name, found in self.intervals.items()
        )

    def optimum(self, flops: float, level: float | None = None) -> OptimumIntervals:
        """Return N_opt, D_opt and the loss there for C in FLOPs, with intervals at a level; the fit's own if None."""
        level = self._level(level)
        best = self.law.optimal(flops)
        n, d = float(best.num_params), float(best.num_tokens)
        found = interval_of_optimum(self.law, flops, level)
        loss = given_ends(float(self.law.loss(n, d)), found.loss, level) if self.law.has_loss else None
        size, tokens = given_ends(n, found.num_params, level), given_ends(d, found.num_tokens, level)
        return OptimumIntervals(flops, size, tokens, loss, self._outside(np.array([n]), np.array([d])))

    def predict(
        self, num_params: Any, num_tokens: Any, level: float | None = None, *, unique_tokens: Any = None
    ) -> LossPrediction:
        """Return the loss of a model, with the law's interval and that of one new run.

        Args:
            num_params: N, counted as the runs count it: a number, or an array.
            num_tokens: D: a number, or an array. The two broadcast, and every number of the answer has their shape.
            level: Share of the distribution inside; the fit's own if None.
            unique_tokens: Distinct tokens among them; only method `repeated` knows what that means. Broadcasts too.

        Raises:
            InputError: If the law predicts no loss, a number is not positive, or a level is asked of a point fit.
        """
        level = self._level(level)
        given = [positive_array("num_params", num_params), positive_array("num_tokens", num_tokens)]
        if self.method == "repeated" and unique_tokens is not None:
            given.append(positive_array("unique_tokens", unique_tokens))
        try:
            columns = np.broadcast_arrays(*given)
        except ValueError:
            shapes = ", ".join(str(column.shape) for column in given)
            raise InputError(f"num_params: N and D must broadcast against each other; got shapes {shapes}") from None
        if not columns[0].size:
            raise InputError("num_params: no model is given; give at least one N and D")
        law: Any = self.law
        num_params, num_tokens, *rest = columns
        extra = {"unique_tokens": rest[0]} if rest else {}
        of_law, of_run = (
            _scalars(loss_intervals(law, num_params, num_tokens, level, of_run=run, **extra)) for run in (False, True)
        )
        found = given_ends(plain(law.loss(num_params, num_tokens, **extra)), of_law, level)
        return LossPrediction(found, of_run or (found.low, found.high), self._outside(num_params, num_tokens))

    def _outside(self, num_params: Array, num_tokens: Array) -> tuple[str, ...]:
        """Return how far outside the fitted runs the outermost of these are, and whether intervals are missing."""
        flops = 6 * num_params * num_tokens
        lines = [
            line
            for end in (np.min, np.max)
            for line in self.law.info.valid.outside(
                num_params=float(end(num_params)), num_tokens=float(end(num_tokens)), flops=float(end(flops))
            )
        ]
        return (*dict.fromkeys(lines), *(() if len(self.raw.draws) else (POINT_FIT,)))

    def _level(self, level: float | None) -> float:
        if level is not None and not len(self.raw.draws):
            raise InputError(f"level: {POINT_FIT}")
        return self.options.level if level is None else level

    def interval_of(self, quantity: Callable[[Any], Any], level: float | None = None) -> Interval:
        """Return the intervals of any quantity of the law, at a level; the fit's own if None.

        Args:
            quantity: Takes a law (whose constants may be arrays of draws), returns a number (or an array).
            level: Share of the distribution inside.

        Raises:
            InputError: If a level is asked of a point fit.
        """
        info, level = self.law.info, self._level(level)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            # refits to runs that hardly determine a law may end where it overflows
            estimate, draws, jackknife = (
                np.asarray(quantity(self.raw.law_of(constants, info)), dtype=np.float64)
                for constants in (self.raw.estimate[None, :], self.raw.draws, self.raw.jackknife)
            )
        return self._interval(float(estimate[0]), draws, jackknife, level)

    def interval_of_constant(self, name: str) -> Interval:
        """Return the intervals of one of the fitted constants."""
        raw, i = self.raw, self.raw.names.index(name)
        return self._interval(float(raw.estimate[i]), raw.draws[:, i], raw.jackknife[:, i], self.options.level)

    def _interval(self, estimate: float, draws: Array, jackknife: Array, level: float) -> Interval:
        sure = self.law.uncertainty
        if sure is not None and sure.degrees is not None:
            return given_ends(estimate, interval_about(sure, estimate, draws, level), level)
        return interval(estimate, draws, jackknife, level)


def exponent(law: ScalingLaw, table: RunTable) -> Array:
    """Return a of N_opt ∝ C^a, about the middle of the table's compute."""
    middle = float(np.exp(np.mean(np.log(6 * table.params * table.tokens))))
    high, low = law.optimal(middle * 1.1).num_params, law.optimal(middle / 1.1).num_params
    return np.asarray(np.log(np.asarray(high) / low) / np.log(1.21))


def _scalars(ends: tuple[Array, Array] | None) -> tuple[Any, Any] | None:
    """Return the ends as floats where they are of one model."""
    return ends if ends is None or ends[0].ndim else (float(ends[0]), float(ends[1]))
