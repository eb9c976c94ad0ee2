"""`scalestop ladder`: small runs, your own law, and the forecast of the big run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from jsonargparse import ArgumentParser

from scalestop.commands._console import new_console
from scalestop.commands._parser import new_parser, parse
from scalestop.errors import InputError, shown
from scalestop.files import as_path
from scalestop.ladder.finish import finish
from scalestop.ladder.forecast import describe_accuracy
from scalestop.ladder.launch import Launcher, launch
from scalestop.ladder.plan import plan_ladder
from scalestop.ladder.run import with_seconds
from scalestop.ladder.settings import TEXT_DATA, LadderSettings
from scalestop.ladder.show import plan_summary, plan_table
from scalestop.ladder.store import Ladder

_LEAST_COLUMNS = 110
_NOT_SETTINGS = ("config", "dry_run", "launcher", "workers", "threads", "slurm", "ray", "wait")


def run(words: Sequence[str]) -> int:
    """Plan and train a ladder, or go on with one, then fit it; or only fit the one in a folder, or work at it."""
    if words and words[0] == "fit":
        return _fit(words[1:])
    if words and words[0] == "work":
        return _work(words[1:])
    options = parse(_parser(), words)
    # what is printed for a shell stands alone on standard output
    console = new_console(_LEAST_COLUMNS, stderr=options.launcher == "print" and not options.dry_run)
    values = {name: value for name, value in options.as_dict().items() if name not in _NOT_SETTINGS}
    values["model"] = _class(values["model"])
    values["data"] = _data(values["data"])
    settings = LadderSettings(**values)
    _use_threads(options.threads)
    plan = plan_ladder(settings)
    plan = replace(plan, rungs=tuple(with_seconds(settings, plan.rungs)))
    console.print(plan_table(plan), soft_wrap=False)
    console.print(plan_summary(plan, options.workers), highlight=False, markup=False)
    console.print(describe_accuracy(plan), highlight=False, markup=False)
    if options.dry_run:
        return 0
    ladder = Ladder.open(plan)
    parameters = options.ray if options.launcher == "ray" else options.slurm
    missing = launch(ladder, options.launcher, options.workers, console, parameters, options.wait)
    if missing and (options.launcher == "print" or (options.launcher == "slurm" and not options.wait)):
        console.print(f"when they are done: scalestop ladder fit {ladder.folder}", highlight=False, markup=False)
        return 0
    if missing:
        raise InputError(
            f"out: {len(missing)} of {len(ladder.rungs)} runs did not end: {', '.join(missing[:5])}; see error.txt in "
            f"{ladder.folder / 'work'}/NAME. The same command goes on with them"
        )
    finish(ladder, console)
    return 0


def _fit(words: Sequence[str]) -> int:
    parser = new_parser("ladder fit", "Fit the finished runs of a ladder, and forecast its target.")
    parser.add_argument("out", type=str, help="the ladder's folder")
    options = parse(parser, words)
    finish(Ladder.load(options.out), new_console(_LEAST_COLUMNS))
    return 0


def _work(words: Sequence[str]) -> int:
    from scalestop.ladder.work import work

    parser = new_parser("ladder work", "Train one rung of a ladder, or whatever is free; ends when that is done.")
    parser.add_argument("out", type=str, help="the ladder's folder")
    parser.add_argument("rung", type=str, nargs="?", default=None, help="its name; left out, rung after rung")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads")
    options = parse(parser, words)
    _use_threads(options.threads)
    failed = work(Ladder.load(options.out), stay=options.rung is None, only=options.rung)
    return 1 if failed else 0


def _use_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        if threads < 1:
            raise InputError(f"threads: must be at least 1; got {threads}")
        torch.set_num_threads(threads)


def _parser() -> ArgumentParser:
    parser = new_parser("ladder", "Train a ladder of small runs, fit your own law to it, and forecast the big run.")
    parser.add_class_arguments(LadderSettings, skip={"model", "data"}, fail_untyped=False)
    add = parser.add_argument
    add("--model", type=str | dict, default=LadderSettings().model, help="a LightningModule: class_path, init_args")
    add("--data", type=str | dict, default=LadderSettings().data, help="a folder of text, or a datamodule's class_path")
    add("--dry_run", "--dry-run", action="store_true", help="print the table of runs and stop")
    add("--launcher", type=Launcher, default="local", help="where the workers run; print: one command a rung")
    add("--workers", type=int, default=1, help="processes, or array tasks, that train at once")
    add("--threads", type=int, default=None, help="CPU threads of the only worker; several share the cores")
    add("--slurm", type=dict, default={}, help="parameters for submitit, such as --slurm.slurm_partition gpu")
    add("--ray", type=dict, default={}, help="options of Ray's tasks, such as --ray.num_gpus 1; and its address")
    add("--wait", type=bool, default=True, help="whether to wait for the array and fit at its end")
    return parser


def _class(given: Any) -> dict[str, Any]:
    """Read a class: its path, or its path with arguments, which jsonargparse may have put beside the path."""
    if isinstance(given, str):
        return {"class_path": given}
    beside = {name: value for name, value in given.items() if name not in ("class_path", "init_args")}
    found = {name: value for name, value in given.items() if name not in beside}
    return {**found, "init_args": {**(given.get("init_args") or {}), **beside}} if beside else found


def _data(given: Any) -> dict[str, Any]:
    """Read what `--data` says: a path of text, or a class."""
    if not isinstance(given, str):
        return _class(given)
    path = as_path(given, "data")
    if os.path.isfile(path) or os.path.isdir(path):  # of a name too long, Path's own methods raise
        return {"class_path": TEXT_DATA, "init_args": {"path": str(path.resolve())}}
    if "/" in given or "." not in given:
        raise InputError(
            f"data: no file or folder at {shown(given)}; give an existing one, or a datamodule's class_path"
        )
    return _class(given)
