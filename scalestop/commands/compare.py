"""`scalestop compare`: is a run well spent, and which of several is better. Loads no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence

from scalestop.commands._parser import new_parser, parse
from scalestop.commands.plan import add_speed, speed_of
from scalestop.errors import InputError
from scalestop.laws import DEFAULT_LAW, get_law
from scalestop.planning.advice.basis import Answer, block
from scalestop.planning.advice.bills import bill
from scalestop.planning.advice.regime import appraise, compare, parse_run


def run(words: Sequence[str]) -> int:
    """Print what each law says of the runs, or its JSON."""
    parser = new_parser("compare", "Is a run well spent, and which of several is better: N x D, such as 70Bx1.4T.")
    add = parser.add_argument
    add("runs", type=str, nargs="+", help="runs as parameters x tokens, such as 70Bx1.4T 280Bx300B; one is appraised")
    add("--law", type=str, default=DEFAULT_LAW, help="name of a law or its file; several with commas between")
    add_speed(parser)
    add("--json", action="store_true", help="print JSON")
    options = parse(parser, words)
    runs, speed = [parse_run(text) for text in options.runs], speed_of(options)
    laws = [get_law(name.strip()) for name in options.law.split(",")]
    if len({law.name for law in laws}) < len(laws):
        raise InputError(f"law: {options.law!r} names a law twice")
    found: dict[str, Answer] = {
        law.name: compare(law, runs, speed) if len(runs) > 1 else appraise(law, *runs[0]) for law in laws
    }
    if options.json:
        print(json.dumps({name: answer.to_dict() for name, answer in found.items()}, indent=2))
        return 0
    parts = [str(answer) for answer in found.values()]
    if len(runs) == 1 and speed.flops_per_device_second is not None:
        parts.append(block([("takes", str(bill(6 * runs[0][0] * runs[0][1], speed)))]))
    print("\n\n".join(parts))
    return 0
