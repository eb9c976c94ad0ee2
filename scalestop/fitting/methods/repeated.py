"""Method `repeated`: what repeated tokens are worth (Muennighoff et al. 2023, arXiv 2305.16264, eq. 4-6)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from scalestop.errors import InputError
from scalestop.fitting.methods.method import FitOptions, MethodFit, Residuals
from scalestop.fitting.methods.parametric import surface_problem
from scalestop.fitting.methods.resampled import resample
from scalestop.fitting.solve.newton import Array, Bounds
from scalestop.fitting.solve.problem import NumericProblem
from scalestop.fitting.solve.surface import NAMES as SURFACE_NAMES
from scalestop.fitting.solve.surface_fit import SurfaceProblem
from scalestop.fitting.tables.table import RunTable
from scalestop.laws import DataConstrainedLaw
from scalestop.laws.findings import Finding, warnings_of
from scalestop.laws.repeated import repeated_loss

NAMES = (*SURFACE_NAMES, "R_D", "R_N")
_HALF_LIVES = (0.05, 1e4)


@dataclass(frozen=True)
class RepeatedProblem(NumericProblem):
    """The Huber sum as a function of E, A, B, alpha, beta, R_D* and R_N*, all fitted together.

    Free coordinates: those of the plain surface, then log R_D* and log R_N*.
    """

    surface: SurfaceProblem
    """The same runs under the plain law; `tied` and `irreducible` are its."""
    unique_tokens: Array
    """Distinct tokens of each run's data, shape (R,)."""
    first: Array
    """E, A, B, alpha, beta to start from, shape (5,)."""

    @property
    def loss(self) -> Array:  # type: ignore[override]
        """Loss of each run, nats per token, shape (R,)."""
        return self.surface.loss

    @property
    def delta(self) -> float:  # type: ignore[override]
        """Huber threshold in log loss."""
        return self.surface.delta

    @property
    def num_free(self) -> int:
        """The surface's constants and two half-lives."""
        return self.surface.num_free + 2

    @cached_property
    def bounds(self) -> Bounds:
        """The surface's box, and half-lives from 0.05 to 10,000 repetitions."""
        low, high = np.log(_HALF_LIVES)
        return Bounds(
            np.append(self.surface.bounds.lower, [low, low]), np.append(self.surface.bounds.upper, [high, high])
        )

    def log_predicted(self, free: Array) -> Array:
        """Return the log of the predicted loss, shape (M, R), at free coordinates (M, p)."""
        constants = self.to_constants(free).T[:, :, None]
        return np.asarray(
            np.log(repeated_loss(self.surface.params, self.surface.tokens, self.unique_tokens, *constants))
        )

    def to_constants(self, free: Array) -> Array:
        """Return (E, A, B, alpha, beta, R_D, R_N), shape (M, 7)."""
        return np.column_stack([self.surface.to_constants(free[:, :-2]), np.exp(free[:, -2:])])

    def to_free(self, constants: Array) -> Array:
        """Return free coordinates of (E, A, B, alpha, beta, R_D, R_N)."""
        constants = np.atleast_2d(constants)
        return np.column_stack([self.surface.to_free(constants[:, :5]), np.log(constants[:, 5:])])

    def starts(self, weights: Array, most: int) -> Array:
        """Return the plain fit with nine pairs of half-lives, the best first."""
        half_lives = np.array([(d, n) for d in (3.0, 15.0, 60.0) for n in (2.0, 6.0, 20.0)])
        points = self.to_free(np.column_stack([np.tile(self.first, (9, 1)), half_lives]))
        error = (weights * np.abs(self.residuals(points))).sum(axis=1)
        return points[np.argsort(error, kind="stable")[:most]]


def fit_repeated(table: RunTable, options: FitOptions) -> MethodFit:
    """Fit the data-constrained law to runs of which some saw their tokens more than once.

    All constants are fitted together; Muennighoff et al. fit the plain law first and hold it, with alpha = beta
    (`tied=True` does that). A run without `unique_tokens` counts as having seen each token once. Of the options `tied`,
    `irreducible` and `delta` apply.

    Raises:
        InputError: If no run repeats tokens, or the runs are too few.
    """
    options.refuse("repeated", "fitted_scale")
    unique = np.where(np.isnan(table.unique_tokens), table.tokens, np.minimum(table.unique_tokens, table.tokens))
    epochs = table.tokens / unique
    if np.all(epochs < 1.5):
        raise InputError(
            "records: no run saw its tokens 1.5 times or more, so what repetition costs is not determined; give "
            "unique_tokens for runs of several epochs, or use method='parametric'"
        )
    surface = surface_problem(table, options)
    if len(table) < surface.num_free + 3:
        raise InputError(
            f"records: {surface.num_free + 2} constants need at least {surface.num_free + 3} runs; got {len(table)}. "
            f"Add runs, or hold some constants with tied=True or irreducible=..."
        )
    problem = RepeatedProblem(surface, unique, _first_guess(table, options, surface, epochs))
    best = problem.fit(table.weight)
    start = best.theta[0]

    def refit(counts: Array) -> Array:
        return problem.refit(counts * table.weight, start).theta

    again = resample(refit, start, table, options, chunk=64)
    predicted = np.asarray(repeated_loss(table.params, table.tokens, unique, *start))
    return MethodFit(
        law_class=DataConstrainedLaw,
        names=NAMES,
        estimate=start,
        **again._asdict(),
        objective=float(best.value[0]),
        num_free=problem.num_free,
        residuals=Residuals(table.params, table.tokens, table.loss, predicted, table.run),
        findings=_half_life_findings(table, unique, start, again.draws),
        notes=("Set unique_tokens to your corpus's size: law.with_unique_tokens(...).",),
    )


def _first_guess(table: RunTable, options: FitOptions, surface: SurfaceProblem, epochs: Array) -> Array:
    """Return the plain law of the runs that repeated nothing, or of all runs where those are too few."""
    fresh = np.flatnonzero(epochs < 1.001)
    try:
        surface = surface_problem(table.take(fresh), replace(options, progress=None))
    except InputError:
        fresh = np.arange(len(table))
    return surface.fit(table.weight[fresh]).theta[0]


def _half_life_findings(table: RunTable, unique: Array, constants: Array, draws: Array) -> tuple[Finding, ...]:
    if not len(draws):
        return ()
    _, A, B, alpha, beta, r_d, r_n = constants
    warranted = np.exp((np.log(alpha * A / (beta * B)) + beta * np.log(unique)) / alpha)
    found = {}
    for name, half_life, repeats, column in (
        ("R_D", r_d, table.tokens / unique - 1, draws[:, 5]),
        ("R_N", r_n, table.params / warranted - 1, draws[:, 6]),
    ):
        low, high = np.quantile(column, [0.05, 0.95])
        if repeats.max() < 0.5 * half_life or high > 20 * low:
            found[f"{name}-undetermined"] = (
                f"{name}* is hardly determined: {half_life:.3g} (90 %: {low:.3g} to {high:.3g}), where the runs go "
                f"up to {max(float(repeats.max()), 0):.3g} repetitions; add runs of more."
            )
    return warnings_of(found)
