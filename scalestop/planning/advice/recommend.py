"""The one-page recommendation for a budget: what to train, why, what else, what could go wrong, what to type."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from scalestop.errors import InputError
from scalestop.laws import Provenance, ScalingLaw, get_law
from scalestop.laws.intervals import interval_of_optimum, interval_of_run
from scalestop.planning.advice.basis import Spot, basis_of, best_spot, need_loss
from scalestop.planning.advice.batch import advise_batch
from scalestop.planning.advice.bills import bill
from scalestop.planning.advice.checks import Checklist, Mark, checklist
from scalestop.planning.advice.gains import what_next
from scalestop.planning.advice.recommendation import FLAT, Alternative, Evidence, Recommendation
from scalestop.planning.advice.serving import serve_within
from scalestop.planning.advice.shapes import Style, TransformerShape, shapes_near
from scalestop.planning.advice.unique import DataWall, data_wall, repeating
from scalestop.planning.advice.valleys import Valley, valley
from scalestop.planning.budget import Budget, BudgetLike
from scalestop.planning.choice import ADVICE_BEYOND, AUTO, LawLike, compute_of, need_law, resolve_law
from scalestop.planning.speed import Speed
from scalestop.units import human_flops

SIZES = (0.5, 0.6, 0.7, 0.8, 1.0, 1.25, 1.4, 1.6, 2.0)
"""Multiples of N_opt at which the valley is looked at."""
OTHERS = ("kaplan", "chinchilla")
"""Laws whose advice is held against the recommendation's."""


def hold_against(
    law: ScalingLaw, num_params: ArrayLike, num_tokens: ArrayLike, loss: ArrayLike, which: str = "runs"
) -> Evidence:
    """Return how far measured runs end from a law's loss.

    Args:
        law: The law.
        num_params: N of each run, counted as the law counts it.
        num_tokens: D of each, tokens.
        loss: Final loss of each, nats per token.
        which: What runs they are, in a word or two.

    Raises:
        InputError: If there is no run, or the law predicts no loss.
    """
    need_loss(law, "holding runs against a law")
    n, d, measured = (np.asarray(values, dtype=np.float64) for values in (num_params, num_tokens, loss))
    if not len(n):
        raise InputError("runs: there is none")
    miss = measured / np.asarray(law.loss(n, d)) - 1
    inside = None
    if law.uncertainty is not None and law.uncertainty.knows_scatter:
        spans = [interval_of_run(law, float(a), float(b)) for a, b in zip(n, d, strict=True)]
        inside = sum(span is not None and span[0] <= m <= span[1] for span, m in zip(spans, measured, strict=True))
    worst = float(miss[np.argmax(np.abs(miss))])
    return Evidence(which, len(n), float((6 * n * d).max()), float(miss.mean()), worst, inside)


def recommend(
    budget: BudgetLike,
    law: LawLike = AUTO,
    *,
    demand: float | None = None,
    unique_tokens: float | None = None,
    speed: Speed | None = None,
    style: Style = "llama",
    vocab_size: int = 32_000,
    context: int = 2048,
    evidence: Evidence | None = None,
    run: Provenance | None = None,
    law_argument: str | None = None,
    fit_first: Sequence[str] = (),
) -> Recommendation:
    """Return what to train for a budget: the decision, why, the alternatives, the next 2x, risks and commands.

    Args:
        budget: Anything `Budget.parse` reads; time and money need a speed.
        law: Which law advises; see `resolve_law`.
        demand: Tokens that will be served; the model is then the one with the least lifetime compute whose training
            spends the budget.
        unique_tokens: Unique tokens there are; more are epochs over them.
        speed: Device speed and price, for hours and money.
        style: Blocks of the suggested shape.
        vocab_size: Its vocabulary.
        context: Its context.
        evidence: How the law does on measured runs; see `hold_against`.
        run: Text and recipe of the run, held against the law's.
        law_argument: How the commands name the law; its name if None.
        fit_first: Files of runs that the law was fitted to, which the commands fit again to save it.

    Raises:
        InputError: If the budget is no amount of compute, or the law cannot answer.
    """
    budget = Budget.parse(budget)
    choice = resolve_law(law, budget, speed=speed)
    plain = found = need_law(choice, "a recommendation")
    need_loss(found, "a recommendation")
    flops = compute_of(budget, found, speed=speed)
    if flops is None:
        raise InputError("peak: a budget in time or money is no compute yet; give the peak of one device and its MFU")
    wall = None
    if unique_tokens is not None:
        wall = data_wall(plain, flops, unique_tokens)
        found = repeating(plain, unique_tokens) if wall.best is not wall.free else plain
    serving = None if not demand else serve_within(found, demand, flops, speed)
    best = best_spot(found, flops)
    train = best if serving is None else serving.best
    assert train.loss is not None
    checks = checklist(found, train.num_params, train.num_tokens, run=run, unique_tokens=unique_tokens)
    valleys = valley(found, flops, SIZES)
    return Recommendation(
        budget=str(budget),
        flops=flops,
        train=train,
        params_interval=interval_of_optimum(found, flops).num_params if serving is None else serving.params_interval,
        run_interval=interval_of_run(found, train.num_params, train.num_tokens)
        if found.uncertainty is not None and found.uncertainty.knows_scatter
        else None,
        first=_first(checks, choice.distance, flops),
        law_reason=choice.reason,
        bill=None if speed is None else bill(train.flops, speed),
        shape=_shape(train.num_params, style, vocab_size, context, found.info.n_counts),
        batch=advise_batch(found, train.num_params, train.num_tokens),
        flat=_flat(valleys),
        alternatives=tuple(_alternatives(found, plain, train, best, valleys, wall)),
        gains=what_next(found, train.num_params, train.num_tokens),
        checks=checks,
        commands=_commands(budget, law_argument or choice.name, train, unique_tokens, fit_first),
        basis=basis_of(found, train.num_params, train.num_tokens, flops),
        serving=serving,
        wall=wall,
        evidence=evidence,
    )


def _first(checks: Checklist, distance: float | None, flops: float) -> str | None:
    """What to do before training, where the law is too far from its runs or broken, or the data too few."""
    failing = {item.topic: item for item in checks.items if item.mark is Mark.FAILS}
    if "range" in failing or (distance is not None and distance > ADVICE_BEYOND):
        return f"fit a law of your own nearer to this budget (scalestop ladder --target '{human_flops(flops)}')"
    return "; ".join(f"see to the {topic} ({item.text.split(':')[0]})" for topic, item in failing.items()) or None


def _flat(found: Valley) -> tuple[float, float] | None:
    near = [row.of_optimum for row in found.rows if row.wasted is not None and row.wasted < FLAT]
    return (min(near), max(near)) if near and min(near) < max(near) else None


def _shape(size: float, style: Style, vocab_size: int, context: int, n_counts: str) -> TransformerShape | None:
    """A shape near a size: the one nearest to it among those that are neither the widest nor the deepest."""
    try:
        found = shapes_near(size, style, vocab_size=vocab_size, context=context, n_counts=n_counts).shapes
    except InputError as error:
        if not str(error).startswith("num_params"):
            raise
        return None  # too small for such a vocabulary
    middle = found[1:-1] or found
    return min(middle, key=lambda shape: abs(shape.count(n_counts) - size))


def _alternatives(
    law: ScalingLaw, plain: ScalingLaw, train: Spot, best: Spot, valleys: Valley, wall: DataWall | None
) -> Sequence[Alternative]:
    assert train.loss is not None

    def change(spot: Spot) -> float | None:
        return None if spot.loss is None else spot.loss - (train.loss or 0.0)

    found = [Alternative("recommended", train, None, f"{train.tokens_per_param:.3g} tokens per parameter")]
    if best is not train:
        found.append(Alternative("compute-optimal", best, change(best), "the lowest loss; dearer to serve"))
    for row in valleys.rows:
        if row.of_optimum in (0.5, 2.0):
            note = "" if row.wasted is None else f"{row.wasted:.0%} of the budget wasted"
            found.append(Alternative(f"{row.of_optimum:g} N_opt", row.spot, change(row.spot), note))
    if wall is not None and wall.best is not wall.free:
        found.append(Alternative("with enough data", wall.free, change(wall.free), "if every token were fresh"))
    for name in OTHERS:
        other = get_law(name)
        spot = best_spot(other, best.flops)
        if name == plain.name or basis_of(other, spot.num_params, spot.num_tokens, spot.flops).distance > ADVICE_BEYOND:
            continue
        ours = Spot(spot.num_params, spot.num_tokens, spot.flops, float(law.loss(spot.num_params, spot.num_tokens)))
        counts = "" if other.info.n_counts == law.info.n_counts else f"; its N counts {other.info.n_counts} parameters"
        found.append(Alternative(f"law {name}", ours, change(ours), f"its optimum, judged by {law.name}{counts}"))
    return found


def _commands(
    budget: Budget, law: str, train: Spot, unique_tokens: float | None, fit_first: Sequence[str]
) -> tuple[str, ...]:
    text, quoted = shlex.quote(str(budget)), shlex.quote(law)
    n, d = f"{train.num_params:.4g}", f"{train.num_tokens:.4g}"
    unique = f" --unique_tokens {unique_tokens:.4g}" if unique_tokens else ""
    lines = [
        *([f"scalestop fit {' '.join(map(shlex.quote, fit_first))} --out {quoted}"] if fit_first else []),
        f"scalestop plan --budget {text} --law {quoted} --params {n}{unique}",
        f"scalestop forecast --law {quoted} --params {n} --tokens {d} --seal forecast.json",
        f"scalestop checklist --law {quoted} --params {n} --tokens {d}{unique}",
    ]
    # a model smaller than N_opt, as one to be served is, trains to the end of its budget
    lines.append(f'# in Python: Trainer(callbacks=[ComputeOptimalStopping(budget="{budget}", law="{law}")])')
    return tuple([*lines, "scalestop score RUN/scalestop.json forecast.json"])
