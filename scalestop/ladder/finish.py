"""From a ladder's records to a law, a forecast, and the plan of the target run."""

from __future__ import annotations

import json
import math
import shlex
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich.console import Console
from rich.markup import escape

from scalestop.errors import InputError, ScalestopWarning
from scalestop.files import write_whole
from scalestop.fitting import LawFit, backtest, fit_law
from scalestop.ladder.curves import curves_of, describe_curves
from scalestop.ladder.origin import with_origin
from scalestop.ladder.plan import target_rung
from scalestop.ladder.rates import check_rates, forecast_rate
from scalestop.ladder.rung import Rung
from scalestop.ladder.settings import TEXT_DATA, TINY_GPT, LadderSettings
from scalestop.ladder.store import Ladder
from scalestop.ladder.table import run_rows, write_table
from scalestop.laws import ScalingLaw
from scalestop.planning.plan import make_plan
from scalestop.report.fit_plot import plot_fit
from scalestop.report.fit_tables import constants_table, optimum_table
from scalestop.report.loss_plot import held_out_of
from scalestop.run.records import RunRecord
from scalestop.units import human_count, human_difference, human_flops

MIN_RUNS_FOR_BACKTEST = 10


@dataclass(frozen=True)
class Outcome:
    """A held-out run against the forecast."""

    run: str
    """Name of the run."""
    flops: int
    """Its compute, FLOPs."""
    num_params: int
    """N."""
    num_tokens: int
    """D, tokens."""
    measured: float
    """Its loss, nats per token."""
    forecast: float
    """The law's loss there, nats per token."""
    interval: tuple[float, float]
    """90 % interval for one new run there."""

    @property
    def inside(self) -> bool:
        """Whether the loss lies inside the interval."""
        return self.interval[0] <= self.measured <= self.interval[1]

    def __str__(self) -> str:
        low, high = self.interval
        where = "inside" if self.inside else "OUTSIDE"
        return (
            f"{self.run}: loss {self.measured:.4f} against {self.forecast:.4f} forecast "
            f"({human_difference(self.measured - self.forecast, 4)}), {where} the 90 % interval {low:.4f} to {high:.4f}"
        )


def finish(ladder: Ladder, console: Console) -> LawFit:
    """Fit the ladder's records; print, save and draw the law, its backtest, the forecast and the target's plan.

    Args:
        ladder: The ladder.
        console: Where to print.

    Raises:
        InputError: If the finished runs do not determine a law.
    """
    settings, folder = ladder.settings, ladder.folder
    every, diverged = run_rows(ladder)
    rows = [row for row in every if not row["held_out"]]
    pilots = [rung for rung in ladder.rungs if rung.is_pilot]
    lost = {gone.run for gone in diverged}
    for gone in diverged:
        console.print(f"left out: {gone.run} {gone.message}", style="yellow", highlight=False, soft_wrap=True)
    missing = len(pilots) - len(rows) - sum(rung.name in lost for rung in pilots)
    if missing:
        console.print(f"{missing} of {len(pilots)} pilots are not done yet", style="yellow", highlight=False)
    if not rows:
        raise InputError(f"out: no pilot of {folder} has a loss yet; train it with scalestop ladder")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScalestopWarning)
        fit = fit_law(rows, bootstrap=settings.bootstrap, name=settings.name)
        tested = backtest(rows, bootstrap=200) if len(rows) >= MIN_RUNS_FOR_BACKTEST else None
    console.print(f"[bold]{escape(fit.law.name)}[/]: fitted to {len(rows)} runs", highlight=False)
    console.print(constants_table(fit))
    console.print(optimum_table(fit))
    for finding in fit.diagnostics.findings:
        console.print(f"{finding.severity}: {finding.message}", highlight=False, markup=False, soft_wrap=True)
    if tested is not None:
        console.print("[bold]backtest[/]: fitted on the cheap pilots, predicting the dear ones")
        console.print(str(tested), highlight=False, markup=False)
    curves = curves_of(ladder)
    law = replace(with_origin(fit.law, ladder), curves=curves)
    law_path, table_path = law.save(folder / "law.json"), write_table(ladder)
    plot_fit(fit, folder / "fit.png", held_out=held_out_of([row for row in every if row["kind"] != "sweep"]))
    outcomes = [
        _outcome(fit, rung, record)
        for rung in ladder.rungs
        if rung.held_out and rung.kind == "run" and (record := _ended(ladder, rung))
    ]
    below: dict[int, list[Outcome]] = {}
    for rung in ladder.rungs:
        if rung.kind == "below" and (record := _ended(ladder, rung)):
            below.setdefault(rung.budget, []).append(_outcome(fit, rung, record))
    checks = check_rates(ladder)
    far = forecast_rate(checks, target_rung(settings)) if checks else None
    rates = [asdict(check) for check in checks], asdict(far) if far else None
    told = [outcome for budget in sorted(below) for outcome in below[budget]]
    data = {**forecast(ladder, fit, outcomes, told), "learning_rates": rates[0], "target_learning_rate": rates[1]}
    write_whole(folder / "forecast.json", json.dumps(data, indent=2) + "\n")
    say = [*map(str, valleys(ladder, fit)), *map(str, checks)]
    say += [*([str(far)] if far else []), describe_forecast(data)]
    say += [describe_curves(curves)] if curves is not None else []
    say += [f"held out: {outcome}" for outcome in outcomes]
    say += [f"below the fit, {human_flops(budget)}: {told_of(below[budget])}" for budget in sorted(below)]
    say += [
        f"saved: {law_path}, {table_path}, {folder / 'fit.png'}, {folder / 'forecast.json'}",
        next_step(law, train_command(settings, str(law_path))),
        str(make_plan(ladder.target_flops, law)),
    ]
    for line in say:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return fit


def told_of(outcomes: Sequence[Outcome]) -> str:
    """Return in words how many of some runs lie inside their intervals, and how the best of them was missed.

    Args:
        outcomes: At least one, of one budget.
    """
    best = min(outcomes, key=lambda outcome: outcome.measured)
    low, high = best.interval
    return (
        f"{sum(outcome.inside for outcome in outcomes)} of {len(outcomes)} runs inside their 90 % intervals; the best "
        f"at {best.measured:.4f} against {best.forecast:.4f} forecast ({low:.4f} to {high:.4f})"
    )


def next_step(law: ScalingLaw, command: str) -> str:
    """Return what to do with a ladder's law: train the target run, or mend the ladder where its law is broken."""
    if not law.info.broken:
        return f"next: {command}"
    why = "; ".join(finding.message for finding in law.info.broken)
    return f"next: more pilots, and not the target: {why} (num_sizes, spread, seeds and budgets make more)"


def train_command(settings: LadderSettings, law_path: str) -> str:
    """Return the command that trains the target run: on the ladder's text and with its model, under its law."""
    words = ["scalestop", "train", "--law", law_path, "--budget", settings.target]
    for name, given, default in (("data", settings.data, TEXT_DATA), ("model", settings.model, TINY_GPT)):
        if given["class_path"] != default:
            words += [f"--{name}", given["class_path"]]
        for argument, value in (given.get("init_args") or {}).items():
            words += [f"--{name}.{argument}", value if isinstance(value, str) else json.dumps(value)]
    if settings.data["class_path"] == TEXT_DATA and settings.context != LadderSettings.context:
        words += ["--data.context", str(settings.context)]
    return shlex.join(words)


def _ended(ladder: Ladder, rung: Rung) -> RunRecord | None:
    record = ladder.record(rung)
    return record if record is not None and record.loss is not None else None


def _outcome(fit: LawFit, rung: Rung, record: RunRecord) -> Outcome:
    found = fit.predict(record.num_params, record.num_tokens)
    assert record.loss is not None
    return Outcome(
        rung.name,
        record.flops,
        record.num_params,
        record.num_tokens,
        record.loss,
        found.loss.estimate,
        found.new_run,
    )


@dataclass(frozen=True)
class Valley:
    """One budget's sizes, measured, against the optimum that the law gives for it."""

    budget: int
    """FLOPs."""
    best_params: int
    """Size with the lowest measured loss, the mean over its seeds."""
    best_loss: float
    """That loss, nats per token."""
    optimum: float
    """N_opt by the law."""
    nearest_params: int
    """Measured size nearest to it, in log N."""
    nearest_loss: float
    """Its loss, nats per token."""

    @property
    def excess(self) -> float:
        """What the law's choice costs over the best one measured, as a share of the loss."""
        return self.nearest_loss / self.best_loss - 1

    def __str__(self) -> str:
        return (
            f"valley at {human_flops(self.budget)}: best measured N {self.best_params:,} ({self.best_loss:.4f}); N_opt "
            f"{human_count(self.optimum)}, measured nearest to it {self.nearest_params:,} ({self.nearest_loss:.4f}, "
            f"{self.excess:+.2%})"
        )


def valleys(ladder: Ladder, fit: LawFit) -> list[Valley]:
    """Return each budget's measured valley against the law's optimum; budgets of at least three sizes."""
    losses: dict[int, dict[int, list[float]]] = {}
    for rung in ladder.rungs:
        record = _ended(ladder, rung) if rung.is_pilot or rung.kind == "valley" else None
        if record is not None and record.loss is not None:
            losses.setdefault(rung.budget, {}).setdefault(rung.num_params, []).append(record.loss)
    found = []
    for budget, by_size in sorted(losses.items()):
        if len(by_size) < 3:
            continue
        means = {size: sum(values) / len(values) for size, values in by_size.items()}
        optimum = float(fit.law.optimal(float(budget)).num_params)
        best = min(means, key=lambda size: means[size])
        nearest = min(means, key=lambda size: abs(math.log(size / optimum)))
        found.append(Valley(budget, best, means[best], optimum, nearest, means[nearest]))
    return found


def forecast(ladder: Ladder, fit: LawFit, outcomes: Sequence[Outcome], below: Sequence[Outcome] = ()) -> dict[str, Any]:
    """Return what the law says of the target run, what the ladder cost, and how the runs came out that it has not seen.

    Args:
        ladder: The ladder.
        fit: Its law.
        outcomes: The held-out runs.
        below: The runs too cheap for the fit.
    """
    flops = ladder.target_flops
    best = fit.optimum(float(flops))
    found = fit.predict(best.num_params.estimate, best.num_tokens.estimate)
    spent = sum(record.flops for rung in ladder.rungs if not rung.held_out and (record := ladder.record(rung)))
    # a branch's record counts the trunk's part too, which the trunk has paid for
    spent -= sum(6 * r.num_params * r.start_tokens for r in ladder.rungs if r.kind == "branch" and ladder.is_done(r))
    return {
        "target_flops": flops,
        "num_params": best.num_params.estimate,
        "num_params_interval": [best.num_params.low, best.num_params.high],
        "num_tokens": best.num_tokens.estimate,
        "num_tokens_interval": [best.num_tokens.low, best.num_tokens.high],
        "loss": found.loss.estimate,
        "loss_interval": [found.loss.low, found.loss.high],
        "new_run_interval": list(found.new_run),
        "level": fit.options.level,
        "pilots_flops": spent,
        "pilots_share": spent / flops,
        "warnings": list(found.warnings),
        "held_out": [{**vars(outcome), "inside": outcome.inside} for outcome in outcomes],
        "below": [{**vars(outcome), "inside": outcome.inside} for outcome in below],
    }


def describe_forecast(data: dict[str, Any]) -> str:
    """Return the forecast in words."""
    low, high = data["new_run_interval"]
    n_low, n_high = map(human_count, data["num_params_interval"])
    return (
        f"forecast for {human_flops(data['target_flops'])}: N_opt {human_count(data['num_params'])} ({n_low} to "
        f"{n_high}), D_opt {human_count(data['num_tokens'])} tokens, loss {data['loss']:.4f}, a new run "
        f"{low:.4f} to {high:.4f} ({data['level']:.0%}); the pilots spent {human_flops(data['pilots_flops'])}, "
        f"{data['pilots_share']:.1%} of it"
    )
