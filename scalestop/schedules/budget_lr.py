"""A learning rate that ends where the run ends: its clock is the budget, not the step count."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from scalestop.errors import InputError
from scalestop.planning.budget import Budget, BudgetLike

Shape = Literal["linear", "1-sqrt", "cosine", "square"]

_START = 0.01
"""Share of the peak rate at which warm-up begins: from zero the first step would be wasted."""

_FALL: dict[str, Callable[[float], float]] = {
    "linear": lambda x: 1 - x,
    "1-sqrt": lambda x: 1 - math.sqrt(x),
    "cosine": lambda x: (1 + math.cos(math.pi * x)) / 2,
    "square": lambda x: 1 - x * x,
}

_NO_CLOCK = (
    "BudgetLR: nobody tells this schedule how far the run is. Add scalestop.ComputeOptimalStopping(budget) to the "
    "Trainer's callbacks, or call advance(progress) after each step of your own loop"
)


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
    left = max(0.0, 1 - progress)
    if decay == 0 or left >= decay:
        return 1.0
    return floor + (1 - floor) * _FALL[shape](1 - left / decay)


def check_shares(warmup: float, decay: float, shape: str, floor: float) -> None:
    """Refuse what no schedule can be made of.

    Raises:
        InputError: Naming the argument.
    """
    for name, value in (("warmup", warmup), ("decay", decay), ("floor", floor)):
        if not 0 <= value <= 1:
            raise InputError(f"{name}: a share, between 0 and 1; got {value!r}")
    if warmup + decay > 1 + 1e-9:  # two shares written in decimals may add up to a hair over 1
        raise InputError(f"warmup and decay: together at most the whole run; got {warmup} + {decay} > 1")
    if shape not in get_args(Shape):
        raise InputError(f"shape: one of {', '.join(get_args(Shape))}; got {shape!r}")


def describe_shares(warmup: float, decay: float) -> str:
    """Return in words how a rate rises and falls over a run; shares of it, between 0 and 1."""
    return f"up over {100 * warmup:g} % of a run, down over its last {100 * decay:g} %"


class BudgetLR(LRScheduler):
    """A learning rate that follows the run's progress to its nearest stop, whatever the batches look like.

    Return it from `configure_optimizers` beside the optimizer, and put `ComputeOptimalStopping` into the Trainer: the
    callback tells it the time. The rate of a step depends on the run's progress before it alone: tokens of D_opt,
    FLOPs, device-hours or wall time used, whichever is nearest to its limit. So it ends where the run ends under
    ragged batches, accumulation, resumes and other world sizes. As every limit holds back the same share for the
    decay, a limit in time is met with the rate at its floor too, also when throughput changes on the way.

    A resumed run with a raised budget is less far than it was: its rate is back on the plateau at once, never in a
    second warm-up, and the decay comes when the new end comes. If the decay had begun, that is a jump upwards: better
    go on from a checkpoint of the plateau. A budget that is lowered takes the rate down at once.

    In a loop without Lightning, call `advance(progress)` after each optimizer step. As a later part of a
    `SequentialLR`, after a warm-up counted in steps (and with `warmup=0` here), it sets the rate from its milestone on.

    Args:
        optimizer: The optimizer; each param group's `lr` is its peak. A resume takes the peaks from the checkpoint,
            as torch's own schedulers do, and the rest from here.
        warmup: Share of the run in which the rate rises linearly, from a hundredth of its peak.
        decay: Share of the run, at its end, in which the rate falls.
        shape: How it falls: `1-sqrt`, `linear`, `cosine` or `square`.
        floor: Where it ends, as a share of the peak.
        horizon: Where the decay ends, if not where the run stops: a budget in FLOPs or tokens, such as that of the
            longest run of a trunk. The run may stop before it.

    Raises:
        InputError: If a share is out of range; or, at the second optimizer step, if nobody tells the time.
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
        check_shares(warmup, decay, shape, floor)
        self.warmup, self.decay, self.shape, self.floor = warmup, decay, shape, floor
        self.horizon = None if horizon is None else Budget.parse(horizon)
        if self.horizon is not None:
            given = {name for name, value in vars(self.horizon).items() if value is not None}
            if not given <= {"flops", "tokens"}:
                raise InputError(f"horizon: an amount of FLOPs or tokens; got {str(self.horizon)!r}")
        self._clocks: dict[str, float] = {}
        self._progress = 0.0
        self._warm = warmup == 0
        self._decay_start: float | None = None
        self._blind_steps = 0
        super().__init__(optimizer)
        self.base_lrs = [float(rate) for rate in self.base_lrs]  # once: to read a tensor waits for its device
        me = weakref.ref(self)  # the optimizer may outlive its schedule
        optimizer.register_step_pre_hook(lambda *_: schedule._check_clock() if (schedule := me()) is not None else None)

    @property
    def progress(self) -> float:
        """Where the clock stands: 0 at the start of the run, 1 at its end."""
        return self._progress

    @property
    def factor(self) -> float:
        """The rate of the coming step, as a share of its peak."""
        return self.factor_at(self._progress)

    def factor_at(self, progress: float) -> float:
        """Return the rate at a point of the run, 0 to 1, as a share of its peak."""
        decay = self.decay if self._decay_start is None else 1 - self._decay_start
        return budget_factor(progress, 0.0 if self._warm else self.warmup, decay, self.shape, self.floor)

    @property
    def is_branch(self) -> bool:
        """Whether `decay_from_here` has been called, before or after a resume."""
        return self._decay_start is not None

    def decay_from_here(self) -> None:
        """Let the decay begin where the clock stands and end with the run: a branch off a trunk's plateau."""
        self._decay_start, self._warm = min(self._progress, 1.0), True
        self._set(self._progress)

    def advance(self, progress: float, clock: str = "") -> None:
        """Set a clock to how far the run is, 0 to 1, and with it the rate of the next optimizer step.

        Where there are several clocks, by name, the one that is furthest counts.

        Raises:
            InputError: If progress is not a number.
        """
        if math.isnan(progress):
            raise InputError("progress: how far the run is, 0 to 1; got nan")
        self._clocks[clock] = float(progress)
        self._set(max(self._clocks.values()))

    def _set(self, progress: float) -> None:
        self._progress = progress
        self._warm = self._warm or progress >= self.warmup
        if self.last_epoch < 0:  # waits in a SequentialLR for its milestone
            return
        self._take_in_new_groups()
        self._last_lr = self.get_lr()
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            if hasattr(group["lr"], "fill_"):  # a tensor rate, for a capturable or compiled optimizer
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def _take_in_new_groups(self) -> None:
        """A group added in mid-run, as finetuning callbacks do, has its rate as its peak."""
        for group in self.optimizer.param_groups[len(self.base_lrs) :]:
            self.base_lrs.append(float(group.setdefault("initial_lr", float(group["lr"]))))

    def _check_clock(self) -> None:
        if self._clocks:
            return
        now = [float(group["lr"]) for group in self.optimizer.param_groups]
        if not all(math.isclose(rate, mine, rel_tol=1e-6) for rate, mine in zip(now, self._last_lr, strict=False)):
            return  # somebody else sets the rates for now, such as Lightning's search for the best one
        self._blind_steps += 1
        if self._blind_steps > 1:
            raise InputError(_NO_CLOCK)

    def step(self, epoch: int | None = None) -> None:
        """Do nothing but count: the clock is not the number of calls.

        Raises:
            InputError: If nobody tells the time.
        """
        if self.last_epoch >= 0 and not self._clocks:
            raise InputError(_NO_CLOCK)
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        self._step_count = getattr(self, "_step_count", 0) + 1
        if self.last_epoch == 0:
            self._set(self._progress)

    def get_lr(self) -> list[Any]:
        """Return each param group's rate at the present progress."""
        return [float(base) * self.factor for base in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Return the clock and the peaks; warm-up, decay and shape are the code's to say, also after a resume."""
        return {
            "progress": self._progress,
            "warm": self._warm,
            "decay_start": self._decay_start,
            "base_lrs": [float(rate) for rate in self.base_lrs],
            "last_epoch": self.last_epoch,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take up a saved clock.

        Raises:
            InputError: If the optimizer has fewer param groups than the one that was saved.
        """
        groups, saved = len(self.optimizer.param_groups), len(state_dict["base_lrs"])
        if saved > groups:
            raise InputError(f"BudgetLR: the checkpoint has rates for {saved} param groups, the optimizer {groups}")
        self.base_lrs = list(state_dict["base_lrs"])
        self.last_epoch = state_dict["last_epoch"]
        self._warm, self._decay_start = state_dict["warm"], state_dict["decay_start"]
        self._set(state_dict["progress"])


def begin_branch(schedules: Sequence[BudgetLR], progress: float) -> bool:
    """Let each schedule's decay begin where its checkpoint stands; leave a branch that is resumed as it was.

    The schedules are as restored from the checkpoint, before any clock has told them the time, and `progress` says how
    far that is on the way to the branch's end. Returns whether a branch begins here, rather than being resumed.

    Raises:
        InputError: If there is nothing to bring down, or not from here.
    """
    if not schedules:
        raise InputError(
            "decay_to: configure_optimizers returns no scalestop.BudgetLR, so there is no rate to bring down"
        )
    if progress <= 0:
        raise InputError("decay_to: the run starts from nothing; give the trunk's checkpoint to fit, as ckpt_path")
    if all(schedule.is_branch for schedule in schedules):
        return False
    if progress >= 1:
        raise InputError(
            f"decay_to: the checkpoint has already seen {progress:.3g} times the branch's tokens; take an earlier one"
        )
    for schedule in schedules:
        if schedule.factor < 1:
            raise InputError(
                f"decay_to: at the checkpoint the rate is {schedule.factor:.3g} of its peak, not on its plateau; take "
                f"a checkpoint from after the warm-up and before the decay"
            )
        schedule.advance(progress)
        schedule.decay_from_here()
    return True
