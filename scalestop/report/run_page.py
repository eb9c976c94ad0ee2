"""The pages of runs: plan against delivered, where the compute went, the curve, and whether it was well spent."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scalestop.errors import InputError
from scalestop.laws import ScalingLaw, get_law, list_laws
from scalestop.planning.advice.basis import Answer, signed
from scalestop.planning.advice.checks import Checklist, checklist
from scalestop.planning.advice.gains import what_next
from scalestop.planning.advice.recommendation import Section, risk_lines
from scalestop.planning.advice.regime import Appraisal, appraise, run_name
from scalestop.report.law_plot import Run, plot_frontier, plot_plane, plot_valley
from scalestop.report.pages import Page
from scalestop.report.run_plot import ReportedRun, describe_size, plot_curves, plot_spending, spending_of
from scalestop.report.score_plot import plot_misses, plot_shares
from scalestop.report.style import inline_svg
from scalestop.run.records import RunRecord
from scalestop.run.score import Score
from scalestop.units import human_count, human_flops, human_seconds


def law_of(record: RunRecord, law: ScalingLaw | None = None) -> ScalingLaw | None:
    """Return the law to judge a run by: the one given, or the built-in one that planned it; None for neither."""
    if law is not None:
        return law
    return get_law(record.law) if record.law in list_laws() else None


def size_for(record: RunRecord, law: ScalingLaw) -> float:
    """Return a run's N as a law counts it.

    Raises:
        InputError: If the record does not say.
    """
    if record.n_counts == law.info.n_counts:
        return float(record.num_params)
    found = record.params.get(law.info.n_counts)
    if not found:
        raise InputError(f"law: N of {law.name!r} counts {law.info.n_counts} parameters, and the record has none such")
    return float(found)


def run_page(run: ReportedRun, law: ScalingLaw | None = None, score: Score | None = None) -> Page:
    """Return the page of one run.

    Args:
        run: The run.
        law: The law to judge it by; None for the built-in one that planned it.
        score: The run against its forecasts, sealed ones too.
    """
    record, law = run.record, law_of(run.record, law)
    parts = [_in_short(run), _plan_against(record), _spent(run), Section("The curve")]
    curve = inline_svg(plot_curves([run], law), "curve", f"Loss of {run.name} against tokens, and its forecast")
    spent = inline_svg(plot_spending([spending_of(run)]), "spending", "Where the compute went")
    pictures = {"Where the compute went": [spent], "The curve": [curve]}
    if law is not None:
        size = size_for(record, law)
        point: list[Run] = [(run.name, size, float(record.num_tokens), record.loss)]
        parts += _judged(law, size, record)
        pictures |= _law_pictures(law, point, "Was it well spent?")
    if score is not None and score.runs:
        parts.append(Section("Scoreboard", tuple(str(one) for one in score.runs)))
    parts.append(_assumptions(record, law))
    return Page(f"Run {run.name}", _subtitle(record), parts, parts[0].lines[0], pictures)


def compare_page(runs: Sequence[ReportedRun], law: ScalingLaw | None = None, score: Score | None = None) -> Page:
    """Return the page that holds several runs against each other.

    Args:
        runs: The runs, at least two.
        law: The law to judge them by; None for the built-in one that planned the first.
        score: The runs against their forecasts.
    """
    law = law_of(runs[0].record, law)
    ended = [run for run in runs if run.record.loss is not None and math.isfinite(run.record.loss)]
    best = min(ended, key=lambda run: run.record.loss or 0.0) if ended else None
    short = [f"{best.name} has the lowest loss, {best.record.loss:.4f}." if best else "None of them logged a loss."]
    points: list[Run] = []
    rows = []
    for run in runs:
        r = run.record
        forecast = r.plan.get("loss_at_stop")
        judged = None
        if law is not None:
            points.append((run.name, size_for(r, law), float(r.num_tokens), r.loss))
            judged = appraise(law, points[-1][1], points[-1][2])
        rows.append(
            (
                run.name, describe_size(run), human_flops(r.flops), _number(r.loss), _number(forecast),
                signed(r.loss - forecast) if r.loss is not None and forecast is not None else "",
                "" if judged is None or judged.wasted is None else f"{judged.wasted:.0%}",
                r.stop_reason if judged is None else f"{r.stop_reason}; {judged.regime}",
            )
        )  # fmt: skip
    heads = ("run", "N x D", "compute", "loss", "forecast", "miss", "wasted", "end")
    parts = [
        Section("In short", tuple(short)),
        Section("The runs", heads=heads, rows=tuple(rows)),
        Section("The curves"),
        Section("Where the compute went"),
    ]
    curves = inline_svg(plot_curves(runs, law), "curves", "Loss of the runs against tokens")
    spent = inline_svg(plot_spending([spending_of(run) for run in runs]), "spending", "Where the compute went")
    pictures = {"The curves": [curves], "Where the compute went": [spent]}
    if law is not None:
        parts.append(Section("By the law", (f"Law {appraise(law, points[0][1], points[0][2]).basis}",)))
        pictures |= _law_pictures(law, points, "By the law")
    if score is not None and score.runs:
        parts.append(Section("Scoreboard", tuple(str(one) for one in score.runs)))
        pictures["Scoreboard"] = [
            inline_svg(plot_misses(score), "misses", "Each run's miss against its extrapolation"),
            inline_svg(plot_shares(score), "shares", "Share of runs inside their interval"),
        ]
    parts.append(_assumptions(runs[0].record, law))
    return Page(f"{len(runs)} runs compared", ", ".join(run.name for run in runs), parts, short[0], pictures)


def told(answer: Answer) -> tuple[str, ...]:
    """Return the named lines of an answer as lines of a page."""
    lines = []
    for line in str(answer).splitlines():
        name, text = line[:10].strip(), line[10:].strip()
        lines.append(f"{name}: {text}" if name else text)
    return tuple(lines)


def _subtitle(record: RunRecord) -> str:
    begun = f", begun {record.started}" if record.started else ""
    return f"{human_count(record.num_params)} parameters, budget {record.budget}, law {record.law}{begun}"


def _in_short(run: ReportedRun) -> Section:
    record = run.record
    text = f"{record.stop_reason} after {record.usage.get('optimizer_steps', 0):,} steps"
    forecast = record.plan.get("loss_at_stop")
    if record.loss is None:
        return Section("In short", (f"{text}; no loss was logged.", record.message))
    text += f", at a loss of {record.loss:.4f}"
    if forecast is not None:
        text += f" against {forecast:.4f} forecast ({signed(record.loss - forecast)})"
    lines = [f"{text}.", record.message]
    if span := record.plan.get("loss_interval"):
        where = "inside" if span[0] <= record.loss <= span[1] else "OUTSIDE"
        lines.append(f"The loss lies {where} the 90 % of runs, {span[0]:.4f} to {span[1]:.4f}.")
    return Section("In short", tuple(line for line in lines if line))


def _plan_against(record: RunRecord) -> Section:
    plan, usage = record.plan, record.usage
    reason = plan.get("stop_reason")
    rows = [
        ("parameters", plan.get("optimal_params"), record.num_params, human_count),
        ("tokens", plan.get("stop_tokens"), record.num_tokens, human_count),
        ("steps", plan.get("stop_step"), usage.get("optimizer_steps"), lambda value: f"{value:,}"),
        ("compute", plan.get("flops"), record.flops, human_flops),
        ("loss", plan.get("loss_at_stop"), record.loss, lambda value: f"{value:.4f}"),
    ]
    cells = [
        (what, "-" if wanted is None else name(wanted), "-" if got is None else name(got),
         _difference(got / wanted) if wanted and got is not None else "")
        for what, wanted, got, name in rows
    ]  # fmt: skip
    note = "parameters: planned is N_opt of the budget; compute: planned is the budget"
    ends = f"planned to end by {reason or 'nothing'}; ended by {record.stop_reason}"
    return Section("Plan against delivered", (ends, note), ("", "planned", "delivered", "difference"), tuple(cells))


def _spent(run: ReportedRun) -> Section:
    record = run.record
    seconds = record.usage.get("seconds")
    lines = []
    if seconds:
        text = f"{human_seconds(float(seconds))} of training, {human_flops(record.flops / float(seconds))}/s"
        goodput = run.log.own("goodput")
        if goodput is not None:
            text += f"; {goodput:.1%} of it in steps, the rest waiting for data, validation and checkpoints"
        lines.append(text)
    if record.overshoot:
        lines.append(f"{record.overshoot:.2%} past the limit that ended it, as a step is not divided")
    rows = tuple((name, f"{share:.1%}") for name, share in spending_of(run).parts)
    return Section("Where the compute went", tuple(lines), ("", "share of the budget"), rows)


def _judged(law: ScalingLaw, size: float, record: RunRecord) -> list[Section]:
    tokens = float(record.num_tokens)
    if tokens <= 0:
        return []
    judged: Appraisal = appraise(law, size, tokens)
    parts = [Section("Was it well spent?", told(judged))]
    if law.has_loss:
        gains = what_next(law, size, tokens)
        rows = tuple((g.what, run_name(g.spot), f"{g.spot.loss:.3f}", signed(-g.gain), g.in_words) for g in gains.gains)
        parts.append(Section("The next 2x", heads=("", "run", "loss", "change", ""), rows=rows))
    checks: Checklist = checklist(law, size, tokens, unique_tokens=record.unique_tokens, lr_decayed=record.lr_decayed)
    parts.append(Section("Risks", risk_lines(checks)))
    return parts


def _law_pictures(law: ScalingLaw, points: Sequence[Run], title: str) -> dict[str, list[str]]:
    flops = [6 * n * d for _, n, d, _ in points]
    found = []
    if law.has_loss:
        if max(flops) < 1.5 * min(flops):
            valley = plot_valley(law, math.exp(sum(map(math.log, flops)) / len(flops)), points)
            found.append(inline_svg(valley, "valley", "Loss against model size at this compute"))
        frontier = plot_frontier(law, (min(flops) / 100, max(flops) * 30), points)
        found.append(inline_svg(frontier, "frontier", "The least loss for the compute, and what was measured"))
    found.append(inline_svg(plot_plane(law, points), "plane", "Parameters against tokens, with the law's optimum"))
    known = law.info.valid.flops is None or max(flops) > 1e17
    if not known:  # so small a run shares no plane with models that everybody knows
        found.append(inline_svg(plot_plane(get_law()), "known", "Known models, with the default law's optimum"))
    return {title: found}


def _assumptions(record: RunRecord, law: ScalingLaw | None) -> Section:
    exact = {True: "counts are exact", False: f"counts are not exact: {record.inexact_because}"}.get(
        record.exact, "whether the counts are exact was not noted"  # type: ignore[arg-type]
    )  # fmt: skip
    decayed = {True: "had come down", False: "had not come down"}.get(record.lr_decayed, "is unknown")  # type: ignore[arg-type]
    lines = [
        f"N counts {record.n_counts} parameters; compute is {record.plan.get('flops_per_token', '6·N')} FLOPs a token",
        exact,
        f"the learning rate at the end {decayed}; seed {record.seed}",
        *map(str, record.plan.get("warnings", ())),
        ", ".join(f"{name} {version}" for name, version in record.versions.items()),
    ]
    if law is not None:
        lines.insert(0, f"law {law.name}: {law.info.source}; fitted on {law.info.fitted_on}")
    return Section("Assumptions", tuple(line for line in lines if line))


def _difference(ratio: float) -> str:
    """A ratio as people read it: +1.32%, or 4.54x where it is far from 1."""
    if not 0.5 < ratio < 2:
        return f"{ratio:.3g}x"
    text = f"{ratio - 1:+.2%}"
    return "0.00%" if float(text.rstrip("%")) == 0 else text


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
