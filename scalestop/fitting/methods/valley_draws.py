"""The draws of a valley fit, and the one law that says what its hypotheses say together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scalestop.fitting.methods.method import Progress
from scalestop.fitting.methods.valley_evidence import Evidence
from scalestop.fitting.methods.valley_hypotheses import HELD, HYPOTHESES, Fitted
from scalestop.fitting.solve.coupled import NUM_FREE, log_loss, log_loss_and_slopes, optimum_offset
from scalestop.fitting.solve.horizon import Horizon
from scalestop.fitting.solve.newton import Array
from scalestop.fitting.solve.robust import Problems, minimise

_REFIT_STEPS = 15  # most are at their minimum after two; those that bend most need more
_CHUNK = 100_000  # elements (refits x runs) at once: about 60 MB of slopes
_FORWARD_LIMIT = np.log(1000.0)
_SIDE = np.log(4.0)
_NET_BUDGETS, _NET_SIZES = 25, 5


def draw(fitted: Fitted, evidence: Evidence, draws: int, seed: int, progress: Progress | None = None) -> Array:
    """Return refits to noised runs under noised priors, shape (M, 7), in random order, each of a hypothesis of its own.

    Each refit minimises its own objective (randomise, then optimise: Bardsley et al. 2014, SIAM J. Sci. Comput. 36,
    A1895), so that the draws follow the posterior where the constants bend as well as where they do not. There may be
    none. The first horizon of the hypotheses is the top; `progress` is told after every chunk.
    """
    if draws == 0:
        return np.empty((0, NUM_FREE))
    generator = np.random.default_rng(seed)
    # in random order, so that a part of them is a fair sample too
    chosen = generator.permutation(np.repeat(np.arange(len(HYPOTHESES)), apportion(evidence.share, draws)))
    every, best = fitted.problems, fitted.theta[0]
    root = np.sqrt(fitted.working_weight[0])
    slopes = log_loss_and_slopes(best, every.x[: len(best)], every.y[: len(best)])[1]
    theta = np.empty((draws, NUM_FREE))
    for rows in np.array_split(np.arange(draws), max(1, draws * root.shape[1] // _CHUNK)):
        k = chosen[rows]
        base = every.take(k)
        error = generator.standard_normal((len(k), root.shape[1]))
        shift = generator.standard_normal((len(k), NUM_FREE)) / np.sqrt(base.prior_precision)
        # the linear posterior first: one Hessian a hypothesis
        pull = np.stack([slopes[h] @ (error[m] * root[h]) for m, h in enumerate(k)]) + base.prior_precision * shift
        start = best[k] + np.einsum("mij,mj->mi", fitted.covariance[0][k], pull)
        scale = 1 / np.maximum(root[k], 1e-9)
        noised = Problems(
            x=base.x,
            y=base.y,
            log_loss=base.log_loss + error * scale * (root[k] > 0),
            weight=np.ones_like(scale),
            prior_mean=base.prior_mean + shift,
            prior_precision=base.prior_precision,
        )
        theta[rows] = minimise(noised, start, scale, robust=False, max_steps=_REFIT_STEPS, tolerance=1e-4)
        if progress is not None:
            progress(int(rows[-1]) + 1, draws)
    return theta


def apportion(share: Array, draws: int) -> NDArray[np.int_]:
    """Return whole numbers in proportion to the shares that sum to `draws` (largest remainders)."""
    exact = share * draws
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: draws - counts.sum()]] += 1
    return np.asarray(counts)


def average(fitted: Fitted, evidence: Evidence, top: Horizon, *, hold_floor: bool = False) -> Array:
    """Return the one law that says what the hypotheses say together, shape (7,).

    Their forecasts are averaged over a net of valley points, from the cheapest run to a thousand times the dearest,
    and the surface is fitted to the average. `top` is the first horizon; `hold_floor` says that E was given, and is the
    same in all of them.
    """
    lead = fitted.theta[0][int(evidence.share.argmax())]
    middle = top.centre[0] + top.centre[1]
    c = np.linspace(top.bottom, top.top + _FORWARD_LIMIT, _NET_BUDGETS) - middle
    side = np.linspace(-_SIDE, _SIDE, _NET_SIZES)
    x = (optimum_offset(lead[None], c)[0][:, None] + side).ravel()
    y = np.repeat(c, len(side)) - x
    mean = evidence.share @ log_loss(fitted.theta[0], x, y)
    problem = Problems(
        x=x[None],
        y=y[None],
        log_loss=mean[None],
        weight=np.ones((1, len(x))),
        prior_mean=lead[None],
        prior_precision=np.where((np.arange(NUM_FREE) == 0) & hold_floor, HELD**-2, 1.0)[None],
    )
    # a tenth of a percent: the average is no surface of this kind exactly, and need not be
    scale = np.full((1, len(x)), 1e-3)
    found = minimise(problem, lead[None], scale, robust=False, max_steps=60, tolerance=1e-8)
    return np.asarray(found[0])
