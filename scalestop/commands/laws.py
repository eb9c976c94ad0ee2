"""`scalestop laws`: which laws there are, and what each one says of itself. Loads no torch."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Sequence
from typing import Any

from jsonargparse import ArgumentParser

from scalestop.commands._parser import new_parser, parse
from scalestop.laws import ScalingLaw, get_law, list_laws
from scalestop.laws.valid import factors_of_ten
from scalestop.planning.allocation import Allocation, allocate
from scalestop.planning.budget import Budget
from scalestop.planning.choice import choose_law
from scalestop.units import human_count

_WIDTH = 100
_DEFAULT_BUDGET = "1e21 FLOPs"


def run(words: Sequence[str]) -> int:
    """List the laws, or show one."""
    parser = new_parser("laws", "The scaling laws, each with its source, its range and its errata.")
    commands = parser.add_subcommands(required=True)
    listing = ArgumentParser(exit_on_error=False, description="One line for each built-in law.")
    listing.add_argument("--budget", type=str, default=_DEFAULT_BUDGET, help="what each law is asked about")
    listing.add_argument("--json", action="store_true", help="print JSON")
    commands.add_subcommand("list", listing, help="one line for each built-in law")
    showing = ArgumentParser(exit_on_error=False, description="Everything about one law.")
    showing.add_argument("name", type=str, help="a law's name, or its file")
    showing.add_argument("--json", action="store_true", help="print the law's file")
    commands.add_subcommand("show", showing, help="everything about one law")
    options = parse(parser, words)
    if options.subcommand == "list":
        laws = [get_law(name) for name in list_laws()]
        budget = Budget.parse(options["list"].budget)
        answers = [allocate(budget, law) for law in laws]
        if options["list"].json:
            print(json.dumps([_as_data(*pair) for pair in zip(laws, answers, strict=True)], indent=2))
        else:
            print(_table(laws, answers, budget))
    else:
        law = get_law(options.show.name)
        print(json.dumps(law.to_dict(), indent=2) if options.show.json else describe_law(law))
    return 0


def _table(laws: Sequence[ScalingLaw], answers: Sequence[Allocation], budget: Budget) -> str:
    rows = [("name", "N counts", "loss", "interval", f"{budget} buys", "outside its runs", "source")]
    for law, best in zip(laws, answers, strict=True):
        source = law.info.source.split(":")[0].split(",")[0]
        rows.append(
            (
                law.name,
                law.info.n_counts,
                "yes" if law.has_loss else "no",
                "yes" if law.uncertainty is not None else "no",
                f"{human_count(best.num_params)} params, {human_count(best.num_tokens)} tokens",
                _mark(law, best),
                source,
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(6)]
    lines = ["  ".join((*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[6])) for row in rows]
    chosen = choose_law(budget)
    return "\n".join([*lines, f"auto would take {chosen.name}: {chosen.reason}" + _only_advice(chosen.advisory)])


def _mark(law: ScalingLaw, best: Allocation) -> str:
    """How far the answer lies outside what the law was fitted on, by whichever of C, N and D lies farthest."""
    values = {"flops": best.flops, "num_params": best.num_params, "num_tokens": best.num_tokens}
    valid = law.info.valid
    if all(getattr(valid, name) is None for name in values):
        return "not stated"
    name = max(values, key=lambda name: abs(valid.distance(name, values[name])))
    distance = valid.distance(name, values[name])
    if distance == 0:
        return "no"
    symbol = {"flops": "C", "num_params": "N", "num_tokens": "D"}[name]
    return f"{symbol} {factors_of_ten(distance)} {'below' if distance < 0 else 'above'}"


def _only_advice(advisory: bool) -> str:
    return "; so far off it only advises" if advisory else ""


def _as_data(law: ScalingLaw, best: Allocation) -> dict[str, Any]:
    """The law's file, and what it answers to the budget."""
    return {
        **law.to_dict(),
        "answer": {
            "flops": best.flops,
            "num_params": best.num_params,
            "num_params_interval": best.params_interval,
            "num_tokens": best.num_tokens,
            "num_tokens_interval": best.tokens_interval,
            "loss": best.loss,
            "loss_interval": best.loss_interval,
            "outside": law.info.valid.outside(flops=best.flops, num_params=best.num_params, num_tokens=best.num_tokens),
        },
    }


def describe_law(law: ScalingLaw) -> str:
    """Return everything about a law as text."""
    info = law.info
    rows = [
        ("law", law.name),
        ("form", law.formula()),
        ("constants", ", ".join(f"{k} {v:.6g}" for k, v in law.constants.items() if v is not None)),
        ("N counts", f"{info.n_counts} parameters"),
        ("source", info.source),
        ("fitted on", info.fitted_on),
    ]
    units = {"num_params": "parameters", "num_tokens": "tokens", "flops": "FLOPs"}
    ranges = [
        f"{low:.3g} to {high:.3g} {unit}"
        for name, unit in units.items()
        if (pair := getattr(info.valid, name)) is not None
        for low, high in [pair]
    ]
    rows.append(("valid for", ", ".join(ranges) or "not stated"))
    if law.uncertainty is not None:
        rows.append(
            (
                "uncertainty",
                f"{len(law.uncertainty.draws)} draws of the constants, from {law.uncertainty.num_runs} runs",
            )
        )
        if law.uncertainty.source:
            rows.append(("", law.uncertainty.source))
        for name, (low, high) in law.uncertainty.intervals.items():
            rows.append(("", f"{name}: 90 % {low:.4g} to {high:.4g}"))
        if law.uncertainty.scatter_sd is not None:
            rows.append(("", f"runs scatter about it by {law.uncertainty.scatter_sd:.2%} of the loss"))
        if law.uncertainty.drift:
            rows.append(
                ("", f"outside its runs it drifts by {law.uncertainty.drift * math.log(10):.2%} a factor of ten")
            )
    else:
        rows.append(("uncertainty", "not known: its figures carry no interval"))
    if info.provenance is not None:
        rows += [(f"its {what}", value) for what, value in info.provenance.rows()]
    rows += [(finding.severity, f"{finding.code}: {finding.message}") for finding in info.findings]
    rows += [("note" if i == 0 else "", text) for i, text in enumerate(info.notes)]
    label = max(len(name) for name, _ in rows) + 2
    wrapper = textwrap.TextWrapper(width=_WIDTH, subsequent_indent=" " * label, break_long_words=False)
    return "\n".join(wrapper.fill(f"{name:<{label}}{text}") for name, text in rows)
