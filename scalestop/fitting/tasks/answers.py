"""What a task is asked, and how it answers: the metric of a run, and the compute that reaches a value."""

from __future__ import annotations

from dataclasses import dataclass

from scalestop.units import human_count, human_flops


@dataclass(frozen=True)
class TaskForecast:
    """What a metric will read at the end of one run."""

    estimate: float
    """Median over the draws."""
    interval: tuple[float, float]
    """Where one new run's metric will lie: both steps, their form, the run's scatter and its noise."""
    answer_loss: float
    """Loss on the answers there."""
    answer_loss_interval: tuple[float, float]
    """Where one new run's will lie."""
    level: float
    """Share of the distribution inside the intervals."""
    predictable: bool
    """Whether the runs say anything of this metric beyond themselves."""
    warnings: tuple[str, ...] = ()
    """How far outside the fitted runs this is."""

    def __str__(self) -> str:
        low, high = self.interval
        doubt = "" if self.predictable else "; not predictable from these runs"
        return f"{self.estimate:.3f} ({self.level:.0%} of runs: {low:.3f} to {high:.3f}){doubt}"


@dataclass(frozen=True)
class Reach:
    """Where a metric reaches a value."""

    value: float
    """The value."""
    flops: float | None
    """Compute at which half of the draws have reached it, FLOPs; None if they do not within a millionfold."""
    num_params: float | None
    """N there."""
    num_tokens: float | None
    """D there."""
    interval: tuple[float, float | None]
    """Compute by which 5 % and 95 % of the draws have reached it, FLOPs; None where they do not."""
    never: float
    """Share of the draws that do not reach it within a millionfold of the dearest run's compute."""
    already: bool = False
    """Whether it is reached at the least compute of the runs, so that `flops` is an upper bound."""

    def __str__(self) -> str:
        if self.flops is None:
            return f"{self.value:g} is not reached: {self.never:.0%} of the draws stay below it however large the run"
        low, high = self.interval
        ends = f"{human_flops(low)} to {'never' if high is None else human_flops(high)}"
        return (
            f"{self.value:g} at {'or below ' if self.already else ''}{human_flops(self.flops)} (90 %: {ends}), "
            f"N {human_count(self.num_params or 0)}, D {human_count(self.num_tokens or 0)} tokens"
        )
