"""A ladder on the terminal: its table, and how far it is."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from scalestop.ladder.plan import LadderPlan
from scalestop.ladder.rung import Rung
from scalestop.ladder.settings import LadderSettings
from scalestop.ladder.store import DIVERGED, Ladder
from scalestop.units import human_count, human_flops, human_seconds

_POLL_SECONDS = 0.5


def plan_table(plan: LadderPlan) -> Table:
    """Return the rungs, one line for all seeds of one rung, with each one's time and share of the target's compute."""
    table = Table(header_style="bold", box=SIMPLE_HEAD)
    for column in ("budget", "N", "shape", "D", "D/N", "batch", "steps", "lr", "runs", "time", "of target"):
        table.add_column(column, justify="right", no_wrap=True)
    groups: dict[tuple[object, ...], list[Rung]] = {}
    for rung in plan.rungs:
        groups.setdefault((rung.kind, rung.held_out, rung.budget, rung.num_params, rung.lr), []).append(rung)
    for members in groups.values():
        rung, count = members[0], len(members)
        mark = "" if rung.kind == "run" else f" {'rate' if rung.kind == 'sweep' else rung.kind}"
        times = [member.seconds for member in members if member.seconds is not None]
        table.add_row(
            "trunk" if rung.kind == "trunk" else human_flops(rung.budget).removesuffix(" FLOPs"),
            f"{rung.num_params:,}",
            rung.shape,
            human_count(rung.num_tokens),
            f"{rung.num_tokens / rung.num_params:.3g}",
            f"{rung.batch_size}",
            f"{rung.steps:,}",
            f"{rung.lr:.2g}",
            f"{count}{mark}" + (" held out" if rung.kind == "run" and rung.held_out else ""),
            human_seconds(sum(times)) if times else "?",
            f"{sum(member.new_flops for member in members) / plan.target_flops:.2%}",
            style="dim" if rung.kind in ("trunk", "sweep") else "cyan" if rung.held_out else "",
        )
    return table


def plan_summary(plan: LadderPlan, workers: int = 1) -> str:
    """Return the ladder's totals in words."""
    settings = plan.settings
    lines = [
        f"target {human_flops(plan.target_flops)}; prior law {settings.prior.name}, which only places the sizes",
        f"{len(plan.pilots)} pilots spend {human_flops(plan.flops)}, {plan.share:.1%} of the target's compute",
        *(() if plan.share <= 0.2 else ("note: pilots usually spend 10 to 20 % of the target's compute",)),
        describe_recipe(settings),
    ]
    if settings.trunk:
        saved = 1 - plan.flops / plan.independent_flops
        lines.append(
            f"trunks and branches: independent runs would spend {human_flops(plan.independent_flops)}; "
            f"{saved:.0%} is saved"
        )
    if plan.held_out:
        spent = sum(rung.new_flops for rung in plan.held_out)
        most = max(rung.budget for rung in plan.held_out) / max(rung.budget for rung in plan.pilots)
        lines.append(
            f"{len(plan.held_out)} held out beside them, for {human_flops(spent)} more, up to {most:.3g} times the "
            f"dearest pilot's budget"
        )
    if cheap := [rung for rung in plan.rungs if rung.kind == "below"]:
        spent = sum(rung.new_flops for rung in cheap)
        lines.append(f"{len(cheap)} below fit_from, for {human_flops(spent)} more, show how far down the law holds")
    if plan.seconds is not None:
        how = "at the stated speed" if settings.speed else "by a few measured steps of each size"
        each = f", {human_seconds(plan.seconds / workers)} on {workers} workers" if workers > 1 else ""
        lines.append(f"predicted time {human_seconds(plan.seconds)}{each}, {how}")
    return "\n".join(lines)


def describe_recipe(settings: LadderSettings) -> str:
    """Return in words how a ladder's runs are trained."""
    batch = f"batch for {settings.steps:,} steps" if settings.steps else "batch growing as D^0.6"
    return (
        f"learning rate {settings.lr_scale:g} / width^{settings.lr_power:g} at {settings.lr_tokens:,.0f} tokens a "
        f"step, growing as batch^{settings.lr_batch_power:g}, up over {settings.warmup:.0%} of a run, down over its "
        f"last {settings.decay:.0%}; {batch}"
    )


class Watcher:
    """Tells from a ladder's folder how far it is, whoever works at it.

    Args:
        ladder: The ladder.
        workers: Workers at it, for the time left.
        clock: Seconds from an arbitrary start; for tests.
    """

    def __init__(self, ladder: Ladder, workers: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.ladder, self.workers, self.clock = ladder, workers, clock
        self.total = sum(self._cost(rung) for rung in ladder.rungs)
        self._begun_at, self._begun_with = clock(), self.done()
        self._told = {rung.name for rung in ladder.rungs if ladder.is_done(rung)}

    def _cost(self, rung: Rung) -> float:
        """What a rung weighs in the progress: its predicted seconds; FLOPs where no speed is known."""
        known = all(other.seconds is not None for other in self.ladder.rungs)
        return float(rung.seconds or 0.0) if known else float(rung.new_flops)

    def done(self) -> float:
        """How much is done, in the unit of `total`."""
        return sum(self._cost(rung) * self.share_done(rung) for rung in self.ladder.rungs)

    def share_done(self, rung: Rung) -> float:
        """How far a rung is, 0 to 1."""
        if self.ladder.is_done(rung):
            return 1.0
        try:
            tokens = int((self.ladder.work(rung) / "progress").read_text())
        except (OSError, ValueError):
            return 0.0
        own = rung.num_tokens - rung.start_tokens
        return min(max(tokens - rung.start_tokens, 0) / own, 1.0)

    def seconds_left(self) -> float | None:
        """Time left at the pace so far; None before there is one."""
        done = self.done()
        gained, passed = done - self._begun_with, self.clock() - self._begun_at
        return (self.total - done) * passed / gained if gained > 0 and passed > 0 else None

    def news(self) -> Iterator[str]:
        """Yield a line for each rung that has ended since the last call."""
        for rung in self.ladder.rungs:
            if rung.name in self._told or (record := self.ladder.record(rung)) is None:
                continue
            self._told.add(rung.name)
            seconds = None if rung.kind == "branch" else record.usage.get("seconds")  # a branch's has its trunk's in it
            took = f", {human_seconds(float(seconds))}" if seconds else ""
            end = record.message if record.stop_reason == DIVERGED else f"loss {record.loss:.4f}{took}"
            yield f"[{len(self._told)}/{len(self.ladder.rungs)}] {rung.name}: {end}"


@contextmanager
def progress_shown(ladder: Ladder, workers: int, console: Console) -> Iterator[None]:
    """Show progress over all rungs, with the time left, while the block runs.

    Args:
        ladder: The ladder.
        workers: Workers at it.
        console: Where to show it.
    """
    watcher = Watcher(ladder, workers)
    ended = threading.Event()
    columns: Sequence[TextColumn | BarColumn | TimeElapsedColumn] = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("rungs", total=max(watcher.total, 1.0), left="")

        def look() -> None:
            left = watcher.seconds_left()
            eta = "" if left is None else f"{human_seconds(left)} left"
            names = [rung.name for rung in ladder.rungs if 0 < watcher.share_done(rung) < 1]
            bar.update(task, completed=watcher.done(), left=eta, description=", ".join(names[:4]) or "rungs")
            for line in watcher.news():
                bar.console.print(line + (f" ({eta})" if eta else ""), highlight=False, markup=False, soft_wrap=True)

        def keep_looking() -> None:
            while not ended.wait(_POLL_SECONDS):
                with contextlib.suppress(Exception):  # it only shows; the end looks once more
                    look()

        thread = threading.Thread(target=keep_looking, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            look()
