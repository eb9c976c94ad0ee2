"""`scalestop plan`: what a budget buys. Loads no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from scalestop.commands._parser import build, new_parser, parse
from scalestop.errors import InputError
from scalestop.laws import Provenance, get_law
from scalestop.planning.advice.basis import Answer, block
from scalestop.planning.advice.bills import bill
from scalestop.planning.advice.deadline import by_deadline
from scalestop.planning.advice.shapes import STYLES, shapes_near
from scalestop.planning.advice.unique import data_wall, repeating
from scalestop.planning.advice.valleys import side_by_side, valley
from scalestop.planning.budget import Budget
from scalestop.planning.choice import AUTO, NO_LAW, LawChoice, need_law, resolve_law
from scalestop.planning.devices import parse_peak
from scalestop.planning.plan import Plan, make_plan
from scalestop.planning.rule import Overshoot, Oversized, StopAt, StopRule, Undersized
from scalestop.planning.speed import Speed
from scalestop.units import parse_count


def run(words: Sequence[str]) -> int:
    """Print a plan, or its JSON."""
    parser = new_parser("plan", "What a budget buys: model size, tokens, loss, and where a run would stop.")
    add = parser.add_argument
    add("--budget", type=str, help="what the run may spend: '1e18 FLOPs', '0.5 PF-days', '2B tokens', '8 GPU-hours'")
    law_help = "name of a law (see `scalestop laws list`) or its file; auto: the nearest built-in one; none: no law; "
    law_help += "several, with commas between, are shown side by side, and the first one plans"
    add("--law", type=str, default=AUTO, help=law_help)
    add("--params", type=str, default=None, help="N of a model, such as 1.3B; without it the right-sized model's plan")
    add("--tokens_per_step", type=str, default=None, help="tokens per optimizer step over all ranks, such as 524288")
    add("--tolerance", type=float, default=0.1, help="N counts as optimal within this relative distance of N_opt")
    add("--oversize_factor", type=float, default=2.0, help="more than this many N_opt is oversized")
    add("--oversized", type=Oversized, default="stop", help="what an oversized model gets")
    add("--undersized", type=Undersized, default="continue", help="what a model below N_opt gets")
    add("--stop_at", type=StopAt, default="median", help="where in the law's 90 %% interval of D_opt to stop")
    add("--overshoot", type=Overshoot, default="allow", help="whether a step may pass a hard limit")
    add_speed(parser)
    add(
        "--added_devices",
        type=int,
        default=None,
        help="of a second node, for a budget in hours; as many again if left out",
    )
    add("--valley", action="store_true", help="also the loss of other sizes at this budget: how flat the valley is")
    add("--shapes", type=str, default=None, help=f"also transformer shapes near N_opt: {' or '.join(STYLES)}")
    add("--vocab_size", type=int, default=32_000, help="vocabulary of the shapes")
    add("--context", type=int, default=2048, help="context of the shapes")
    add(
        "--unique_tokens",
        type=str,
        default=None,
        help="unique tokens there are, such as 25B; more are epochs over them",
    )
    add("--run", type=Provenance | None, default=None, help="text and recipe of the run, held against the law's")
    add("--json", action="store_true", help="print JSON")
    options = parse(parser, words)
    if options.budget is None:
        raise InputError("budget: missing; write for example: scalestop plan --budget '1e21 FLOPs'")
    budget, speed = Budget.parse(options.budget), speed_of(options)
    choice, others = _laws(options.law, budget, speed)
    unlimited = choice
    if options.unique_tokens is not None:
        unique = count(options.unique_tokens, "unique_tokens")
        assert unique is not None
        choice = replace(choice, law=repeating(need_law(choice, "unique_tokens"), unique))
    rule_names = ("tolerance", "oversize_factor", "oversized", "undersized", "stop_at", "overshoot")
    plan = make_plan(
        budget,
        choice,
        count(options.params, "params"),
        count(options.tokens_per_step, "tokens_per_step"),
        rule=StopRule(**{name: options[name] for name in rule_names}),
        speed=speed,
        run=None if options.run is None else build(lambda: Provenance(**options.run.as_dict())),
    )
    more = _more(options, plan, choice, unlimited, others)
    if options.json:
        data = plan_to_dict(plan) | {name: answer.to_dict() for name, answer in more.items()}
        print(json.dumps(data, indent=2, default=str))
    else:
        print("\n".join([str(plan), *(block([(name, str(answer))]) for name, answer in more.items())]))
    return 0


def _laws(text: str, budget: Budget, speed: Speed) -> tuple[LawChoice, list[str]]:
    """The law that plans, and the names of all where several were given."""
    names = [text] if Path(text).is_file() else [name.strip() for name in text.split(",")]
    if len(names) > 1 and not all(names):
        raise InputError(f"law: a name is missing between the commas of {text!r}")
    first = names[0]
    choice = resolve_law(None if first == NO_LAW else first, budget, speed=speed)
    return choice, names if len(names) > 1 else []


def _more(options: Any, plan: Plan, choice: LawChoice, unlimited: LawChoice, others: list[str]) -> dict[str, Answer]:
    """What was asked besides the plan, by name; `unlimited` is the law as it was before it heard of unique tokens."""
    found: dict[str, Answer] = {}
    optimum = plan.allocation
    spent = plan.stop_tokens * plan.flops_per_token if plan.stop_tokens else optimum.flops if optimum else None
    if spent and plan.speed is not None and plan.speed.flops_per_device_second is not None:
        found["takes"] = bill(spent, plan.speed)
        if plan.budget.seconds is not None and len(plan.budget.limits()) == 1 and choice.law is not None:
            found["deadline"] = by_deadline(choice.law, plan.budget.seconds, plan.speed, options.added_devices)
    asked = {"valley": options.valley, "shapes": options.shapes, "laws": others, "unique_tokens": options.unique_tokens}
    if wanted := [name for name, value in asked.items() if value]:
        law, plain = need_law(choice, wanted[0]), need_law(unlimited, wanted[0])
        if optimum is None:
            raise InputError(
                f"{wanted[0]}: needs an amount of compute; give peak and mfu, or a budget in FLOPs or tokens"
            )
        if options.valley:
            found["valley"] = valley(law, optimum.flops)
        if options.shapes:
            found["shapes"] = shapes_near(
                optimum.num_params,
                options.shapes,
                vocab_size=options.vocab_size,
                context=options.context,
                n_counts=plan.n_counts,
            )
        if others:
            found["laws"] = side_by_side([plain, *map(get_law, others[1:])], optimum.flops)
        if options.unique_tokens:
            found["data"] = data_wall(plain, optimum.flops, count(options.unique_tokens, "unique_tokens") or 0)
    return found


def plan_to_dict(plan: Plan) -> dict[str, Any]:
    """Return a plan as JSON-ready data, its derived numbers included."""
    data = asdict(plan)
    data["budget"] = str(plan.budget)
    for name in ("verdict", "size_ratio", "target_tokens", "flops_limit", "largest_params", "refusal"):
        data[name] = getattr(plan, name)
    return data


def add_speed(parser: Any) -> None:
    """Add the options that say how fast and how dear the devices are."""
    add = parser.add_argument
    add("--peak", type=str, default=None, help="peak of one device: a name such as H100, or '989 TFLOP/s'")
    add("--mfu", type=float, default=None, help="share of the peak that training reaches, such as 0.4")
    add("--devices", type=int, default=1, help="devices that train together")
    add("--usd_per_device_hour", type=float, default=None, help="price of a device-hour")


def speed_of(options: Any) -> Speed:
    """Return the speed that those options describe."""
    return Speed(parse_peak(options.peak), options.mfu, options.devices, options.usd_per_device_hour)


def count(text: str | None, argument: str) -> int | None:
    """Read a count such as 1.3B."""
    return None if text is None else parse_count(text, argument)
