"""`scalestop score`: runs against what was forecast for them before they began. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from scalestop.commands._json import as_json
from scalestop.commands._parser import new_parser, parse
from scalestop.run.score import Score, Tally, score


def run(words: Sequence[str]) -> int:
    """Print a scoreboard, or its JSON, and draw it where asked."""
    parser = new_parser("score", "Hold the records of runs against what was forecast before their first step.")
    add = parser.add_argument
    add("records", type=str, nargs="+", help="files, folders or globs of run records and seals")
    add(
        "--law",
        type=str,
        nargs="+",
        default=[],
        help="files of your own laws, whose range tells how far a run lay beyond",
    )
    add("--expect", type=str, nargs="+", default=[], help="digests of seals, as written down when they were made")
    add("--plot", type=str, default=None, help="where to save the picture (.png, .svg, .pdf)")
    add("--json", action="store_true", help="print JSON")
    options = parse(parser, words)
    found = score(options.records, laws=options.law, expect=options.expect)
    print(as_json(score_to_dict(found)) if options.json else str(found))
    if options.plot is not None:
        from scalestop.report.score_plot import plot_score

        plot_score(found, options.plot)
        if not options.json:
            print(f"picture saved: {options.plot}")
    return 0


def score_to_dict(found: Score) -> dict[str, Any]:
    """Return a scoreboard as plain data."""
    runs = [{**asdict(run), "miss": run.miss, "relative": run.relative, "inside": run.inside} for run in found.runs]
    data = {
        "all": _tally(found.all),
        "by_factor": [_tally(part) for part in found.by_factor()],
        "runs": runs,
        "left_out": list(found.left_out),
        "seals": list(found.seals),
    }
    return data


def _tally(part: Tally) -> dict[str, Any]:
    return {**asdict(part), "share_inside": part.share_inside, "share_interval": part.share_interval}
