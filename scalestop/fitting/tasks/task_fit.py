"""A fitted task: what it foretells, how surely, and where it may not be believed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit, logit

from scalestop.errors import InputError
from scalestop.files import read_json, write_whole
from scalestop.fitting.solve.newton import Array
from scalestop.fitting.tasks.answers import Reach, TaskForecast
from scalestop.fitting.tasks.step_one import StepOne
from scalestop.fitting.tasks.step_two import StepTwo
from scalestop.units import human_flops

SCHEMA = "scalestop.task/1"
FARTHEST = 1e6
"""How many times the dearest run's compute `reach` looks."""


@dataclass(frozen=True)
class TaskFit:
    """The two-step law of a metric: N, D -> loss on the answers -> metric."""

    metric: str
    """Name of the metric."""
    answer_loss: str
    """Name of the loss on its answers."""
    step_one: StepOne = field(repr=False)
    """From N and D to the loss."""
    step_two: StepTwo = field(repr=False)
    """From the loss to the metric."""
    growth_one: float
    """Error of the form of step one, in log loss per factor of e of extrapolation."""
    growth_two: float
    """Error of the form of step two, in log odds of the metric per factor of e."""
    noise: float
    """Standard deviation of the metric from one checkpoint to the next at a run's end."""
    num_params: tuple[float, float]
    """Smallest and largest N fitted."""
    num_tokens: tuple[float, float]
    """Least and most D."""
    flops: tuple[float, float]
    """Least and most 6·N·D."""
    num_runs: int
    """Runs fitted."""
    data_hash: str
    """sha256 of what was fitted."""
    explained: float
    """Share of the variance of the runs' final metrics that the curve of step two explains."""
    doubts: tuple[str, ...] = ()
    """Why the metric is not predictable from these runs; empty where it is."""
    seed: int = 0
    """Seed of the draws."""

    @property
    def predictable(self) -> bool:
        """Whether the runs say anything of this metric beyond themselves."""
        return not self.doubts

    def predict(self, num_params: float, num_tokens: float, level: float = 0.9) -> TaskForecast:
        """Return what the metric will read at the end of a run.

        Args:
            num_params: N, counted as the runs count it.
            num_tokens: D.
            level: Share of the distribution inside the intervals.
        """
        for name, value in (("num_params", num_params), ("num_tokens", num_tokens)):
            if not (np.isfinite(value) and value > 0):
                raise InputError(f"{name}: must be positive and finite; got {value!r}")
        losses, values = self.draws(np.array([num_params], float), np.array([num_tokens], float))
        noisy = np.clip(values[:, 0] + self.noise * self._normals[:, 3], 0, 1)
        tails = [(1 - level) / 2, (1 + level) / 2]
        low, high = np.quantile(noisy, tails)
        loss_low, middle, loss_high = np.quantile(losses[:, 0], [tails[0], 0.5, tails[1]])
        return TaskForecast(
            estimate=float(np.median(values[:, 0])),
            interval=(float(low), float(high)),
            answer_loss=float(middle),
            answer_loss_interval=(float(loss_low), float(loss_high)),
            level=level,
            predictable=self.predictable,
            warnings=self._outside(num_params, num_tokens),
        )

    def draws(self, num_params: Array, num_tokens: Array) -> tuple[Array, Array]:
        """Return the loss on the answers and the metric of new runs by each draw, shape (draws, Q), noise left out."""
        distance = self.distance(num_params, num_tokens)
        losses = self.step_one.draws(num_params, num_tokens)
        normals = self._normals[: len(losses)]
        # one draw is one world: its form errs the same way at every point of it, and its run by the same scatter
        spread = np.multiply.outer(normals[:, 0], self.growth_one * distance)
        losses = losses * np.exp(spread + self.step_one.scatter * normals[:, 1:2])
        values = self.step_two.draws(losses)
        shift = np.multiply.outer(normals[:, 2], self.growth_two * distance)
        bent = expit(logit(np.clip(values, 1e-9, 1 - 1e-9)) + shift)
        return losses, np.clip(bent + self.step_two.scatter * normals[:, 4:5], 0, 1)

    @cached_property
    def _normals(self) -> Array:
        count = len(self.step_two.drawn)
        return np.random.default_rng([self.seed, 12]).standard_normal((count, 5))

    def distance(self, num_params: Array, num_tokens: Array) -> Array:
        """Return the log of the extrapolation factor: how far outside the runs' compute, sizes and lengths they lie."""
        n, d = np.log(num_params), np.log(num_tokens)

        def beyond(value: Array, pair: tuple[float, float]) -> Array:
            low, high = np.log(pair)
            return np.asarray(np.maximum(np.maximum(value - high, low - value), 0))

        apart = beyond(n, self.num_params) + beyond(d, self.num_tokens)
        return np.maximum(apart, beyond(np.log(6) + n + d, self.flops))

    def reach(self, value: float, *, num_params: float | None = None) -> Reach:
        """Return the compute at which the metric reaches a value, from the least compute of the runs upwards.

        Args:
            value: The value.
            num_params: N, if it is given and only the tokens grow; else the least compute over all sizes.

        Raises:
            InputError: If the value is no share.
        """
        if not 0 < value < 1:
            raise InputError(f"value: a share between 0 and 1, such as 0.6; got {value!r}")
        # not from below the runs: there the form errs as it does above them, and a draw's error is no progress
        flops = np.geomspace(self.flops[0], self.flops[1] * FARTHEST, 500)
        params = self._path(flops, num_params)
        _, values = self.draws(params, flops / (6 * params))
        # a metric once reached counts as reached, though a draw may sag where its form errs more
        reached = np.maximum.accumulate(values, axis=1) >= value
        first = np.where(reached.any(axis=1), reached.argmax(axis=1), len(flops))
        at = [int(np.quantile(first, share, method="higher")) for share in (0.05, 0.5, 0.95)]
        found = [float(flops[i]) if i < len(flops) else None for i in at]
        middle = at[1] if found[1] is not None else None
        return Reach(
            value=value,
            flops=found[1],
            num_params=None if middle is None else float(params[middle]),
            num_tokens=None if middle is None else float(flops[middle] / (6 * params[middle])),
            interval=(float(flops[min(at[0], len(flops) - 1)]), found[2]),
            never=float(np.mean(first == len(flops))),
            already=middle == 0,
        )

    def first_tokens(self, value: float, num_params: float, comparison: str = ">=") -> Array:
        """Return the tokens by which a model of this size reaches a value, by each draw; infinite where it never does.

        Looked for from the fewest tokens of the runs upwards.

        Args:
            value: The value.
            num_params: N.
            comparison: `>=` or `>`; a metric that is to stay below a bound is met from the start or never.
        """
        if comparison not in (">=", ">"):
            raise InputError(
                f"{self.metric}: it rises with training, so a gate {comparison} {value:g} is no end to wait for"
            )
        tokens = np.geomspace(self.num_tokens[0], self.num_tokens[1] * FARTHEST, 500)
        _, values = self.draws(np.full(len(tokens), float(num_params)), tokens)
        reached = np.maximum.accumulate(values, axis=1) >= value
        return np.where(reached.any(axis=1), tokens[reached.argmax(axis=1)], np.inf)

    def best_size(self, flops: float) -> float:
        """Return the N at which a budget 6·N·D, FLOPs, gives the least loss on the answers."""
        return float(self._path(np.array([flops], float), None)[0])

    def _path(self, flops: Array, num_params: float | None) -> Array:
        """The size at each compute: the one given, or the one with the least loss."""
        if num_params is not None:
            return np.full(len(flops), float(num_params))
        sizes = np.geomspace(self.num_params[0] / 1e3, self.num_params[1] * 1e4, 200)
        losses = [self.step_one.estimate(sizes, c / (6 * sizes)) for c in flops]
        return np.array([sizes[int(np.argmin(loss))] for loss in losses])

    def _outside(self, num_params: float, num_tokens: float) -> tuple[str, ...]:
        lines = []
        for symbol, value, (low, high) in (
            ("N", num_params, self.num_params),
            ("D", num_tokens, self.num_tokens),
            ("C", 6 * num_params * num_tokens, self.flops),
        ):
            if not low * 0.999 <= value <= high * 1.001:
                factor = value / high if value > high else low / value
                side = "above" if value > high else "below"
                lines.append(f"{symbol} = {value:.3g} is x{factor:.3g} {side} the fitted {low:.3g} to {high:.3g}")
        return tuple(lines)

    def __str__(self) -> str:
        two = self.step_two
        lines = [
            f"{self.metric}: {self.num_runs} runs, {human_flops(self.flops[0])} to {human_flops(self.flops[1])}",
            f"step one   {self.answer_loss} of N and D, scatter {self.step_one.scatter:.2%} a run",
            f"step two   {two.floor:.3f} + {two.ceiling - two.floor:.3f}·sigmoid({two.steepness:.3g}·"
            f"({two.midpoint:.3g} - {self.answer_loss})), scatter {two.scatter:.4f}, explains {self.explained:.0%} of "
            f"the runs' differences",
            f"noise      {self.noise:.4f} from checkpoint to checkpoint",
        ]
        if self.doubts:
            lines.append("not predictable from these runs: " + "; ".join(self.doubts))
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data; `from_dict` reads it back."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values |= {name: list(value) for name, value in values.items() if isinstance(value, tuple)}
        steps = {"step_one": self.step_one.to_dict(), "step_two": self.step_two.to_dict()}
        return {"schema": SCHEMA, **values, **steps}

    def save(self, path: str | Path) -> Path:
        """Write the fit as JSON; `TaskFit.load(path)` reads it back. Missing parent folders are made."""
        return write_whole(Path(path), json.dumps(self.to_dict()) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> TaskFit:
        """Read a file that `save` wrote.

        Raises:
            InputError: If it cannot be read, or is no task.
        """
        return cls.from_dict(read_json(Path(path), "task"), where=str(path))

    @classmethod
    def from_dict(cls, data: Any, *, where: str = "task") -> TaskFit:
        """Read what `to_dict` returned.

        Raises:
            InputError: Naming the schema, a missing field, or one that cannot be read.
        """
        if not isinstance(data, Mapping) or data.get("schema") != SCHEMA:
            got = data.get("schema") if isinstance(data, Mapping) else type(data).__name__
            raise InputError(f"{where}: schema: expected {SCHEMA!r}, got {got!r}")
        values = {name: value for name, value in data.items() if name != "schema"}
        try:
            for name in ("num_params", "num_tokens", "flops"):
                low, high = values[name]
                values[name] = float(low), float(high)
            values["doubts"] = tuple(values["doubts"])
            values["step_one"] = StepOne.from_dict(values["step_one"], where=where)
            values["step_two"] = StepTwo.from_dict(values["step_two"])
            return cls(**values)
        except KeyError as error:
            raise InputError(f"{where}: missing field {error}") from None
        except (TypeError, ValueError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{where}: cannot be read: {error}") from None
