"""Quantiles of Student's t distribution, without scipy: a run under watch loads none."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

_NODES = 20_001


@lru_cache(maxsize=256)
def t_quantile(share: float, degrees: float) -> float:
    """Return the point below which this share of a t distribution lies; good to 1e-5 of itself up to a share of 0.999.

    With t = sqrt(degrees)·tan(theta) the density is that of cos(theta)^(degrees - 1), which is summed over theta.

    Args:
        share: Above 0 and below 1.
        degrees: Degrees of freedom, at least 1; need not be whole.
    """
    if share < 0.5:
        return -t_quantile(1 - share, degrees)
    theta = np.linspace(0, math.pi / 2, _NODES)
    density = np.cos(theta) ** (degrees - 1)
    below = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return math.sqrt(degrees) * math.tan(float(np.interp((2 * share - 1) * below[-1], below, theta)))
