"""`scalestop serve`: the size and tokens of a model that will be served. Loads no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence

from scalestop.commands._parser import new_parser, parse
from scalestop.commands.plan import add_speed, count, speed_of
from scalestop.errors import InputError
from scalestop.laws import DEFAULT_LAW, get_law
from scalestop.planning.advice.regime import parse_run
from scalestop.planning.advice.serving import explain_demand, serve
from scalestop.planning.budget import Budget
from scalestop.planning.inverse import flops_of


def run(words: Sequence[str]) -> int:
    """Print the model with the least lifetime compute, or its JSON."""
    parser = new_parser("serve", "The size and tokens that reach a loss for the least compute, training and serving.")
    add = parser.add_argument
    add("--demand", type=str, default=None, help="tokens served over the lifetime, such as 2T; 0 for none")
    add("--loss", type=float, default=None, help="the loss to reach, nats per token")
    add(
        "--budget", type=str, default=None, help="in its place a training budget, whose optimum's loss is to be reached"
    )
    add("--run", type=str, default=None, help="ask backwards: the demand for which a run such as 8Bx15T is best")
    add("--law", type=str, default=DEFAULT_LAW, help="name of a law, or its file")
    add_speed(parser)
    add("--json", action="store_true", help="print JSON")
    options = parse(parser, words)
    law = get_law(options.law)
    if options.run is not None:
        if options.demand is not None or options.loss is not None or options.budget is not None:
            raise InputError("run: asks for the demand; give it without --demand, --loss and --budget")
        n, d = parse_run(options.run)
        explained = explain_demand(law, n, d)
        print(json.dumps(explained.to_dict(), indent=2) if options.json else str(explained))
        return 0
    if options.demand is None:
        raise InputError("demand: missing; write for example: scalestop serve --demand 2T --budget '1e23 FLOPs'")
    wanted = 0 if options.demand.strip() == "0" else count(options.demand, "demand")
    flops = None if options.budget is None else float(flops_of(Budget.parse(options.budget), law))
    answer = serve(law, wanted or 0, loss=options.loss, flops=flops, speed=speed_of(options))
    print(json.dumps(answer.to_dict(), indent=2) if options.json else str(answer))
    return 0
