"""`scalestop laws`: which laws there are, and what each one says of itself. Loads no torch."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence

from jsonargparse import ArgumentParser

from scalestop.commands._parser import new_parser, parse
from scalestop.laws import ScalingLaw, get_law, list_laws
from scalestop.planning.allocation import allocate
from scalestop.units import human_count

_WIDTH = 100


def run(words: Sequence[str]) -> int:
    """List the laws, or show one."""
    parser = new_parser("laws", "The scaling laws, each with its source, its range and its errata.")
    commands = parser.add_subcommands(required=True)
    listing = ArgumentParser(exit_on_error=False, description="One line for each built-in law.")
    listing.add_argument("--json", action="store_true", help="print JSON")
    commands.add_subcommand("list", listing, help="one line for each built-in law")
    showing = ArgumentParser(exit_on_error=False, description="Everything about one law.")
    showing.add_argument("name", type=str, help="a law's name, or its file")
    showing.add_argument("--json", action="store_true", help="print the law's file")
    commands.add_subcommand("show", showing, help="everything about one law")
    options = parse(parser, words)
    if options.subcommand == "list":
        laws = [get_law(name) for name in list_laws()]
        print(json.dumps([law.to_dict() for law in laws], indent=2) if options["list"].json else _table(laws))
    else:
        law = get_law(options.show.name)
        print(json.dumps(law.to_dict(), indent=2) if options.show.json else describe_law(law))
    return 0


def _table(laws: Sequence[ScalingLaw]) -> str:
    rows = [("name", "N counts", "loss", "1e21 FLOPs buy", "source")]
    for law in laws:
        best = allocate(1e21, law)
        buys = f"{human_count(best.num_params)} params, {human_count(best.num_tokens)} tokens"
        source = law.info.source.split(":")[0].split(",")[0]
        rows.append((law.name, law.info.n_counts, "yes" if law.has_loss else "no", buys, source))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "\n".join("  ".join((*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[4])) for row in rows)


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
            ("uncertainty", f"{len(law.uncertainty.draws)} bootstrap draws from {law.uncertainty.num_runs} runs")
        )
        for name, (low, high) in law.uncertainty.intervals.items():
            rows.append(("", f"{name}: 90 % {low:.4g} to {high:.4g}"))
    rows += [("note" if i == 0 else "", text) for i, text in enumerate(info.notes)]
    label = max(len(name) for name, _ in rows) + 2
    wrapper = textwrap.TextWrapper(width=_WIDTH, subsequent_indent=" " * label, break_long_words=False)
    return "\n".join(wrapper.fill(f"{name:<{label}}{text}") for name, text in rows)
