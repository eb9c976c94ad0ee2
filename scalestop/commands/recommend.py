"""`scalestop recommend`: the one-page recommendation for the next budget. Loads no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scalestop.commands._parser import build, new_parser, parse
from scalestop.commands.plan import add_speed, count, speed_of
from scalestop.errors import InputError
from scalestop.files import as_path
from scalestop.laws import Provenance, ScalingLaw
from scalestop.planning.advice import hold_against, recommend
from scalestop.planning.advice.recommendation import Evidence, Recommendation
from scalestop.planning.advice.shapes import STYLES
from scalestop.planning.budget import Budget
from scalestop.planning.choice import AUTO, LawChoice, need_law, resolve_law
from scalestop.report.pages import check_format, write_page


def run(words: Sequence[str]) -> int:
    """Print the recommendation, or its JSON, and write its page where asked."""
    parser = new_parser("recommend", "What to train for the next budget: decision, why, alternatives, risks, commands.")
    add = parser.add_argument
    add("--budget", type=str, help="what the run may spend: '1e21 FLOPs', '8 GPU-hours', '72h', '500 USD'")
    add("--law", type=str, default=None, help="name of a law, or its file; the nearest built-in one if left out")
    add(
        "--runs",
        type=str,
        nargs="+",
        default=[],
        help="your runs, to fit the law to, or to hold --law against",
    )
    add("--demand", type=str, default=None, help="tokens served over the lifetime, such as 2T")
    add("--unique_tokens", type=str, default=None, help="unique tokens there are, such as 25B")
    add_speed(parser)
    add("--style", type=str, default=STYLES[-1], help=f"blocks of the suggested shape: {' or '.join(STYLES)}")
    add("--vocab_size", type=int, default=32_000, help="its vocabulary")
    add("--context", type=int, default=2048, help="its context")
    add("--run", type=Provenance | None, default=None, help="text and recipe of the run, held against the law's")
    add("--out", type=str, default=None, help="where to write the page, .html or .md")
    add("--json", action="store_true", help="print JSON")
    options = parse(parser, words)
    if options.budget is None:
        raise InputError("budget: missing; write for example: scalestop recommend --budget '1e21 FLOPs'")
    if options.out is not None:
        check_format(as_path(options.out, "out"))  # before minutes of fitting
    speed = speed_of(options)
    budget = Budget.parse(options.budget)
    evidence = None
    if options.runs and options.law is None:
        choice, evidence = _fitted(options.runs)
        named = "law.json"
    else:
        choice = resolve_law(options.law or AUTO, budget, speed=speed)
        named = options.law if options.law not in (None, AUTO) else choice.name
        if options.runs:
            evidence = _held(need_law(choice, "runs"), _read(options.runs, held_out=False), "runs")
    law = need_law(choice, "a recommendation")
    found = recommend(
        budget,
        choice,
        demand=None if options.demand == "0" else count(options.demand, "demand"),
        unique_tokens=count(options.unique_tokens, "unique_tokens"),
        speed=speed,
        style=options.style,
        vocab_size=options.vocab_size,
        context=options.context,
        evidence=evidence,
        run=None if options.run is None else build(lambda: Provenance(**options.run.as_dict())),
        law_argument=named,
        fit_first=options.runs if options.runs and options.law is None else (),
    )
    print(json.dumps(found.to_dict(), indent=2) if options.json else str(found))
    if options.out is not None:
        _write(found, law, as_path(options.out, "out"), quiet=options.json)
    return 0


def _write(found: Recommendation, law: ScalingLaw, path: Path, quiet: bool) -> None:
    from scalestop.report.recommendation_page import recommendation_page

    write_page(recommendation_page(found, law, pictures=path.suffix.lower() != ".md"), path)
    if not quiet:
        print(f"page saved: {path}")


def _fitted(runs: Sequence[str]) -> tuple[LawChoice, Evidence | None]:
    """The law of the user's own runs, and how it does on those it has not seen."""
    from scalestop.fitting import fit_law

    fit = fit_law(list(runs), name="your-runs")
    choice = LawChoice(fit.law, f"fitted to your {len(fit.table)} runs", "named")
    least = float((6 * fit.table.params * fit.table.tokens).min())
    unseen = _read(runs, held_out=True, least=least)
    return choice, _held(fit.law, unseen, "runs that were held out") if len(unseen) else None


def _read(runs: Sequence[str], *, held_out: bool, least: float = 0.0) -> Any:
    """The runs that are marked as held out, or those that are not, from so many FLOPs up."""
    from scalestop.fitting.tables.read import read_runs

    table = read_runs(list(runs))
    flops = 6 * table.params * table.tokens
    return table.take([held == held_out and at >= least for held, at in zip(table.held_out, flops, strict=True)])


def _held(law: ScalingLaw, table: Any, which: str) -> Evidence:
    return hold_against(law, table.params, table.tokens, table.loss, which)
