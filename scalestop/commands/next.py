"""`scalestop next`: what the next 2x buys, and the least that reaches a target. Loads no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from scalestop.commands._parser import new_parser, parse
from scalestop.commands.plan import add_speed, speed_of
from scalestop.errors import InputError
from scalestop.laws import DEFAULT_LAW, get_law
from scalestop.planning.advice.basis import block
from scalestop.planning.advice.bills import bill
from scalestop.planning.advice.gains import least_for_loss, what_next
from scalestop.planning.advice.regime import parse_run
from scalestop.planning.budget import Budget
from scalestop.planning.inverse import flops_of


def run(words: Sequence[str]) -> int:
    """Print the steps and targets that were asked for, or their JSON."""
    parser = new_parser("next", "What the next factor of compute, parameters or data buys; the least for a target.")
    add = parser.add_argument
    add("--run", type=str, default=None, help="the run at hand as parameters x tokens, such as 7Bx140B")
    add("--budget", type=str, default=None, help="in its place a budget, whose optimum is the start")
    add("--factors", type=str, default="2,10", help="the factors, with commas between")
    add(
        "--loss", type=float, default=None, help="also the least compute, hours and money for this loss, nats per token"
    )
    add("--task", type=str, default=None, help="file of a task that `scalestop task --out` saved")
    add("--reach", type=float, default=None, help="with --task: the least compute for this reading of its metric")
    add("--law", type=str, default=DEFAULT_LAW, help="name of a law, or its file")
    add_speed(parser)
    add("--json", action="store_true", help="print JSON")
    options = parse(parser, words)
    if (options.task is None) != (options.reach is None):
        raise InputError("reach: give --task with --reach, such as --task task.json --reach 0.6")
    if not (options.run or options.budget or options.loss or options.task):
        raise InputError("run: missing; write for example: scalestop next --run 7Bx140B, or --budget, --loss or --task")
    if options.run and options.budget:
        raise InputError("run: give --run or --budget, not both")
    law, speed = get_law(options.law), speed_of(options)
    data: dict[str, Any] = {}
    texts = []
    if options.run or options.budget:
        n, d = parse_run(options.run) if options.run else (None, None)
        flops = None if options.run else float(flops_of(Budget.parse(options.budget), law))
        gains = what_next(law, n, d, flops=flops, factors=_factors(options.factors))
        data["gains"] = gains.to_dict()
        texts.append(str(gains))
    if options.loss is not None:
        target = least_for_loss(law, options.loss, speed)
        data["target"] = target.to_dict()
        texts.append(str(target))
    if options.task is not None:
        from scalestop.fitting.tasks import TaskFit

        reach = TaskFit.load(options.task).reach(options.reach)
        its_bill = None if reach.flops is None else bill(reach.flops, speed)
        data["task"] = asdict(reach) | {"bill": None if its_bill is None else its_bill.to_dict()}
        rows = [("task", str(reach))]
        if its_bill is not None and its_bill.seconds is not None:
            rows.append(("takes", str(its_bill)))
        texts.append(block(rows))
    print(json.dumps(data, indent=2) if options.json else "\n\n".join(texts))
    return 0


def _factors(text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise InputError(f"factors: numbers with commas between, such as 2,10; got {text!r}") from None
