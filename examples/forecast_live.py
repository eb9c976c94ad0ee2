"""A run that sees its own end, and one whose rate is wrong and that is ended for it.

    python examples/forecast_live.py [FOLDER]      # half a minute on one idle core

Two runs of `scalestop train` under 1e11 FLOPs with the law `stdlib-bytes`: one as the recipe has it, one at a 27th of
its rate, both with `--stop.on_forecast stop`. What each logged goes to `examples/forecast_live.csv` and, with its
curve, to `examples/forecast_live.png`; notes are in `forecast_live.md`. Runs that FOLDER has already are drawn, not
trained.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from scalestop import RunRecord
from scalestop.cli import main as scalestop
from scalestop.run.curve import Curve

OUT = Path(__file__).with_suffix("")
BUDGET = "1e11 FLOPs"
RUNS = {"as the recipe has it": [], "at a 27th of its rate": ["--model.lr", "3e-4"]}
LOGGED = ("tokens", "loss_forecast", "loss_forecast_low", "loss_forecast_high")


def train(folder: Path, options: list[str]) -> Path:
    """Train a run unless it is there, and return where it lies."""
    if not (folder / "version_0" / "scalestop.json").exists():
        words = ["train", "--budget", BUDGET, "--law", "stdlib-bytes", "--stop.on_forecast", "stop", "--threads", "1"]
        scalestop([*words, "--trainer.enable_progress_bar", "false", "--out", str(folder), *options])
    return folder / "version_0"


def forecasts(folder: Path) -> list[dict[str, float]]:
    """Return each forecast that a run logged."""
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        rows = [{name: row[f"scalestop/{name}"] for name in LOGGED} for row in csv.DictReader(file)]
    return [{name: float(value) for name, value in row.items()} for row in rows if row["loss_forecast"]]


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        root = Path(sys.argv[1] if len(sys.argv) > 1 else made)
        found = {name: train(root / f"run{k}", options) for k, (name, options) in enumerate(RUNS.items())}
        figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
        rows = []
        for panel, (name, folder) in zip(panels, found.items(), strict=True):
            record, seen = RunRecord.load(folder / "scalestop.json"), forecasts(folder)
            curve, stop = Curve.from_state(record.points).training(), record.plan["stop_tokens"]
            share = [row["tokens"] / stop for row in seen]
            low, high = ([row[f"loss_forecast_{end}"] for row in seen] for end in ("low", "high"))
            panel.plot(curve.tokens / stop, curve.loss, color="0.6", lw=0.8, label="training loss")
            panel.fill_between(share, low, high, alpha=0.25, color="C0", label="forecast of its end, 90 %")
            panel.plot(share, [row["loss_forecast"] for row in seen], color="C0")
            panel.axhspan(*record.plan["loss_interval"], color="C1", alpha=0.3, label="90 % of runs, by the law")
            if record.stop_reason == "OFF_COURSE":
                panel.axvline(record.num_tokens / stop, color="C3", label="stopped: OFF_COURSE")
            else:
                panel.plot([1], [record.loss], "ko", label="held-out loss at the end")
            panel.set(title=name, xlabel="share of the planned run", xlim=(0, 1.03), ylim=(1.5, 5.7))
            panel.legend(fontsize=8)
            rows += [{"run": name, **{key: f"{value:.6g}" for key, value in row.items()}} for row in seen]
            print(f"{name}: {record.stop_reason}, {record.flops:.3g} FLOPs, loss {record.loss:.3f}")
        panels[0].set_ylabel("loss, nats per byte")
        figure.savefig(OUT.with_suffix(".png"), dpi=100)
        with OUT.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
