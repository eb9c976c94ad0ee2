"""The loss that a run ends with: found under whatever name it bears, and never dropped without a word."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from scalestop.run.curve import Curve

_VALIDATION = {"val", "valid", "validation", "eval", "dev"}
_TRAINING = {"train", "training"}
_OURS = ("scalestop/", "budget", "forecast")
_WINDOW = 0.02
"""Part of the run over which the training loss is averaged where nothing was validated; a validation that is older
than this is not the run's end."""


class FinalLoss(NamedTuple):
    """A run's final loss."""

    loss: float | None
    """Nats per token; None if there is none."""
    name: str | None
    """What it is: a logged metric, or `train_loss (mean of the last 2 %)`."""
    error: float | None = None
    """Standard error of a mean; None where nothing tells, as of a validation, whose data stay the same."""


@dataclass(frozen=True)
class LossNames:
    """Which logged metrics are losses."""

    asked: str | None = None
    """The metric that the user named; None to find it."""

    def validation(self, names: Iterable[str]) -> str | None:
        """Return the metric that is the validation loss; None if there is none.

        The one that was asked for, where it is there; `val_loss`; else a name with a word for validation and the word
        loss, such as `val/loss`, `loss/valid` or `eval_loss`, the shortest of several.
        """
        found = set(names)
        if self.asked in found:
            return self.asked if not is_training(self.asked) else None
        return _shortest(name for name in found if _is_validation(name))

    def training(self, names: Iterable[str]) -> str | None:
        """Return the metric that is the training loss: `train_loss`, `train/loss`, `loss` or the like; None if none is.

        The one that was asked for is taken whatever its name says.
        """
        found = set(names)
        if self.asked in found:
            return self.asked
        for exact in ("train_loss", "loss"):
            if exact in found:
                return exact
        return _shortest(name for name in found if is_training(name))

    def validations(self, curve: Curve) -> list[tuple[int, float]]:
        """Return the validation loss against tokens."""
        found = [(one.tokens, one.metrics, self.validation(one.metrics)) for one in curve.validations]
        return [(tokens, metrics[name]) for tokens, metrics, name in found if name is not None]

    def complaint(self, names: Iterable[str]) -> str | None:
        """Say that the metric asked for is not logged, what comes near, and what there is; None if all is well."""
        found = sorted(name for name in names if not name.startswith(_OURS))
        if self.asked is None or self.asked in found:
            return None
        near = difflib.get_close_matches(self.asked, found, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return f"loss_metric: no metric is logged as {self.asked!r}.{hint} Logged are: {', '.join(found) or 'none'}"


def _words(name: str) -> set[str]:
    words = re.sub(r"([a-z])([A-Z])", r"\1 \2", name.removesuffix("_epoch").removesuffix("_step"))
    return {word.lower() for word in re.split(r"[^A-Za-z]+", words)}


def _is_validation(name: str) -> bool:
    words = _words(name)
    return "loss" in words and bool(words & _VALIDATION)


def is_training(name: str) -> bool:
    """Whether a metric's name says that it is the loss of training."""
    words = _words(name)
    return words == {"loss"} or ("loss" in words and bool(words & _TRAINING))


def _shortest(names: Iterable[str]) -> str | None:
    ordered = sorted(names, key=lambda name: (name != "val_loss", len(name), name))
    return ordered[0] if ordered else None


def validation_metrics(metrics: Mapping[str, Any], names: LossNames) -> dict[str, float]:
    """Return the metrics of a validation: every single number that was logged, less our own and training losses."""
    found = {}
    for name, value in metrics.items():
        if name.startswith(_OURS) or (is_training(name) and name != names.asked):
            continue
        try:
            found[name] = float(value)
        except (TypeError, ValueError, RuntimeError):
            continue
    return found


def final_loss(names: LossNames, metrics: Mapping[str, Any], curve: Curve, tokens: int) -> FinalLoss:
    """Return a run's final loss, and which it is.

    The validation loss where one was taken in the last fiftieth of the run; else the mean training loss of that part,
    with its standard error: the loss of a single batch is no result. Where neither is known, what was logged.

    Args:
        names: What the losses are called.
        metrics: Every metric that was logged, as it stands at the end.
        curve: The run's curve.
        tokens: Tokens trained on in all.
    """
    last = curve.validations[-1] if curve.validations else None
    if last is not None and last.tokens >= tokens * (1 - _WINDOW):
        name = names.validation(last.metrics)
        if name is not None:
            return FinalLoss(last.metrics[name], name)
    logged = {name for name in metrics if not name.startswith(_OURS)}
    if names.asked in logged and not is_training(names.asked):
        return FinalLoss(float(metrics[names.asked]), names.asked)
    end = [point for point in curve.points if point.tokens > tokens * (1 - _WINDOW)]
    name = f"train_loss (mean of the last {_WINDOW:.0%})"
    if any(point.nonfinite for point in end):
        return FinalLoss(math.nan, name)
    ended = curve.final_training_loss(_WINDOW)
    if ended is not None:
        return FinalLoss(ended[0], name, ended[1] if math.isfinite(ended[1]) else None)
    named = names.validation(logged) or names.training(logged)
    return FinalLoss(float(metrics[named]), named) if named is not None else FinalLoss(None, None)
