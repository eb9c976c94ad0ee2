"""The curves that a ladder's runs kept, as a law of them: later runs are followed by it."""

from __future__ import annotations

import numpy as np

from scalestop.errors import InputError
from scalestop.fitting.band_fit import fit_band
from scalestop.fitting.curve_fit import better_curve_law
from scalestop.ladder.store import DIVERGED, Ladder
from scalestop.laws.curves.family import CurveFamily
from scalestop.laws.curves.law import SHARES, Pilot
from scalestop.laws.curves.points import usable
from scalestop.run.curve import Curve
from scalestop.run.records import RunRecord

_LEAST_POINTS = 8
"""Points after warm-up below which a run's curve says nothing of its form."""
_LEAST_PILOTS = 3
_LEAST_FOR_A_BAND = 8


def pilot_of(record: RunRecord) -> Pilot | None:
    """Return a finished run's training curve; None if its record kept none, or too little of one.

    Args:
        record: The run's record.
    """
    if not record.points:
        return None
    try:
        curve = Curve.from_state(record.points)
        pilot = Pilot(record.num_params, curve.path(), *curve.training(), name=record.run)
    except InputError:
        return None
    return pilot if usable(pilot.path, pilot.tokens, 0.1).sum() >= _LEAST_POINTS else None


def curves_of(ladder: Ladder) -> CurveFamily | None:
    """Fit the curves of a ladder's pilots; None where there are too few.

    Branches of one trunk are left out: they repeat its curve.

    Args:
        ladder: The ladder.
    """
    records = [ladder.record(rung) for rung in ladder.rungs if rung.is_pilot and rung.kind == "run"]
    ended = [record for record in records if record is not None and record.stop_reason != DIVERGED]
    pilots = [pilot for record in ended if (pilot := pilot_of(record)) is not None]
    if len(pilots) < _LEAST_PILOTS:
        return None
    try:
        law = better_curve_law(pilots)
    except (InputError, np.linalg.LinAlgError):
        return None
    band = None
    if len(pilots) >= _LEAST_FOR_A_BAND:
        try:
            band = fit_band(pilots)
        except (InputError, np.linalg.LinAlgError):
            band = None  # of several schedules there is none
    return CurveFamily(law, band, source=f"{len(pilots)} pilots of the ladder {ladder.settings.name}")


def describe_curves(curves: CurveFamily) -> str:
    """Return what the curves' law knows, in one line."""
    law = curves.law
    errors = dict(zip(SHARES, law.beyond.error, strict=True))
    measured = [f"{errors[share]:.3f} at {share:.0%}" for share in (0.2, 0.5) if errors[share] is not None]
    off = f"; off by {' and '.join(measured)} of a run of a size left out (nats, root mean square)" if measured else ""
    band = "with a band" if curves.band is not None else "without a band"
    return f"curves: a law of {law.num_pilots} curves of {len(law.sizes)} sizes, {band}{off}"
