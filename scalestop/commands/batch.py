"""`scalestop batch`: how large a batch, and where to start with the rate. Loads no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence

from scalestop.commands._parser import new_parser, parse
from scalestop.commands.plan import count
from scalestop.errors import InputError
from scalestop.laws import DEFAULT_LAW, get_law
from scalestop.planning.advice.batch import advise_batch
from scalestop.planning.advice.regime import parse_run


def run(words: Sequence[str]) -> int:
    """Print the critical batch by the published laws and Step Law's starting point, or their JSON."""
    parser = new_parser("batch", "How large a batch by the published laws, and a learning rate to start with.")
    add = parser.add_argument
    add("--run", type=str, default=None, help="the run as parameters x tokens, such as 1Bx100B")
    add("--tokens_per_step", type=str, default=None, help="a batch to judge: tokens per optimizer step over all ranks")
    add("--body_params", type=str, default=None, help="N without embeddings and head, for Step Law; N if left out")
    add("--law", type=str, default=DEFAULT_LAW, help="name of a law or its file: it says what loss the run ends at")
    add("--json", action="store_true", help="print JSON")
    options = parse(parser, words)
    if options.run is None:
        raise InputError("run: missing; write for example: scalestop batch --run 1Bx100B")
    n, d = parse_run(options.run)
    answer = advise_batch(
        get_law(options.law),
        n,
        d,
        tokens_per_step=count(options.tokens_per_step, "tokens_per_step"),
        body_params=count(options.body_params, "body_params"),
    )
    print(json.dumps(answer.to_dict(), indent=2) if options.json else str(answer))
    return 0
