"""Fitting laws to runs, and saying how far they may be trusted."""

from scalestop.fitting.backtest import Backtest, backtest
from scalestop.fitting.diagnostics import Diagnostics
from scalestop.fitting.fit import fit_law
from scalestop.fitting.intervals import Interval
from scalestop.fitting.law_fit import LawFit, LossPrediction, OptimumIntervals
from scalestop.fitting.tables.read import read_runs
from scalestop.fitting.tables.table import BadRow, RunTable
from scalestop.laws import Finding

__all__ = [
    "Backtest",
    "BadRow",
    "Diagnostics",
    "Finding",
    "Interval",
    "LawFit",
    "LossPrediction",
    "OptimumIntervals",
    "RunTable",
    "backtest",
    "fit_law",
    "read_runs",
]
