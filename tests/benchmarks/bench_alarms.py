"""How soon injected faults are told of, and how often healthy runs are: tiny GPTs, replayed through the live follower.

    python tests/benchmarks/make_tiny_curves.py OUT faults_8_150k healthy_8_150k
    python tests/benchmarks/bench_alarms.py OUT faults_8_150k healthy_8_150k [--table FILE]

Every step of a run goes through the code that a callback runs: losses into the curve, rows into the fingerprints,
validations, looks ahead, alarms. Law and curves are fitted to the 19 pilots in tests/data/tiny_curves.json, as a
ladder would. A fault counts as found at the first alarm of whatever kind. Dropped warm-up is replayed twice: as a
schedule that plans none, and as one that plans it and does not do it. `--table` keeps one row for each run;
tests/data/alarms.csv is one.

What it says, by the rule of four checks in a row (chosen with these runs in sight): of 200 healthy runs of 4,408
parameters, 150k tokens and one window a step 1 was told of, of 50 of 8,340 parameters and 400k tokens none. Of ten runs
a fault, within a tenth of the run, at 400k tokens: rate x3 10, rate /3 10, 5 % label noise 9, a repeated shard 10,
warm-up dropped 10; at 150k tokens 10, 10, 0 (all later), 10, 10. Warm-up that no schedule plans is said with the plan.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from bench_forecast import read_tiny
from make_tiny_curves import CONTEXT, factor

from scalestop.accounting.fingerprints import RowPrints
from scalestop.accounting.losses import LossAccumulator
from scalestop.accounting.meter import Meter
from scalestop.accounting.sizing import Sizing
from scalestop.accounting.tokens import TokenAccumulator, TokenCount
from scalestop.fitting import fit_law
from scalestop.fitting.band_fit import fit_band
from scalestop.fitting.curve_fit import better_curve_law
from scalestop.lab.corpus import load_corpus
from scalestop.lab.data import TrainStream
from scalestop.laws import ScalingLaw
from scalestop.laws.curves.family import CurveFamily
from scalestop.planning.budget import Budget
from scalestop.planning.rule import StopRule
from scalestop.planning.speed import Speed
from scalestop.run.aims import Aims
from scalestop.run.final_loss import LossNames
from scalestop.run.follower import Follower
from scalestop.run.gate import Gate
from scalestop.run.history import History
from scalestop.run.planner import RunPlanner
from scalestop.run.state import RunState
from scalestop.run.watch import RunWatch

KINDS = {
    "left the band": "band",
    "off course": "course",
    "the loader repeats": "repeats",
    "the training loss has jumped": "jump",
    "no training loss has been finite": "nonfinite",
    "the rate is planned otherwise": "rate",
}
PILOTS = Path(__file__).resolve().parents[1] / "data" / "tiny_curves.json"


class Replay:
    """One run's trainer and terminal: what a follower asks of a host and tells a reporter."""

    passes = 0.0

    def __init__(self, rates: np.ndarray, planned: np.ndarray) -> None:
        self.rates, self.planned, self.step, self.logged, self.told = rates, planned, 0, {}, {}

    def metrics(self) -> Mapping[str, Any]:
        return self.logged

    def learning_rate(self) -> float:
        return float(self.rates[min(self.step, len(self.rates) - 1)])

    def planned_rate(self, plan: Any) -> Any:
        return lambda share: float(np.interp(share, np.linspace(0, 1, len(self.planned)), self.planned))

    def warn(self, text: str) -> None:
        kind = next((name for start, name in KINDS.items() if text.startswith(start)), text)
        self.told.setdefault(kind, self.step / len(self.rates))

    say = warn


def law_of_the_pilots() -> ScalingLaw:
    """What a ladder of the recipe's pilots would leave: their law, with the law and the band of their curves."""
    rows = [row for row in json.loads(PILOTS.read_text(encoding="utf-8")) if row["group"].startswith("pilots")]
    params, tokens = [row["num_params"] for row in rows], [round(row["path_tokens"][-1]) for row in rows]
    loss = [row["val_loss"][-1] for row in rows]  # of the batches that a run is validated on along its way
    pilots = [case.pilot for case in read_tiny(PILOTS, "pilots")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        law = fit_law({"params": params, "tokens": tokens, "loss": loss}).law
    return replace(law, curves=CurveFamily(better_curve_law(pilots), fit_band(pilots)))


def variants(member: dict, steps: int) -> Iterator[tuple[str, np.ndarray | None]]:
    """Yield the names of a run's fault, and the rate that was planned where it is not the run's own."""
    if member.get("schedule") == "no-warmup":
        yield "no warm-up, planned so", None
        yield "no warm-up, planned", factor(np.arange(steps) / steps, "recipe")
    else:
        yield member.get("fault", "none"), None


def replay(
    found: Mapping[str, np.ndarray],
    j: int,
    member: dict,
    law: ScalingLaw,
    train: np.ndarray,
    planned: np.ndarray | None = None,
) -> dict[str, float]:
    """Return the share of the run at which each kind of alarm was first told."""
    meta = json.loads(str(found["meta"]))
    size, per_step, losses = meta["num_params"], meta["per_step"], torch.tensor(found["losses"][:, j])
    aims = Aims(
        Budget.parse(f"{len(losses) * per_step} tokens"), None, law, StopRule(oversized="ignore"), Gate(), Speed()
    )
    aims = aims.settle(size)
    history = History(LossAccumulator(), RowPrints())
    watch = RunWatch(Meter(6 * size), TokenAccumulator(), lambda: 0.0)
    planner = RunPlanner(aims, size, 6 * size, 1)
    state = RunState("replayed", None, Sizing(size, "6N", None, None), watch, planner, history=history)
    rates = found["factors"][j] * found["peak"][j]
    host = Replay(rates, rates if planned is None else planned * found["peak"][j])
    follower, plan = Follower(state, host, host, LossNames()), planner.plan(per_step)
    follower.begin(plan)
    stream = TrainStream(train, CONTEXT, per_step // CONTEXT, member["seed"])
    shard = member["shard"] * CONTEXT // per_step if member.get("shard") else None
    count = TokenCount(per_step, per_step, per_step, per_step // CONTEXT)
    marks = dict(zip(found["val_steps"].tolist(), found["val"][:, j].tolist(), strict=True))
    watch.start()
    for step in range(len(losses)):
        history.prints.see(stream.batch(step if shard is None else step % shard))
        watch.begin_batch()
        watch.end_batch(count, True)
        history.losses.add(losses[step])
        host.step = step + 1
        follower.step(plan)
        if step + 1 in marks:
            host.logged = {"val_loss": marks[step + 1]}
            follower.validated((step + 1) * per_step)
    return host.told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("groups", nargs="+")
    parser.add_argument("--table", type=Path, help="file to keep one row for each run in")
    parser.add_argument("--most", type=int, default=None, help="runs of each group at most")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    train, law = load_corpus(None).train, law_of_the_pilots()
    rows = []
    for group in arguments.groups:
        found = dict(np.load(arguments.folder / f"{group}.npz"))
        members = json.loads(str(found["meta"]))["members"]
        for j, member in list(enumerate(members))[: arguments.most]:
            for fault, planned in variants(member, len(found["losses"])):
                told = replay(found, j, member, law, train, planned)
                shares = {kind: told.get(kind) for kind in KINDS.values()}
                rows.append({"group": group, "fault": fault, "seed": member["seed"], **shares})
                if unknown := set(told) - set(shares):
                    raise SystemExit(f"{group} {j}: an alarm of no known kind: {unknown}")
    if arguments.table:
        with arguments.table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            for row in rows:
                writer.writerow({k: f"{v:.4f}" if isinstance(v, float) else v for k, v in row.items()})
    print_summary(rows)


def print_summary(rows: list[dict]) -> None:
    """Print how many runs of each fault were found by a tenth of the way, and by which alarm first."""
    print(f"{'group':<20}{'fault':<24}{'runs':>5}{'told':>6}{'by 10 %':>9}{'median':>9}  first alarm")
    for group, fault in dict.fromkeys((row["group"], row["fault"]) for row in rows):
        chosen = [row for row in rows if (row["group"], row["fault"]) == (group, fault)]
        kinds: dict[str, int] = {}
        shares = []
        for row in chosen:
            first = min(((row[k], k) for k in KINDS.values() if row[k] is not None), default=None)
            if first is not None:
                shares.append(first[0])
                kinds[first[1]] = kinds.get(first[1], 0) + 1
        early = sum(share <= 0.1 for share in shares)
        median = f"{statistics.median(shares):.1%}" if shares else "-"
        which = ", ".join(f"{name} {number}" for name, number in sorted(kinds.items())) or "-"
        print(f"{group:<20}{fault:<24}{len(chosen):>5}{len(shares):>6}{early:>9}{median:>9}  {which}")


if __name__ == "__main__":
    main()
