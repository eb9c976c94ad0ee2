"""`scalestop fit`: a law from the records of runs."""

from __future__ import annotations

from collections.abc import Sequence

from scalestop.commands._parser import new_parser, parse
from scalestop.fitting.command import run_fit


def run(words: Sequence[str]) -> int:
    """Fit a law, print it, and save it where asked."""
    parser = new_parser("fit", "Fit a scaling law to the records of runs, with honest intervals.")
    parser.add_argument("records", type=str, nargs="+", help="files, folders or globs of run records, or tables")
    parser.add_function_arguments(run_fit, skip={"records", "console"})
    options = parse(parser, words).as_dict()
    options.pop("config", None)
    return run_fit(**options)
