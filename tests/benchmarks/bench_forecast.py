"""How well a run's end is forecast from its own curve: schedule by share seen, against a power law on its own prefix.

    python tests/benchmarks/bench_forecast.py [--data FOLDER] [--tiny FILE] [--every]

Curve tables are looked for in `--data`, else where the tests find them: `mpl_curves_<size>.csv` (schedule, step, lr,
loss) and `olmo_ladder*.csv`. Each size of a collection is forecast from the smaller ones; each schedule from the others
at all sizes; each OLMo size from the other sizes. `--tiny` is a file of tiny GPT curves; `make_tiny_curves.py` made the
one that lies in tests/data. Takes half a minute.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from fitting_data import data_folder

from scalestop.fitting.curve_fit import better_curve_law, fit_curve_law
from scalestop.laws.curves.follow import follow
from scalestop.laws.curves.law import CurveLaw, Pilot
from scalestop.laws.curves.points import EndLoss, end_of_curve, usable
from scalestop.laws.curves.rate_path import Array, RatePath

SHARES = (0.1, 0.2, 0.35, 0.5, 0.7)
MPL_STEP_TOKENS = 524_288
KINDS = {
    "constant": "constant",
    "cosine": "cosine",
    "wsd_": "WSD",
    "wsdld": "WSD, linear fall",
    "wsdcon": "two-stage",
    "recipe": "warm-up, linear fall",
    "wsd": "WSD",
    "linear": "linear",
    "two-stage": "two-stage",
    "x": "cosine (OLMo)",
}
DECAYED = ("cosine", "WSD", "WSD, linear fall", "two-stage", "linear", "cosine (OLMo)", "warm-up, linear fall")


@dataclass(frozen=True)
class Case:
    """A run with what is known of its end."""

    pilot: Pilot
    """The run."""
    schedule: str
    """Its schedule's name in the table."""
    end: EndLoss
    """Its final loss."""

    @property
    def kind(self) -> str:
        """The schedule's class."""
        return next((kind for start, kind in KINDS.items() if self.schedule.startswith(start)), self.schedule)


def number(text: str) -> float:
    """Read `25M` or `1B` as a number of parameters."""
    return float(text[:-1]) * {"M": 1e6, "B": 1e9}[text[-1]]


def read_mpl(folder: Path) -> list[Case]:
    """Read the curves of Luo et al. 2025; their tables begin where warm-up ends."""
    cases = []
    for path in sorted(folder.glob("mpl_curves_*.csv")):
        size = path.stem.rsplit("_", 1)[1]
        rows = defaultdict(list)
        with path.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                rows[row["schedule"]].append([float(row[name]) for name in ("step", "lr", "loss")])
        for schedule, values in rows.items():
            steps, rates, losses = np.array(values).T
            nodes = np.concatenate([[0.0, 2160.0], steps[steps > 2160]])
            along = np.concatenate([[0.0, 3e-4], rates[steps > 2160]])
            tokens = steps * MPL_STEP_TOKENS
            run = Pilot(
                number(size), RatePath(nodes * MPL_STEP_TOKENS, nodes, along), tokens, losses, name=f"{size} {schedule}"
            )
            cases.append(Case(run, schedule, end_of_curve(tokens, losses)))
    return cases


def read_olmo(folder: Path, metric: str = "c4_loss") -> list[Case]:
    """Read the OLMo ladder's validation losses."""
    sizes = {"190M": 190354176, "370M": 371262464, "760M": 758220288, "1B": 1279395840, "3B": 3169537280}
    rows = defaultdict(list)
    for path in sorted(folder.glob("olmo_ladder*.csv")):
        with path.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                found = [float(row[name]) for name in ("step", "lr", metric, "batch_tokens", "lr_peak")]
                rows[row["size"], row["chinchilla_multiple"]].append(found)
    cases = []
    for (size, multiple), values in rows.items():
        steps, rates, losses, batch, peak = np.array(values).T
        # the first evaluations may lie on either side of warm-up's end: it is where the first slope meets the peak
        warm = steps[0] * peak[0] / rates[0] if rates[0] < 0.99 * peak[0] else steps[0]
        nodes, along = np.concatenate([[0.0], steps]), np.concatenate([[0.0], rates])
        if np.abs(steps - warm).min() > 1:
            order = np.argsort(np.append(nodes, warm))
            nodes, along = np.append(nodes, warm)[order], np.append(along, peak[0])[order]
        size_number = sizes.get(size, number(size))
        run = Pilot(
            size_number, RatePath(nodes * batch[0], nodes, along), steps * batch, losses, name=f"{size} x{multiple}"
        )
        cases.append(Case(run, f"x{multiple}", end_of_curve(steps * batch, losses)))
    return cases


def read_tiny(path: Path, group: str) -> list[Case]:
    """Read tiny GPT curves: training loss in windows, the end by a fit-free mean of the last tenth's validation."""
    cases = []
    for row in json.loads(path.read_text(encoding="utf-8")):
        if not row["group"].startswith(group):
            continue
        tokens, loss, error = (np.array(row[name]) for name in ("tokens", "loss", "error"))
        along = RatePath(np.array(row["path_tokens"]), np.array(row["path_steps"]), np.array(row["path_rate"]))
        run = Pilot(row["num_params"], along, tokens, loss, error, name=f"{row['group']}.{row['seed']}")
        cases.append(Case(run, row["schedule"], end_of_curve(tokens, loss, error, share=0.05)))
    return cases


def naive(case: Case, share: float) -> float:
    """Forecast the end by E + A·D^-a fitted to the run's own loss so far: extrapolation without a schedule."""
    run = case.pilot
    stop = float(run.path.tokens[-1])
    keep = usable(run.path, run.tokens) & (run.tokens <= share * stop)
    tokens, loss = run.tokens[keep] / stop, run.loss[keep]
    best = (np.inf, np.nan)
    for exponent in np.linspace(0.05, 1.5, 60):
        rows = np.column_stack([np.ones(len(tokens)), tokens**-exponent])
        found, *_ = np.linalg.lstsq(rows, loss, rcond=None)
        if found[1] > 0:
            best = min(best, (float(np.sum((loss - rows @ found) ** 2)), float(found.sum())))
    return best[1]


def score(pairs: Iterable[tuple[CurveLaw, Case]], shares: Sequence[float] = SHARES) -> list[tuple[Case, Array]]:
    """Return error, whether the interval held, its half width and the naive error, at each share."""
    results = []
    for law, case in pairs:
        run, row = case.pilot, []
        for share in shares:
            keep = run.tokens <= share * run.path.tokens[-1]
            if usable(run.path, run.tokens[keep]).sum() < 3:
                row.append([np.nan] * 4)
                continue
            error = None if run.error is None else run.error[keep]
            followed = follow(law, run.num_params, run.path, run.tokens[keep], run.loss[keep], error)
            got = followed.forecast(noise=case.end.error)
            held = got.low <= case.end.loss <= got.high
            row.append([got.loss - case.end.loss, held, (got.high - got.low) / 2, naive(case, share) - case.end.loss])
        results.append((case, np.array(row, dtype=np.float64)))
    return results


def show(title: str, results: list[tuple[Case, Array]], every: bool) -> None:
    """Print schedule by share: mean and largest error, share of intervals that held, naive error."""
    print(f"\n{title}")
    print(f"  {'schedule':22s} runs  " + "  ".join(f"{f'at {share:.0%}':^27s}" for share in SHARES))
    print(f"  {'':22s}       " + "  ".join(f"{'mean':>6s} {'max':>6s} {'held':>5s} {'naive':>6s} " for _ in SHARES))
    kinds = [*dict.fromkeys(case.kind for case, _ in results), "all", "decayed"]
    for kind in kinds:
        table = np.array(
            [row for case, row in results if kind in ("all", case.kind) or (kind == "decayed" and case.kind in DECAYED)]
        )
        if not len(table):
            continue
        cells = []
        for k in range(len(SHARES)):
            off, held, _, other = table[:, k].T
            if np.isnan(off).all():
                cells.append(f"{'-':>6s} {'-':>6s} {'-':>5s} {'-':>6s} ")
                continue
            cells.append(
                f"{np.nanmean(abs(off)):6.4f} {np.nanmax(abs(off)):6.4f} {np.nanmean(held):5.0%} "
                f"{np.nanmean(abs(other)):6.4f} "
            )
        print(f"  {kind:22s} {len(table):4d}  " + "  ".join(cells))
    if every:
        for case, row in results:
            cells = " ".join("      -       " if np.isnan(r[0]) else f"{r[0]:+.4f}±{r[2]:.4f}" for r in row)
            print(f"    {case.pilot.name:28s} {cells}")


def by_size(cases: Sequence[Case]) -> list[float]:
    """Return the sizes, growing."""
    return sorted({case.pilot.num_params for case in cases})


def bench_sizes(name: str, cases: Sequence[Case], every: bool) -> None:
    """Forecast each size from the smaller ones."""
    sizes = by_size(cases)
    for size in sizes[1:]:
        law = better_curve_law([case.pilot for case in cases if case.pilot.num_params < size])
        targets = [case for case in cases if case.pilot.num_params == size]
        title = f"{name}: N {size:.3g} from {law.num_pilots} smaller runs ({law.kernel}, residual {law.residual:.4f})"
        show(title, score((law, case) for case in targets), every)


def bench_left_out(name: str, cases: Sequence[Case], key: str, every: bool) -> None:
    """Forecast each schedule, or each size, from the others."""
    pairs = []

    def of(case: Case) -> object:
        return case.schedule if key == "schedule" else case.pilot.num_params

    for value in dict.fromkeys(map(of, cases)):
        law = better_curve_law([case.pilot for case in cases if of(case) != value])
        pairs += [(law, case) for case in cases if of(case) == value]
    show(f"{name}: each {key} from the others", score(pairs), every)


def main() -> None:
    """Run what there are data for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--tiny", type=Path, default=Path(__file__).resolve().parents[1] / "data" / "tiny_curves.json")
    parser.add_argument("--every", action="store_true", help="print every run")
    options = parser.parse_args()
    folder = options.data or data_folder()
    began = time.perf_counter()
    if mpl := read_mpl(folder):
        bench_sizes("Luo et al.", mpl, options.every)
        bench_left_out("Luo et al.", mpl, "schedule", options.every)
    if olmo := read_olmo(folder):
        bench_sizes("OLMo ladder, C4", olmo, options.every)
        bench_left_out("OLMo ladder, C4", olmo, "size", options.every)
    if runs := [*mpl, *olmo]:
        laws = ((CurveLaw.without_pilots(c.pilot.num_params, c.pilot.tokens_per_step), c) for c in runs)
        show("without pilots", score(laws), options.every)
    if options.tiny.exists():
        pilots = read_tiny(options.tiny, "pilots")
        law = fit_curve_law([case.pilot for case in pilots])
        for group in ("schedules_12", "schedules_24"):
            targets = read_tiny(options.tiny, group)
            show(
                f"tiny GPT, {group}, from {law.num_pilots} pilots of one recipe",
                score((law, c) for c in targets),
                options.every,
            )
    print(f"\n{time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    main()
