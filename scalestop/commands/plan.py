"""`scalestop plan`: what a budget buys. Loads no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from scalestop.commands._parser import build, new_parser, parse
from scalestop.errors import InputError
from scalestop.laws import Provenance
from scalestop.planning.budget import Budget
from scalestop.planning.choice import AUTO, NO_LAW
from scalestop.planning.plan import Plan, make_plan
from scalestop.planning.rule import Overshoot, Oversized, StopAt, StopRule, Undersized
from scalestop.planning.speed import Speed, parse_flops_per_second
from scalestop.units import parse_quantity


def run(words: Sequence[str]) -> int:
    """Print a plan, or its JSON."""
    parser = new_parser("plan", "What a budget buys: model size, tokens, loss, and where a run would stop.")
    add = parser.add_argument
    add("--budget", type=str, help="what the run may spend: '1e18 FLOPs', '0.5 PF-days', '2B tokens', '8 GPU-hours'")
    law_help = "name of a law (see `scalestop laws list`) or its file; auto: the nearest built-in one; none: no law"
    add("--law", type=str, default=AUTO, help=law_help)
    add("--params", type=str, default=None, help="N of a model, such as 1.3B; without it the right-sized model's plan")
    add("--tokens_per_step", type=str, default=None, help="tokens per optimizer step over all ranks, such as 524288")
    add("--tolerance", type=float, default=0.1, help="N counts as optimal within this relative distance of N_opt")
    add("--oversize_factor", type=float, default=2.0, help="more than this many N_opt is oversized")
    add("--oversized", type=Oversized, default="stop", help="what an oversized model gets")
    add("--undersized", type=Undersized, default="continue", help="what a model below N_opt gets")
    add("--stop_at", type=StopAt, default="median", help="where in the law's 90 %% interval of D_opt to stop")
    add("--overshoot", type=Overshoot, default="allow", help="whether a step may pass a hard limit")
    add("--peak", type=str, default=None, help="peak of one device, such as '989 TFLOP/s'")
    add("--mfu", type=float, default=None, help="share of the peak that training reaches, such as 0.4")
    add("--devices", type=int, default=1, help="devices that train together")
    add("--usd_per_device_hour", type=float, default=None, help="price of a device-hour")
    add("--run", type=Provenance | None, default=None, help="text and recipe of the run, held against the law's")
    add("--json", action="store_true", help="print JSON")
    options = parse(parser, words)
    if options.budget is None:
        raise InputError("budget: missing; write for example: scalestop plan --budget '1e21 FLOPs'")
    rule_names = ("tolerance", "oversize_factor", "oversized", "undersized", "stop_at", "overshoot")
    plan = make_plan(
        Budget.parse(options.budget),
        None if options.law == NO_LAW else options.law,
        count(options.params, "params"),
        count(options.tokens_per_step, "tokens_per_step"),
        rule=StopRule(**{name: options[name] for name in rule_names}),
        speed=Speed(
            parse_flops_per_second(options.peak, "peak"), options.mfu, options.devices, options.usd_per_device_hour
        ),
        run=None if options.run is None else build(lambda: Provenance(**options.run.as_dict())),
    )
    print(json.dumps(plan_to_dict(plan), indent=2, default=str) if options.json else str(plan))
    return 0


def plan_to_dict(plan: Plan) -> dict[str, Any]:
    """Return a plan as JSON-ready data, its derived numbers included."""
    data = asdict(plan)
    data["budget"] = str(plan.budget)
    for name in ("verdict", "size_ratio", "target_tokens", "flops_limit", "largest_params", "refusal"):
        data[name] = getattr(plan, name)
    return data


def count(text: str | None, argument: str) -> int | None:
    """Read a count such as 1.3B."""
    if text is None:
        return None
    examples = ("1300000000", "1.3e9", "1.3B")
    # a count is tokens to the parser of quantities: both take K, M, B, T
    try:
        value = parse_quantity(f"{text} tokens", argument=argument, examples=examples).value
    except InputError:
        raise InputError(
            f"{argument}: cannot read {text!r} as a count. Write for example {', '.join(map(repr, examples))}."
        ) from None
    if value <= 0:
        raise InputError(f"{argument}: must be positive; got {text!r}")
    return round(value)
