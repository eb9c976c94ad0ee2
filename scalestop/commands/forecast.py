"""`scalestop forecast`: what one run will end at, and where asked a seal on it. Loads no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence

from scalestop.commands._parser import new_parser, parse
from scalestop.commands.plan import count
from scalestop.errors import InputError
from scalestop.laws import DEFAULT_LAW, get_law
from scalestop.planning.plan import make_plan
from scalestop.run.seal import seal_forecast


def run(words: Sequence[str]) -> int:
    """Print a forecast, or its JSON; write it with its seal where asked."""
    parser = new_parser(
        "forecast", "What one run will end at; sealed, so that `scalestop score` can hold it against the run."
    )
    add = parser.add_argument
    add("--law", type=str, default=DEFAULT_LAW, help="name of a law, or its file")
    add(
        "--params",
        type=str,
        default=None,
        help="N of the model, such as 1.3B; with a budget alone, the right-sized one's",
    )
    add(
        "--tokens",
        type=str,
        default=None,
        help="tokens at the run's end, such as 26B; with a budget, where its plan stops",
    )
    add("--budget", type=str, default=None, help="what the run may spend, such as '1e21 FLOPs'")
    add("--run", type=str, default="", help="name of the run, if only that one is meant")
    add("--seal", type=str, default=None, help="new file for the sealed forecast")
    add("--json", action="store_true", help="print JSON")
    options = parse(parser, words)
    law = get_law(options.law)
    size, tokens = count(options.params, "params"), count(options.tokens, "tokens")
    if options.budget is not None and (size is None or tokens is None):
        plan = make_plan(options.budget, law, size)
        size = size or plan.num_params
        tokens = tokens or plan.stop_tokens
    if not size or not tokens:
        raise InputError(
            "params: a forecast is of one size and length; write for example: scalestop forecast --law law.json "
            "--params 1.3B --tokens 26B, or give a --budget that the model is not oversized for"
        )
    made = seal_forecast(law, size, tokens, budget=options.budget or "", run=options.run, path=options.seal)
    outside = law.info.valid.outside(num_params=size, num_tokens=tokens, flops=made.flops)
    if options.json:
        print(json.dumps({**made.to_dict(), "warnings": list(outside)}, indent=2))
        return 0
    print(made)
    for line in outside:
        print(f"note      law {law.name}: {line}")
    if options.seal is not None:
        print(f"saved     {options.seal}; keep the digest where others can see its date, such as in a commit")
    return 0
