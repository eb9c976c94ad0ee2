"""The runs behind a task: at every checkpoint the tokens, the loss on the answers, and the metric."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scalestop.errors import InputError
from scalestop.fitting.solve.newton import Array
from scalestop.fitting.tables.columns import ALIASES, as_number, plain_name
from scalestop.fitting.tables.read import raw_rows

SKIP = 0.3
"""Share of a run left out at its beginning, where the rate still warms up and the metric is at its floor."""
WINDOW = 5
"""Checkpoints that are averaged for a point of step two, as in Bhagia et al. 2024, section 3.2."""
ENDS = 3
"""Checkpoints averaged for a run's end, at most."""
END_SHARE = 0.03
"""They lie within this last share of its tokens: further back the loss was higher."""
NOISE = 10
"""Last checkpoints of a run whose scatter is its noise (Bhagia et al. 2024, their SD of the last 10)."""


@dataclass(frozen=True)
class TaskRun:
    """One run; arrays of shape (K,), one number a checkpoint, in the order of training."""

    name: str
    params: float
    """N."""
    tokens: Array = field(repr=False)
    """D at each checkpoint."""
    loss: Array = field(repr=False)
    """Loss on the answers."""
    metric: Array = field(repr=False)
    """The metric, between 0 and 1."""

    @property
    def flops(self) -> float:
        """6·N·D at its end."""
        return float(6 * self.params * self.tokens[-1])

    @property
    def end_loss(self) -> float:
        """Loss on the answers at its end, averaged over its last few checkpoints."""
        return float(self.loss[self._end()].mean())

    @property
    def end_metric(self) -> float:
        """The metric at its end, averaged alike."""
        return float(self.metric[self._end()].mean())

    def _end(self) -> slice:
        near = int(np.sum(self.tokens >= (1 - END_SHARE) * self.tokens[-1]))
        return slice(-min(ENDS, near), None)

    def points(self) -> tuple[Array, Array, Array]:
        """Return (loss, metric, weight) for step two: windows of checkpoints, in all worth one run, half of it its end.

        Within a run the rate is still high, and the end is what is forecast; the way there shows the curve's shape.
        """
        if len(self.loss) < 2 * WINDOW:
            return np.array([self.end_loss]), np.array([self.end_metric]), np.ones(1)
        stops = np.arange(len(self.loss), max(int(SKIP * len(self.loss)), WINDOW), -WINDOW)
        windows = [slice(stop - WINDOW, stop) for stop in stops]
        weights = np.full(len(stops), 0.5 / len(stops))
        weights[0] += 0.5
        loss, metric = (np.array([values[window].mean() for window in windows]) for values in (self.loss, self.metric))
        return loss, metric, weights

    def noise(self) -> float | None:
        """Return the standard deviation of the last checkpoints around their trend; None for too few of them."""
        last = self.metric[-NOISE:]
        if len(last) < 4:
            return None
        steps = np.arange(len(last))
        left = last - np.polyval(np.polyfit(steps, last, 1), steps)
        return float(np.sqrt(np.sum(left**2) / (len(last) - 2)))


def read_task_runs(records: Any, metric: str, answer_loss: str) -> tuple[TaskRun, ...]:
    """Read runs with a metric and the loss on its answers, by their columns or logged names; see `fit_task`.

    Raises:
        InputError: Naming the columns that are missing, and those there are; or a metric that is no share.
    """
    if isinstance(records, Sequence) and records and all(isinstance(run, TaskRun) for run in records):
        return tuple(records)
    points, seen = [], set()
    for source, number, row in raw_rows(records):
        seen |= {str(name) for name in row} | {str(name) for point in _curve(row) for name in point}
        origin = f"{source}, row {number}"
        points += [(origin, point) for point in _checkpoints(row, metric, answer_loss)]
    used = [(origin, point) for origin, point in points if all(map(math.isfinite, point[1:]))]
    if not used:
        shown = ", ".join(sorted(seen)) or "none"
        raise InputError(
            f"records: no row has params, tokens, {answer_loss!r} and {metric!r}; the columns and metrics seen are: "
            f"{shown}"
        )
    runs = []
    for name, group in itertools.groupby(_named(used), key=lambda pair: pair[0]):
        rows = np.array([row for _, row in group])
        rows = rows[np.argsort(rows[:, 1], kind="stable")]
        runs.append(TaskRun(str(name[0]), float(rows[0, 0]), rows[:, 1], rows[:, 2], rows[:, 3]))
    _check(runs, metric, answer_loss)
    return tuple(runs)


Point = tuple[dict[str, Any], float, float, float, float]
"""The row's own words on which run it is; params, tokens, loss, metric."""


def _checkpoints(row: Mapping[str, Any], metric: str, answer_loss: str) -> Iterator[Point]:
    """Yield the checkpoints of a row: itself, and of a run record those of its curve."""
    plain = {plain_name(str(name)): value for name, value in row.items()}

    def find(name: str, where: Mapping[str, Any]) -> float:
        names = ALIASES.get(name, (name,))
        values = (as_number(where[alias]) for alias in map(plain_name, names) if alias in where)
        # a record's own `params` are its parameters by role; its N is `num_params`
        return next((value for value in values if not math.isnan(value)), math.nan)

    params, tokens = find("params", plain), find("tokens", plain)
    if math.isnan(tokens):
        tokens = find("step", plain) * find("batch_tokens", plain)
    if math.isnan(tokens):
        tokens = find("flops", plain) / (6 * params)
    told = {name: plain[name] for name in ("run", "run_id", "step") if plain.get(name) not in (None, "")}
    within = list(_curve(row))
    if within:
        for at in within:
            values = {plain_name(str(name)): value for name, value in at.items()}
            found = find("tokens", values), find(plain_name(answer_loss), values), find(plain_name(metric), values)
            yield told, params, *found
        return
    yield told, params, tokens, find(plain_name(answer_loss), plain), find(plain_name(metric), plain)


def _curve(row: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the checkpoints of a run record's curve: columns, or one mapping a checkpoint."""
    curve = row.get("curve")
    if isinstance(curve, Mapping):
        columns = {name: list(values) for name, values in curve.items() if isinstance(values, Iterable)}
        yield from (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
    elif isinstance(curve, Iterable) and not isinstance(curve, str):
        yield from (point for point in curve if isinstance(point, Mapping))


def _named(points: Sequence[tuple[str, Point]]) -> list[tuple[tuple[Any, float], tuple[float, ...]]]:
    """Give every row its run: by name; by a rising step column; else each row is a run of its own."""
    number, last = 0, None
    named = []
    for origin, (told, *row) in points:
        key: Any = told.get("run", told.get("run_id"))
        if key is None and "step" in told:
            step = as_number(told["step"])
            if last is not None and (row[0] != last[0] or step <= last[1]):
                number += 1
            last = row[0], step
            key = f"run {number}"
        named.append(((origin if key is None else key, row[0]), tuple(row)))
    order = {key: i for i, (key, _) in reversed(list(enumerate(named)))}
    return sorted(named, key=lambda pair: order[pair[0]])


def _check(runs: Sequence[TaskRun], metric: str, answer_loss: str) -> None:
    for run in runs:
        if not (run.params > 0 and np.all(run.tokens > 0) and np.all(run.loss > 0)):
            raise InputError(f"records: {run.name}: params, tokens and {answer_loss} must be positive")
        if run.metric.min() < 0 or run.metric.max() > 1:
            worst = run.metric.max() if run.metric.max() > 1 else run.metric.min()
            raise InputError(
                f"{metric}: a share between 0 and 1 is needed; got {worst:.4g}. Divide a percentage by 100; a loss or "
                f"a perplexity is for scalestop.fit_law"
            )
