"""`scalestop watch`: how far a run or a ladder is, from what it writes while it goes."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.live import Live
from rich.table import Table

from scalestop.commands._console import new_console
from scalestop.commands._parser import new_parser, parse
from scalestop.errors import InputError
from scalestop.files import as_path
from scalestop.report.run_log import FILE_NAME as LOG
from scalestop.report.run_log import RunLog, read_log
from scalestop.run.records import FILE_NAME as RECORD
from scalestop.run.records import RunRecord
from scalestop.units import human_count, human_flops, human_seconds

_WIDTH = 30
"""Characters of a bar."""


def run(words: Sequence[str]) -> int:
    """Show a run or a ladder until it has ended, or once."""
    parser = new_parser("watch", "A live run or ladder in the terminal: budget, time left, rate, loss.")
    add = parser.add_argument
    add("folder", type=str, help="a run's folder, a folder of runs, whose newest is shown, or a ladder's")
    add("--every", type=float, default=2.0, help="seconds between two looks")
    add("--once", action="store_true", help="show it once and end")
    options = parse(parser, words)
    if not options.every > 0:
        raise InputError(f"every: a positive number of seconds; got {options.every!r}")
    look = _look_at(as_path(options.folder, "folder"))
    console = new_console()
    if options.once:
        console.print(look()[0])
        return 0
    with contextlib.suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        while True:
            shown, ended = look()
            live.update(shown, refresh=True)
            if ended:
                break
            time.sleep(options.every)
    return 0


Look = Callable[[], tuple[Table, bool]]


def _look_at(folder: Path) -> Look:
    """Return what to look at, which answers what to show and whether it has ended.

    Raises:
        InputError: If there is neither a ladder nor a run.
    """
    if os.path.isfile(folder / "ladder.json"):
        return _ladder(folder)
    if not os.path.isdir(folder):
        raise InputError(f"folder: there is no folder {folder}")
    logs = [path for name in (LOG, RECORD) for path in folder.rglob(name)]
    if not logs:
        raise InputError(
            f"folder: no {LOG} and no {RECORD} in {folder}; a run writes them with Lightning's CSVLogger, as scalestop "
            f"train does"
        )
    newest = max(logs, key=lambda path: path.stat().st_mtime).parent
    return lambda: show_run(newest)


def show_run(folder: Path) -> tuple[Table, bool]:
    """Return what to show of a run, and whether it has ended.

    Args:
        folder: Where it logs.
    """
    log = read_log(folder)
    record = RunRecord.load(folder / RECORD) if (folder / RECORD).is_file() else None
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column()
    table.add_row("run", str(folder))
    for name, key in (("budget", "budget_used"), ("optimum", "optimum_reached")):
        if (share := log.own(key)) is not None:
            table.add_row(name, bar(share))
    if (tokens := log.own("tokens")) is not None:
        text = f"{human_count(tokens)} tokens"
        if (flops := log.own("flops")) is not None:
            text += f", {human_flops(flops)}"
        table.add_row("used", text)
    for name, text in _pace(log):
        table.add_row(name, text)
    losses = [f"{name} {value:.4f}" for name in ("train_loss", "val_loss") if (value := log.last(name)) is not None]
    if (predicted := log.own("loss_predicted")) is not None:
        losses.append(f"{predicted:.4f} if it ended here, by its law")
    if losses:
        table.add_row("loss", ", ".join(losses))
    if (ahead := log.own("loss_forecast")) is not None:
        low, high = log.own("loss_forecast_low"), log.own("loss_forecast_high")
        span = "" if low is None or high is None else f" ({low:.4f} to {high:.4f})"
        table.add_row("forecast", f"{ahead:.4f}{span} at its end, by the run so far")
    if record is not None:
        end = f"{record.stop_reason}: {record.message}" if record.message else record.stop_reason
        table.add_row("ended", end if record.loss is None else f"{end}; loss {record.loss:.4f}")
    elif not log.series:
        table.add_row("", "nothing is logged yet")
    return table, record is not None


def _pace(log: RunLog) -> list[tuple[str, str]]:
    rows = []
    hours, flops, mfu = log.own("device_hours"), log.own("flops"), log.own("mfu")
    if hours and flops:
        rate = f"{human_flops(flops / hours / 3600)}/s a device"
        rows.append(("rate", rate if mfu is None else f"{rate}, MFU {mfu:.1%}"))
    if (left := log.own("eta_seconds")) is not None:
        rows.append(("left", human_seconds(left)))
    return rows


def _ladder(folder: Path) -> Look:
    # only here, as a ladder's plan needs torch
    from scalestop.ladder.show import Watcher
    from scalestop.ladder.store import DIVERGED, Ladder

    watcher = Watcher(Ladder.load(folder), workers=1)

    def look() -> tuple[Table, bool]:
        ladder = watcher.ladder
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold")
        table.add_column()
        done = [rung for rung in ladder.rungs if ladder.is_done(rung)]
        table.add_row("ladder", f"{folder}: {len(done)} of {len(ladder.rungs)} runs")
        table.add_row("done", bar(watcher.done() / watcher.total if watcher.total else 1.0))
        if (left := watcher.seconds_left()) is not None:
            table.add_row("left", f"{human_seconds(left)} at the pace since this began to watch")
        for rung in ladder.rungs:
            if 0 < (share := watcher.share_done(rung)) < 1:
                table.add_row(rung.name, bar(share))
        for rung in done[-5:]:
            record = ladder.record(rung)
            if record is not None:
                lost = record.stop_reason == DIVERGED or record.loss is None
                table.add_row(rung.name, record.message if lost else f"loss {record.loss:.4f}")
        return table, len(done) == len(ladder.rungs)

    return look


def bar(share: float) -> str:
    """Return a share as a bar and a percentage: `━━━━━━────  60.0 %`."""
    full = round(_WIDTH * min(max(share, 0.0), 1.0))
    return f"{'━' * full}{'─' * (_WIDTH - full)} {share:.1%}"
