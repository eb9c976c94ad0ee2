"""Hold four learning-rate schedules against each other at equal compute: same model, same text, same FLOPs, same peak.

    python examples/learning_rate_comparison.py     # trains what is missing (3 minutes), then table and picture
    python examples/learning_rate_comparison.py --try '{"decay": 0.5, "shape": "linear"}'  # another BudgetLR

- `cosine-3x`: a cosine sized for three times the run: what a run has that is stopped early in its schedule
- `constant`: no decay
- `budget-lr`: `BudgetLR()` as it comes; it is told no number of steps
- `cosine-exact`: a cosine sized exactly, by somebody who knew the number of steps beforehand

Every run is stopped by `ComputeOptimalStopping(budget="3e11 FLOPs")` and leaves its `RunRecord`, one line of
`examples/learning_rate_records.jsonl`. The script can be killed at any moment: it skips the runs that have a line.
What came out, and what it does not say, is in `examples/learning_rate_comparison.md`.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import math
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pytorch_lightning as pl
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from scalestop import BudgetLR, ComputeOptimalStopping, RunRecord
from scalestop.lab.data import TextData
from scalestop.lab.tiny_gpt import TinyGPT

HERE = Path(__file__).parent
RECORDS = HERE / "learning_rate_records.jsonl"
BUDGET = 3e11  # FLOPs
SHAPE = {"width": 32, "depth": 2, "num_heads": 2}  # 32,928 parameters
PEAK = 0.25 / 32
CONTEXT, BATCH_SIZE = 128, 6  # tokens, windows: about 2,000 steps
WARMUP = 0.05  # share of the run, the same for all
SEEDS = (0, 1, 2)
SCHEDULES = ("cosine-3x", "constant", "budget-lr", "cosine-exact")


class Scheduled(TinyGPT):
    """The small GPT under one of the schedules."""

    def __init__(self, schedule: str, options: dict[str, Any]) -> None:
        super().__init__(**SHAPE, lr=PEAK, warmup=0.0, decay=0.0)
        self.schedule, self.options, self.rates = schedule, options, []

    def configure_optimizers(self) -> Any:
        """AdamW as the model has it, and the schedule."""
        optimizer = super().configure_optimizers()
        tokens = BUDGET / (6 * self.dims.num_params)
        steps = math.ceil(tokens / (CONTEXT * BATCH_SIZE))
        if self.schedule == "budget-lr":
            return [optimizer], [{"scheduler": BudgetLR(optimizer, **self.options), "interval": "step"}]
        rise = LinearLR(optimizer, start_factor=1 / 100, total_iters=round(WARMUP * steps))
        if self.schedule == "constant":
            return [optimizer], [{"scheduler": rise, "interval": "step"}]
        horizon = steps * 3 if self.schedule == "cosine-3x" else steps
        cosine = CosineAnnealingLR(optimizer, T_max=horizon - rise.total_iters)
        both = SequentialLR(optimizer, [rise, cosine], milestones=[rise.total_iters])
        return [optimizer], [{"scheduler": both, "interval": "step"}]

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Note the rate of the coming step."""
        self.rates.append(self.optimizers().param_groups[0]["lr"])


def train(schedule: str, seed: int, **options: Any) -> tuple[RunRecord, list[float]]:
    """Train one run to the end of its budget; return its record and the rate of each step."""
    pl.seed_everything(seed, verbose=False)
    model = Scheduled(schedule, options)
    stopping = ComputeOptimalStopping(BUDGET, tolerance=0, oversized="ignore", verbose=False)
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            max_epochs=-1,
            gradient_clip_val=1.0,
            num_sanity_val_steps=0,
            default_root_dir=folder,
            callbacks=[stopping],
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(model, TextData(context=CONTEXT, batch_size=BATCH_SIZE, seed=seed))
        record = RunRecord.load(stopping.record_path)
    return replace(record, run=f"{schedule}, seed {seed}"), model.rates


def read_records() -> dict[str, RunRecord]:
    """Return the finished runs by name."""
    lines = RECORDS.read_text().splitlines() if RECORDS.exists() else []
    # a line without its end was being written when the script was killed: that run is simply done again
    records = [RunRecord.from_dict(json.loads(line)) for line in lines if line.endswith("}")]
    return {record.run: record for record in records}


def sweep() -> None:
    """Train the runs that have no record yet."""
    for seed, schedule in itertools.product(SEEDS, SCHEDULES):
        if f"{schedule}, seed {seed}" in read_records():
            continue
        record, rates = train(schedule, seed)
        if seed == SEEDS[0]:
            write_rates(schedule, rates)
        with RECORDS.open("a") as file:
            file.write(json.dumps(record.to_dict()) + "\n")
        print(f"{record.run}: loss {record.loss:.4f}, {record.usage['optimizer_steps']} steps", flush=True)


def write_rates(schedule: str, rates: list[float]) -> None:
    """Keep every tenth rate of a schedule, for the picture."""
    path = HERE / "learning_rate_rates.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept[schedule] = [round(rate, 6) for rate in rates[::10]]
    path.write_text(json.dumps(kept) + "\n")


def table(records: dict[str, RunRecord]) -> list[dict[str, Any]]:
    """Return a row for each schedule: losses, their mean, and the mean distance to the exact cosine."""
    rows = []
    for name in SCHEDULES:
        runs = [records[f"{name}, seed {seed}"] for seed in SEEDS]
        exact = [records[f"cosine-exact, seed {seed}"] for seed in SEEDS]
        gaps = [run.loss - best.loss for run, best in zip(runs, exact, strict=True)]
        rows.append(
            {
                "schedule": name,
                **{f"loss_seed{run.seed}": round(run.loss, 4) for run in runs},
                "loss_mean": round(statistics.mean(run.loss for run in runs), 4),
                "above_exact_cosine": round(statistics.mean(gaps), 4),
                "above_min": round(min(gaps), 4),
                "above_max": round(max(gaps), 4),
                "final_rate_share": round(runs[0].lr_final_share, 3),
                "flops": runs[0].flops,
                "steps": runs[0].usage["optimizer_steps"],
            }
        )
    return rows


def draw(rows: list[dict[str, Any]], budget: str) -> None:
    """Draw the rates, and the losses of every seed."""
    rates = json.loads((HERE / "learning_rate_rates.json").read_text())
    colours = dict(zip(SCHEDULES, ("#c0392b", "#e39a2d", "#1f6fb2", "#555555"), strict=True))
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), width_ratios=(1.15, 1))
    for name in SCHEDULES:
        share = [10 * index / rows[0]["steps"] for index in range(len(rates[name]))]
        left.plot(share, rates[name], color=colours[name], label=name, lw=2, ls="--" if "exact" in name else "-")
    left.set(
        xlabel="share of the budget used", ylabel="learning rate", title="The schedules", xlim=(0, 1), ylim=(0, None)
    )
    left.legend(frameon=False, loc="lower left")
    for place, row in enumerate(rows):
        losses = [row[f"loss_seed{seed}"] for seed in SEEDS]
        right.scatter(losses, [place] * len(losses), color=colours[row["schedule"]], s=40, zorder=3)
        right.plot([row["loss_mean"]] * 2, [place - 0.25, place + 0.25], color=colours[row["schedule"]], lw=2)
        gap = "" if row["schedule"] == "cosine-exact" else f" ({row['above_exact_cosine']:+.3f})"
        right.annotate(f"{row['loss_mean']:.3f}{gap}", (row["loss_mean"], place - 0.32), ha="center", fontsize=9)
    right.set(xlabel="held-out loss, nats per byte (dots: seeds; bar: mean)", title=f"Loss at {budget}")
    right.set_yticks(range(len(rows)), [row["schedule"] for row in rows])
    right.set_ylim(len(rows) - 0.4, -0.6)
    right.margins(x=0.12)
    right.xaxis.set_major_locator(plt.MaxNLocator(6))
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
    figure.tight_layout()
    figure.savefig(HERE / "learning_rate_comparison.png", dpi=130)


def main() -> None:
    """Train, tabulate, draw."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--try", dest="options", type=json.loads, help="arguments of BudgetLR to try instead, as JSON")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.options is not None:
        losses = [train("budget-lr", seed, **arguments.options)[0].loss for seed in SEEDS]
        print(arguments.options, [round(loss, 4) for loss in losses], f"mean {statistics.mean(losses):.4f}")
        return
    sweep()
    rows = table(read_records())
    with (HERE / "learning_rate_comparison.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(row)
    draw(rows, next(iter(read_records().values())).budget)


if __name__ == "__main__":
    main()
