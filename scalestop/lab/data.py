"""Batches out of a corpus: an exactly resumable stream for training, a fixed set for validation.

The whole corpus is one `uint8` tensor in memory and a batch is one gather from it, so there are no worker processes and
data costs a training step next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from scalestop.errors import InputError
from scalestop.lab.corpus import Corpus, load_corpus, provenance_of
from scalestop.lightning.namespace import namespace

pl: Any = namespace()

_BATCH_SIZE = 16

Batch = dict[str, Tensor]
"""`input_ids` and `labels`, both `int64 [batch_size, context]`; `labels[b, t]` is the byte after `input_ids[b, t]`."""


def batch_size_for(num_tokens: float, context: int = 128) -> int:
    """Windows in a batch for a `TinyGPT` that trains on so many tokens.

    It grows as D^0.6, from 1 window of 128 bytes at 1e5 tokens to 7 at 3.7e6, which gives runs of 1,000 to 6,000 steps.
    Measured on the standard library: at 3.7e6 tokens (45k parameters) batches of 4, 7, 10 and 14 windows end at 1.469,
    1.459, 1.462 and 1.485 nats; at 1.1e6 tokens 3, 6 and 12 windows end at 1.629, 1.638 and 1.683.

    Args:
        num_tokens: Tokens of the whole run.
        context: Tokens in a window.

    Raises:
        InputError: If a window holds none.
    """
    if context < 1:
        raise InputError(f"context is {context}; it must be at least 1")
    return max(1, round(7 * (num_tokens / 3.7e6) ** 0.6 * 128 / context))


class TrainStream:
    """An endless stream of training batches in which batch number k depends on the seed and k alone.

    The text is cut into windows of `context` bytes (each with the one byte that follows it as last label). One pass
    takes every window once, in an order drawn from the seed and the number of the pass; the cuts too are moved, by an
    offset drawn in the same way, so that a second pass does not see the very same windows. Windows that do not fill
    the last batch of a pass are dropped, so that every batch has the same shape.

    `iter()` hands out the next `len(self)` batches from where the stream stands. The state is a single number, which
    Lightning stores in each checkpoint, so a run resumed in the middle of an epoch sees what the unbroken run saw.
    With several ranks, rank r takes every `world_size`-th batch of the same stream; the state holds the global number
    and survives a change of world size.

    Args:
        text: Bytes to cut, `uint8 [num_bytes]`.
        context: Tokens in a window.
        batch_size: Windows in a batch, per rank.
        seed: Seed of order and offsets.
        rank: This process, counted from 0.
        world_size: Number of processes.

    Raises:
        InputError: If the text does not fill one batch for each rank.
    """

    def __init__(
        self, text: Tensor, context: int, batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        self.context, self.batch_size, self.seed = context, batch_size, seed
        self.rank, self.world_size = rank, world_size
        # A window takes context + 1 bytes and may be moved by up to context - 1.
        num_windows = (len(text) - context) // context
        self._batches_in_pass = num_windows // batch_size  # over all ranks
        if self._batches_in_pass < world_size:
            raise InputError(
                f"batch_size {batch_size} x context {context} on {world_size} process(es): the training text has "
                f"{len(text)} bytes, at least {(batch_size * world_size + 1) * context} are needed; "
                "take more text or smaller batches"
            )
        # Row i of this view is text[i : i + context + 1]; indexing its rows gathers a batch in one call.
        self._windows = text.unfold(0, context + 1, 1)
        self._num_windows = num_windows
        self._next = 0  # batches that this rank has handed out
        self._pass_number = -1
        self._starts = torch.empty(0, dtype=torch.int64)

    def __len__(self) -> int:
        """Batches in one pass over the text, per rank."""
        return self._batches_in_pass // self.world_size

    def __iter__(self) -> Iterator[Batch]:
        for _ in range(len(self)):
            batch = self.batch(self._next)
            self._next += 1
            yield batch

    def batch(self, number: int) -> Batch:
        """The batch of this number on this rank, counted from 0 and never ending."""
        pass_number, index = divmod(number * self.world_size + self.rank, self._batches_in_pass)
        if pass_number != self._pass_number:
            self._start_pass(pass_number)
        starts = self._starts[index * self.batch_size : (index + 1) * self.batch_size]
        return _as_batch(self._windows[starts])

    def _start_pass(self, number: int) -> None:
        # Seed and pass fill separate bits, so no pass of one seed repeats a pass of another.
        generator = torch.Generator().manual_seed((self.seed << 24) + number)
        offset = torch.randint(self.context, (1,), generator=generator)
        self._starts = torch.randperm(self._num_windows, generator=generator) * self.context + offset
        self._pass_number = number

    def state_dict(self) -> dict[str, Any]:
        """How far the stream is: batches handed out over all ranks, with what fixes their order."""
        return {"batches": self._next * self.world_size, **self._order()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another stream over the same text stood.

        Raises:
            InputError: If that stream had another order, so that going on would repeat some text and skip other.
        """
        for name, value in self._order().items():
            if state[name] != value:
                raise InputError(
                    f"{name}: the checkpoint's data stream has {state[name]}, this one {value}; resume with the same "
                    "text and data settings, or start a new run"
                )
        self._next = state["batches"] // self.world_size

    def _order(self) -> dict[str, int]:
        order = {"seed": self.seed, "context": self.context, "batch_size": self.batch_size}
        return {**order, "num_windows": self._num_windows}


class FixedWindows:
    """The same validation batches every time: windows evenly spread over the held-out text, none overlapping.

    Args:
        text: Held-out bytes, `uint8 [num_bytes]`.
        context: Tokens in a window.
        batch_size: Windows in a batch; the last batch may have fewer.
        num_tokens: Tokens wanted. Fewer are used where the text is shorter; never less than one window.
        rank: This process, counted from 0; each takes every `world_size`-th window.
        world_size: Number of processes.

    Raises:
        InputError: If the text does not fill one window for each rank.
    """

    def __init__(
        self, text: Tensor, context: int, batch_size: int, num_tokens: int, rank: int = 0, world_size: int = 1
    ) -> None:
        available = (len(text) - 1) // context
        if available < world_size:
            raise InputError(
                f"context {context}: the held-out text has {len(text)} bytes, at least {context * world_size + 1} are "
                "needed; take more text or a shorter context"
            )
        wanted = min(available, max(world_size, num_tokens // context))
        starts = torch.arange(wanted) * available // wanted * context
        self.num_tokens = wanted * context
        self._batches = [
            _as_batch(rows) for rows in text.unfold(0, context + 1, 1)[starts[rank::world_size]].split(batch_size)
        ]

    def __len__(self) -> int:
        """Batches on this rank."""
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._batches)


class TextData(pl.LightningDataModule):
    """Bytes of text as `input_ids` and `labels`, for any Lightning module that predicts the next token.

    A batch is a dict of two `int64 [batch_size, context]` tensors. Labels are already shifted: `labels[b, t]` is the
    byte after `input_ids[b, t]`, so a batch trains on exactly `batch_size * context` tokens and that is what its
    shape says. All of them count in the loss.

    Args:
        path: Text file or folder of your own; None takes the sources of Python's standard library.
        context: Tokens (bytes) in a window.
        batch_size: Windows in a training batch, on each process; 16 if None.
        val_tokens: Tokens of held-out text to validate on, the same in every run (fewer if the text is shorter). With
            the default of 262,144 the difference of two runs' losses has a standard error of about 0.003 nats.
        val_batch_size: Windows in a validation batch.
        seed: Seed of the order of the training windows.

    Raises:
        InputError: If a number is not positive, or the text does not exist or is too short.
    """

    def __init__(
        self,
        path: str | None = None,
        context: int = 128,
        batch_size: int | None = None,
        val_tokens: int = 2**18,
        val_batch_size: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__()
        # into checkpoints, for a run that is resumed; not to loggers, where they would have to agree with the model's
        self.save_hyperparameters(logger=False)
        batch_size = _BATCH_SIZE if batch_size is None else batch_size
        sizes = {"context": context, "batch_size": batch_size, "val_tokens": val_tokens}
        for name, value in {**sizes, "val_batch_size": val_batch_size}.items():
            if value < 1:
                raise InputError(f"{name} is {value}; it must be at least 1")
        if not 0 <= seed < 2**32:
            raise InputError(f"seed is {seed}; it must be between 0 and 2**32 - 1")
        self.path, self.context, self.batch_size = path, context, batch_size
        self.val_tokens, self.val_batch_size, self.seed = val_tokens, val_batch_size, seed

    @property
    def corpus(self) -> Corpus:
        """The text, read on first use."""
        if not hasattr(self, "_corpus"):
            self._corpus = load_corpus(self.path)
        return self._corpus

    @property
    def tokens_per_batch(self) -> int:
        """Tokens in one training batch of one process."""
        return self.batch_size * self.context

    @property
    def provenance(self) -> dict[str, str | int]:
        """What the run is trained on, as fields of a `Provenance`; a plan says where its law's runs had other text."""
        return {**provenance_of(self.corpus.describe()), "context": self.context}

    def train_dataloader(self) -> TrainStream:
        """A stream from its beginning; Lightning moves it to the right place when it resumes."""
        return TrainStream(self.corpus.train, self.context, self.batch_size, self.seed, *self._rank_and_world_size())

    def val_dataloader(self) -> FixedWindows:
        """The fixed validation batches."""
        return FixedWindows(
            self.corpus.val, self.context, self.val_batch_size, self.val_tokens, *self._rank_and_world_size()
        )

    def _rank_and_world_size(self) -> tuple[int, int]:
        # Lightning shards only what it knows, torch's DataLoader; these streams shard themselves.
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)


def _as_batch(rows: Tensor) -> Batch:
    rows = rows.long()
    return {"input_ids": rows[:, :-1].contiguous(), "labels": rows[:, 1:].contiguous()}
