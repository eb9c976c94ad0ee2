"""Lightning callbacks of a rung: one ends it when its loss runs away, one lets it go on after a kill."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback, Checkpoint

from scalestop.errors import InputError
from scalestop.files import write_whole
from scalestop.ladder.points import why_unreadable
from scalestop.lightning.callback import StoppingCallback

_LOOK_EVERY = 10  # batches; to read a loss from a GPU at each one would make it wait


class DivergenceGuard(Callback):
    """Ends a run whose training loss is no number, or has risen to a multiple of its lowest.

    The loss is smoothed over a fiftieth of the run, or over 20 steps where that is more: a batch of a few sequences
    scatters by much more than a run does.

    Args:
        spike: The smoothed loss over its lowest value at which a run has diverged.
        steps: Optimizer steps of the run.
    """

    def __init__(self, spike: float, steps: int) -> None:
        self.spike, self.window = spike, max(20, steps // 50)
        self.diverged: str | None = None
        """How the run diverged; None if it did not."""
        self._smoothed: torch.Tensor | None = None
        self._lowest = math.inf
        self._batches = 0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Take in the batch's loss, and look at it from time to time."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if loss is None:
            loss = trainer.callback_metrics.get("train_loss")
        if loss is None:
            return
        loss = torch.as_tensor(loss).detach().float().mean()
        if self._smoothed is None:
            self._smoothed = loss.clone()
        self._smoothed = self._smoothed.to(loss.device) + (loss - self._smoothed.to(loss.device)) / self.window
        self._batches += 1
        if self._batches % _LOOK_EVERY == 0:
            self._look(trainer)

    def _look(self, trainer: Any) -> None:
        # every rank looks at the mean over all of them, so that all come to the same end
        smoothed = float(trainer.strategy.reduce(self._smoothed, reduce_op="mean"))
        if not math.isfinite(smoothed):
            self._end(trainer, f"its training loss was {smoothed} by step {trainer.global_step:,}")
        elif self._batches >= self.window:
            self._lowest = min(self._lowest, smoothed)
            if smoothed > self.spike * self._lowest:
                self._end(
                    trainer,
                    f"its smoothed training loss rose from {self._lowest:.3f} to {smoothed:.3f} by step "
                    f"{trainer.global_step:,}, over {self.spike:g} times its lowest",
                )

    def _end(self, trainer: Any, how: str) -> None:
        self.diverged = how
        trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """Return the smoothed loss and its lowest value."""
        smoothed = None if self._smoothed is None else float(self._smoothed)
        return {"smoothed": smoothed, "lowest": self._lowest, "batches": self._batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        smoothed = state_dict["smoothed"]
        self._smoothed = None if smoothed is None else torch.tensor(smoothed)
        self._lowest, self._batches = state_dict["lowest"], state_dict["batches"]


class ResumePoints(Checkpoint):
    """Saves what a killed run needs to go on, and a trunk's points: plain data and tensors alone.

    A file has its name only once it is whole and has been seen to load without running code.

    Args:
        folder: Where to save; the last point alone is kept.
        every_seconds: Seconds between two of them.
        stopping: The run's own, for its counts.
        points: Tokens at which a trunk keeps a checkpoint for good.
        points_folder: Where those go.
        clock: Seconds from an arbitrary start; for tests.
    """

    def __init__(
        self,
        folder: Path,
        every_seconds: float,
        stopping: StoppingCallback,
        points: tuple[int, ...] = (),
        points_folder: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder, self.every_seconds, self.stopping = folder, every_seconds, stopping
        self.points, self.points_folder, self.clock = points, points_folder, clock
        self._saved_at = self._told_at = clock()
        self._step = -1

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save where it is time, after a real optimizer step only: gradients are in no checkpoint."""
        step = trainer.global_step
        if step == self._step:
            return
        self._step = step
        tokens = self.stopping.usage.tokens_non_padding
        if tokens in self.points and self.points_folder is not None:
            why = self._save(trainer, self.points_folder / f"tokens={tokens}.ckpt")
            if why is not None:
                raise InputError(
                    f"trunk: branches cannot leave from a checkpoint that holds more than plain data and tensors: "
                    f"{why}. Keep classes out of the state of model, data and callbacks, or leave trunk out"
                )
        now = self.clock()
        if trainer.is_global_zero and now - self._told_at >= 1:
            self._told_at = now
            with contextlib.suppress(OSError):  # for people; a full disk is told where it costs something
                write_whole(self.folder / "progress", f"{tokens}\n")
        # after the last step there is only validation left: a run resumed there would have none
        if not self.stopping.decision.stop and self._is_due(trainer, now):
            self._saved_at = now
            path = self.folder / f"step={step}.ckpt"
            why = self._save(trainer, path)
            if why is not None:
                self.every_seconds = math.inf
                print(
                    f"scalestop: {self.folder.name} begins anew if it is killed, as its checkpoint holds more than "
                    f"plain data and tensors: {why}",
                    file=sys.stderr,
                    flush=True,
                )
            elif trainer.is_global_zero:
                for other in self.folder.glob("step=*.ckpt"):
                    if other != path:
                        _remove(other)

    def _is_due(self, trainer: Any, now: float) -> bool:
        due = now - self._saved_at >= self.every_seconds
        if trainer.world_size == 1:
            return due
        # ranks' clocks differ, and a save waits for all of them
        return self._step % _LOOK_EVERY == 0 and bool(trainer.strategy.broadcast(due))

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Leave hyperparameters out: they may be of any class, and the ladder builds model and data by itself."""
        for name in [name for name in checkpoint if "hyper_parameters" in name or name.startswith("hparams_")]:
            del checkpoint[name]

    def _save(self, trainer: Any, path: Path) -> str | None:
        """Save; return why the file would not load, in which case there is none."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        why = None
        try:
            trainer.save_checkpoint(part)
            if trainer.is_global_zero and (why := why_unreadable(part)) is None:
                if path.is_dir():  # a sharded checkpoint of an earlier life
                    shutil.rmtree(path)
                os.replace(part, path)
        finally:
            if trainer.is_global_zero:
                _remove(part)  # of a full disk, the half that fitted
        return trainer.strategy.broadcast(why)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
