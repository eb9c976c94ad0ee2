"""What may be true of a table before it is seen: a floor or none, and how fast the form drifts away from the runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scalestop.fitting.solve.coupled import NUM_FREE, log_loss, log_loss_and_slopes
from scalestop.fitting.solve.horizon import Horizon
from scalestop.fitting.solve.newton import Array
from scalestop.fitting.solve.robust import Problems, minimise, precision, start_at

NOISE = 0.005
"""Scatter of log loss from run to run before the table speaks: half a percent, the middle of published seed noise."""

LEAST_NOISE = 0.002
"""No table is trusted to scatter less than this: two seeds of one recipe already differ by .1 to .3 %."""

_NOISE_RUNS = 4.0  # the prior on the noise counts as this many runs
_TERMS = 4.0  # constants that the runs near the top spend: E, two terms, the balance
_SINGLE_RUN = 4.0  # residuals past this many sd count as this many in the noise of a new run
_NOISE_ROUNDS = 5


class Prior(NamedTuple):
    """Normal in the solver's coordinates."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    floors: tuple[float, ...]
    """E/L0 from which to start."""
    steepness: float
    """Exponents from which to start, over the usual ones."""


HELD = 1e-4
"""Standard deviation of log E where E is given: nothing moves it, and nothing divides by zero."""

NO_E = -12.0
"""log(E/L0) that stands for no E at all: six millionths of the least loss."""

FLOOR = Prior(
    # E .65 of the least loss, +- 20 %: Hoffmann .81, Besiroglu .87, Gadre .63-.76, small byte models .5.
    # Exponents .35 as the loss feels them, within e^.4. The two terms are left to the runs (e^1.5).
    mean=(np.log(0.65), -0.7, -0.7, np.log(0.35), np.log(0.35), 0.0, 0.0),
    deviation=(0.2, 1.5, 1.5, 0.4, 0.4, 0.3, 0.3),
    floors=(0.55, 0.7, 0.8),
    steepness=1.0,
)
"""Chinchilla's law, nearly."""

NO_FLOOR = Prior(
    # Kaplan's law: the whole loss is a power, with exponents near .08 (arXiv 2001.08361, table 5: .076, .095)
    mean=(-4.0, 0.5, 0.5, np.log(0.08), np.log(0.08), 0.0, -1.0),
    deviation=(0.3, 1.5, 1.5, 0.5, 0.5, 0.3, 0.7),
    floors=(0.018,),
    steepness=0.25,
)
"""Kaplan's law, nearly: E is 2 % of the least loss."""


class Hypothesis(NamedTuple):
    """A prior on the constants, and a drift."""

    prior: Prior
    drift: float
    """Error of the form, in log loss, per factor of e of compute below the horizon. It makes far runs count less."""
    log_odds: float
    """Log of the prior weight, but for a constant."""


DRIFTS = (0.001, 0.003, 0.01, 0.03)
"""A form that is nearly true, one good to 2 % over three decades, one over one decade, one that hardly holds."""

_TYPICAL_DRIFT = 0.007
_DRIFT_SPREAD = 0.7  # of its log
_KAPLAN_SHARE = 0.02  # one table in fifty before it speaks: none of the public ones has no floor


HYPOTHESES = tuple(
    Hypothesis(prior, drift, float(np.log(share) - 0.5 * (np.log(drift / _TYPICAL_DRIFT) / _DRIFT_SPREAD) ** 2))
    for prior, share in ((FLOOR, 1 - _KAPLAN_SHARE), (NO_FLOOR, _KAPLAN_SHARE))
    for drift in DRIFTS
)


def with_floor(prior: Prior, irreducible: float | None, log_least: float) -> Prior:
    """Return the prior with E held at a given value, nats per token, which may be 0; as it is for None."""
    if irreducible is None:
        return prior
    log_floor = max(float(np.log(irreducible)) - log_least, NO_E) if irreducible > 0 else NO_E
    return prior._replace(
        mean=(log_floor, *prior.mean[1:]), deviation=(HELD, *prior.deviation[1:]), floors=(float(np.exp(log_floor)),)
    )


@dataclass(frozen=True)
class Fitted:
    """Every hypothesis fitted at every horizon; first axes (horizons, hypotheses)."""

    theta: Array
    """Most probable coordinates, shape (H, K, 7)."""
    covariance: Array
    """Of theta, shape (H, K, 7, 7)."""
    noise: Array
    """Scatter of a new run's log loss, shape (H, K)."""
    working_weight: Array
    """Weight of each run's squared residual, shape (H, K, R)."""
    problems: Problems
    """Flat, horizons outermost."""

    def forecast(self, h: int, seen_from: Horizon, log_params: Array, log_tokens: Array) -> tuple[Array, Array]:
        """Return log loss and its standard deviation from the constants alone, each (K, Q), at Q points."""
        x, y = log_params - seen_from.centre[0], log_tokens - seen_from.centre[1]
        mean, slopes = log_loss_and_slopes(self.theta[h], x, y)
        variance = np.einsum("kiq,kij,kjq->kq", slopes, self.covariance[h], slopes)
        return mean + seen_from.log_least, np.sqrt(np.maximum(variance, 0))


def fit_hypotheses(
    horizons: list[Horizon],
    log_params: Array,
    log_tokens: Array,
    log_loss_seen: Array,
    replicates: Array,
    floor: float,
    irreducible: float | None = None,
) -> Fitted:
    """Fit every hypothesis at every horizon, each with its own noise; see `valley_evidence.weigh` for the arguments.

    Runs that share an (N, D) share its drift, hence `replicates`.
    """
    pairs = [(h, hypothesis) for h in horizons for hypothesis in HYPOTHESES]
    priors = [with_floor(k.prior, irreducible, h.log_least) for h, k in pairs]
    problems = Problems(
        x=np.stack([log_params - h.centre[0] for h, _ in pairs]),
        y=np.stack([log_tokens - h.centre[1] for h, _ in pairs]),
        log_loss=np.stack([log_loss_seen - h.log_least for h, _ in pairs]),
        weight=np.stack([h.weight for h, _ in pairs]),
        prior_mean=np.array([prior.mean for prior in priors]),
        prior_precision=np.array([prior.deviation for prior in priors]) ** -2.0,
    )
    drifted = np.stack([replicates * (k.drift * h.below) ** 2 for h, k in pairs])
    theta = _start(problems, pairs, priors)
    noise = np.full(len(pairs), NOISE)
    for step in range(_NOISE_ROUNDS):
        scale = np.sqrt(noise[:, None] ** 2 + drifted)
        theta = minimise(problems, theta, scale, max_steps=30 if step == 0 else 8, tolerance=1e-3)
        noise = np.maximum(_noise(problems, theta, noise, scale, single_run=False), floor)
    scale = np.sqrt(noise[:, None] ** 2 + drifted)
    theta = minimise(problems, theta, scale, tolerance=1e-7)
    hessian, working = precision(problems, theta, scale)
    new_run = np.maximum(_noise(problems, theta, noise, scale, single_run=True), np.maximum(noise, floor))
    shape = (len(horizons), len(HYPOTHESES))
    return Fitted(
        theta=theta.reshape(*shape, NUM_FREE),
        covariance=np.asarray(np.linalg.inv(hessian), dtype=np.float64).reshape(*shape, NUM_FREE, NUM_FREE),
        noise=new_run.reshape(shape),
        working_weight=working.reshape(*shape, -1),
        problems=problems,
    )


def _start(problems: Problems, pairs: list[tuple[Horizon, Hypothesis]], priors: list[Prior]) -> Array:
    known: dict[tuple[int, int], Array] = {}
    keys = [(id(h), id(hypothesis.prior)) for h, hypothesis in pairs]
    for key, (h, _), prior, x, y, seen in zip(keys, pairs, priors, *problems[:3], strict=True):
        if key not in known:
            known[key] = start_at(x, y, seen, h.weight / (1 + h.below**2), prior.floors, prior.steepness)
    return np.array([known[key] for key in keys])


def _noise(problems: Problems, theta: Array, noise: Array, scale: Array, *, single_run: bool) -> Array:
    """Return the scatter of log loss about each fit near its horizon, shape (M,), shrunk to NOISE.

    `noise` is the scatter so far, `scale` each run's standard deviation with its drift, shape (M, R). For a
    `single_run` it is the root mean square, which a new run's interval needs, else the median, which one broken run
    cannot move.
    """
    residual = np.abs(log_loss(theta, problems.x, problems.y) - problems.log_loss)
    near = problems.weight * (noise[:, None] / scale) ** 2
    runs = near.sum(axis=1)
    if single_run:
        found = np.sqrt((near * np.minimum(residual, _SINGLE_RUN * noise[:, None]) ** 2).sum(axis=1) / runs)
    else:
        order = np.argsort(residual, axis=1)
        reached = np.cumsum(np.take_along_axis(near, order, 1), axis=1)
        middle = (reached >= 0.5 * reached[:, -1:]).argmax(axis=1)[:, None]
        found = 1.4826 * np.take_along_axis(np.take_along_axis(residual, order, 1), middle, 1)[:, 0]
    found = found * np.sqrt(runs / np.maximum(runs - _TERMS, runs / 4))
    logs = runs * np.log(np.maximum(found, 1e-4)) + _NOISE_RUNS * np.log(NOISE)
    return np.asarray(np.exp(logs / (runs + _NOISE_RUNS)))


def replicates_of(log_params: Array, log_tokens: Array) -> NDArray[np.int_]:
    """Return the number of each run's (N, D), so that runs of one size on as many tokens share it, shape (R,)."""
    # from the least on, so that another unit rounds alike
    rounded = np.round(np.column_stack([log_params - log_params.min(), log_tokens - log_tokens.min()]), 6)
    return np.asarray(np.unique(rounded, axis=0, return_inverse=True)[1]).ravel()
