"""What the callback adds to a training step, beside Lightning's own callbacks.

    python tests/benchmarks/bench_callback_overhead.py [--steps 400] [--rounds 15]

Real `Trainer.fit` loops of a model of 272 parameters on the CPU, logging off. Every round runs each variant once, in an
order of its own, and takes the CPU time between two batch ends, of the fast steps; what is printed is the median over
rounds of the difference to the same round's run of the same batches without any callback. Other load on the machine
hits all variants of a round alike. Batches of bare ids are counted by their shape; of labels and masks, the elements
are counted.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import random
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ThroughputMonitor, Timer
from pytorch_lightning.loggers import CSVLogger
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).parents[1]))
import toys

WARMUP = 300
"""Steps before any counts: of the first 256 batches each leaves a fingerprint, some 5 us, then every 16th."""


class Stopwatch(toys.Toy):
    """Notes the end of each batch; logs its loss only where a callback wants it."""

    def __init__(self, logs: bool) -> None:
        super().__init__()
        self.logs, self.ends = logs, []

    def training_step(self, batch, batch_idx):
        loss = self.loss((batch, batch) if isinstance(batch, torch.Tensor) else batch)
        if self.logs:
            self.log("train_loss", loss, batch_size=4)
        return loss

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.ends.append(time.thread_time())


def ours() -> list:
    return [toys.stopping("1e12 tokens", oversized="ignore", record=False, verbose=False)]


def variants() -> dict[str, tuple[list, str, str]]:
    """By name: the callbacks, the kind of batch, and the variant it is held against."""
    throughput = ThroughputMonitor(batch_size_fn=lambda batch: 4, length_fn=lambda batch: 16)
    return {
        "no callback": ([], "ids", "no callback"),
        "a callback that does nothing": ([pl.Callback()], "ids", "no callback"),
        "scalestop": (ours(), "ids", "no callback"),
        "Timer": ([Timer("01:00:00:00")], "ids", "no callback"),
        "ThroughputMonitor": ([throughput], "ids", "no callback"),
        "no callback, logged loss": ([], "logged", "no callback, logged loss"),
        "EarlyStopping on it": ([EarlyStopping("train_loss", patience=10**6)], "logged", "no callback, logged loss"),
        "no callback, labels": ([], "labels", "no callback, labels"),
        "scalestop, labels": (ours(), "labels", "no callback, labels"),
        "no callback, masks": ([], "masks", "no callback, masks"),
        "scalestop, masks and labels": (ours(), "masks", "no callback, masks"),
    }


def step_seconds(callbacks: list, kind: str, steps: int, folder: str) -> float:
    """CPU time of a step in one fit, that of the second tenth: what else the machine does can only add to it."""
    rows = toys.Rows(64, ragged=kind == "masks")
    collate = {"labels": toys.plain, "masks": toys.padded}.get(kind, torch.stack)
    batches = [collate([rows[4 * i + j] for j in range(4)]) for i in range(16)] * (1 + (steps + WARMUP) // 16)
    module = Stopwatch(kind == "logged")
    trainer = pl.Trainer(
        callbacks=callbacks,
        max_steps=steps + WARMUP,
        accelerator="cpu",
        default_root_dir=folder,
        logger=CSVLogger(folder) if any(isinstance(c, ThroughputMonitor) for c in callbacks) else False,
        log_every_n_steps=10**6,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(module, DataLoader(batches, batch_size=None))
    ends = module.ends[WARMUP:]
    return statistics.quantiles((b - a for a, b in itertools.pairwise(ends)), n=10)[1]


def measure(
    steps: int, rounds: int, seed: int = 0, only: list[str] | None = None
) -> dict[str, tuple[float, float, float]]:
    """Return each variant's step time, what it adds to its base (both in us), and their ratio; medians over rounds."""
    torch.set_num_threads(1)
    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    rng = random.Random(seed)
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(rounds):
            made = {name: variant for name, variant in variants().items() if only is None or name in only}
            for name in rng.sample(sorted(made), len(made)):
                times.setdefault(name, []).append(step_seconds(*made[name][:2], steps, folder))
    found = {}
    for name, (*_, base) in variants().items():
        if name not in times:
            continue
        pairs = list(zip(times[name], times[base], strict=True))
        added = statistics.median(own - without for own, without in pairs)
        ratio = statistics.median(own / without for own, without in pairs)
        found[name] = (1e6 * statistics.median(times[name]), 1e6 * added, ratio)
    return found


@pytest.mark.benchmark
def test_over_a_callback_that_does_nothing_it_adds_no_more_than_a_timer():
    found = measure(300, 25, only=["no callback", "a callback that does nothing", "scalestop", "Timer"])
    nothing = found["a callback that does nothing"][1]
    assert found["scalestop"][1] - nothing <= found["Timer"][1] - nothing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", nargs="+", help="variants to run, with what they are held against")
    arguments = parser.parse_args()
    print(f"{'':<30}{'us/step':>10}{'added us':>10}{'ratio':>8}")
    for name, (step, added, ratio) in measure(arguments.steps, arguments.rounds, only=arguments.only).items():
        print(f"{name:<30}{step:>10.1f}{added:>10.1f}{ratio:>8.3f}")


if __name__ == "__main__":
    main()
