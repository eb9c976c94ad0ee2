"""`scalestop task`: what a metric will read at larger runs, and at what compute it reaches a value. Loads no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from scalestop.commands._parser import new_parser, parse
from scalestop.commands.plan import count
from scalestop.errors import InputError
from scalestop.fitting.tasks import TaskFit, fit_task, when_open
from scalestop.run.gate import Gate
from scalestop.units import human_count, human_flops

FACTORS = (10.0, 100.0)
"""Compute over the dearest run's at which the metric is forecast when no size is given."""


def run(words: Sequence[str]) -> int:
    """Fit the law of a task, print it and what it foretells, and save it where asked."""
    parser = new_parser(
        "task", "What a metric will read at larger runs: size and tokens -> loss on its answers -> metric."
    )
    add = parser.add_argument
    add("records", type=str, nargs="+", help="files, folders or globs of run records, or tables; or one saved task")
    add("--metric", type=str, default=None, help="column or logged name of the metric, a share between 0 and 1")
    add("--bpb", type=str, default="loss", help="column or logged name of the loss on its answers")
    add("--floor", type=float, default=None, help="what guessing gets, such as 0.25; estimated if left out")
    add("--reach", type=float, default=None, help="also say at what compute the metric reaches this")
    add("--params", type=str, default=None, help="N of a model to forecast, such as 7B")
    add("--tokens", type=str, default=None, help="tokens of the run to forecast, such as 4T")
    add("--until", type=str, default=None, help="also say when a gate such as '>= 0.4' opens for the model of --params")
    add("--level", type=float, default=0.9, help="share of runs inside an interval")
    add("--draws", type=int, default=1000, help="draws of both steps")
    add("--seed", type=int, default=0, help="seed of the draws")
    add("--out", type=str, default=None, help="where to save the task, as JSON")
    add("--json", action="store_true", help="print JSON")
    options = parse(parser, words)
    if not 0 < options.level < 1:
        raise InputError(f"level: must lie between 0 and 1, such as 0.9; got {options.level!r}")
    if options.tokens is not None and options.params is None:
        raise InputError("params: give N with --tokens, such as --params 7B --tokens 4T")
    if options.until is not None and options.params is None:
        raise InputError("params: give N with --until; when a gate opens depends on the size of the model")
    fit = _fit(options)
    size = count(options.params, "params")
    tokens = count(options.tokens, "tokens")
    answers: dict[str, Any] = {
        "forecasts": [_forecast(fit, n, d, options.level) for n, d in _runs_of(fit, size, tokens)],
    }
    if options.reach is not None:
        answers["reach"] = fit.reach(options.reach, num_params=size)
    if options.until is not None and size is not None:
        gate = Gate.parse({fit.metric: options.until})
        answers["gate"] = when_open(gate.conditions, {fit.metric: fit}, size)
    if options.out is not None:
        fit.save(options.out)
    print(json.dumps(_as_data(fit, answers), indent=2) if options.json else _as_text(fit, answers, options.out))
    return 0


def _fit(options: Any) -> TaskFit:
    """The task of the records, or the one saved in the file named in their place."""
    if options.metric is None:
        if len(options.records) == 1 and options.records[0].endswith(".json"):
            return TaskFit.load(options.records[0])
        raise InputError("metric: missing; write for example: scalestop task runs.csv --metric arc_acc --bpb arc_bpb")
    return fit_task(
        options.records, options.metric, bpb=options.bpb, floor=options.floor, draws=options.draws, seed=options.seed
    )


def _runs_of(fit: TaskFit, size: int | None, tokens: int | None) -> list[tuple[float, float]]:
    """The runs to forecast: the one given, or this size or the best ones at multiples of the dearest compute."""
    if size is not None and tokens is not None:
        return [(size, tokens)]
    budgets = [fit.flops[1] * factor for factor in FACTORS]
    sizes = [float(size or fit.best_size(budget)) for budget in budgets]
    return [(n, budget / (6 * n)) for n, budget in zip(sizes, budgets, strict=True)]


def _forecast(fit: TaskFit, num_params: float, num_tokens: float, level: float) -> dict[str, Any]:
    return {"num_params": num_params, "num_tokens": num_tokens, "metric": fit.predict(num_params, num_tokens, level)}


def _as_data(fit: TaskFit, answers: dict[str, Any]) -> dict[str, Any]:
    shown = {name: value for name, value in fit.to_dict().items() if name not in ("step_one", "step_two")}
    two = fit.step_two
    shown["step_two"] = {name: getattr(two, name) for name in ("floor", "ceiling", "steepness", "midpoint", "scatter")}
    shown["predictable"] = fit.predictable
    shown["forecasts"] = [{**row, "metric": asdict(row["metric"])} for row in answers["forecasts"]]
    return shown | {name: asdict(answers[name]) for name in ("reach", "gate") if name in answers}


def _as_text(fit: TaskFit, answers: dict[str, Any], out: str | None) -> str:
    lines = [str(fit)]
    for row in answers["forecasts"]:
        n, d = row["num_params"], row["num_tokens"]
        lines.append(
            f"forecast   {human_flops(6 * n * d)}, N {human_count(n)}, D {human_count(d)} tokens: {row['metric']}"
        )
    if "reach" in answers:
        lines.append(f"reach      {answers['reach']}")
    if "gate" in answers:
        lines.append(f"gate       {answers['gate']}")
    if out is not None:
        lines.append(f"saved      {out}")
    return "\n".join(lines)
