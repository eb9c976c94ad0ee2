"""Method `kaplan`: the joint L(N, D) = [(N_c/N)^(alpha_N/alpha_D) + D_c/D]^alpha_D (Kaplan et al. 2020, eq. 1.5)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from scalestop.errors import InputError
from scalestop.fitting.methods.enough import require_spread
from scalestop.fitting.methods.method import FitOptions, MethodFit, Residuals
from scalestop.fitting.methods.resampled import resample
from scalestop.fitting.solve.newton import Array, Bounds
from scalestop.fitting.solve.problem import NumericProblem
from scalestop.fitting.solve.surface import HUBER_DELTA
from scalestop.fitting.tables.table import RunTable
from scalestop.laws import KaplanLaw
from scalestop.laws.kaplan import kaplan_loss
from scalestop.units import FLOPS_PER_PF_DAY

NAMES = ("alpha_N", "alpha_D", "N_c", "D_c", "k_N", "a")
"""Constants of the fitted law; the last two follow from the first four."""


@dataclass(frozen=True)
class KaplanProblem(NumericProblem):
    """The Huber sum as a function of alpha_N, alpha_D, N_c, D_c.

    Free coordinates: log alpha_D, log rho with rho = alpha_N/alpha_D, and log((N_c/N)^rho) and log(D_c/D) at the
    middle of the runs.
    """

    params: Array
    """N of each run, shape (R,)."""
    tokens: Array
    """D of each run."""
    loss: Array
    """Loss of each run, nats per token."""
    delta: float = HUBER_DELTA
    """Huber threshold in log loss."""

    @cached_property
    def _centred(self) -> tuple[Array, Array, float, float]:
        log_n, log_d = np.log(self.params), np.log(self.tokens)
        return log_n - log_n.mean(), log_d - log_d.mean(), float(log_n.mean()), float(log_d.mean())

    @property
    def num_free(self) -> int:
        """Four constants."""
        return 4

    @property
    def bounds(self) -> Bounds:
        """alpha_D from 0.005 to 5 and rho from 0.02 to 50."""
        return Bounds(
            np.array([np.log(0.005), np.log(0.02), -400.0, -400.0]), np.array([np.log(5.0), np.log(50.0), 400.0, 400.0])
        )

    def log_predicted(self, free: Array) -> Array:
        """Return the log of the predicted loss, shape (M, R), at free coordinates (M, 4)."""
        n, d, _, _ = self._centred
        power, ratio = np.exp(free[:, 0, None]), np.exp(free[:, 1, None])
        size, data = free[:, 2, None] - ratio * n, free[:, 3, None] - d
        high = np.maximum(size, data)
        return np.asarray(power * (high + np.log1p(np.exp(-np.abs(size - data)))))

    def to_constants(self, free: Array) -> Array:
        """Return (alpha_N, alpha_D, N_c, D_c), shape (M, 4)."""
        _, _, mean_n, mean_d = self._centred
        alpha_d, ratio = np.exp(free[:, 0]), np.exp(free[:, 1])
        # N_c may overflow where rho is tiny; such laws lose to every other
        log_nc = np.minimum(free[:, 2] / ratio + mean_n, 690)
        return np.stack([alpha_d * ratio, alpha_d, np.exp(log_nc), np.exp(free[:, 3] + mean_d)], axis=1)

    def to_free(self, constants: Array) -> Array:
        """Return free coordinates of (alpha_N, alpha_D, N_c, D_c)."""
        _, _, mean_n, mean_d = self._centred
        alpha_n, alpha_d, n_c, d_c = np.atleast_2d(constants).T
        ratio = alpha_n / alpha_d
        return np.stack([np.log(alpha_d), np.log(ratio), ratio * (np.log(n_c) - mean_n), np.log(d_c) - mean_d], axis=1)

    def starts(self, weights: Array, most: int) -> Array:
        """Return the best of a 12 x 12 grid of alpha_D and rho, N_c and D_c by least squares on L^(1/alpha_D)."""
        n, d, _, _ = self._centred
        powers, ratios = np.geomspace(0.02, 1.5, 12), np.geomspace(0.15, 6, 12)
        found = []
        for power in powers:
            raised = np.log(self.loss) / power
            data = np.exp(-d - raised)
            for ratio in ratios:
                columns = np.stack([np.exp(-ratio * n - raised), data], axis=1)
                scale = np.sqrt(weights)[:, None]
                amounts = np.linalg.lstsq(columns * scale, scale[:, 0], rcond=None)[0]
                amounts = np.maximum(amounts, 1e-4 / np.maximum(columns.mean(axis=0), 1e-300))
                found.append([np.log(power), np.log(ratio), *np.log(amounts)])
        points = np.clip(np.array(found), *self.bounds)
        error = (weights * self.residuals(points) ** 2).sum(axis=1)
        return points[np.argsort(error, kind="stable")[:most]]


def allocation_of(constants: Array) -> Array:
    """Append k_N (at one PF-day) and a of the joint law's own minimum along 6·N·D = C to its four constants, (M, 4).

    Setting the derivative to zero gives N^(1+rho) = rho·N_c^rho·C/(6·D_c), rho = alpha_N/alpha_D; a = 1/(1+rho).
    """
    alpha_n, alpha_d, n_c, d_c = constants.T
    ratio = alpha_n / alpha_d
    log_k = (np.log(ratio) + ratio * np.log(n_c) + np.log(FLOPS_PER_PF_DAY / 6) - np.log(d_c)) / (1 + ratio)
    return np.column_stack([constants, np.exp(log_k), 1 / (1 + ratio)])


def fit_kaplan(table: RunTable, options: FitOptions) -> MethodFit:
    """Fit Kaplan et al.'s joint law. N should count body parameters, as theirs does. Of the options `delta` applies.

    Raises:
        InputError: If there are fewer than five runs, or they are of too few sizes, token counts or budgets.
    """
    options.refuse("kaplan", "tied", "irreducible", "fitted_scale")
    if len(table) < 5:
        raise InputError(f"records: four constants need at least 5 runs; got {len(table)}. Add runs.")
    require_spread(table)
    problem = KaplanProblem(table.params, table.tokens, table.loss, options.delta)
    best = problem.fit(table.weight)
    start = best.theta[0]

    def refit(counts: Array) -> Array:
        return allocation_of(problem.refit(counts * table.weight, start).theta)

    estimate = allocation_of(best.theta)[0]
    again = resample(refit, estimate, table, options, chunk=128)
    predicted = np.asarray(kaplan_loss(table.params, table.tokens, *start))
    return MethodFit(
        law_class=KaplanLaw,
        names=NAMES,
        estimate=estimate,
        **again._asdict(),
        objective=float(best.value[0]),
        num_free=4,
        residuals=Residuals(table.params, table.tokens, table.loss, predicted, table.run),
        notes=(
            "N_opt is the minimum of the fitted joint L(N, D) along 6·N·D = C. Kaplan et al.'s own power law comes "
            "from runs stopped early, and is steeper.",
            "The form has no irreducible loss: it falls to zero with N and D, and extrapolates low.",
        ),
    )
