"""Training one rung: an ordinary Lightning fit under `ComputeOptimalStopping`."""

from __future__ import annotations

import errno
import logging
import math
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from scalestop.errors import InputError, ScalestopWarning
from scalestop.ladder.apart import end_with_parent
from scalestop.ladder.build import build_data, build_model
from scalestop.ladder.points import latest_point, only_data, why_unreadable
from scalestop.ladder.rung import Rung
from scalestop.ladder.settings import LadderSettings
from scalestop.ladder.store import DIVERGED, Ladder
from scalestop.ladder.watchers import DivergenceGuard, ResumePoints
from scalestop.lightning import ComputeOptimalStopping, decay_to
from scalestop.lightning.callback import StoppingCallback
from scalestop.planning.budget import Budget
from scalestop.run.records import RunRecord

_PROBE_STEPS = 8


def train_apart(ladder: Ladder, rung: Rung) -> None:
    """Train a rung in a process of its own, which Lightning can start again for each of the other devices.

    Args:
        ladder: The ladder.
        rung: One of its runs; nobody else may be at it.

    Raises:
        RuntimeError: If the process failed.
    """
    command = [sys.executable, "-m", "scalestop.ladder.run", str(ladder.folder.resolve()), rung.name]
    # it ends when this process does, by the end of the pipe
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = process.stderr.read()
    if process.returncode != 0:
        raise RuntimeError(f"its process ended with code {process.returncode}: {said[-4000:]}")


def train_rung(ladder: Ladder, rung: Rung) -> RunRecord | None:
    """Train a rung to its end, from its last checkpoint if it has one, and keep its record.

    Args:
        ladder: The ladder.
        rung: One of its runs; nobody else may be at it.

    Returns:
        The record; None on all ranks but the first.

    Raises:
        InputError: If model or data cannot be built, or log no loss.
    """
    settings, work = ladder.settings, ladder.work(rung)
    if rung.kind == "branch" and not ladder.start_point(rung).exists():
        return _end(ladder, rung, _never_begun(settings, rung, f"its trunk {rung.trunk} diverged before it"))
    work.mkdir(parents=True, exist_ok=True)
    with _quiet():
        pl.seed_everything(rung.seed, verbose=False)
        model, data = build_model(settings, rung.model_args), build_data(settings, rung.data_args)
        corpus = getattr(data, "corpus", None)
        if corpus is not None and hasattr(corpus, "describe"):
            ladder.keep_text(corpus.describe())
        checkpoint = latest_point(work) or (_start_point(ladder, rung) if rung.kind == "branch" else None)
        stopping = _stopping(ladder, rung, checkpoint)
        guard = DivergenceGuard(settings.spike, rung.steps)
        saver = ResumePoints(
            work, settings.checkpoint_seconds, stopping, rung.points, ladder.points(rung.name) if rung.points else None
        )
        trainer = pl.Trainer(
            **_trainer_options(settings), default_root_dir=work, callbacks=[stopping, guard, saver], max_epochs=-1
        )
        trainer.fit(model, datamodule=data, **only_data(trainer, checkpoint))
    if not trainer.is_global_zero:
        return None
    if stopping.record_path is None:
        raise OSError(errno.EIO, "the run's record could not be written", str(work))
    record = RunRecord.load(stopping.record_path)
    unique = None if corpus is None else len(corpus.train)
    record = replace(record, run=rung.name, unique_tokens=record.unique_tokens or unique)
    how = guard.diverged
    if how is None and record.loss is None:
        raise InputError(
            f"model: {settings.model['class_path']} logged none of val_loss, train_loss and loss, so {rung.name} has "
            f"no loss to record; log one in validation_step, nats per token"
        )
    if how is None and record.loss is not None and not (math.isfinite(record.loss) and record.loss > 0):
        how = f"its final {record.loss_name} was {record.loss}"
    if how is None and record.num_tokens < rung.num_tokens:
        raise InputError(
            f"data: {rung.name} ended at {record.num_tokens:,} of {rung.num_tokens:,} tokens, with {record.message}; "
            f"see that the trainer's own limits do not end it and that a sample has {settings.context} tokens"
        )
    if how is not None:
        record = replace(record, stop_reason=DIVERGED, message=f"diverged: {how}", loss=None)
    return _end(ladder, rung, record)


def _end(ladder: Ladder, rung: Rung, record: RunRecord) -> RunRecord:
    ladder.finish(rung, record)
    return record


def _start_point(ladder: Ladder, rung: Rung) -> Path:
    path = ladder.start_point(rung)
    if (why := why_unreadable(path)) is not None:
        raise InputError(
            f"out: {path} cannot be loaded as plain data: {why}. Delete it and {ladder.folder / 'trunks'}/{rung.trunk}"
            f".json, and the trunk is trained again"
        )
    return path


def _stopping(ladder: Ladder, rung: Rung, start: Path | None) -> StoppingCallback:
    """Return the callback that ends a rung at its own tokens and nowhere else."""
    law = ladder.settings.prior
    if rung.kind == "branch":
        assert start is not None
        return decay_to(start, rung.num_tokens, law=law, save_checkpoint=False, verbose=False)
    return ComputeOptimalStopping(
        Budget(tokens=rung.num_tokens),
        law,
        tolerance=0.0,  # no size is the optimal one, so that nothing but the tokens ends it
        oversized="ignore",
        save_checkpoint=False,
        verbose=False,
    )


def _never_begun(settings: LadderSettings, rung: Rung, why: str) -> RunRecord:
    return RunRecord(
        num_params=rung.num_params,
        num_tokens=0,
        flops=0,
        loss=None,
        stop_reason=DIVERGED,
        law=settings.prior.name,
        budget=str(Budget(tokens=rung.num_tokens)),
        n_counts=settings.prior.info.n_counts,
        message=f"diverged: {why}",
        run=rung.name,
        seed=rung.seed,
    )


def _trainer_options(settings: LadderSettings) -> dict[str, Any]:
    return {
        "accelerator": "auto",
        "devices": 1,
        "gradient_clip_val": 1.0,
        "enable_model_summary": False,
        "enable_progress_bar": False,
        "logger": False,
        "log_every_n_steps": 50,
        "check_val_every_n_epoch": None,
        "val_check_interval": 10_000_000,  # the stop itself validates
        "num_sanity_val_steps": 0,
        **settings.trainer,
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's remarks on workers, epochs and versions out of the ladder's progress."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(pytorch_lightning|lightning|lightning_fabric)\..*")
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", category=ScalestopWarning)
            yield
    finally:
        logger.setLevel(level)


# ---- how long it will take


class _Stopwatch(pl.Callback):
    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.seconds: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        self.begun = self.clock()

    def on_train_batch_end(self, *_: Any) -> None:
        self.seconds.append(self.clock() - self.begun)


def seconds_per_step(
    settings: LadderSettings, rung: Rung, steps: int = _PROBE_STEPS, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Return how long a step of a rung takes here, from a few of them.

    Args:
        settings: The ladder's.
        rung: The run.
        steps: Steps to take; the first quarter of them does not count.
        clock: Seconds from an arbitrary start; for tests.
    """
    stopwatch = _Stopwatch(clock)
    with _quiet():
        pl.seed_everything(rung.seed, verbose=False)
        model, data = build_model(settings, rung.model_args), build_data(settings, rung.data_args)
        stopping = ComputeOptimalStopping(
            Budget(tokens=rung.num_tokens),
            settings.prior,
            tolerance=0.0,
            oversized="ignore",
            record=False,
            verbose=False,
        )
        options = {**_trainer_options(settings), "enable_checkpointing": False, "limit_val_batches": 0}
        trainer = pl.Trainer(
            **options, callbacks=[stopping, stopwatch], max_steps=min(steps, rung.steps), max_epochs=-1
        )
        trainer.fit(model, datamodule=data)
    return statistics.median(stopwatch.seconds[len(stopwatch.seconds) // 4 :])


def with_seconds(settings: LadderSettings, rungs: Sequence[Rung]) -> list[Rung]:
    """Return the rungs with the time each is predicted to take on one worker.

    By the stated speed where there is one. Else a few steps are measured for each size, with its smallest and its
    largest batch; a step of another batch lies on the line between them.

    Args:
        settings: The ladder's.
        rungs: Its runs.
    """
    if settings.speed is not None:
        return [replace(rung, seconds=rung.new_flops / settings.speed) for rung in rungs]
    lines: dict[tuple[int, str], tuple[float, float]] = {}
    timed = []
    for rung in rungs:
        key = (rung.num_params, rung.shape)
        if key not in lines:
            alike = sorted((r for r in rungs if (r.num_params, r.shape) == key), key=lambda r: r.tokens_per_step)
            least, most = alike[0], alike[-1]
            low = seconds_per_step(settings, least)
            high = low if most.tokens_per_step == least.tokens_per_step else seconds_per_step(settings, most)
            slope = max(0.0, high - low) / max(1, most.tokens_per_step - least.tokens_per_step)
            lines[key] = (low - slope * least.tokens_per_step, slope)
        constant, slope = lines[key]
        steps = rung.steps - rung.start_tokens // rung.tokens_per_step
        timed.append(replace(rung, seconds=steps * (constant + slope * rung.tokens_per_step)))
    return timed


def _main(folder: str, name: str) -> None:
    ladder = Ladder.load(Path(folder))
    train_rung(ladder, next(rung for rung in ladder.rungs if rung.name == name))


if __name__ == "__main__":
    if "LOCAL_RANK" not in os.environ:  # those of the other ranks end with this one
        end_with_parent()
    _main(*sys.argv[1:])
