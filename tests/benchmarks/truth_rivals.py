"""Forecasts to beat: each takes columns params, tokens and loss, and returns a function (N, D) -> loss."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from scipy.optimize import least_squares, minimize
from scipy.special import huber

Table = dict[str, np.ndarray]
Forecast = Callable[[np.ndarray, np.ndarray], np.ndarray]

DELTA = 1e-3
"""Hoffmann et al. 2022, appendix D.2."""


def envelope(table: Table) -> Forecast:
    """Fit log L = a + b·log C to the running minimum of loss over compute, along its last two decades."""
    c, least = _records(table)
    late = c >= c.max() - np.log(100)
    if late.sum() < 3:
        late = np.arange(len(c)) >= len(c) - 3
    line = np.polyfit(c[late], np.log(least[late]), min(1, len(c) - 1))
    return lambda N, D: np.exp(np.polyval(line, np.log(N * D)))


def envelope_with_floor(table: Table) -> Forecast:
    """Fit E + K·C^-k to the running minimum, least squares in log loss, the best of twelve starts."""
    c, least = _records(table)
    if len(c) < 4:
        return envelope(table)
    middle = c.mean()

    def law(t: np.ndarray, at: np.ndarray) -> np.ndarray:
        return np.exp(t[0]) + np.exp(t[1] - np.exp(t[2]) * (at - middle))

    found = [
        least_squares(
            lambda t: np.log(law(t, c)) - np.log(least),
            [
                np.log(share * least.min()),
                np.log(max(float(np.median(least)) - share * least.min(), 0.01)),
                np.log(slope),
            ],
            max_nfev=300,
        )
        for share in (0.3, 0.6, 0.8, 0.95)
        for slope in (0.05, 0.15, 0.4)
    ]
    best = min(found, key=lambda result: result.cost).x
    return lambda N, D: law(best, np.log(N * D))


def one_start(table: Table) -> Forecast:
    """Fit Hoffmann et al.'s Approach 3 as one does in a notebook: L-BFGS-B from one middling start."""
    n, d, log_loss = (np.log(table[name]) for name in ("params", "tokens", "loss"))

    def objective(t: np.ndarray) -> tuple[float, np.ndarray]:
        e = np.exp(t[0])
        u, v = np.exp(np.clip(t[1] - t[3] * n, -50, 50)), np.exp(np.clip(t[2] - t[4] * d, -50, 50))
        residual = np.log(e + u + v) - log_loss
        pull = np.clip(residual, -DELTA, DELTA) / (e + u + v)
        slopes = [(pull * e).sum(), (pull * u).sum(), (pull * v).sum(), -(pull * u * n).sum(), -(pull * v * d).sum()]
        return 1e3 * float(huber(DELTA, residual).sum()), 1e3 * np.array(slopes)

    t = minimize(objective, np.array([0.5, 6.0, 6.0, 0.35, 0.35]), jac=True, method="L-BFGS-B").x
    return lambda N, D: np.exp(t[0]) + np.exp(t[1] - t[3] * np.log(N)) + np.exp(t[2] - t[4] * np.log(D))


def chinchilla_package(table: Table) -> Forecast:
    """Fit by the `chinchilla` package 0.2.0 (kyo-takano/chinchilla): log-Huber, its README's grid in three values."""
    from chinchilla import Chinchilla  # type: ignore[import-not-found]
    from chinchilla._metrics import log_huber  # type: ignore[import-not-found]

    grid = dict(E=(1, 2), a=(1, 10), b=(1, 10), alpha=(0.1, 0.7), beta=(0.1, 0.7))
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        found: Any = Chinchilla(
            folder,
            param_grid={name: np.linspace(*ends, 3) for name, ends in grid.items()},
            loss_fn=lambda measured, predicted: log_huber(measured, predicted, DELTA),
            log_level=40,
        )
        for n, d, loss in zip(table["params"], table["tokens"], table["loss"], strict=True):
            found.database.append(C=6 * n * d, N=n, D=d, loss=loss)
        found.fit(parallel=False)
        E, A, B, alpha, beta = (float(getattr(found, name)) for name in ("E", "A", "B", "alpha", "beta"))
    return lambda N, D: E + A / N**alpha + B / D**beta


def rivals() -> dict[str, Callable[[Table], Forecast]]:
    """Return the rivals by name; the package only where it is installed."""
    found = {"envelope": envelope, "env + floor": envelope_with_floor, "one start": one_start}
    return found | ({"chinchilla": chinchilla_package} if find_spec("chinchilla") else {})


def _records(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """Return log compute and loss of the runs that no cheaper run beats."""
    c = np.log(table["params"] * table["tokens"])
    order = np.lexsort((table["loss"], c))
    least = np.minimum.accumulate(table["loss"][order])
    first = np.append(True, least[1:] < least[:-1])
    return c[order][first], least[first]
