"""A loop of one's own, in plain PyTorch or Fabric, under watch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from scalestop.errors import InputError
from scalestop.files import as_path
from scalestop.run.adapter.base import RunAdapter
from scalestop.run.adapter.loop import Loop, LoopAdapter, bare_optimizer
from scalestop.schedules.horizons import Scheduled


class RunTracker(LoopAdapter):
    """Stops a loop of one's own at its compute-optimal point, or when its budget is spent.

    The settings are those of `ComputeOptimalStopping`; the loop hands over its batches::

        tracker = RunTracker("1e18 FLOPs")
        with tracker.track(model, optimizer, folder="runs/mine"):
            while tracker.goes_on:
                for batch in tracker.batches(loader):
                    loss = loss_of(model, batch)
                    loss.backward()
                    optimizer.step()
                    optimizer.zero_grad()
                    tracker.add_loss(loss)

    Counts are exact under gradient accumulation, ragged batches and, with `torch.distributed`, several ranks, each of
    which runs the same code. Fabric's module and optimizer go in as they are.

    """

    @contextmanager
    def track(
        self,
        model: torch.nn.Module,
        optimizer: Any,
        *,
        scheduler: Any = None,
        folder: str | Path | None = None,
        batches_per_step: int = 1,
        log_every: int = 50,
        log: Callable[[Mapping[str, float]], None] | None = None,
        save: Callable[[str], Path | str | None] | None = None,
        state: Mapping[str, Any] | None = None,
        seed: int | None = None,
    ) -> Iterator[RunTracker]:
        """Watch a run from here to the end of the block.

        Args:
            model: The model; in DDP's or Fabric's wrapper, too.
            optimizer: The optimizer, or several; their steps are the run's.
            scheduler: A learning-rate scheduler that is stepped with each optimizer step, such as `BudgetLR`.
            folder: Where the record goes, as `scalestop.json`; None for none.
            batches_per_step: Batches on each rank that make an optimizer step, for the plan; counts do not need it.
            log_every: Optimizer steps between calls of `log`; 0 for none.
            log: Takes the run's metrics, names to floats.
            save: Saves a checkpoint at the stop with a word in its name, and returns where.
            state: What `state_dict` returned, to go on with that run.
            seed: Seed of the run, for its record.

        Raises:
            InputError: If the run cannot be planned.
        """
        if batches_per_step < 1:
            raise InputError(f"batches_per_step: at least 1; got {batches_per_step!r}")
        self._forget()
        optimizers = list(optimizer) if isinstance(optimizer, Sequence) else [optimizer]
        loop = Loop(
            [bare_optimizer(item) for item in optimizers],
            [] if scheduler is None else [Scheduled(scheduler, 1)],
            None if folder is None else as_path(folder, "folder"),
            batches_per_step,
            log_every,
            log,
            save if self._save_checkpoint is not False else None,
            passes=lambda: self._passes,
            seed=seed,
        )
        self._passes = 0.0
        self._begin(unwrapped(model), loop, state, None)
        try:
            yield self
        except BaseException as error:
            self._break_off(error)
            raise
        if self._feed is not None:
            self._feed.catch_up()
        self._end()

    @property
    def goes_on(self) -> bool:
        """Whether the run has not ended yet."""
        return self._host is not None and not self._host.stopped

    def batches(self, loader: Iterable[Any]) -> Iterator[Any]:
        """Pass on a loader's batches, once through, until it is time to stop.

        Each is counted when it is handed out, and added once the loop comes back for the next one, or at the end of
        `track` where the loop is left before. After an error, the one at hand counts as not trained on.
        """
        assert self._host is not None, "within `track` only"
        share = 1 / len(loader) if isinstance(loader, Sized) and len(loader) else 0.0
        for batch in loader:
            if self._ends:
                return
            self._passes += share
            self._take(batch)
            yield batch
            loss, self._loss = self._loss, None
            self._trained(batch, loss)
            if self._ends:  # before the loader makes another one
                return

    _loss: torch.Tensor | None = None

    def add_loss(self, loss: torch.Tensor) -> None:
        """Hand in the loss of the batch at hand, mean over its tokens, nats; for the curve, the forecast, the record.

        Nothing is read from the device on the way.
        """
        self._loss = loss.detach()

    def add_validation(self, loss: float, **metrics: float) -> None:
        """Hand in a validation: its loss, nats per token, and further metrics under their names. On every rank."""
        assert self._host is not None and self._live is not None, "within `track` only"
        self._host.values.update(val_loss=float(loss), **metrics)
        self._live.note_validation()

    def state_dict(self) -> dict[str, Any]:
        """Return the run as it is now, plain data; the batch at hand counts as trained on.

        Under several ranks, every rank must call it.
        """
        assert self._state is not None and self._feed is not None, "within `track` only"
        self._feed.catch_up()
        return self._state.state_dict(lambda key, values: list(self._ranks(values)))


RunTracker.__doc__ = f"{RunTracker.__doc__}Args:{(RunAdapter.__doc__ or '').partition('Args:')[2]}"


def unwrapped(model: Any) -> torch.nn.Module:
    """Return the module inside the wrappers of DDP, Fabric and `torch.compile`."""
    while True:
        kind = type(model).__name__
        name = {"OptimizedModule": "_orig_mod", "_FabricModule": "_forward_module"}.get(kind)
        if kind in ("DistributedDataParallel", "DataParallel"):
            name = "module"
        if name is None:
            found: torch.nn.Module = model
            return found
        model = model._modules[name]
