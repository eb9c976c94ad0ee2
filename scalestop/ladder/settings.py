"""What a ladder is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scalestop.errors import InputError, shown
from scalestop.files import as_path
from scalestop.laws import ScalingLaw, get_law
from scalestop.planning.allocation import flops_of
from scalestop.planning.budget import Budget, is_amount
from scalestop.planning.speed import parse_flops_per_second

TINY_GPT = "scalestop.lab.tiny_gpt.TinyGPT"
TEXT_DATA = "scalestop.lab.data.TextData"

GRID = (
    "target",
    "share",
    "budgets",
    "num_budgets",
    "budget_ratio",
    "num_sizes",
    "spread",
    "seeds",
    "held_out",
    "fit_from",
    "valley",
    "valley_spread",
    "law",
    "lr_factors",
)
"""Settings that may change between two runs of one ladder: they add or remove rungs, and alter none."""
ASIDE = ("out", "name", "noise", "flops_per_second", "checkpoint_seconds", "bootstrap")
"""Settings that change no loss."""
_MOST = 1000
"""Budgets, and sizes at each: more are a slip of the pen, and would be planned for hours."""

_WHOLE = ("num_budgets", "num_sizes", "context", "bootstrap", "steps")
_REAL = (
    *("share", "budget_ratio", "spread", "valley_spread", "noise", "lr_scale", "lr_power", "lr_batch_power"),
    *("lr_tokens", "warmup", "decay", "spike", "checkpoint_seconds"),
)
_NAMED = ("model", "data", "trainer", "model_args", "data_args")
_OPTIONAL = ("steps", "model_args", "data_args", "budgets")


@dataclass(frozen=True)
class LadderSettings:
    """What to train, and how.

    Args:
        target: Budget of the run that the ladder is to forecast, such as `"1e13 FLOPs"`.
        share: What all rungs together may spend, as a share of the target's FLOPs; without `budgets`.
        budgets: Budgets of the rungs, FLOPs or tokens each; None derives them from `share`.
        num_budgets: How many budgets, where they are derived.
        budget_ratio: Each derived budget over the next smaller one.
        num_sizes: Model sizes at each budget, spread evenly in log N about the optimum that `law` expects.
        spread: The smallest size is N_opt/spread, the largest N_opt·spread.
        seeds: Runs of each rung at the cheapest budget, the next one, and so on; the last number repeats.
        held_out: Budgets of runs that the fit does not see and that the forecast is held against; each at the optimum
            that `law` expects.
        fit_from: Runs of cheaper budgets than this are trained and shown, and the fit does not see them: how wrong the
            law is below its runs. None fits them all.
        valley: A budget at which sizes far up both sides of the optimum are trained as well, one run each; the fit does
            not see them. They show the whole valley, and how near its floor the law's choice lies. None for no such
            runs.
        valley_spread: The smallest of those is N_opt/valley_spread, the largest N_opt·valley_spread.
        law: Prior law, by name or file: it places the sizes, and nothing else.
        noise: Scatter of a run about its law that the expected accuracy assumes, as a share of the loss.
        out: The ladder's folder.
        name: Name of the law that is fitted.
        model: A LightningModule's `class_path` and `init_args`.
        model_args: Which argument of the model takes which quantity, such as `{"d_model": "width"}`; quantities are
            `num_params`, `width`, `depth`, `num_heads`, `lr`, `warmup`, `decay`, `steps`, `seed` and `num_tokens`.
            None goes by the arguments' names.
        data: A LightningDataModule's `class_path` and `init_args`; or a path of text.
        data_args: The same for the data: `batch_size`, `context`, `seed`. None goes by the arguments' names.
        trainer: More arguments for the Trainer.
        context: Tokens in a sample, by which a batch in tokens becomes a batch size.
        steps: Optimizer steps of each run; None lets the batch grow as D^0.6 (see `batch_size_for`).
        lr_scale: The peak learning rate is lr_scale / width^lr_power · (tokens of a step / lr_tokens)^lr_batch_power.
        lr_power: How the rate falls with the width.
        lr_batch_power: How it grows with the batch.
        lr_tokens: Tokens of the optimizer step for which lr_scale is meant.
        warmup: Share of each run in which the rate rises.
        decay: Share of each run, at its end, in which it falls.
        lr_factors: Multiples of the rule's rate at which the two smallest sizes are trained as well, at the cheapest
            budget with each of its seeds, to see how far the rule is off; none for no such check.
        trunk: Train one constant-rate trunk for each size, and a decay branch off it for each budget.
        spike: A run has diverged if its smoothed training loss rises to this many times its lowest.
        checkpoint_seconds: Seconds between two checkpoints of a running rung.
        flops_per_second: Speed of one worker, for the predicted times; None measures a few steps of each size.
        bootstrap: Refits for the intervals.

    Raises:
        InputError: If a setting cannot be used.
    """

    target: str = "1e13 FLOPs"
    share: float = 0.15
    budgets: Sequence[str | float] | None = None
    num_budgets: int = 4
    budget_ratio: float = 3.0
    num_sizes: int = 5
    spread: float = 3.0
    seeds: Sequence[int] = (2, 2, 1)
    held_out: Sequence[str | float] = ()
    fit_from: str | float | None = None
    valley: str | float | None = None
    valley_spread: float = 8.0
    law: str = "stdlib-bytes"
    noise: float = 0.005
    out: str = "runs/ladder"
    name: str = "ladder"
    model: Mapping[str, Any] = field(default_factory=lambda: {"class_path": TINY_GPT})
    model_args: Mapping[str, str] | None = None
    data: Mapping[str, Any] = field(default_factory=lambda: {"class_path": TEXT_DATA})
    data_args: Mapping[str, str] | None = None
    trainer: Mapping[str, Any] = field(default_factory=dict)
    context: int = 128
    steps: int | None = None
    lr_scale: float = 0.2
    lr_power: float = 1.0
    lr_batch_power: float = 0.2
    lr_tokens: float = 640.0
    warmup: float = 0.1
    decay: float = 0.5
    lr_factors: Sequence[float] = (0.5, 2.0)
    trunk: bool = False
    spike: float = 1.5
    checkpoint_seconds: float = 15.0
    flops_per_second: str | float | None = None
    bootstrap: int = 1000

    def __post_init__(self) -> None:
        _check_kinds(self)
        for name in ("num_budgets", "num_sizes", "context", "bootstrap"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: must be at least 1; got {getattr(self, name)!r}")
        if not 0 < self.share <= 1:
            raise InputError(f"share: of the target's FLOPs, above 0 and at most 1, such as 0.15; got {self.share!r}")
        for name in ("budget_ratio", "spread", "valley_spread", "spike"):
            if not 1 < getattr(self, name) < math.inf:
                raise InputError(f"{name}: a factor above 1; got {getattr(self, name)!r}")
        for name in ("num_budgets", "num_sizes"):
            if getattr(self, name) > _MOST:
                raise InputError(f"{name}: at most {_MOST:,}; got {shown(getattr(self, name))}")
        if self.bootstrap > 1_000_000:
            raise InputError(f"bootstrap: at most 1,000,000 refits; got {shown(self.bootstrap)}")
        for name in ("lr_scale", "lr_tokens", "checkpoint_seconds", "noise"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name}: must be positive and finite; got {getattr(self, name)!r}")
        if any(not 0 < factor < math.inf or factor == 1 for factor in self.lr_factors):
            raise InputError(f"lr_factors: positive, and none of them 1; got {list(self.lr_factors)}")
        if self.steps is not None and self.steps < 1:
            raise InputError(f"steps: must be at least 1, or left out for the rule; got {self.steps!r}")
        if not self.seeds or min(self.seeds) < 1 or max(self.seeds) > _MOST:
            raise InputError(
                f"seeds: how many runs at each budget, cheapest first, each at least 1 and at most {_MOST:,}; got "
                f"{shown(self.seeds)}"
            )
        if not (self.warmup >= 0 and self.decay >= 0 and self.warmup + self.decay <= 1):
            raise InputError(
                f"warmup and decay: shares of a run, together at most 1; got {self.warmup} and {self.decay}"
            )
        if self.trunk and not 0 < self.decay < 1:
            raise InputError(f"decay: a branch off a trunk needs a decay between 0 and 1; got {self.decay!r}")
        for name in ("model", "data"):
            given = getattr(self, name)
            arguments = given.get("init_args")
            known = "class_path" in given and not set(given) - {"class_path", "init_args"}
            if not known or not (arguments is None or isinstance(arguments, Mapping)):
                raise InputError(f"{name}: expected class_path and perhaps init_args; got {shown(dict(given))}")
        Budget.parse(self.target)
        if self.speed is not None and not is_amount(self.speed):
            raise InputError(f"flops_per_second: must be positive and finite; got {shown(self.flops_per_second)}")

    @property
    def prior(self) -> ScalingLaw:
        """The law that places the sizes."""
        law = get_law(self.law)
        if not law.has_loss:
            raise InputError(f"law: {law.name} predicts no loss, so it cannot say how accurate a ladder will be")
        return law

    @property
    def target_flops(self) -> int:
        """The target's compute, FLOPs."""
        return flops_of(Budget.parse(self.target), self.prior)

    def lr(self, width: int, tokens_per_step: int) -> float:
        """The rule's peak learning rate for a width and the tokens of an optimizer step."""
        # of floats: a power of ints would be worked out to its last digit, however large
        per_width = float(width) ** float(self.lr_power)
        return self.lr_scale / per_width * (tokens_per_step / self.lr_tokens) ** float(self.lr_batch_power)

    @property
    def folder(self) -> Path:
        """The ladder's folder."""
        return as_path(self.out, "out")

    @property
    def batches_per_step(self) -> int:
        """Batches that make one optimizer step: one for each device and node, times the accumulated ones."""
        devices = self.trainer.get("devices", 1)
        count = len(devices) if isinstance(devices, Sequence) and not isinstance(devices, str) else devices
        found = 1
        for value in (count, self.trainer.get("num_nodes", 1), self.trainer.get("accumulate_grad_batches", 1)):
            if str(value).isdigit():  # not "auto" and not -1: who knows how many that will be
                found *= max(1, int(value))
        return found

    @property
    def speed(self) -> float | None:
        """Stated speed of one worker, FLOP/s."""
        return parse_flops_per_second(self.flops_per_second)


def _check_kinds(settings: LadderSettings) -> None:
    """Check that each setting is of its kind: a ladder's file may hold anything.

    Raises:
        InputError: Naming the setting.
    """

    def is_number(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300

    def is_list(value: Any) -> bool:
        return isinstance(value, Sequence) and not isinstance(value, str | bytes)

    def are_amounts(value: Any) -> bool:
        return is_list(value) and all(isinstance(item, str) or is_number(item) for item in value)

    kinds: list[tuple[tuple[str, ...], str, Callable[[Any], bool]]] = [
        (_WHOLE, "a whole number", lambda value: type(value) is int),
        (_REAL, "a finite number", is_number),
        (_NAMED, "values by name", lambda value: isinstance(value, Mapping)),
        (("target", "out", "name", "law"), "text", lambda value: isinstance(value, str)),
        (("trunk",), "true or false", lambda value: isinstance(value, bool)),
        (("seeds",), "a list of whole numbers", lambda value: is_list(value) and all(type(x) is int for x in value)),
        (("lr_factors",), "a list of numbers", lambda value: is_list(value) and all(map(is_number, value))),
        (("budgets", "held_out"), "a list of budgets", are_amounts),
        (("valley", "fit_from", "flops_per_second"), "an amount", lambda value: value is None or are_amounts([value])),
    ]
    for names, kind, fits in kinds:
        for name in names:
            value = getattr(settings, name)
            if not fits(value) and not (value is None and name in _OPTIONAL):
                raise InputError(f"{name}: {kind}; got {shown(value)}")
