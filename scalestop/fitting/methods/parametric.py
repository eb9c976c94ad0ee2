"""Method `parametric`: E + A/N^alpha + B/D^beta to all runs at once (Hoffmann et al. 2022, Approach 3)."""

from __future__ import annotations

from functools import partial

import numpy as np

from scalestop.errors import InputError
from scalestop.fitting.methods.enough import require_floor, require_spread
from scalestop.fitting.methods.method import FitOptions, MethodFit, Residuals
from scalestop.fitting.methods.resampled import resample
from scalestop.fitting.solve.likelihood import refit_with_scale
from scalestop.fitting.solve.newton import Array
from scalestop.fitting.solve.surface import NAMES
from scalestop.fitting.solve.surface_fit import SurfaceProblem
from scalestop.fitting.tables.table import RunTable
from scalestop.laws import Finding, ParametricLaw
from scalestop.laws.parametric import parametric_loss


def fit_parametric(table: RunTable, options: FitOptions) -> MethodFit:
    """Fit the parametric law, and refit it to bootstrap samples and with each run left out.

    Of the options `tied`, `irreducible`, `delta` and `fitted_scale` apply.

    Raises:
        InputError: If the runs cannot determine the law: too few, or of too few sizes, token counts or budgets.
    """
    problem = surface_problem(table, options)
    best = problem.fit(table.weight)
    again_from = partial(refit_with_scale, problem) if options.fitted_scale else problem.refit
    if options.fitted_scale:
        best = refit_with_scale(problem, table.weight[None, :], best.theta)
    start = best.theta[0]

    def refit(counts: Array) -> Array:
        return again_from(counts * table.weight, start).theta

    again = resample(refit, start, table, options)
    predicted = np.asarray(parametric_loss(table.params, table.tokens, *start))
    findings = () if best.converged[0] else (_NOT_CONVERGED,)
    notes = []
    if options.tied:
        notes.append("alpha = beta was imposed.")
    if options.irreducible is not None:
        notes.append(f"E was held at {options.irreducible:g}.")
    return MethodFit(
        law_class=ParametricLaw,
        names=NAMES,
        estimate=start,
        **again._asdict(),
        objective=float(best.value[0]),
        num_free=problem.num_free,
        residuals=Residuals(table.params, table.tokens, table.loss, predicted, table.run),
        findings=findings,
        notes=tuple(notes),
    )


_NOT_CONVERGED = Finding(
    "not-converged",
    "warning",
    "The search for the best constants ended without converging; the constants are the best point it met.",
)


def surface_problem(table: RunTable, options: FitOptions) -> SurfaceProblem:
    """Return the problem to solve, having checked that the runs can determine it.

    Raises:
        InputError: Naming what the runs lack.
    """
    problem = SurfaceProblem(table.params, table.tokens, table.loss, options.tied, options.irreducible, options.delta)
    need = problem.num_free + 1
    if len(table) < need:
        raise InputError(
            f"records: {problem.num_free} constants need at least {need} runs; got {len(table)}. "
            f"Add runs, or hold some constants with tied=True or irreducible=..."
        )
    require_spread(table)
    require_floor(table, options)
    return problem
