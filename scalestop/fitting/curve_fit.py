"""Curves of pilots in, a curve law out: one joint fit, then how wrong it is about pilots that it has not seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from scalestop.errors import InputError
from scalestop.laws.curves.follow import follow
from scalestop.laws.curves.gauss_newton import gauss_newton
from scalestop.laws.curves.law import SAME_SIZE, SHARES, CurveLaw, Pilot, Widening, design, prior
from scalestop.laws.curves.points import Points, averaged, early, end_of_curve, usable
from scalestop.laws.curves.rate_path import Array, RatePath
from scalestop.laws.curves.terms import Kernel, curve_terms

FIRST_SHARE = 0.1
"""And at this share of a pilot: where much of the curve is known, its first part says little of its end."""

_SIGMA = 0.012
"""Weight of a point in the joint fit, nats. The residuals of 60 points are some 0.003 but hang together; as independent
points of 0.012 they say about as much."""

_LEAST_RATIO = 0.4
"""Least ratio of error to deviation to count on at all: the next run may have a schedule that no pilot had."""

_ONE_SIZE = 0.6
"""Least ratio of error to deviation to count on where pilots of one size speak of another."""


def fit_curve_law(pilots: Sequence[Pilot], kernel: Kernel = "power", *, check: bool = True) -> CurveLaw:
    """Fit the curves of all pilots together, and measure the law by leaving pilots out.

    Args:
        pilots: Finished runs; their sizes, lengths and schedules may differ. One size tells the law of others only
            through its prior.
        kernel: How the loss answers a fall of the rate.
        check: Whether to leave pilots out in turn; otherwise intervals are the law's own.

    Raises:
        InputError: If there is no pilot, or one has too few points after its warm-up.
    """
    if not pilots:
        raise InputError("pilots: at least one finished run with a curve; got none")
    law = _fit(pilots, kernel)
    if not check or len(pilots) < 2:
        return law
    sizes = _sizes(pilots)
    singles = [[p] for p in pilots] if len(pilots) <= 24 else [list(pilots[i::24]) for i in range(24)]
    within = _widening(_left_out(pilots, singles, kernel, law), made_up=1.0)
    if len(sizes) > 1:
        beyond = _widening(_left_out(pilots, sizes, kernel, law), made_up=3.0)
        beyond = replace(beyond, degrees=min(beyond.degrees, 3.0 * len(sizes)))
    else:  # nothing measures what one size says of another: the prior on the growth with N has to be believed
        ratio = tuple(max(value, _ONE_SIZE) for value in within.ratio)
        beyond = replace(within, ratio=ratio, degrees=min(within.degrees, 6.0))
    return replace(law, within=within, beyond=beyond)


def better_curve_law(pilots: Sequence[Pilot]) -> CurveLaw:
    """Fit with either answer to a fall of the rate, and return the law that is nearer to pilots it has not seen.

    Nearer is the smaller mean square error of the end at a fifth and at half of the run, whole sizes left out where
    there are several. `momentum` has to be nearer by a third: on the curves at hand `power` is the better or the equal,
    and a difference of a few runs says little.
    """
    power, momentum = fit_curve_law(pilots, "power"), fit_curve_law(pilots, "momentum")

    def error(law: CurveLaw) -> float:
        known = [e for share, e in zip(SHARES, law.beyond.error, strict=True) if share in (0.2, 0.5) and e is not None]
        return float(np.mean(np.square(known))) if known else law.residual or 0.0

    return momentum if error(momentum) < error(power) / 1.5 else power


def _sizes(pilots: Sequence[Pilot]) -> list[list[Pilot]]:
    """Group pilots of one size: neighbours within a tenth of each other."""
    ordered = sorted(pilots, key=lambda pilot: pilot.num_params)
    groups = [[ordered[0]]]
    for before, pilot in pairwise(ordered):
        if math.log(pilot.num_params / before.num_params) > SAME_SIZE:
            groups.append([])
        groups[-1].append(pilot)
    return groups


def _left_out(pilots: Sequence[Pilot], groups: Sequence[list[Pilot]], kernel: Kernel, start: CurveLaw) -> Array:
    """Return each left-out pilot's error at its end, and that over its standard deviation: (pilots, shares, 2).

    NaN where a pilot has too few points by then.
    """
    found = []
    for group in groups:
        rest = [pilot for pilot in pilots if not any(pilot is one for one in group)]
        law = _fit(rest, kernel, start=start)
        for pilot in group:
            end = end_of_curve(pilot.tokens, pilot.loss, pilot.error)
            row = []
            for share in SHARES:
                seen = pilot.tokens <= share * pilot.path.tokens[-1]
                if usable(pilot.path, pilot.tokens[seen]).sum() < 3:
                    row.append((math.nan, math.nan))
                    continue
                error = None if pilot.error is None else pilot.error[seen]
                run = follow(
                    law, pilot.num_params, pilot.path, pilot.tokens[seen], pilot.loss[seen], error, widen=False
                )
                got = run.forecast()
                off = got.loss - end.loss
                row.append((off, off / math.hypot(got.deviation, end.error)))
            found.append(row)
    return np.array(found, dtype=np.float64)


def _widening(found: Array, made_up: float) -> Widening:
    """Return root mean squares over the pilots; the ratio is drawn towards 1 by so many made-up errors."""
    known = np.isfinite(found[:, :, 0])
    count = known.sum(axis=0)
    square = np.where(known[:, :, None], np.minimum(found**2, 25.0), 0.0).sum(axis=0)
    ratio = np.maximum(np.sqrt((square[:, 1] + made_up) / (count + made_up)), _LEAST_RATIO)
    error = [float(np.sqrt(total / n)) if n else None for total, n in zip(square[:, 0], count, strict=True)]
    return Widening(tuple(map(float, ratio)), float(len(found) + 2), tuple(error))


def _fit(pilots: Sequence[Pilot], kernel: Kernel, start: CurveLaw | None = None) -> CurveLaw:
    """One joint fit: Gauss-Newton with a prior; each run's level is taken out of its rows."""
    size_ref = math.exp(np.mean([math.log(p.num_params) for p in pilots]))
    step_ref = math.exp(np.mean([math.log(p.tokens_per_step) for p in pilots]))
    tokens_ref = math.exp(np.mean([math.log(float(p.path.effective_tokens(p.path.tokens[-1]))) for p in pilots]))
    if start is not None:  # one reference for all folds, so that a fit can begin where another ended
        size_ref, step_ref, tokens_ref = start.num_params_ref, start.step_tokens_ref, start.tokens_ref or tokens_ref
    rows = []
    for pilot in pilots:
        keep = usable(pilot.path, pilot.tokens, FIRST_SHARE)
        if keep.sum() < 5:
            raise InputError(f"pilot {pilot.name!r}: {int(keep.sum())} points after its warm-up; at least 5 are needed")
        points = averaged(pilot.tokens[keep], pilot.loss[keep], None if pilot.error is None else pilot.error[keep])
        into = design(math.log(pilot.num_params / size_ref), math.log(pilot.tokens_per_step / step_ref))
        rows.append((pilot.path, points, into))

    def evaluate(theta: Array) -> tuple[Array, Array]:
        residuals, slopes = [], []
        for path, points, into in rows:
            terms = curve_terms(path, points.tokens, into @ theta, tokens_ref, kernel)
            weight = 1 / np.hypot(_SIGMA * early(path, points.tokens), points.error)
            left, slope = points.loss - terms.value, terms.slope @ into
            share = weight**2 / (weight**2).sum()
            residuals.append((left - share @ left) * weight)
            slopes.append((slope - share @ slope) * weight[:, None])
        return np.concatenate(residuals), np.concatenate(slopes)

    mean, deviation = prior()
    theta = mean if start is None else start.mean
    theta, covariance = gauss_newton(evaluate, theta, mean, np.diag(deviation**-2.0))
    residual = _departure(rows, theta, tokens_ref, kernel)
    return CurveLaw(
        mean=theta,
        covariance=covariance,
        tokens_ref=tokens_ref,
        num_params_ref=size_ref,
        step_tokens_ref=step_ref,
        kernel=kernel,
        misfit=max(0.003, 1.5 * residual),
        sizes=tuple(sorted({pilot.num_params for pilot in pilots})),
        num_pilots=len(pilots),
        residual=residual,
    )


def _departure(
    rows: Sequence[tuple[RatePath, Points, Array]], theta: Array, tokens_ref: float, kernel: Kernel
) -> float:
    """Root mean square by which curves depart from the form, beyond the scatter of their points."""
    square, count = 0.0, 0
    for path, points, into in rows:
        left = points.loss - curve_terms(path, points.tokens, into @ theta, tokens_ref, kernel).value
        left = left - left.mean()
        square += float(np.sum((left**2 - points.error**2) / early(path, points.tokens) ** 2))
        count += max(len(left) - 1, 1)
    return math.sqrt(max(square / count, 0.0))
