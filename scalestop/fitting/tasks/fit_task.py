"""`fit_task`: runs with a metric in, a two-step law of it out, with what it cannot say."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import logit

from scalestop.errors import InputError
from scalestop.fitting.solve.newton import Array
from scalestop.fitting.tasks.posterior import growth_of_error
from scalestop.fitting.tasks.runs import TaskRun, read_task_runs
from scalestop.fitting.tasks.step_one import fit_surface
from scalestop.fitting.tasks.step_two import StepTwo, fit_sigmoid
from scalestop.fitting.tasks.task_fit import TaskFit

GROWTH_ONE, GROWTH_TWO = 0.01, 0.04
"""Error of each step's form per factor of e of extrapolation, before a backtest has spoken."""
CUTS = (3.0, 10.0, 30.0, 100.0)
"""The backtests within the runs: fits to those up to the dearest compute over each of these."""
PER_CUT = 2.0
"""Independent predictions that one cut is worth, however many runs it predicts."""


def fit_task(
    records: Any,
    metric: str,
    *,
    bpb: str = "loss",
    floor: float | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> TaskFit:
    """Fit the two-step law of a task: N, D -> loss on its answers -> metric (Bhagia et al. 2024, arXiv 2412.04403).

    Args:
        records: What `read_runs` takes: run records with the metric in their curves, files, folders, globs, a
            DataFrame, a mapping of columns. Columns `params`, `tokens` (or `step` and `batch_tokens`), the loss and the
            metric; several rows of one run are its checkpoints, told apart by a column `run`, or by a `step` that rises
            within a size. Without both, every row is the end of a run.
        metric: Column or logged name of the metric: a share between 0 and 1.
        bpb: Column or logged name of the loss on its answers: bits per byte of the right answer, or any loss.
        floor: What guessing gets, such as .25 with four answers; estimated if None.
        draws: Draws of both steps.
        seed: Seed of the draws.

    Returns:
        The task, with `doubts` where these runs do not foretell it.

    Raises:
        InputError: If columns are missing, the metric is no share, or there are fewer than six runs.
    """
    if floor is not None and not 0 < floor < 1:
        raise InputError(f"floor: a share between 0 and 1, such as 0.25 with four answers; got {floor!r}")
    if isinstance(draws, bool) or not isinstance(draws, int) or draws < 100:
        raise InputError(f"draws: a whole number of at least 100, so that tails exist; got {draws!r}")
    runs = sorted(read_task_runs(records, metric, bpb), key=lambda run: run.flops)
    if len(runs) < 6:
        raise InputError(
            f"records: a task needs at least 6 runs; got {len(runs)}. Rows of one run count once: see `run` and `step`"
        )
    fit = _fit(runs, metric, bpb, floor, draws, seed)
    growth_one, growth_two = _growth(runs, fit, floor, draws)
    fit = replace(fit, growth_one=growth_one, growth_two=growth_two)
    return replace(fit, doubts=_doubts(fit, runs))


def _fit(runs: Sequence[TaskRun], metric: str, bpb: str, floor: float | None, draws: int, seed: int) -> TaskFit:
    params = np.array([run.params for run in runs])
    tokens = np.array([float(run.tokens[-1]) for run in runs])
    ends = np.array([run.end_loss for run in runs])
    flops = 6 * params * tokens
    loss, values, weights = (np.concatenate(parts) for parts in zip(*(run.points() for run in runs), strict=True))
    two = fit_sigmoid(loss, values, weights, floor=floor, draws=draws, seed=seed + 1)
    noises = [noise for run in runs if (noise := run.noise()) is not None]
    return TaskFit(
        metric=metric,
        answer_loss=bpb,
        step_one=fit_surface(params, tokens, ends, draws=draws, seed=seed),
        step_two=two,
        growth_one=GROWTH_ONE,
        growth_two=GROWTH_TWO,
        # without checkpoints a run's noise is in the scatter around the curve already
        noise=float(np.sqrt(np.mean(np.square(noises)))) if noises else 0.0,
        num_params=(float(params.min()), float(params.max())),
        num_tokens=(float(tokens.min()), float(tokens.max())),
        flops=(float(flops.min()), float(flops.max())),
        num_runs=len(runs),
        data_hash=_hash(runs),
        explained=_explained(two, runs),
        seed=seed,
    )


def _growth(runs: Sequence[TaskRun], fit: TaskFit, floor: float | None, draws: int) -> tuple[float, float]:
    """Learn how fast each form errs: fit the cheap runs, predict the dear ones, at several cuts."""
    tried: list[tuple[Array, ...]] = []
    for cut in CUTS:
        cheap = [run for run in runs if run.flops <= fit.flops[1] / cut * 1.01]
        if len(cheap) < 6 or len(cheap) == len(runs):
            continue
        dear = runs[len(cheap) :]
        try:
            small = _fit(cheap, fit.metric, fit.answer_loss, floor, draws, fit.seed)
        except InputError:  # the cheap runs alone may be of one size
            continue
        params, tokens = np.array([run.params for run in dear]), np.array([float(run.tokens[-1]) for run in dear])
        loss, value = np.array([run.end_loss for run in dear]), np.array([run.end_metric for run in dear])
        foretold = np.log(small.step_one.draws(params, tokens))
        given = _odds(small.step_two.draws(np.tile(loss, (draws, 1))))
        slope = 1 / np.clip(value * (1 - value), 1e-3, None)
        tried.append(
            (
                np.median(foretold, axis=0) - np.log(loss),
                foretold.var(axis=0) + small.step_one.scatter**2,
                np.median(given, axis=0) - _odds(value),
                given.var(axis=0) + (slope * small.step_two.scatter) ** 2,
                small.distance(params, tokens),
                np.full(len(dear), min(PER_CUT / len(dear), 1.0)),
            )
        )
    if not tried:
        return GROWTH_ONE, GROWTH_TWO
    error_one, variance_one, error_two, variance_two, distance, weight = (
        np.concatenate(parts) for parts in zip(*tried, strict=True)
    )
    return (
        growth_of_error(error_one, variance_one, distance, weight, GROWTH_ONE),
        growth_of_error(error_two, variance_two, distance, weight, GROWTH_TWO),
    )


def _odds(share: Array) -> Array:
    return np.asarray(logit(np.clip(share, 1e-4, 1 - 1e-4)))


def _explained(two: StepTwo, runs: Sequence[TaskRun]) -> float:
    loss, value = np.array([run.end_loss for run in runs]), np.array([run.end_metric for run in runs])
    spread = float(np.var(value))
    return 1 - float(np.mean((value - two.metric(loss)) ** 2)) / spread if spread > 0 else 0.0


def _doubts(fit: TaskFit, runs: Sequence[TaskRun]) -> tuple[str, ...]:
    """Say why the metric cannot be foretold from these runs, if so."""
    ends = np.array([run.end_metric for run in runs])
    found = []
    spread = float(ends.max() - ends.min())
    if spread < 5 * max(fit.noise, fit.step_two.scatter):
        found.append(
            f"the runs' metrics span {spread:.3f}, under five times what one run scatters "
            f"({max(fit.noise, fit.step_two.scatter):.4f})"
        )
    if fit.explained < 0.8:
        found.append(
            f"the metric does not follow {fit.answer_loss}: it explains {max(fit.explained, 0):.0%} of the runs' "
            f"differences"
        )
    return tuple(found)


def _hash(runs: Sequence[TaskRun]) -> str:
    rows = sorted(
        f"{run.params:.9g},{d:.9g},{loss:.9g},{value:.9g}"
        for run in runs
        for d, loss, value in zip(run.tokens, run.loss, run.metric, strict=True)
    )
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()
