"""A learning rate that ends where the run ends: its clock is the budget, not the step count."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from scalestop.errors import InputError
from scalestop.planning.budget import Budget, BudgetLike

Shape = Literal["linear", "1-sqrt", "cosine", "square"]

_START = 0.1
"""Share of the peak rate at which warm-up begins: from zero the first step would be wasted."""

_FALL: dict[str, Callable[[float], float]] = {
    "linear": lambda x: 1 - x,
    "1-sqrt": lambda x: 1 - math.sqrt(x),
    "cosine": lambda x: (1 + math.cos(math.pi * x)) / 2,
    "square": lambda x: 1 - x * x,
}


def budget_factor(
    progress: float, warmup: float = 0.05, decay: float = 0.3, shape: Shape = "1-sqrt", floor: float = 0.0
) -> float:
    """Return the learning rate at a point of the run, as a share of its peak.

    Linear warm-up, plateau, then a decay that ends with the run (warmup-stable-decay: Haegele et al. 2024, arXiv
    2405.18392, section 3, whose best shape is `1-sqrt`). A cosine over the whole run is `decay = 1 - warmup` with shape
    `cosine`.

    Args:
        progress: How far the run is: 0 at its start, 1 at its stop; beyond counts as 1.
        warmup: Share of the run in which the rate rises.
        decay: Share of the run, at its end, in which the rate falls.
        shape: How it falls.
        floor: Where it ends, as a share of the peak.
    """
    if progress < warmup:
        return _START + (1 - _START) * max(0.0, progress) / warmup
    if decay == 0 or progress <= 1 - decay:
        return 1.0
    into = min(1.0, (progress - (1 - decay)) / decay)
    return floor + (1 - floor) * _FALL[shape](into)


class BudgetLR(LRScheduler):
    """A learning rate that follows the run's progress to its nearest stop, whatever the batches look like.

    Return it from `configure_optimizers` beside the optimizer, and put `ComputeOptimalStopping` into the Trainer: the
    callback binds the two. The rate at any moment depends on progress alone: tokens of D_opt, FLOPs, device-hours or
    wall time used, whichever is nearest to its limit. So it ends where the run ends under ragged batches,
    accumulation, resumes and other world sizes. Raise the budget of a run that is resumed and its progress falls
    back: the rate returns to the plateau, and the decay comes when the new end comes.

    In a loop without Lightning, call `advance(progress)` after each optimizer step.

    Args:
        optimizer: The optimizer; each param group's `lr` is its peak.
        warmup: Share of the run in which the rate rises linearly, from a tenth of its peak.
        decay: Share of the run, at its end, in which the rate falls.
        shape: How it falls: `1-sqrt`, `linear`, `cosine` or `square`.
        floor: Where it ends, as a share of the peak.
        horizon: Where the decay ends, if not where the run stops: a budget in FLOPs or tokens, such as that of the
            longest run of a trunk. The run may stop before it.

    Raises:
        InputError: If a share is out of range; or, at the first step, if there is no callback to tell the time.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup: float = 0.05,
        decay: float = 0.3,
        shape: Shape = "1-sqrt",
        floor: float = 0.0,
        horizon: BudgetLike | None = None,
    ) -> None:
        for name, value in (("warmup", warmup), ("decay", decay), ("floor", floor)):
            if not 0 <= value <= 1:
                raise InputError(f"{name}: a share, between 0 and 1; got {value!r}")
        if warmup + decay > 1:
            raise InputError(f"warmup and decay: together at most the whole run; got {warmup} + {decay} > 1")
        if shape not in get_args(Shape):
            raise InputError(f"shape: one of {', '.join(get_args(Shape))}; got {shape!r}")
        self.warmup, self.decay, self.shape, self.floor = warmup, decay, shape, floor
        self.horizon = None if horizon is None else Budget.parse(horizon)
        if self.horizon is not None and self.horizon.flops is None and self.horizon.tokens is None:
            raise InputError(f"horizon: an amount of FLOPs or tokens; got {str(self.horizon)!r}")
        self._progress = 0.0
        self._bound = False
        super().__init__(optimizer)

    @property
    def progress(self) -> float:
        """Where the clock stands: 0 at the start of the run, 1 at its end."""
        return self._progress

    def bind(self) -> None:
        """Say that somebody will tell the time with `advance`."""
        self._bound = True

    def advance(self, progress: float) -> None:
        """Set the clock, and with it the rate of the next optimizer step.

        Args:
            progress: How far the run is, 0 to 1.
        """
        self._bound = True
        self._progress = float(progress)
        for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            _set_rate(group, rate)
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def step(self, epoch: int | None = None) -> None:
        """Do nothing but count: the clock is not the number of calls.

        Raises:
            InputError: If nobody tells the time.
        """
        if self.last_epoch >= 0 and not self._bound:
            raise InputError(
                "BudgetLR: nobody tells this schedule how far the run is. Add scalestop.ComputeOptimalStopping(budget) "
                "to the Trainer's callbacks, or call advance(progress) after each step of your own loop"
            )
        self.last_epoch += 1
        self._step_count = getattr(self, "_step_count", 0) + 1
        if self.last_epoch == 0:
            bound = self._bound
            self.advance(self._progress)
            self._bound = bound

    def get_lr(self) -> list[Any]:
        """Return each param group's rate at the present progress."""
        factor = budget_factor(self._progress, self.warmup, self.decay, self.shape, self.floor)
        return [base * factor for base in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Return the clock and the peaks; warm-up, decay and shape are the code's to say, also after a resume."""
        return {
            "progress": self._progress,
            "base_lrs": [float(rate) for rate in self.base_lrs],
            "last_epoch": self.last_epoch,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take up a saved clock."""
        self._progress = state_dict["progress"]
        self.base_lrs = list(state_dict["base_lrs"])
        self.last_epoch = state_dict["last_epoch"]
        bound = self._bound
        self.advance(self._progress)
        self._bound = bound


def _set_rate(group: dict[str, Any], rate: float) -> None:
    if hasattr(group["lr"], "fill_"):  # a tensor rate, for a capturable optimizer
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def planned_steps(scheduler: Any, interval: str, frequency: int, steps_per_epoch: float) -> int | None:
    """Return the optimizer step at which a scheduler's own horizon lies; None for one that has none or hides it.

    Args:
        scheduler: A torch scheduler: cosine annealing, one-cycle, linear, polynomial, a chain or sequence of those, or
            a lambda made by `functools.partial` with `num_training_steps`, as transformers' schedules are.
        interval: `step` or `epoch`: what one call stands for.
        frequency: Intervals between calls.
        steps_per_epoch: Optimizer steps in an epoch.
    """
    calls = _planned_calls(scheduler)
    if calls is None:
        return None
    steps = calls * max(1, frequency) * (1 if interval == "step" else steps_per_epoch)
    return round(steps) if math.isfinite(steps) else None


def _planned_calls(scheduler: Any) -> int | None:
    if type(scheduler).__name__ == "CosineAnnealingWarmRestarts":
        return None
    for name in ("T_max", "total_steps", "total_iters"):
        if isinstance(getattr(scheduler, name, None), int):
            # LinearLR and ConstantLR that rise to the peak are a warm-up, no horizon
            rises = getattr(scheduler, "end_factor", None) == 1.0 or type(scheduler).__name__ == "ConstantLR"
            return None if rises else int(getattr(scheduler, name))
    parts = getattr(scheduler, "_schedulers", None)
    if parts:
        milestones = getattr(scheduler, "_milestones", None)
        last = _planned_calls(parts[-1])
        if milestones:
            return None if last is None else int(milestones[-1]) + last
        return max((calls for part in parts if (calls := _planned_calls(part)) is not None), default=None)
    for function in getattr(scheduler, "lr_lambdas", ()):
        total = (getattr(function, "keywords", None) or {}).get("num_training_steps")
        if isinstance(total, int):
            return total
    return None
