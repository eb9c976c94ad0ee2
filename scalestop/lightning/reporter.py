"""What a run says and keeps: lines on the terminal, metrics, checkpoints, its record. None of it may end the run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities.rank_zero import rank_zero_only

from scalestop.errors import ScalestopWarning
from scalestop.lightning import trainer as _trainer
from scalestop.run.records import RunRecord, record_path


class Reporter:
    """Speaks and writes for one callback, from rank zero.

    Args:
        name: The callback's name, where there are several.
        verbose: Whether to print.
        save_checkpoint: Whether to save checkpoints; None saves unless the Trainer has checkpointing disabled.
        write_record: Whether to write the record.
    """

    def __init__(self, name: str | None, verbose: bool, save_checkpoint: bool | None, write_record: bool) -> None:
        self.name = name
        self.record_path: Path | None = None
        """Where the record was written."""
        self.checkpoint_path: Path | None = None
        """Where the last checkpoint was saved."""
        self._verbose, self._save_checkpoint, self._write_record = verbose, save_checkpoint, write_record
        self._folder = Path()

    def begin(self, trainer: Any) -> None:
        """Find the run's folder; every rank must call it."""
        self._folder = _trainer.log_directory(trainer)

    @rank_zero_only
    def say(self, text: str) -> None:
        """Print; further lines are indented."""
        if self._verbose:
            label = f"scalestop[{self.name}]" if self.name else "scalestop"
            print(f"{label}: {text}".replace("\n", "\n  "), flush=True)

    @rank_zero_only
    def warn(self, text: str) -> None:
        """Warn, with a `ScalestopWarning`."""
        warnings.warn(f"scalestop: {text}", ScalestopWarning, stacklevel=4)

    def log(self, trainer: Any, callback: Any, values: Mapping[str, float]) -> None:
        """Log under `scalestop/` through the Trainer's loggers, and show the budget in the progress bar."""
        prefix = f"scalestop/{self.name}/" if self.name else "scalestop/"
        metrics = {prefix + key: float(value) for key, value in values.items()}
        try:
            for logger in trainer.loggers:
                logger.log_metrics(metrics, step=_trainer.logging_step(trainer))
            options: dict[str, Any] = {"logger": False, "on_step": True, "on_epoch": False, "batch_size": 1}
            callback.log_dict(metrics, **options)
            if "budget_used" in values:
                bar = f"budget_{self.name}" if self.name else "budget"
                callback.log(bar, float(values["budget_used"]), prog_bar=True, **options)
        except Exception as error:  # a logger is somebody else's code
            self.warn(f"metrics could not be logged: {error}")

    def checkpoint(self, trainer: Any, what: str) -> None:
        """Save a checkpoint; every rank must call it.

        Args:
            trainer: The Trainer.
            what: Word in the file's name.
        """
        wanted = self._save_checkpoint
        if wanted is None:
            wanted = trainer.checkpoint_callback is not None
        if not wanted:
            return
        stem = f"scalestop-{self.name}-{what}" if self.name else f"scalestop-{what}"
        path = self._folder / "checkpoints" / f"{stem}-step={trainer.global_step}.ckpt"
        try:
            trainer.save_checkpoint(path)
            self.checkpoint_path = path
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            self.warn(f"the checkpoint {path} could not be written: {error}")

    @rank_zero_only
    def record(self, record: RunRecord) -> None:
        """Write the run's record into its folder."""
        if not self._write_record:
            return
        try:
            self.record_path = record.save(record_path(self._folder, record.run, self.name))
        except OSError as error:
            self.warn(f"the record could not be written to {self._folder}: {error}")


def seen(metrics: Mapping[str, Any], names: Sequence[str]) -> tuple[float | None, str | None]:
    """Return the first of the named metrics that was logged, and its name."""
    for name in names:
        if name in metrics:
            return float(metrics[name]), name
    return None, None
