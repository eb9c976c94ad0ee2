"""`backtest`: fit on the cheap runs, predict the dear ones, and count how often the intervals held."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scalestop.display import data_frame
from scalestop.errors import InputError, ScalestopWarning
from scalestop.fitting.fit import Method, fit_law, weighted
from scalestop.fitting.law_fit import LawFit
from scalestop.fitting.solve.newton import Array
from scalestop.fitting.tables.columns import Columns
from scalestop.fitting.tables.read import read_runs
from scalestop.fitting.tables.sweep import BestOf, best_rows, parse_best_of
from scalestop.fitting.tables.table import RunTable

FACTORS = (1.0, 2.0, 5.0, 10.0, 50.0, 1000.0, np.inf)
"""Edges of the extrapolation factors that are summed up together."""


@dataclass(frozen=True)
class Prediction:
    """One held-out run against the law of cheaper ones."""

    run: str
    flops: float
    """6·N·D of the run, FLOPs."""
    factor: float
    """Its compute over the dearest run fitted."""
    measured: float
    """Loss, nats per token."""
    predicted: float
    """Loss by the law, nats per token."""
    interval: tuple[float, float]
    """Where one new run should have lain."""

    @property
    def error(self) -> float:
        """Predicted less measured, nats per token."""
        return self.predicted - self.measured

    @property
    def relative_error(self) -> float:
        """The error as a share of the measured loss."""
        return self.error / self.measured

    @property
    def covered(self) -> bool:
        """Whether the interval held the measured loss."""
        return self.interval[0] <= self.measured <= self.interval[1]


@dataclass(frozen=True)
class FactorSummary:
    """Predictions of like extrapolation, together."""

    low: float
    high: float
    """Extrapolation factors from `low` to `high`."""
    count: int
    mean_abs_error: float
    """Nats per token."""
    mean_abs_relative: float
    """Share of the measured loss."""
    worst_relative: float
    """Largest absolute share."""
    coverage: float
    """Share of the runs inside their interval."""


@dataclass(frozen=True)
class Backtest:
    """How well laws fitted to cheap runs foretold dearer ones."""

    predictions: tuple[Prediction, ...] = field(repr=False)
    """Every run predicted, at every cut."""
    cuts: tuple[float, ...]
    """Compute up to which runs were fitted, FLOPs, one law each."""
    level: float
    """Share that the intervals should hold."""
    skipped: tuple[str, ...] = ()
    """Cuts that could not be fitted, and why."""

    def to_frame(self) -> Any:
        """Return the predictions as a pandas DataFrame, one row each.

        Raises:
            InputError: If pandas is not installed.
        """
        return data_frame({**asdict(p), "error": p.error, "covered": p.covered} for p in self.predictions)

    @property
    def coverage(self) -> float:
        """Share of the predicted runs inside their interval."""
        return float(np.mean([p.covered for p in self.predictions]))

    @property
    def mean_abs_relative(self) -> float:
        """Mean absolute error as a share of the loss."""
        return float(np.mean([abs(p.relative_error) for p in self.predictions]))

    def by_factor(self) -> tuple[FactorSummary, ...]:
        """Sum up by how far beyond the fitted runs a prediction reached; empty groups are left out."""
        found = []
        for low, high in itertools.pairwise(FACTORS):
            group = [p for p in self.predictions if low < p.factor <= high or (low == 1 and p.factor <= 1)]
            if not group:
                continue
            relative = np.abs([p.relative_error for p in group])
            error, covered = (float(np.mean(x)) for x in ([abs(p.error) for p in group], [p.covered for p in group]))
            shares = float(relative.mean()), float(relative.max())
            found.append(FactorSummary(low, high, len(group), error, *shares, covered))
        return tuple(found)

    def __str__(self) -> str:
        lines = ["extrapolation  runs  mean error  worst  in interval"]
        for part in self.by_factor():
            span = f"x{part.low:g} to x{part.high:g}" if np.isfinite(part.high) else f"over x{part.low:g}"
            lines.append(
                f"{span:13}  {part.count:4}  {part.mean_abs_error:.4f} nats ({part.mean_abs_relative:.2%})  "
                f"{part.worst_relative:.2%}  {part.coverage:.0%}"
            )
        return "\n".join(lines)


def backtest(
    records: Any,
    method: Method = "valley",
    *,
    train: Sequence[bool] | Array | None = None,
    num_cuts: int = 4,
    loss: str = "loss",
    columns: Columns = None,
    best_of: BestOf = None,
    weights: Sequence[float] | Array | None = None,
    level: float = 0.9,
    bootstrap: int = 1000,
    **options: Any,
) -> Backtest:
    """Fit on the cheap runs, predict the dear ones; rolling by compute.

    The first law sees the cheapest runs, as few as determine it well; each next one more, up to all but the dearest
    compute. Every law predicts every run dearer than those it saw. Where the records mark runs as held out, one law is
    fitted to the others, and predicts those.

    Args:
        records: Runs; see `read_runs`.
        method: A method whose law predicts a loss: `valley`, `parametric`, `kaplan` or `repeated`.
        train: Which usable rows to fit; the rest are predicted.
        num_cuts: Laws to fit when rolling, at most.
        loss: Column or metric that holds the loss.
        columns: Which column means what, where its name does not say.
        best_of: Settings that the table sweeps; only the best of each (N, D) are fitted and predicted.
        weights: Weight of each usable row in the fits.
        level: Share that the intervals should hold.
        bootstrap: Refits for the intervals of each law.
        **options: Further arguments of `fit_law`, such as `seed`, `irreducible` or `tied`.

    Raises:
        InputError: If the method predicts no loss, there are too few runs to hold any back, or no intervals to test.
    """
    if method == "envelope":
        raise InputError(
            f"method: {method!r} allocates but predicts no loss; use 'valley', 'parametric', 'isoflop', 'kaplan' or "
            f"'repeated'"
        )
    if bootstrap == 0:
        raise InputError("bootstrap: a backtest counts how often intervals held, and 0 refits make none; use 100")
    table = weighted(read_runs(records, loss=loss, columns=columns, keep=parse_best_of(best_of)), weights)
    if train is None and any(table.held_out):
        train = ~np.array(table.held_out)
    best = best_rows(table, best_of)
    given = None if train is None else _given_split(train, table)[best]
    table = table.take(best)
    if given is not None and (given.all() or not given.any()):
        raise InputError("train: some runs must be fitted and some held back; got all of one kind")
    compute = 6 * table.params * table.tokens
    splits = _rolling_splits(compute, num_cuts) if given is None else [given]
    table = replace(table, held_out=(False,) * len(table))
    predictions: list[Prediction] = []
    cuts, skipped = [], []
    for fitted in splits:
        cut = float(compute[fitted].max())
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ScalestopWarning)
                fit = fit_law(table.take(np.flatnonzero(fitted)), method, level=level, bootstrap=bootstrap, **options)
        except InputError as error:
            skipped.append(f"runs up to {cut:.3g} FLOPs: {error}")
            continue
        if not fit.law.has_loss:
            skipped.append(f"runs up to {cut:.3g} FLOPs: they give no law of the loss")
            continue
        cuts.append(cut)
        predictions += _predict(fit, table, np.flatnonzero(~fitted), cut, level)
    if not predictions:
        raise InputError(
            f"records: nothing could be predicted: {'; '.join(skipped) or 'no run is dearer than the rest'}"
        )
    return Backtest(tuple(predictions), tuple(cuts), level, tuple(skipped))


def _predict(fit: LawFit, table: RunTable, rows: NDArray[np.int_], cut: float, level: float) -> list[Prediction]:
    num_params, num_tokens = table.params[rows], table.tokens[rows]
    # a run that says nothing of its data has seen each token once
    unique = np.where(np.isnan(table.unique_tokens[rows]), num_tokens, table.unique_tokens[rows])
    expected = fit.predict(num_params, num_tokens, level, unique_tokens=unique)
    low, high = expected.new_run
    flops = 6 * num_params * num_tokens
    columns = np.column_stack([flops, flops / cut, table.loss[rows], expected.loss.estimate, low, high]).tolist()
    return [
        Prediction(table.run[row], c, x, m, p, (low, high))
        for row, (c, x, m, p, low, high) in zip(rows, columns, strict=True)
    ]


def _given_split(train: Sequence[bool] | Array, table: RunTable) -> NDArray[np.bool_]:
    fitted = np.asarray(train)
    if fitted.shape != (len(table),) or fitted.dtype != bool:
        raise InputError(f"train: expected {len(table)} booleans, one a usable run; got {fitted.dtype} {fitted.shape}")
    return fitted


def _rolling_splits(compute: Array, num_cuts: int) -> list[NDArray[np.bool_]]:
    """Return which runs each law sees: the cheapest 40 % of them at first, then more in equal steps."""
    if num_cuts < 1:
        raise InputError(f"num_cuts: must be at least 1; got {num_cuts!r}")
    order = np.argsort(compute, kind="stable")
    if len(order) < 10:
        raise InputError(
            f"records: a backtest needs at least 10 runs, to fit some and hold some back; got {len(order)}"
        )
    splits: list[NDArray[np.bool_]] = []
    for share in np.linspace(0.4, 0.85, num_cuts):
        last = compute[order[max(int(share * len(order)), 8) - 1]]
        fitted = compute <= last * 1.05  # runs of one budget stay together
        if not fitted.all() and not any(np.array_equal(fitted, other) for other in splits):
            splits.append(fitted)
    return splits
