"""The curves of pilots of one recipe in, their band out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from scalestop.errors import InputError
from scalestop.laws.curves.band import EDGES, CurveBand, rates_in_windows, windows
from scalestop.laws.curves.law import Pilot
from scalestop.laws.curves.rate_path import Array

_LEAST_PILOTS = 4
_RIDGE = (1e-2, 1e-2, 1e-1)


def fit_band(pilots: Sequence[Pilot]) -> CurveBand:
    """Fit the band to the training loss of finished runs of one recipe.

    Args:
        pilots: The runs, with the standard error of each point. Their schedules must be one shape over the share of
            the run.

    Raises:
        InputError: If there are fewer than four, or their schedules differ.
    """
    if len(pilots) < _LEAST_PILOTS:
        raise InputError(f"pilots: a band needs at least {_LEAST_PILOTS} runs of one recipe; got {len(pilots)}")
    rates = np.array([rates_in_windows(pilot.path) for pilot in pilots])
    rate = np.median(rates, axis=0)
    if (odd := np.abs(rates - rate).max(axis=1) > 0.1).any():
        names = ", ".join(repr(pilot.name) for pilot, other in zip(pilots, odd, strict=True) if other)
        raise InputError(f"pilots: a band is of one schedule over the share of the run; {names} had another")
    sizes = np.log([pilot.num_params for pilot in pilots])
    lengths = np.log([float(pilot.path.tokens[-1]) for pilot in pilots])
    batches = np.log([pilot.tokens_per_step for pilot in pilots])
    size_ref, length_ref, batch_ref = float(sizes.mean()), float(lengths.mean()), float(batches.mean())
    rows = np.column_stack([np.ones(len(pilots)), sizes - size_ref, lengths - length_ref, batches - batch_ref])
    # a column that hardly varies, or only with another, cannot be told: a weak prior keeps its coefficient near 0
    inverse = np.linalg.inv(rows.T @ rows + np.diag([0.0, *_RIDGE]))
    hat = rows @ inverse @ rows.T
    mean, noise = _stacked(pilots)
    known = np.isfinite(mean).all(axis=0)
    coefficients = np.full((len(EDGES) - 1, rows.shape[1]), np.nan)
    scatter = np.full(len(EDGES) - 1, np.nan)
    degrees = max(len(pilots) - float(np.trace(hat)), 1.0)
    for k in np.flatnonzero(known):
        coefficients[k] = inverse @ rows.T @ mean[:, k]
        left = mean[:, k] - rows @ coefficients[k]
        scatter[k] = np.sum(left**2) / degrees - np.sum((1 - np.diag(hat)) * noise[:, k] ** 2) / degrees
    scatter = _smooth_scatter(scatter, noise, degrees)
    return CurveBand(
        coefficients=coefficients,
        covariance=inverse,
        scatter=scatter,
        rate=rate,
        num_params_ref=math.exp(size_ref),
        tokens_ref=math.exp(length_ref),
        step_tokens_ref=math.exp(batch_ref),
        degrees=degrees,
        num_pilots=len(pilots),
    )


def _stacked(pilots: Sequence[Pilot]) -> tuple[Array, Array]:
    means, noises = [], []
    for pilot in pilots:
        error = np.zeros(len(pilot.tokens)) if pilot.error is None else pilot.error
        mean, noise, _ = windows(pilot.tokens / pilot.path.tokens[-1], pilot.loss, error)
        means.append(mean)
        noises.append(noise)
    return np.array(means), np.array(noises)


def _smooth_scatter(variance: Array, noise: Array, degrees: float) -> Array:
    """Return standard deviations; each window's variance is uncertain, so it is drawn to its neighbours and above 0."""
    known = np.flatnonzero(np.isfinite(variance))
    result = np.full(len(variance), np.nan)
    for k in known:
        near = known[np.abs(known - k) <= 1]
        floor = float(np.nanmean(noise[:, k] ** 2)) / 4 / max(degrees, 1.0)
        result[k] = math.sqrt(max(float(np.mean(variance[near])), float(variance[k]) / 2, floor, 4e-6))
    return result
