"""What an adapter does that asks no trainer anything: it is told of model, batches and steps."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from scalestop.accounting.hardware import peak_flops_per_second
from scalestop.accounting.meter import Usage
from scalestop.accounting.tokens import TokenCounter, is_encoder_decoder
from scalestop.accounting.trainable import TrainableSet
from scalestop.laws import Provenance
from scalestop.planning.planned import Plan
from scalestop.run.adapter.base import RunAdapter
from scalestop.run.adapter.ranks import TorchRanks
from scalestop.run.agreement import differing, refuse
from scalestop.run.earlier import Found
from scalestop.run.feed import BatchFeed
from scalestop.run.gate import Gate
from scalestop.run.live import LiveRun
from scalestop.run.records import RunRecord
from scalestop.schedules.horizons import Scheduled
from scalestop.schedules.run_schedules import RunSchedules


@dataclass
class Loop:
    """A training loop, as it describes itself."""

    optimizers: Sequence[torch.optim.Optimizer]
    """Torch's own, in no wrapper."""
    schedules: Sequence[Scheduled] = ()
    """Its learning-rate schedulers."""
    folder: Path | None = None
    """Where the record goes; None for none."""
    batches_per_step: int = 1
    """Batches on each rank that make an optimizer step."""
    log_every: int = 50
    """Optimizer steps between logged metrics; 0 for none."""
    log: Callable[[Mapping[str, float]], None] | None = None
    """Takes what is logged; called on every rank."""
    save: Callable[[str], Path | str | None] | None = None
    """Saves a checkpoint with a word in its name and returns where; called on every rank, which must end alike."""
    conflicts: Callable[[Plan], list[str]] = field(default=lambda plan: [])
    """Which of the loop's own settings stand in the plan's way."""
    step_count: Callable[[], int] = field(default=lambda: 0)
    """The loop's own count of steps, for optimizers that cannot be watched."""
    passes: Callable[[], float] = field(default=lambda: 0.0)
    """How often the training data have been passed by now; 0 if nobody knows."""
    origin: Provenance | None = None
    """Text and recipe, as far as they are known."""
    seed: int | None = None
    """Seed of the run."""


class LoopHost:
    """Answers what a `LiveRun` asks, out of a `Loop`; see `scalestop.run.host.Host`."""

    epoch_metrics_are_due = False

    def __init__(self, loop: Loop, ranks: TorchRanks, name: str | None, gate: Gate) -> None:
        self._loop, self._ranks, self._gate = loop, ranks, gate
        self._prefix = f"scalestop/{name}/" if name else "scalestop/"
        self.values: dict[str, Any] = {}
        """The latest value of every metric that the loop has told of."""
        self.stopped = False
        """Whether the loop is to end."""
        self.schedules = RunSchedules(loop.schedules, name or "")
        """The run's learning-rate schedules."""
        self.log_every, self.keeps_time = loop.log_every, self.schedules.follow_the_budget
        self.broadcast, self.sum_over_ranks = ranks.broadcast, ranks

    @property
    def passes(self) -> float:
        """How often the training data have been passed by now."""
        return self._loop.passes()

    def metrics(self) -> Mapping[str, Any]:
        """Return the latest value of every metric."""
        return self.values

    def learning_rate(self) -> float | None:
        """Return the first param group's learning rate."""
        with suppress(Exception):
            return float(self._loop.optimizers[0].param_groups[0]["lr"])
        return None

    def planned_rate(self, plan: Plan) -> Callable[[float], float] | None:
        """Return the rate at each share of the planned run."""
        return self.schedules.planned_rate(plan)

    def seed(self) -> int | None:
        """Return the seed of the run."""
        return self._loop.seed

    def notes(self, plan: Plan) -> list[str]:
        """Return what the plan should say of the rate at its stop."""
        return self.schedules.notes(plan)

    def conflicts(self, plan: Plan) -> list[str]:
        """Return what in the loop, a schedule or the gate stands in the plan's way."""
        return [*self._loop.conflicts(plan), *self.schedules.conflicts(plan, self._gate)]

    def tell_time(self, plan: Plan, usage: Callable[[], Usage]) -> None:
        """Set the clock of each `BudgetLR`."""
        self.schedules.tell_time(plan, usage)

    def stop(self) -> None:
        """End training after this step."""
        self.stopped = True

    def log(self, values: Mapping[str, float]) -> None:
        """Hand metrics to the loop, under their prefix."""
        if self._loop.log is not None:
            self._loop.log({self._prefix + key: float(value) for key, value in values.items()})

    def keep_plan(self, plan: Plan) -> list[str]:
        """Leave it: a loop of one's own has no logger that is known."""
        return []

    def keep_record(self, record: RunRecord, files: Sequence[Path | str]) -> list[str]:
        """Leave it."""
        return []

    def save(self, what: str) -> Path | str | None:
        """Have a checkpoint saved."""
        return self._loop.save(what) if self._loop.save is not None else None


class LoopAdapter(RunAdapter):
    """Watches a loop that says when it begins, takes a batch, has trained on it, and ends."""

    _host: LoopHost | None = None
    _model: torch.nn.Module | None = None

    def _begin(self, model: torch.nn.Module, loop: Loop, state: Mapping[str, Any] | None, found: Found | None) -> None:
        """State what the run is, and see whether it should begin at all.

        Args:
            model: The model, in no wrapper that hides its parameters.
            loop: What trains it.
            state: A saved run to go on with; see `RunState.state_dict`.
            found: What the loop goes on from, where it holds no counts; None for a new run.

        Raises:
            InputError: If the run cannot be planned, or the ranks would plan differently.
        """
        device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        ranks, self._model, self._loop = TorchRanks(device), model, loop
        params = self._sizing.count(model)
        self._sizing.recount(model)
        size = self._sizing.num_params or (params.total if params is not None else None)
        aims = replace(self._aims, origin=loop.origin)
        self._settled = aims.settle(size, params is None or params.embedding > 0)
        cost = self._sizing.price(model, self._settled.convention)
        run = self._state = self._new_state(ranks.broadcast(uuid.uuid4().hex), cost, ranks, ranks.world_size)
        counter = TokenCounter(self._count_tokens, encoder_decoder=is_encoder_decoder(model))
        self._feed = BatchFeed(run.watch, run.steps, counter, True, run.history.losses, run.history.prints)
        if state is not None:
            self._resume.restore(state)
        for line in [*self._resume.take_up(run), *self._resume.settle(run, found, loop.batches_per_step)]:
            self._reporter.warn(line)
        self._host = LoopHost(loop, ranks, self.name, self._aims.gate)
        self._reporter.take_place(loop.folder, ranks.is_first)
        live = self._live = LiveRun(run, self._host, self._reporter, self._loss_names)
        live.peak_flops_per_second = self._aims.speed.peak_flops_per_second or peak_flops_per_second(device)
        if self._anneal and self._host.schedules.begin_branch(live.plan, self.usage):
            run.run = ranks.broadcast(uuid.uuid4().hex)
        run.steps.attach(loop.optimizers, loop.step_count)
        self._trainable, self._ranks = TrainableSet(model), ranks
        facts = run.planner.facts(live.plan, run.watch.usage)
        if names := differing(facts, ranks.maxima):
            refuse(facts, names, ranks.gather)
        live.start()

    def _take(self, batch: Any) -> None:
        """Count a batch while it is whole; the first one completes the plan."""
        assert self._feed is not None and self._live is not None
        if self._live.announced:
            self._feed.take(batch)
        else:
            each = self._loop.batches_per_step * self._ranks.world_size
            self._take_first(self._model, batch, each, self._ranks)

    def _trained(self, batch: Any, loss: torch.Tensor | None = None) -> None:
        """Add the batch; after a real optimizer step, see whether it was the last one."""
        feed, live, trainable = self._feed, self._live, self._trainable
        assert feed is not None and live is not None and trainable is not None
        if trainable.changed():
            self._price_anew(self._model, batch)
        feed.add_loss(loss)
        due = feed.add_trained()
        if due is not None and (due or live.keeps_time or live.point_is_due):
            live.step(due)

    def _end(self) -> None:
        """Say how the run ended, and keep its record."""
        if self._live is not None:
            self._live.finish()
            self._live.close()

    def _break_off(self, error: BaseException) -> None:
        """Keep what a broken run has used."""
        if self._live is not None:
            self._live.break_off(type(error).__name__, None)

    @property
    def _ends(self) -> bool:
        return self._host is not None and self._host.stopped


def bare_optimizer(optimizer: Any) -> torch.optim.Optimizer:
    """Return torch's optimizer inside Fabric's or Accelerate's."""
    inner = getattr(optimizer, "optimizer", None)
    return inner if isinstance(inner, torch.optim.Optimizer) else optimizer
