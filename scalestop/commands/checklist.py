"""`scalestop checklist`: when a forecast will fail. Loads no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence

from scalestop.commands._parser import build, new_parser, parse
from scalestop.commands.plan import count
from scalestop.errors import InputError
from scalestop.laws import DEFAULT_LAW, Provenance, get_law
from scalestop.planning.advice.checks import checklist
from scalestop.run.records import RunRecord


def run(words: Sequence[str]) -> int:
    """Print the checklist of one run by one law, or its JSON."""
    parser = new_parser("checklist", "When will this forecast fail? Filled in from the law, the data and the run.")
    add = parser.add_argument
    add("--law", type=str, default=DEFAULT_LAW, help="name of a law, or its file")
    add("--params", type=str, default=None, help="N of the model, such as 7B")
    add("--tokens", type=str, default=None, help="tokens at the run's end, such as 140B")
    add(
        "--record", type=str, default=None, help="scalestop.json of a run, in place of --params, --tokens, --lr_decayed"
    )
    add("--unique_tokens", type=str, default=None, help="unique tokens there are")
    add("--lr_decayed", type=bool | None, default=None, help="whether the learning rate ends where the run ends")
    add("--run", type=Provenance | None, default=None, help="text and recipe of the run, held against the law's")
    add("--json", action="store_true", help="print JSON")
    options = parse(parser, words)
    n, d = count(options.params, "params"), count(options.tokens, "tokens")
    decayed = options.lr_decayed
    if options.record is not None:
        if n is not None or d is not None or decayed is not None:
            raise InputError("record: gives params, tokens and lr_decayed; leave those out")
        record = RunRecord.load(options.record)
        n, d, decayed = record.num_params, record.num_tokens, record.lr_decayed
    if not n or not d:
        raise InputError(
            "params: give N and tokens; write for example: scalestop checklist --params 7B --tokens 140B, or --record"
        )
    answer = checklist(
        get_law(options.law),
        n,
        d,
        run=None if options.run is None else build(lambda: Provenance(**options.run.as_dict())),
        unique_tokens=count(options.unique_tokens, "unique_tokens"),
        lr_decayed=decayed,
    )
    print(json.dumps(answer.to_dict(), indent=2) if options.json else str(answer))
    return 0
