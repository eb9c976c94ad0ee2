"""One trunk, two branches: a run on its plateau serves several budgets, each for the price of its decay.

    python examples/decay_branches.py      # about a minute on one core

A small GPT trains under `BudgetLR` and saves a checkpoint every 100 steps. Two branches start from checkpoints of its
plateau, bring the rate down and end at token counts of their own. Each is held against the trunk at the same tokens.
The table goes to `examples/decay_branches.csv`.
"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from scalestop import ComputeOptimalStopping
from scalestop.lab.data import TextData
from scalestop.lab.tiny_gpt import TinyGPT
from scalestop.lightning.branch import decay_to

CONTEXT, BATCH_SIZE, STEPS = 128, 6, 2000
TOKENS_PER_STEP = CONTEXT * BATCH_SIZE
BRANCHES = ((700, 1000), (1000, 1400))  # from this step of the trunk to the tokens of that one


def trainer(folder: Path, *callbacks: pl.Callback) -> pl.Trainer:
    options: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "gradient_clip_val": 1.0,
    }
    return pl.Trainer(max_epochs=-1, default_root_dir=folder, callbacks=list(callbacks), **options)


def model() -> TinyGPT:
    pl.seed_everything(0, verbose=False)
    return TinyGPT(width=32, depth=2, num_heads=2, lr=0.25 / 32, warmup=0.05, decay=0.3, decay_shape="1-sqrt")


def main() -> None:
    torch.set_num_threads(1)
    data = TextData(context=CONTEXT, batch_size=BATCH_SIZE)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        saves = ModelCheckpoint(folder, filename="trunk-{step}", every_n_train_steps=100, save_top_k=-1)
        trunk = ComputeOptimalStopping(f"{STEPS * TOKENS_PER_STEP} tokens", tolerance=0, oversized="ignore")
        trainer(folder, saves, trunk).fit(model(), data)
        for start, end in BRANCHES:
            checkpoint = folder / f"trunk-step={start}.ckpt"
            branch = decay_to(checkpoint, tokens=end * TOKENS_PER_STEP)
            run = trainer(folder, branch)
            run.fit(model(), data, ckpt_path=checkpoint, weights_only=True)
            annealed = float(run.callback_metrics["val_loss"])
            same_tokens = folder / f"trunk-step={end}.ckpt"
            plateau = trainer(folder).validate(model(), data, ckpt_path=same_tokens, verbose=False, weights_only=True)
            rows.append(
                {
                    "branch_from_step": start,
                    "tokens": branch.usage.tokens,
                    "tokens_asked": end * TOKENS_PER_STEP,
                    "final_rate": run.optimizers[0].param_groups[0]["lr"],
                    "loss_branch": round(annealed, 4),
                    "loss_trunk_at_same_tokens": round(plateau[0]["val_loss"], 4),
                    "difference": round(annealed - plateau[0]["val_loss"], 4),
                    "extra_steps": end - start,
                }
            )
    with Path(__file__).with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
