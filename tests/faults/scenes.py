"""Set-ups, moments, and one run of a toy through a fault, held against the run that nothing happened to."""

from __future__ import annotations

import functools
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from toys import ManualToy, Recount, ResumableLoader, Toy, loader, stopping, train

from scalestop.errors import ScalestopWarning
from scalestop.run.records import RunRecord

PER_EPOCH = 10
"""Batches an epoch."""


@dataclass(frozen=True)
class Setup:
    """A way to train."""

    module: Callable[[], Toy] = Toy
    every: int = 1
    """Batches a step."""
    tokens: int = 900
    """Budget, tokens that are no padding."""
    ragged: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    validates: bool = False
    logs: bool = False

    def fit(self, callbacks, folder, module=None, logger=None, ckpt_path=None):
        data = loader(4 * PER_EPOCH, ragged=self.ragged, kind=ResumableLoader)
        validation = loader(8, ragged=self.ragged) if self.validates else None
        logger = logger or (CSVLogger(folder / "logs", version=0) if self.logs else False)
        options = {"log_every_n_steps": 3, **self.options}
        return train(callbacks, folder, module or self.module(), data, validation, ckpt_path, logger=logger, **options)

    def steps(self, batches: int) -> int:
        """Optimizer steps in so many batches; an epoch's last window may be short, by hand it may not."""
        if self.module is not Toy:
            return sum((i % PER_EPOCH + 1) % self.every == 0 for i in range(batches))
        ends = ((i % PER_EPOCH + 1) % self.every == 0 or i % PER_EPOCH == PER_EPOCH - 1 for i in range(batches))
        return sum(ends)


SETUPS = {
    "plain": Setup(),
    "ragged": Setup(ragged=True, tokens=700),
    "accumulate": Setup(every=3, tokens=1700, options={"accumulate_grad_batches": 3}),
    "manual": Setup(ManualToy),
    "manual windows": Setup(functools.partial(ManualToy, 2), every=2, tokens=1500),
    "validation": Setup(validates=True, options={"val_check_interval": 5}),
    "logger": Setup(logs=True),
}


def counts(usage) -> dict[str, int]:
    return {name: value for name, value in asdict(usage).items() if "seconds" not in name}


def own(setup: Setup, **options):
    return stopping(f"{setup.tokens} tokens", **{"oversized": "ignore", **options})


def keeper(folder: Path) -> ModelCheckpoint:
    """The user's own checkpoints, every four steps."""
    return ModelCheckpoint(folder / "kept", every_n_train_steps=4, save_top_k=-1, filename="{step}")


@functools.lru_cache
def unbroken(name: str):
    """Counts, decision and batches of the run that nothing happens to, and the record's loss."""
    setup = SETUPS[name]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        callback = own(setup, verbose=False)
        toy = setup.fit([callback, keeper(Path(folder))], Path(folder)).toy
        return counts(callback.usage), callback.decision, tuple(toy.batches), RunRecord.load(callback.record_path).loss


MOMENTS = {
    # moment: hook, and the batch of the run it falls on
    "plan": ("on_train_start", None),
    "first step": ("on_train_batch_start", 0),
    "in a window": ("on_train_batch_start", 4),
    "backward": ("on_after_backward", 7),
    "step": ("on_train_batch_end", 8),
    "epoch end": ("on_train_epoch_end", None),
    "validation": ("on_validation_batch_start", None),
    "validation end": ("on_validation_end", None),
    "stop": ("on_train_batch_end", "stop"),
    "train end": ("on_train_end", None),
    "fit end": ("on_fit_end", None),
}
VALIDATES = ("validation", "validation end")


class At(Callback):
    """Does something once, at a moment."""

    def __init__(self, moment: str, action: Callable[[], None], callback=None) -> None:
        hook, self._batch = MOMENTS[moment]
        self._action, self._callback, self.done, self.batch = action, callback, False, -1
        hooks = {"on_train_batch_start": self._count}
        hooks[hook] = self._act if hook != "on_train_batch_start" else self._count_and_act
        for name, function in hooks.items():
            setattr(self, name, function)

    def _count(self, *args) -> None:
        self.batch += 1

    def _count_and_act(self, *args) -> None:
        self._count()
        self._act()

    def _act(self, *args) -> None:
        if self._batch == "stop":
            here = self._callback.decision.stop
        else:
            here = self._batch is None or self.batch == self._batch
        if here and not self.done:
            self.done = True
            self._action()


@dataclass
class Outcome:
    """What a run through a fault left."""

    callback: Any
    toy: Toy
    trainer: Any
    error: BaseException | None
    warned: list[str]


def go(setup: Setup, folder: Path, callback, before=(), after=(), module=None, **options) -> Outcome:
    """Train; what ends the run and what scalestop warns of are part of the outcome."""
    torch.manual_seed(0)
    toy, error, trainer = module or setup.module(), None, None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", ScalestopWarning)
        try:
            trainer = setup.fit([*before, callback, *after, keeper(folder)], folder, toy, **options)
        except BaseException as raised:
            error = raised
    told = [str(w.message).removeprefix("scalestop: ") for w in caught if issubclass(w.category, ScalestopWarning)]
    return Outcome(callback, toy, trainer, error, told)


def last_kept(folder: Path) -> Path | None:
    """The newest of the user's own checkpoints."""
    found = sorted((folder / "kept").glob("step=*.ckpt"), key=lambda path: int(path.stem.partition("=")[2]))
    return found[-1] if found else None


def assert_taken_up(name: str, folder: Path, path: Path | None, validation: bool = True) -> None:
    """From a checkpoint, or from nothing, the run ends where the unbroken one does, to the last count.

    Args:
        name: The set-up.
        folder: Where the run was.
        path: The checkpoint.
        validation: Whether the counts of validation are held against each other too.
    """
    setup = SETUPS[name]
    whole, decision, batches, _ = unbroken(name)
    again = go(setup, folder, own(setup, verbose=False), ckpt_path=path)
    assert again.error is None and again.warned == []
    found = counts(again.callback.usage)
    apart = {name for name in whole if found[name] != whole[name]}
    assert apart <= (set() if validation else {"validation_tokens", "validation_flops"})
    assert again.callback.decision == decision
    assert tuple(again.toy.batches) == batches[len(batches) - len(again.toy.batches) :]


def assert_as_unbroken(name: str, outcome: Outcome, record: bool = True) -> None:
    """The run ended as the one that nothing happened to."""
    whole, decision, batches, loss = unbroken(name)
    assert outcome.error is None
    assert counts(outcome.callback.usage) == whole and outcome.callback.decision == decision
    assert tuple(outcome.toy.batches) == batches
    if record:
        kept = RunRecord.load(outcome.callback.record_path)
        assert (kept.num_tokens, kept.loss, kept.exact) == (whole["tokens_non_padding"], loss, True)


def assert_record_of(outcome: Outcome, setup: Setup, batches: int, why: str) -> None:
    """The record of a run that was broken off holds exactly these batches, and the steps among them."""
    seen = sum(outcome.toy.batches[:batches], Recount())
    record = RunRecord.load(outcome.callback.record_path)
    used = record.usage
    assert Recount(used["tokens"], used["tokens_non_padding"], used["tokens_in_loss"], used["samples"]) == seen
    assert (record.num_tokens, record.flops) == (seen.non_padding, 6 * record.num_params * seen.tokens)
    assert used["optimizer_steps"] == setup.steps(batches)
    assert record.exact is True and record.stop_reason == "NOT_STOPPED"
    assert record.message == f"the run was ended by {why}"
