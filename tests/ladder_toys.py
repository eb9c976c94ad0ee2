"""What the ladder's tests share: a law and settings at a scale of seconds, and models that misbehave."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional

from scalestop import BudgetLR, RunRecord
from scalestop.lab.tiny_gpt import TinyGPT
from scalestop.ladder.settings import LadderSettings
from scalestop.laws import ParametricLaw
from scalestop.laws.base import LawInfo

PRIOR = ParametricLaw(LawInfo("prior", "total", "made up"), E=1.03, A=116.0, B=106.0, alpha=0.58, beta=0.403)
TEXT = {"class_path": "scalestop.lab.data.TextData", "init_args": {"val_tokens": 2048}}


def micro(folder: Path, **changes) -> LadderSettings:
    """A ladder of two sizes and two budgets: four runs of 20 to 40 steps."""
    law = folder / "prior.json"
    if not law.exists():
        folder.mkdir(parents=True, exist_ok=True)
        PRIOR.save(law)
    values = {
        "target": "2e9 FLOPs",
        "budgets": ["1e8", "2e8"],
        "num_sizes": 2,
        "spread": 2.0,
        "seeds": [1],
        "law": str(law),
        "out": str(folder / "ladder"),
        "data": TEXT,
        "trainer": {"accelerator": "cpu"},
        "context": 16,
        "steps": 30,
        "bootstrap": 100,
        "lr_factors": [],
    }
    return LadderSettings(**{**values, **changes})


def record_of(rung, **changes) -> RunRecord:
    """A record such as the rung would leave."""
    values = {
        "num_params": rung.num_params,
        "num_tokens": rung.num_tokens,
        "flops": rung.flops,
        "loss": 3.0,
        "stop_reason": "TOKEN_LIMIT",
        "law": "prior",
        "budget": "1 tokens",
        "run": rung.name,
    }
    return RunRecord(**{**values, **changes})


def path_of(cls: type) -> dict:
    """The class as a ladder's `model`."""
    return {"class_path": f"{__name__}.{cls.__name__}"}


class Noted(TinyGPT):
    """Appends a line to the file named in LADDER_NOTES for each fit: process, size, end, seed, step it begins at."""

    def on_train_start(self) -> None:
        end = next(c for c in self.trainer.callbacks if type(c).__name__ == "ComputeOptimalStopping").budget
        with Path(os.environ["LADDER_NOTES"]).open("a") as file:
            file.write(
                f"{os.getpid()} {self.dims.num_params} {end} {os.environ['PL_GLOBAL_SEED']} {self.global_step}\n"
            )


class Breaks(TinyGPT):
    """Raises at step 12, once: a file remembers."""

    def training_step(self, batch, batch_idx):
        marker = Path(os.environ["LADDER_NOTES"])
        if self.global_step == 12 and not marker.exists():
            marker.touch()
            raise RuntimeError("out of luck")
        return super().training_step(batch, batch_idx)


class WideOnesDiverge(TinyGPT):
    """The loss is no number from step 15 on at width 8 and above."""

    def loss(self, batch):
        found = super().loss(batch)
        return found * float("nan") if self.dims.width >= 8 and self.training and self.global_step > 15 else found


class Spikes(TinyGPT):
    """The loss is tripled from step 60 on."""

    def loss(self, batch):
        return super().loss(batch) * (3 if self.global_step > 60 and self.training else 1)


class Own(pl.LightningModule):
    """Somebody's own model: other names, other counts, an untied head of an odd width."""

    def __init__(self, d_model: int, blocks: int = 1, rate: float = 1e-2, rise: float = 0.1, fall: float = 0.5) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.embed = nn.Embedding(256, d_model)
        self.layers = nn.Sequential(*(nn.Linear(d_model, d_model) for _ in range(blocks)))
        self.out = nn.Linear(d_model, 256)

    def loss(self, batch):
        logits = self.out(self.layers(self.embed(batch["input_ids"])).relu())
        return functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten())

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.rate)
        return {
            "optimizer": optimizer,
            "lr_scheduler": BudgetLR(optimizer, self.hparams.rise, self.hparams.fall, "linear"),
        }


class HoldsObjects(Breaks):
    """Its hyperparameters are objects of a class of its own."""

    def on_train_start(self) -> None:
        self.hparams["object"], self.hparams["another"] = Path, self.dims


class SavesObjects(TinyGPT):
    """Its own state in a checkpoint is no plain data."""

    def on_save_checkpoint(self, checkpoint) -> None:
        checkpoint["mine"] = self.dims


ROOT = Path(__file__).parents[1]
HOLD = """
import sys
from pathlib import Path
from scalestop.ladder.claims import Claim
claim = Claim.take(Path(sys.argv[1]))
print("held" if claim else "refused", flush=True)
sys.stdin.read()
"""


def holder(path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return process, process.stdout.readline().strip()
