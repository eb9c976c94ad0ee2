"""A law, a model of 272 parameters, and data whose tokens the model itself counts as it is trained on them."""

from __future__ import annotations

import inspect
import json
import os
from dataclasses import dataclass, fields
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, IterableDataset

from scalestop import ComputeOptimalStopping
from scalestop.laws import ParametricLaw
from scalestop.laws.base import LawInfo

LAW = ParametricLaw(LawInfo("toy", "total", "made up"), E=1.0, A=50.0, B=200.0, alpha=0.5, beta=0.5)
"""Optimal at 16 tokens per parameter."""
WORDS, WIDTH, LENGTH = 16, 8, 16
N = 2 * WORDS * WIDTH + WORDS
"""Parameters of `Toy`."""
PER_BATCH = 4 * LENGTH
"""Tokens of a batch of four full rows."""
D_OPT = 16 * N
"""Tokens with which `Toy` is optimal."""
C_OPT = 6 * N * D_OPT
"""FLOPs for which `Toy` is optimal."""


@dataclass
class Recount:
    """What a model saw, counted by looking at every element."""

    tokens: int = 0
    non_padding: int = 0
    in_loss: int = 0
    samples: int = 0

    def add(self, batch) -> None:
        if isinstance(batch, dict) and "input_ids" not in batch:
            for part in batch.values():
                self.add(part)
            return
        if batch is None:
            return
        if isinstance(batch, dict):
            ids, mask, labels = batch["input_ids"], batch["attention_mask"], batch["labels"]
            for row in range(ids.shape[0]):
                self.non_padding += sum(int(x) for x in mask[row].tolist())
                self.in_loss += sum(1 for x in labels[row].tolist() if x != -100)
        else:
            ids = batch[0]
            self.non_padding += ids.numel()
            self.in_loss += ids.numel()
        self.samples += ids.shape[0]
        self.tokens += ids.shape[0] * ids.shape[1]

    def __add__(self, other: Recount) -> Recount:
        return Recount(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


def reference_stop(batches: list[Recount], ends: list[bool], limit: int) -> int:
    """Batches after which a rule that looks at every step stops, from what each batch really held.

    Args:
        batches: What each batch held, over all ranks.
        ends: Whether an optimizer step followed it.
        limit: Tokens that are no padding.
    """
    total = 0
    for i, (batch, real) in enumerate(zip(batches, ends, strict=True)):
        total += batch.non_padding
        if real and total >= limit:
            return i + 1
    return -1


def assert_counts(usage, recount: Recount, num_params: int = N) -> None:
    """The callback's counts are the recount's."""
    found = Recount(usage.tokens, usage.tokens_non_padding, usage.tokens_in_loss, usage.samples)
    assert found == recount
    assert usage.flops == 6 * num_params * recount.tokens


class Toy(pl.LightningModule):
    """Next-word model; counts what reaches its training step, and the updates its weights got."""

    def __init__(self, width: int = WIDTH, lr: float = 1e-2) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(WORDS, width), nn.Linear(width, WORDS)
        self.lr = lr
        self.batches: list[Recount] = []
        self.seen_in_validation = Recount()

    @property
    def seen(self) -> Recount:
        return sum(self.batches, Recount())

    def take_in(self, batch) -> None:
        self.batches.append(Recount())
        self.batches[-1].add(batch)

    def loss(self, batch):
        if isinstance(batch, dict) and "input_ids" not in batch:
            return sum(self.loss(part) for part in batch.values() if part is not None)
        ids, labels = (batch["input_ids"], batch["labels"]) if isinstance(batch, dict) else batch
        return functional.cross_entropy(self.head(self.embedding(ids)).flatten(0, 1), labels.flatten())

    def training_step(self, batch, batch_idx):
        self.take_in(batch)
        loss = self.loss(batch)
        self.log("train_loss", loss, batch_size=1)
        return loss

    def validation_step(self, batch, batch_idx):
        self.seen_in_validation.add(batch)
        self.log("val_loss", self.loss(batch), batch_size=1)

    def test_step(self, batch, batch_idx):
        self.log("test_loss", self.loss(batch), batch_size=1)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class ManualToy(Toy):
    """Two optimizers, stepped by hand every `every` batches."""

    def __init__(self, every: int = 1) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.every = every

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.manual_backward(loss)
        if (batch_idx + 1) % self.every == 0:
            for optimizer in self.optimizers():
                optimizer.step()
                optimizer.zero_grad()

    def configure_optimizers(self):
        return [torch.optim.SGD(part.parameters(), lr=self.lr) for part in (self.embedding, self.head)]


class Rows(Dataset):
    """Rows of words, of one length or of ragged ones; the same for the same seed."""

    def __init__(self, rows: int = 1000, ragged: bool = False, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        lengths = torch.randint(2, LENGTH + 1, (rows,), generator=generator).tolist() if ragged else [LENGTH] * rows
        self.rows = [torch.randint(0, WORDS, (length,), generator=generator) for length in lengths]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int):
        return self.rows[index]


def plain(rows):
    ids = torch.stack(rows)
    return ids, ids.roll(-1, 1)


def padded(rows):
    """Padding, and a first word without a loss in every row."""
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask = nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, 0] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


class Stream(IterableDataset):
    """Batches without a length."""

    def __init__(self, batches: int | None = None, ragged: bool = False) -> None:
        self.batches, self.ragged = batches, ragged

    def __iter__(self):
        rows, i = Rows(2048, self.ragged), 0
        while self.batches is None or i < self.batches:
            yield (padded if self.ragged else plain)([rows[(4 * i + j) % 2048] for j in range(4)])
            i += 1


class ResumableLoader(DataLoader):
    """Goes on where it was, so that a resumed run sees the batches that the unbroken one sees."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.at = 0

    def __iter__(self):
        start, self.at = self.at, 0
        for i, batch in enumerate(super().__iter__()):
            if i >= start:
                self.at = i + 1
                yield batch
        self.at = 0

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state) -> None:
        self.at = state["at"]


def loader(rows: int = 1000, batch_size: int = 4, ragged: bool = False, **options):
    """64 tokens a batch where rows are not ragged."""
    kind = options.pop("kind", DataLoader)
    return kind(Rows(rows, ragged), batch_size=batch_size, collate_fn=padded if ragged else plain, **options)


def environment(**more: str) -> dict[str, str]:
    """Environment for a subprocess that imports this package and these helpers, on one thread."""
    here = Path(__file__).parent
    path = os.pathsep.join([str(here.parent), str(here), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}


def strict_json(text: str):
    """Read JSON as other languages do: Python's own reader takes NaN and Infinity, which are none."""

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


# Lightning of before 2.6 has no such argument
SAFE = {"weights_only": True} if "weights_only" in inspect.signature(pl.Trainer.fit).parameters else {}


def stopping(budget=1.05 * C_OPT, **options) -> ComputeOptimalStopping:
    return ComputeOptimalStopping(budget, options.pop("law", LAW), **options)


def train(
    callbacks, folder, module=None, data=None, validation=None, ckpt_path=None, trainer_class=pl.Trainer, **options
):
    """Fit and return the Trainer; its module is `trainer.lightning_module`, or `trainer.toy`."""
    callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
    defaults = {
        "max_epochs": -1,
        "accelerator": "cpu",
        "default_root_dir": folder,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "logger": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 10,
    }
    trainer = trainer_class(callbacks=callbacks, **{**defaults, **options})
    trainer.toy = module if module is not None else Toy()
    trainer.fit(trainer.toy, data if data is not None else loader(), validation, ckpt_path=ckpt_path, **SAFE)
    return trainer
