"""`scalestop report`: one self-contained page of a run, of a ladder, or of several runs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from scalestop.commands._parser import new_parser, parse
from scalestop.errors import InputError
from scalestop.files import as_path
from scalestop.laws import ScalingLaw, get_law
from scalestop.report.ladder_page import ReportedLadder, ladder_page
from scalestop.report.pages import Page, check_format, write_page
from scalestop.report.run_log import read_log
from scalestop.report.run_page import compare_page, run_page
from scalestop.report.run_plot import ReportedRun
from scalestop.run.record_files import read_records
from scalestop.run.records import FILE_NAME, RunRecord
from scalestop.run.score import score
from scalestop.run.seal import Forecast

_REFITS = 400
"""Refits for the intervals of the page's own fit; those of the forecast come with the ladder's law."""
_MOST_RUNS = 5
"""More runs than there are colours are not held against each other on one page."""


def run(words: Sequence[str]) -> int:
    """Write the page, and say where it is."""
    parser = new_parser("report", "One self-contained HTML page of a run, of a ladder, or of several runs compared.")
    add = parser.add_argument
    add("paths", type=str, nargs="+", help="a ladder's folder; or folders or records of runs, and seals of forecasts")
    add(
        "--law",
        type=str,
        default=None,
        help="law to judge runs by; the one that planned them if left out",
    )
    add("--out", type=str, default="report.html", help="where to write the page, .html or .md")
    options = parse(parser, words)
    out = as_path(options.out, "out")
    check_format(out)
    law = None if options.law is None else get_law(options.law)
    ladders = [path for path in options.paths if os.path.isfile(as_path(path, "paths") / "ladder.json")]
    if ladders and len(options.paths) > 1:
        raise InputError(f"paths: a ladder's page is its own; report {ladders[0]!r} alone")
    print(f"page saved: {write_page(_ladder(ladders[0]) if ladders else _runs(options.paths, law), out)}")
    return 0


def _runs(paths: Sequence[str], law: ScalingLaw | None) -> Page:
    runs: list[ReportedRun] = []
    seals = False
    for name, found in (pair for path in paths for pair in read_records(path)):
        if isinstance(found, Forecast):
            seals = True
        elif isinstance(found, RunRecord):
            path = Path(name)
            log = read_log(path.parent) if path.name == FILE_NAME else None
            runs.append(ReportedRun(_short(path), found, *([] if log is None else [log])))
        else:
            raise InputError(f"paths: {name}: {found}")
    if not runs:
        raise InputError(
            f"paths: there is no record of a run in {', '.join(paths)}" + (", only seals" if seals else "")
        )
    if len(runs) > _MOST_RUNS:
        raise InputError(f"paths: at most {_MOST_RUNS} runs are compared on one page; got {len(runs)}")
    scored = score(list(paths))
    names = Counter(run.name for run in runs)
    runs = [r if names[r.name] == 1 else replace(r, name=f"{r.name} ({i + 1})") for i, r in enumerate(runs)]
    return run_page(runs[0], law, scored) if len(runs) == 1 else compare_page(runs, law, scored)


def _short(path: Path) -> str:
    """A run's name on a page: that of its folder, with the one above where loggers count versions; or of its file."""
    if path.name != FILE_NAME:
        return path.stem
    folder = path.resolve().parent
    return f"{folder.parent.name}/{folder.name}" if folder.name.startswith("version_") else folder.name


def _ladder(folder: str) -> Page:
    # only here, as a ladder's plan needs torch
    from scalestop.fitting import fit_law
    from scalestop.fitting.tables.read import read_runs
    from scalestop.ladder.show import describe_recipe
    from scalestop.ladder.store import Ladder
    from scalestop.ladder.table import run_rows

    ladder = Ladder.load(folder)
    rows, diverged = run_rows(ladder)
    if not any(not row["held_out"] for row in rows):
        raise InputError(f"paths: no pilot of {folder} has a loss yet; train it with scalestop ladder")
    fit = fit_law(rows, bootstrap=_REFITS, name=ladder.settings.name)
    path = ladder.folder / "law.json"
    ended = Counter(rung.kind for rung in ladder.rungs if ladder.is_done(rung))
    spent = [
        (_KINDS[kind], count, float(sum(r.new_flops for r in ladder.rungs if r.kind == kind and ladder.is_done(r))))
        for kind, count in ended.items()
    ]
    table = read_runs(rows)
    held = table.take([row["kind"] in ("held out", "valley") for row in rows])
    missing = len(ladder.rungs) - sum(ended.values())
    notes = [describe_recipe(ladder.settings), *(f"left out: {gone.run} {gone.message}" for gone in diverged)]
    if missing:
        notes.insert(0, f"{missing} of {len(ladder.rungs)} runs are not done yet")
    return ladder_page(
        ReportedLadder(
            name=ladder.settings.name,
            fit=fit,
            law=get_law(path) if path.is_file() else fit.law,
            held_out=held,
            spent=tuple(spent),
            target_flops=float(ladder.target_flops),
            notes=tuple(notes),
            law_path=str(path),
        )
    )


_KINDS = {
    "run": "pilots and held out",
    "below": "below the fit",
    "sweep": "learning rates",
    "valley": "valley",
    "trunk": "trunks",
    "branch": "branches",
}
