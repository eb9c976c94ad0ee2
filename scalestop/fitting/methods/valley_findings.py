"""What a valley fit should be doubted for."""

from __future__ import annotations

import numpy as np

from scalestop.fitting.methods.valley_evidence import MOST_FLOORLESS, Valley
from scalestop.fitting.methods.valley_hypotheses import FLOOR, HYPOTHESES
from scalestop.fitting.solve.coupled import optimum_slopes
from scalestop.fitting.tables.table import RunTable
from scalestop.laws.findings import Finding, notes_of, warnings_of

UNDETERMINED = float(np.log(10.0)) / 1.645
"""Standard deviation of log N_opt at the dearest run's compute from which the optimum counts as unknown: its 90 %
interval then reaches ten times lower and ten times higher."""

MISSED = 1.5
"""Factor on the intervals from which earlier forecasts count as missed."""

FEW_FORECASTS = 2
"""Rolling forecasts below which the intervals rest on the priors."""

_UNMOVED = 0.9
_LIGHT = 0.05
_SHOWN = 5


def valley_findings(table: RunTable, valley: Valley, *, given_floor: bool) -> tuple[Finding, ...]:
    """Return what the fit itself gives to think about; `given_floor` says that E was given."""
    evidence, broken = valley.evidence, valley.broken
    found, notes = {}, {}
    if len(broken):
        shown = "; ".join(table.describe_row(int(row)) for row in broken[:_SHOWN])
        more = f"; and {len(broken) - _SHOWN} more" if len(broken) > _SHOWN else ""
        found["broken-runs"] = (
            f"{len(broken)} runs beat all others of three times their compute, and the frontier was drawn without "
            f"them: {shown}{more}. Is their loss of another data set, or logged amiss?"
        )
    spread = _optimum_spread(valley)
    if spread > UNDETERMINED:
        found["optimum-undetermined"] = (
            f"The best size at the dearest run's compute is not determined: the runs leave N_opt open within "
            f"x{np.exp(1.645 * spread):.2g} either way. Add runs of a quarter and of four times the D/N at one "
            f"budget."
        )
    if evidence.floorless > MOST_FLOORLESS and not given_floor:
        found["no-floor"] = (
            f"The runs speak for a loss without a floor ({evidence.floorless:.0%} of the weight, of which "
            f"{MOST_FLOORLESS:.0%} counts): far above the runs a floor will show, so forecasts lie between the two "
            f"and their intervals hold both. Dearer runs would tell; dropping the cheapest may."
        )
    elif _moved(valley) > _UNMOVED:
        notes["E-from-prior"] = (
            "E is hardly touched by these runs and stays at its prior, .65 of the least loss ± 20 %; forecasts "
            "carry that width. Dearer runs would tell."
        )
    if evidence.inflation > MISSED:
        found["missed-forecasts"] = (
            f"Cheaper runs foretold the dearer ones of this table {evidence.inflation:.1f} times worse than their "
            f"intervals said; those given here are wider by that."
        )
    if evidence.num_forecasts < FEW_FORECASTS:
        many = "one rolling forecast" if evidence.num_forecasts else "no rolling forecast"
        notes["few-forecasts"] = (
            f"The table allows {many} of its dearer runs from its cheaper ones, so the intervals rest on what "
            f"public tables show, not on this one."
        )
    light = int(np.sum(valley.weight < _LIGHT))
    if light:
        notes["far-from-valley"] = (
            f"{light} of {len(table)} runs lie far above the best of their compute and hardly count."
        )
    return (*warnings_of(found), *notes_of(notes))


def _optimum_spread(valley: Valley) -> float:
    """Return the standard deviation of log N_opt at the dearest run's compute."""
    evidence, fitted, top = valley.evidence, valley.fitted, valley.top
    slopes = optimum_slopes(fitted.theta[0], top.top - sum(top.centre))
    variance = np.einsum("ki,kij,kj->k", slopes, fitted.covariance[0], slopes)
    return evidence.inflation * float(np.sqrt(evidence.share @ np.maximum(variance, 0)))


def _moved(valley: Valley) -> float:
    """Return the standard deviation of log E over that of its prior, averaged over the hypotheses with a floor."""
    keep = [i for i, h in enumerate(HYPOTHESES) if h.prior is FLOOR]
    ratio = np.sqrt(valley.fitted.covariance[0][keep, 0, 0]) / FLOOR.deviation[0]
    share = valley.evidence.share[keep]
    return float(share @ ratio / share.sum()) if share.sum() > 0 else 0.0
