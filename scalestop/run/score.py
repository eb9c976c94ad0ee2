"""`score`: runs that have ended, held against what was forecast before they began."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scalestop.errors import InputError
from scalestop.laws import ScalingLaw, get_law, list_laws
from scalestop.run.record_files import read_records
from scalestop.run.records import RunRecord
from scalestop.run.seal import Forecast

FACTORS = (1.0, 3.0, 10.0, 30.0, 100.0)
"""Edges of the extrapolation factors that are summed up together."""
SAME_LENGTH = 0.02
"""A run that ended further than this from the tokens forecast, as a share of them, is another run."""


@dataclass(frozen=True)
class ScoredRun:
    """One run against its forecast."""

    name: str
    """The run, or the file of its record."""
    flops: float
    """Compute used, FLOPs."""
    measured: float
    """Final loss, nats per token; not finite if the run diverged."""
    forecast: float
    """Loss forecast, nats per token."""
    interval: tuple[float, float] | None
    """Where 90 % of runs should have ended; None where the forecast had none."""
    factor: float | None
    """Compute over the largest that the law was fitted to; None where that is not known."""
    sealed: bool = False
    """Whether the forecast is that of an intact seal, older than the run."""
    remark: str = ""
    """What is wrong with a seal for this run."""

    @property
    def miss(self) -> float:
        """Measured less forecast, nats per token: above 0, the run came out worse."""
        return self.measured - self.forecast

    @property
    def relative(self) -> float:
        """The miss as a share of the forecast."""
        return self.miss / self.forecast

    @property
    def inside(self) -> bool | None:
        """Whether the interval holds the loss; None without an interval. A run that diverged is outside."""
        if self.interval is None:
            return None
        return self.interval[0] <= self.measured <= self.interval[1]

    def __str__(self) -> str:
        span = ""
        if self.interval is not None:
            span = f", {'inside' if self.inside else 'OUTSIDE'} {self.interval[0]:.4f} to {self.interval[1]:.4f}"
        far = "" if self.factor is None else f", x{self.factor:.3g}"
        notes = "".join(f"; {note}" for note in ("sealed" if self.sealed else "", self.remark) if note)
        if not math.isfinite(self.measured):
            return f"{self.name}: diverged, against {self.forecast:.4f}{span}{far}{notes}"
        return (
            f"{self.name}: {self.measured:.4f} against {self.forecast:.4f} ({self.miss:+.4f}, {self.relative:+.2%})"
            f"{span}{far}{notes}"
        )


@dataclass(frozen=True)
class Tally:
    """Runs summed up."""

    label: str
    """Which runs, such as 'x3 to x10'."""
    count: int
    """How many."""
    with_interval: int
    """How many of them had an interval."""
    inside: int
    """How many of those ended inside it."""
    mean_miss: float
    """Mean of measured less forecast, nats per token; NaN if every run diverged."""
    mean_abs_miss: float
    """Mean of its size, nats per token."""
    mean_relative: float
    """Mean of the miss as a share of the forecast."""
    mean_abs_relative: float
    """Mean of its size."""

    @property
    def share_inside(self) -> float | None:
        """Share inside the 90 % interval; None if no run had one."""
        return self.inside / self.with_interval if self.with_interval else None

    @property
    def share_interval(self) -> tuple[float, float] | None:
        """What the share could be with as many runs: its 90 % interval (Wilson 1927); None if no run had one."""
        return wilson(self.inside, self.with_interval) if self.with_interval else None


@dataclass(frozen=True)
class Score:
    """Runs against their forecasts."""

    runs: tuple[ScoredRun, ...] = field(repr=False)
    """Those that could be scored, by compute."""
    left_out: tuple[str, ...] = ()
    """Those that could not, each with its reason."""
    seals: tuple[str, ...] = ()
    """Seals that no run was found for, each with what became of it."""

    @property
    def all(self) -> Tally:
        """Every run."""
        return tally("all", self.runs)

    def by_factor(self) -> tuple[Tally, ...]:
        """Sum up by how far beyond the law's runs each one lay; empty groups are left out."""
        edges = (0.0, *FACTORS, math.inf)
        found = []
        for low, high in itertools.pairwise(edges):
            group = [run for run in self.runs if run.factor is not None and low < run.factor <= high]
            label = (
                f"up to x{high:g}" if low == 0 else f"over x{low:g}" if high == math.inf else f"x{low:g} to x{high:g}"
            )
            found.append(tally(label, group))
        found.append(tally("not known", [run for run in self.runs if run.factor is None]))
        return tuple(part for part in found if part.count)

    def __str__(self) -> str:
        lines = [f"{'extrapolation':14}{'runs':>5}  {'inside 90 %':<22}{'mean miss':<22}{'mean size'}"]
        for part in (*self.by_factor(), self.all):
            share, could = part.share_inside, part.share_interval
            held = "no interval"
            if share is not None and could is not None:
                held = f"{part.inside}/{part.with_interval} = {share:.0%} ({could[0]:.0%}-{could[1]:.0%})"
            lines.append(
                f"{part.label:14}{part.count:>5}  {held:<22}{part.mean_miss:+.4f} ({part.mean_relative:+.2%})".ljust(65)
                + f"{part.mean_abs_miss:.4f} ({part.mean_abs_relative:.2%})"
            )
        lines += [str(run) for run in self.runs]
        lines += [f"left out: {reason}" for reason in self.left_out]
        lines += [f"seal: {reason}" for reason in self.seals]
        return "\n".join(lines)


def score(
    records: Any,
    *,
    laws: Iterable[str | Path | ScalingLaw] = (),
    expect: Iterable[str] = (),
) -> Score:
    """Hold runs against what was forecast before their first step.

    A run's forecast is the one in its record, or that of a seal for it that is intact and older than the run.

    Args:
        records: Run records and seals: files, folders, globs, `RunRecord`s, `Forecast`s, mappings, or a list of those.
        laws: Laws of one's own, whose range of compute says how far a run extrapolates; built-in ones are known.
        expect: Digests of seals as they were written down at the time; a seal with another digest does not count.

    Raises:
        InputError: If nothing is there, or no run can be scored.
    """
    ranges = {law.name: law.info.valid.flops for law in map(get_law, laws)}
    written = set(expect)
    runs: dict[Any, tuple[str, RunRecord]] = {}
    left_out, seals = [], []
    for name, item in read_records(records):
        if isinstance(item, Forecast):
            seals.append((name or item.digest[:12], item))
        elif isinstance(item, str):
            left_out.append(f"{name}: {item}")
        else:
            # a run that is named twice, as in a folder and by its file, counts once
            runs.setdefault((item.run, item.num_tokens) if item.run else len(runs), (name, item))
    scored = []
    used: set[str] = set()
    for name, record in runs.values():
        mine = [(path, seal) for path, seal in seals if _is_for(seal, record)]
        used |= {path for path, _ in mine}
        result = _score(name, record, mine, ranges, written)
        if isinstance(result, str):
            left_out.append(f"{name}: {result}")
        else:
            scored.append(result)
    if not scored:
        reasons = "; ".join(left_out[:5]) or "no run record is among them"
        raise InputError(f"records: no run can be held against a forecast: {reasons}")
    waiting = [f"{path}: {_state(seal, None, written) or 'no run of this size and length yet'}"
               for path, seal in seals if path not in used]  # fmt: skip
    return Score(tuple(sorted(scored, key=lambda run: run.flops)), tuple(left_out), tuple(waiting))


def tally(label: str, runs: Sequence[ScoredRun]) -> Tally:
    """Sum runs up; the mean misses leave out those that diverged."""
    held = [run.inside for run in runs if run.inside is not None]
    ended = [run for run in runs if math.isfinite(run.measured)]

    def mean(values: Iterable[float]) -> float:
        listed = list(values)
        return math.fsum(listed) / len(listed) if listed else math.nan

    return Tally(
        label=label,
        count=len(runs),
        with_interval=len(held),
        inside=sum(held),
        mean_miss=mean(run.miss for run in ended),
        mean_abs_miss=mean(abs(run.miss) for run in ended),
        mean_relative=mean(run.relative for run in ended),
        mean_abs_relative=mean(abs(run.relative) for run in ended),
    )


def wilson(successes: int, trials: int, z: float = 1.6448536269514722) -> tuple[float, float]:
    """Return the interval of a share (Wilson 1927); z 1.645 for 90 %."""
    share = successes / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / (1 + z * z / trials)
    return max(0.0, middle - half), min(1.0, middle + half)


def _score(
    name: str,
    record: RunRecord,
    seals: Sequence[tuple[str, Forecast]],
    ranges: Mapping[str, tuple[float, float] | None],
    written: set[str],
) -> ScoredRun | str:
    """Return the run against its forecast, or why it has none."""
    if record.loss is None:
        return "no loss was logged"
    shown = name or record.run or f"N {record.num_params:,}, D {record.num_tokens:,}"
    states = [(path, seal, _state(seal, record, written)) for path, seal in seals]
    remark = "; ".join(f"seal {path} {state}" for path, _, state in states if state)
    good = sorted((seal for _, seal, state in states if not state), key=lambda seal: seal.created)
    if good:
        first = good[0]  # what was said first is held against the run, not what was said better later
        return ScoredRun(shown, record.flops, record.loss, first.loss, first.loss_interval, first.factor, True, remark)
    plan = record.plan
    forecast, tokens = plan.get("loss_at_stop"), plan.get("stop_tokens")
    if forecast is None or not tokens:
        return f"its record has no forecast{'; ' + remark if remark else ''}"
    if abs(record.num_tokens / tokens - 1) > SAME_LENGTH:
        return f"it ended at {record.num_tokens:,} tokens, and the forecast was for {tokens:,}"
    span = plan.get("loss_interval")
    known = ranges.get(record.law)
    if known is None and record.law in list_laws():
        known = get_law(record.law).info.valid.flops
    return ScoredRun(
        name=shown,
        flops=record.flops,
        measured=record.loss,
        forecast=float(forecast),
        interval=None if span is None else (float(span[0]), float(span[1])),
        factor=None if known is None else 6 * record.num_params * record.num_tokens / known[1],
        remark=remark,
    )


def _is_for(seal: Forecast, record: RunRecord) -> bool:
    """Whether a seal is for this run: by its name where it gives one, and by size and length."""
    if seal.run and seal.run != record.run:
        return False
    return seal.num_params == record.num_params and abs(record.num_tokens / seal.num_tokens - 1) <= SAME_LENGTH


def _state(seal: Forecast, record: RunRecord | None, written: set[str]) -> str:
    """Say why a seal does not count; empty if it does."""
    if not seal.intact:
        return "is broken: its digest is not that of its content"
    if written and seal.digest not in written:
        return "is not one of those that were written down: its digest is another"
    if record is None:
        return ""
    if record.started is None:
        return "cannot be held against the run, whose record does not say when it began"
    if _time(seal.created) >= _time(record.started):
        return f"is younger than the run: made {seal.created}, and the run began {record.started}"
    return ""


def _time(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
