"""Held-out truth: how well laws of cheap runs foretell dear ones near the frontier, and how often intervals hold.

    python tests/benchmarks/bench_truth.py [--synthetic N] [MORE.csv ...]

Fits the runs up to the largest compute over 10, 30 and 100 of every table in the folder SCALESTOP_DATA, else
`../shared/data`, and forecasts the valley rows above: those within 3 % of the loss envelope over compute. rms, bias and
half-width are of log loss, in percent; bias is measured less forecast. Tables are weighted alike in the summary. Then
the same downwards: the runs from 3, 10 and 30 times the cheapest one's compute are fitted, and the valley rows below
them forecast. Then upwards on N synthetic tables (60 if not said) of each known law. Takes some minutes.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from synthetic_truths import TRUTHS, cases
from truth_rivals import rivals
from truth_tables import BELOW, CUTS, Split, Table, splits, splits_below, tables

from scalestop.errors import InputError, ScalestopWarning
from scalestop.fitting import fit_law

OURS = ("valley", "parametric")
BOOTSTRAP = 400


class Score(NamedTuple):
    """How one forecast did on one cut; in log loss."""

    rms: float
    bias: float
    coverage: float = np.nan
    half_width: float = np.nan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("more", nargs="*", help="further CSV files of runs")
    parser.add_argument("--synthetic", type=int, default=60, help="synthetic tables of each law; 0 for none")
    options = parser.parse_args()
    warnings.simplefilter("ignore", ScalestopWarning)
    warnings.simplefilter("ignore", RuntimeWarning)
    methods: dict[str, Callable[[Table, Table], Score]] = {name: by_scalestop(name) for name in OURS}
    methods |= {name: by_rival(rival) for name, rival in rivals().items()}
    every = tables(tuple(options.more))
    _heading("above the cut", methods)
    _report(splits(every), CUTS, methods)
    downwards: dict[str, Callable[[Table, Table], Score]] = {name: by_scalestop(name) for name in OURS}
    _heading("below the cheapest fitted run", downwards)
    _report(splits_below(every), BELOW, downwards)
    if options.synthetic:
        synthetic(options.synthetic)


def by_scalestop(method: Any) -> Callable[[Table, Table], Score]:
    """Return how to score a method of `fit_law`."""

    def score(fitted: Table, held: Table) -> Score:
        try:
            found = fit_law(fitted, method, bootstrap=BOOTSTRAP).predict(held["params"], held["tokens"])
        except InputError:
            return Score(np.nan, np.nan)
        error = np.log(held["loss"] / found.loss.estimate)
        low, high = found.new_run
        return Score(
            rms=float(np.sqrt(np.mean(error**2))),
            bias=float(error.mean()),
            coverage=float(np.mean((low <= held["loss"]) & (held["loss"] <= high))),
            half_width=float(np.median(np.log(high / low) / 2)),
        )

    return score


def by_rival(rival: Callable[[Table], Any]) -> Callable[[Table, Table], Score]:
    """Return how to score a forecast without intervals."""

    def score(fitted: Table, held: Table) -> Score:
        error = np.log(held["loss"] / rival(fitted)(held["params"], held["tokens"]))
        return Score(float(np.sqrt(np.mean(error**2))), float(error.mean()))

    return score


def synthetic(num: int) -> None:
    """Print rms, coverage and half-width of ours on synthetic tables of each law."""
    print(f"\nsynthetic tables, {num} of each law; runs up to 10, 30 or 100 times the dearest fitted")
    print(f"{'law':12}" + "".join(f" | {name:>10} {'rms':>6} {'cover':>5} {'half':>5}" for name in OURS))
    found: dict[str, dict[str, list[Score]]] = {truth: {name: [] for name in OURS} for truth in TRUTHS}
    for case in cases(num):
        for name in OURS:
            found[case.truth][name].append(by_scalestop(name)(case.fitted, case.held))
    for truth, scored in found.items():
        line = f"{truth:12}"
        for name in OURS:
            rms = np.sqrt(np.nanmean([s.rms**2 for s in scored[name]]))
            cover, half = (np.nanmean([s[i] for s in scored[name]]) for i in (2, 3))
            line += f" | {name:>10} {rms:6.2%} {cover:5.0%} {half:5.2%}"
        print(line)


def _report(found: Iterator[Split], cuts: tuple[int, ...], methods: dict[str, Callable[[Table, Table], Score]]) -> None:
    """Print every split's scores, and those of each cut over all tables."""
    scores: dict[tuple[str, int], dict[str, Score]] = {}
    for split in found:
        scores[split.name, split.cut] = {name: score(split.fitted, split.held) for name, score in methods.items()}
        _line(split, scores[split.name, split.cut])
    for cut in cuts:
        _summary(cut, [scored for (_, at), scored in scores.items() if at == cut])


def _heading(where: str, methods: dict[str, Any]) -> None:
    print(f"\nvalley rows {where}; rms, bias, share inside 90 % intervals, half-width")
    line = f"{'table':24} {'cut':>4} {'runs':>9}"
    for name in methods:
        line += f" | {name:^26}" if name in OURS else f" | {name:^13}"
    print(line)


def _line(split: Split, found: dict[str, Score]) -> None:
    count = f"{len(split.fitted['loss'])}/{len(split.held['loss'])}"
    line = f"{split.name:24} {split.cut:3}x {count:>9}"
    for name, s in found.items():
        line += f" | {min(s.rms, 9):6.2%} {max(min(s.bias, 9), -9):+6.2%}"
        line += f" {s.coverage:5.0%} {s.half_width:6.2%}" if name in OURS else ""
    print(line, flush=True)


def _summary(cut: int, found: list[dict[str, Score]]) -> None:
    if not found:
        return
    print(f"\n{cut}x, {len(found)} tables weighted alike")
    for name in found[0]:
        rms = np.array([min(scores[name].rms, 1.0) for scores in found])
        line = f"  {name:12} rms {np.sqrt(np.nanmean(rms**2)):6.2%}  median {np.nanmedian(rms):6.2%}"
        line += f"  bias {np.nanmean([max(min(s[name].bias, 1), -1) for s in found]):+6.2%}"
        if name in OURS:
            cover = np.array([scores[name].coverage for scores in found])
            half = np.nanmedian([scores[name].half_width for scores in found])
            line += f"  coverage {np.nanmean(cover):4.0%} (least {np.nanmin(cover):4.0%})  half-width {half:6.2%}"
        if name != OURS[0]:
            won = sum(scores[OURS[0]].rms < scores[name].rms for scores in found)
            line += f"  beaten by {OURS[0]} on {won} of {len(found)}"
        print(line)


if __name__ == "__main__":
    main()
