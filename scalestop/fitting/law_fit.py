"""A fitted law with its intervals, and what can be asked of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scalestop.fitting.diagnostics import Diagnostics
from scalestop.fitting.intervals import Interval, interval
from scalestop.fitting.methods.method import FitOptions, MethodFit, Residuals
from scalestop.fitting.solve.newton import Array
from scalestop.fitting.tables.table import RunTable
from scalestop.laws import ScalingLaw
from scalestop.laws.base import Floats


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
    """The loss expected of a model, with intervals."""

    loss: Interval
    """The law's own loss, nats per token: how well the runs pin down the law."""
    new_run: tuple[float, float]
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

    def optimum(self, flops: float, level: float | None = None) -> OptimumIntervals:
        """Return N_opt, D_opt and the loss there, with intervals.

        Args:
            flops: C in FLOPs.
            level: Share of the distribution inside the intervals; the fit's own if None.
        """
        best = self.law.optimal(flops)
        at = float(best.num_params), float(best.num_tokens)
        outside = self.law.info.valid.outside(num_params=at[0], num_tokens=at[1], flops=flops)
        return OptimumIntervals(
            flops=flops,
            num_params=self.interval_of(lambda law: law.optimal(flops).num_params, level),
            num_tokens=self.interval_of(lambda law: law.optimal(flops).num_tokens, level),
            loss=self.interval_of(lambda law: _loss_at_optimum(law, flops), level) if self.law.has_loss else None,
            warnings=outside,
        )

    def predict(
        self, num_params: float, num_tokens: float, level: float | None = None, *, unique_tokens: float | None = None
    ) -> LossPrediction:
        """Return the loss of a model, with the law's interval and that of one new run.

        Args:
            num_params: N, counted as the runs count it.
            num_tokens: D.
            level: Share of the distribution inside; the fit's own if None.
            unique_tokens: Distinct tokens among them; only method `repeated` knows what that means.

        Raises:
            InputError: If the law predicts no loss.
        """
        level = self.options.level if level is None else level
        extra = {"unique_tokens": unique_tokens} if self.method == "repeated" else {}

        def loss_of(law: Any) -> Any:
            return law.loss(num_params, num_tokens, **extra)

        losses = np.asarray(loss_of(self.raw.law_of(self.raw.draws, self.law.info)))
        assert self.law.uncertainty is not None
        new_run = self.law.uncertainty.of_new_run(losses, level)
        outside = self.law.info.valid.outside(
            num_params=num_params, num_tokens=num_tokens, flops=6 * num_params * num_tokens
        )
        return LossPrediction(self.interval_of(loss_of, level), new_run, outside)

    def interval_of(self, quantity: Callable[[Any], Any], level: float | None = None) -> Interval:
        """Return the intervals of any quantity of the law.

        Args:
            quantity: Takes a law (whose constants may be arrays of draws), returns a number (or an array).
            level: Share of the distribution inside; the fit's own if None.
        """
        info = self.law.info
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            # refits to runs that hardly determine a law may end where it overflows
            estimate, draws, jackknife = (
                np.asarray(quantity(self.raw.law_of(constants, info)), dtype=np.float64)
                for constants in (self.raw.estimate[None, :], self.raw.draws, self.raw.jackknife)
            )
        return interval(float(estimate[0]), draws, jackknife, self.options.level if level is None else level)


def exponent(law: ScalingLaw, table: RunTable) -> Array:
    """Return a of N_opt ∝ C^a, about the middle of the table's compute."""
    middle = float(np.exp(np.mean(np.log(6 * table.params * table.tokens))))
    high, low = law.optimal(middle * 1.1).num_params, law.optimal(middle / 1.1).num_params
    return np.asarray(np.log(np.asarray(high) / low) / np.log(1.21))


def _loss_at_optimum(law: ScalingLaw, flops: float) -> Floats:
    """Return the loss at the optimum; a draw of few runs may put that beyond every float."""
    num_params, num_tokens = law.optimal(flops)
    return law.loss(np.clip(num_params, 1e-300, 1e300), np.clip(num_tokens, 1e-300, 1e300))
