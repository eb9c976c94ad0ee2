"""Five small studies of compute budgets, each trained for real on the sources of Python's standard library.

    python examples/studies/studies.py balance     # oversized and undertrained against balanced, at equal FLOPs
    python examples/studies/studies.py repeats     # 1, 4, 16 and 64 passes over the data, at equal tokens
    python examples/studies/studies.py shape       # wide and shallow against deep and narrow, at equal N
    python examples/studies/studies.py converged   # a small model trained until it stops improving, against the plan
    python examples/studies/studies.py advice      # Kaplan's, Chinchilla's and the fitted law's advice, each trained

Each takes under ten minutes of one core. A run that has a row in the study's CSV is not trained again, so a killed
study goes on where it was. `README.md` beside this file says what came out.
"""

from __future__ import annotations

import csv
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping

from scalestop import Budget, ComputeOptimalStopping, RunRecord, get_law
from scalestop.lab.data import FixedWindows, TextData, TrainStream, batch_size_for
from scalestop.lab.dims import GPTDims, dims_for
from scalestop.lab.tiny_gpt import TinyGPT
from scalestop.laws.repeated import effective_amount
from scalestop.planning.advice import least_for_loss
from scalestop.report.style import finish, new_figure, save, theme_of

HERE = Path(__file__).parent
LAW = get_law("stdlib-bytes")
SEEDS = (0, 1, 2)
PIECE = 2048  # bytes


@dataclass(frozen=True)
class Arm:
    """One of the things that a study holds against each other."""

    name: str
    dims: GPTDims
    tokens: float
    """Tokens to train on; the most, where `patience` ends the run."""
    unique: float | None = None
    """Bytes of text there are; None for all."""
    patience: int | None = None
    """Train at a constant rate until the validation loss has not improved in so many looks."""
    seeds: tuple[int, ...] = SEEDS

    @property
    def flops(self) -> float:
        return 6 * self.dims.num_params * self.tokens

    @property
    def forecast(self) -> float:
        """The law's loss, told what repeated tokens are worth by Muennighoff et al. 2023 (R_D* = 15.4)."""
        worth = self.tokens if self.unique is None else effective_amount(self.tokens, self.unique, 15.387756)
        return float(LAW.loss(float(self.dims.num_params), float(worth)))


class Text(TextData):
    """The embedded text, or only so many bytes of it, in pieces from all over."""

    def __init__(self, unique: float | None, **options: Any) -> None:
        super().__init__(**options)
        self.unique = None if unique is None else round(unique)

    def train_dataloader(self) -> TrainStream:
        text = self.corpus.train
        if self.unique is not None:  # the beginning alone would be another kind of text than what is held out
            pieces = text[: len(text) // PIECE * PIECE].view(-1, PIECE)
            wanted = min(len(pieces), max(1, round(self.unique / PIECE)))
            text = pieces[torch.arange(wanted) * len(pieces) // wanted].flatten()
        return TrainStream(text, self.context, self.batch_size, self.seed)

    def val_dataloader(self) -> FixedWindows:
        return FixedWindows(self.corpus.val, self.context, self.val_batch_size, self.val_tokens)


# ---- the studies: what each trains


def balance() -> list[Arm]:
    """Three sizes at 2e11 FLOPs: the law's optimum, eight times as large, a sixth as large."""
    best, flops = LAW.optimal(2e11).num_params, 2e11
    arms = (("balanced", 1), ("oversized", 8), ("undersized", 1 / 6))
    return [_spending(name, dims_for(best * factor), flops) for name, factor in arms]


def repeats() -> list[Arm]:
    """Fresh and repeated tokens, 45k parameters on 1.2M of them: one pass, or 4, 16 and 64 over fewer."""
    dims, tokens = dims_for(45_000), 1.2e6
    passes = {"1 pass": 1, "4 passes": 4, "16 passes": 16, "64 passes": 64}
    return [Arm(name, dims, tokens, tokens / n, seeds=(0, 1)) for name, n in passes.items()]


def shape() -> list[Arm]:
    """Shapes of about 66k parameters at 1e11 FLOPs: from one wide block to nine narrow ones."""
    shapes = ((64, 1, 4), (48, 2, 3), (40, 3, 2), (28, 6, 1), (24, 9, 1))
    return [
        _spending(f"{depth} x {width}", GPTDims(width, depth, heads), 1e11, (0, 1)) for width, depth, heads in shapes
    ]


def converged() -> list[Arm]:
    """9k parameters until they stop improving, and two plans: one for that loss, one for that compute."""
    dims = dims_for(9_000)
    small = Arm("until it stops", dims, 2e7, patience=5, seeds=(0,))
    ended = rows_of("converged").get((small.name, 0))
    if ended is None:
        return [small]
    least = least_for_loss(LAW, float(ended["loss"])).best
    assert least is not None
    flops = float(ended["flops"])
    return [
        small,
        _spending("planned for its loss", dims_for(least.num_params), least.flops, (0,)),
        _spending("planned for its compute", dims_for(LAW.optimal(flops).num_params), flops, (0,)),
    ]


def advice() -> list[Arm]:
    """1e11 FLOPs as several laws would spend them."""
    arms = []
    for name in ("stdlib-bytes", "besiroglu", "chinchilla", "kaplan"):
        law = get_law(name)
        size = law.optimal(1e11).num_params
        # Kaplan's N leaves the embeddings out: the least model, one block of width 8, has 792, twice what it asks for
        dims = GPTDims(8, 1, 1) if name == "kaplan" else dims_for(size)
        arms.append(_spending(name, dims, 1e11, (0,) if name == "kaplan" else SEEDS))
    return arms


STUDIES: dict[str, Callable[[], list[Arm]]] = {
    study.__name__: study for study in (balance, repeats, shape, converged, advice)
}


def _spending(name: str, dims: GPTDims, flops: float, seeds: tuple[int, ...] = SEEDS) -> Arm:
    return Arm(name, dims, flops / (6 * dims.num_params), seeds=seeds)


# ---- one run


def train(arm: Arm, seed: int) -> dict[str, Any]:
    """Train one run and return its row."""
    began = time.process_time()
    pl.seed_everything(seed, verbose=False)
    dims = arm.dims
    waits = arm.patience is not None
    schedule = {"warmup": 0.02, "decay": 0.0} if waits else {}
    model = TinyGPT(width=dims.width, depth=dims.depth, num_heads=dims.num_heads, **schedule)
    stopping = ComputeOptimalStopping(
        Budget(tokens=round(arm.tokens)), LAW, tolerance=0, oversized="ignore", verbose=False, save_checkpoint=False
    )
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    patience = [EarlyStopping("val_loss", patience=arm.patience, min_delta=0.002)] if waits else []
    data = Text(arm.unique, batch_size=batch_size_for(min(arm.tokens, 2e6)), seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            max_epochs=-1,
            accelerator="cpu",
            gradient_clip_val=1.0,
            num_sanity_val_steps=0,
            check_val_every_n_epoch=None,
            val_check_interval=1_000 if waits else 10_000_000,  # the stop itself validates
            default_root_dir=folder,
            callbacks=[stopping, *patience],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(model, data)
        assert stopping.record_path is not None
        record = RunRecord.load(stopping.record_path)
    return {
        "arm": arm.name,
        "seed": seed,
        "params": record.num_params,
        "body_params": dims.body,
        "shape": f"{dims.depth} x {dims.width}",
        "tokens": record.num_tokens,
        "unique_tokens": "" if arm.unique is None else round(arm.unique),
        "flops": record.flops,
        "steps": record.usage["optimizer_steps"],
        "loss": round(float(record.loss or 0), 4),
        "forecast": "" if waits else round(arm.forecast, 4),
        "core_seconds": round(time.process_time() - began),
    }


# ---- all runs of a study


def rows_of(study: str) -> dict[tuple[str, int], dict[str, str]]:
    """Return the finished runs of a study by arm and seed."""
    path = HERE / f"{study}.csv"
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        return {(row["arm"], int(row["seed"])): row for row in csv.DictReader(file)}


def run(study: str) -> None:
    """Train what is missing of a study, then print its table."""
    path = HERE / f"{study}.csv"
    while missing := [
        (arm, seed)
        for seed in SEEDS
        for arm in STUDIES[study]()
        if seed in arm.seeds and (arm.name, seed) not in rows_of(study)
    ]:
        row = train(*missing[0])
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, row, lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(row)
        print(f"{row['arm']}, seed {row['seed']}: loss {row['loss']}, {row['core_seconds']} s", flush=True)
    print(table(study))
    save(draw(study).figure, HERE / f"{study}.png")


def draw(study: str) -> Any:
    """Draw each arm's losses, their mean, and the law's forecast."""
    ax = new_figure(size=(6.6, 1.9 + 0.42 * len(arms_of(study))))[1]
    colours = theme_of(ax)
    for place, runs in enumerate(arms_of(study).values()):
        losses = [float(row["loss"]) for row in runs]
        mean = statistics.mean(losses)
        ax.plot(losses, [place] * len(losses), "o", markersize=5, color=colours.blue, label="one seed")
        ax.plot([mean] * 2, [place - 0.25, place + 0.25], color=colours.ink, linewidth=2, label="mean")
        if runs[0]["forecast"]:
            forecast = float(runs[0]["forecast"])
            ax.plot(
                forecast, place, "D", markersize=6, color=colours.red, fillstyle="none", label="forecast by the law"
            )
    ax.set_yticks(range(len(arms_of(study))), list(arms_of(study)))
    ax.set_ylim(len(arms_of(study)) - 0.4, -0.6)
    ax.margins(x=0.08)
    return finish(
        ax,
        (STUDIES[study].__doc__ or "").partition(":")[0].partition(";")[0].rstrip("."),
        "held-out loss, nats per byte",
        "",
    )


def arms_of(study: str) -> dict[str, list[dict[str, str]]]:
    """Return the rows of a study by arm."""
    found: dict[str, list[dict[str, str]]] = {}
    for row in rows_of(study).values():
        found.setdefault(row["arm"], []).append(row)
    return found


def table(study: str) -> str:
    """Return a study as a table in Markdown: mean and spread over the seeds of each arm, against the law's forecast."""
    lines = ["| arm | N | tokens | FLOPs | loss | seeds | forecast |", "|---|---|---|---|---|---|---|"]
    for arm, runs in arms_of(study).items():
        losses = [float(row["loss"]) for row in runs]
        first = runs[0]
        lines.append(
            f"| {arm} | {int(first['params']):,} | {int(first['tokens']):,} | {float(first['flops']):.2e} | "
            f"{statistics.mean(losses):.3f} | {min(losses):.3f} to {max(losses):.3f} | {first['forecast'] or '-'} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in STUDIES:
        sys.exit(f"usage: python {sys.argv[0]} {'|'.join(STUDIES)}")
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    run(sys.argv[1])
