"""Single runs against a fit: leverage, outliers, and what repeats differ by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from scalestop.fitting.solve.newton import Array
from scalestop.fitting.tables.table import RunTable
from scalestop.laws import Finding

OUTLIER_SCORE = 5.0
"""Robust standard deviations off the law at which a run is named."""


@dataclass(frozen=True)
class Leverage:
    """How far one run moves the fit."""

    run: str
    constant: str
    """The constant it moves most, in standard errors."""
    shift: float
    """Value with the run less value without it."""
    standard_errors: float
    """The shift over the constant's standard error, unsigned."""


@dataclass(frozen=True)
class Outlier:
    """A run far off the law. It was kept in the fit."""

    run: str
    log_ratio: float
    """log(measured / predicted loss)."""
    score: float
    """Distance from the median residual in robust standard deviations (1.4826 times the median absolute one)."""


@dataclass(frozen=True)
class SeedNoise:
    """What runs alike in N and D differ by."""

    log_sd: float
    """Pooled standard deviation of log loss."""
    num_repeats: int
    """Runs beyond the first of each group of repeats."""
    residual_sd: float
    """Robust standard deviation of the fit's own log residuals."""


@dataclass(frozen=True)
class Diagnostics:
    """Everything found, and the numbers behind it."""

    findings: tuple[Finding, ...]
    """Warnings first."""
    leverage: tuple[Leverage, ...] = field(default=(), repr=False)
    """Every run, the most influential first."""
    outliers: tuple[Outlier, ...] = ()
    """Named, and kept."""
    seed_noise: SeedNoise | None = None
    """None without repeats."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """The messages of the findings that are warnings."""
        return tuple(f.message for f in self.findings if f.severity == "warning")


def leverage_of(
    names: Sequence[str], runs: Sequence[str], estimate: Array, draws: Array, jackknife: Array
) -> tuple[Leverage, ...]:
    """Rank G runs by how far leaving each out moves any of p constants.

    The estimate on all runs has shape (p,), the bootstrap refits (M, p), those with each run left out (G, p).
    """
    error = np.maximum(draws.std(axis=0, ddof=1), 1e-300)
    shift = estimate - jackknife
    score = np.where(draws.std(axis=0) > 0, np.abs(shift) / error, 0.0)
    most = score.argmax(axis=1)
    order = np.argsort(-score.max(axis=1), kind="stable")
    return tuple(Leverage(runs[g], names[most[g]], float(shift[g, most[g]]), float(score[g, most[g]])) for g in order)


def outliers_of(table: RunTable, log_ratio: Array) -> tuple[Outlier, ...]:
    """Return the runs further than `OUTLIER_SCORE` robust standard deviations off, furthest first."""
    middle = np.median(log_ratio)
    spread = _robust_sd(log_ratio)
    if spread <= 1e-9:
        return ()
    score = np.abs(log_ratio - middle) / spread
    order = [i for i in np.argsort(-score, kind="stable") if score[i] > OUTLIER_SCORE]
    return tuple(Outlier(table.describe_row(i), float(log_ratio[i]), float(score[i])) for i in order)


def seed_noise_of(table: RunTable, log_ratio: Array) -> SeedNoise | None:
    """Return what repeats (N, D and unique tokens alike to 0.1 %) differ by; None without any."""
    key = np.round(np.log(np.column_stack([table.params, table.tokens])) / 1e-3)
    groups = np.unique(np.column_stack([key, np.nan_to_num(table.unique_tokens)]), axis=0, return_inverse=True)[1]
    log_loss = np.log(table.loss)
    count = np.bincount(groups.ravel())
    repeats = int(np.sum(count - 1))
    if repeats == 0:
        return None
    mean = np.bincount(groups.ravel(), log_loss) / count
    squares = float(np.sum((log_loss - mean[groups.ravel()]) ** 2))
    return SeedNoise(float(np.sqrt(squares / repeats)), repeats, _robust_sd(log_ratio))


def _robust_sd(values: Array) -> float:
    return float(1.4826 * np.median(np.abs(values - np.median(values))))
