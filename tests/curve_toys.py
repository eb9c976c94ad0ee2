"""Curves made from a known law: schedules, pilots, and pilots with a warm-up for the band."""

from __future__ import annotations

import math

import numpy as np

from scalestop.laws.curves.law import Pilot
from scalestop.laws.curves.rate_path import RatePath
from scalestop.laws.curves.terms import curve_terms

TRUE = np.array([math.log(0.3), 0.45, math.log(0.12), math.log(0.02), 0.8, 0.5])
"""Constants of the curves' form."""
STEP_TOKENS = 1_000.0
"""Tokens of a step."""


def wsd(share: float) -> float:
    return min(share / 0.05, 1.0, (1 - share) / 0.2) if share < 1 else 0.0


def cosine(share: float) -> float:
    return share / 0.05 if share < 0.05 else 0.1 + 0.45 * (1 + math.cos(math.pi * (share - 0.05) / 0.95))


def constant(share: float) -> float:
    return min(share / 0.05, 1.0)


def made_up(shape, size: float, steps: int, seed: int, noise: float = 0.002, level: float = 2.5) -> Pilot:
    path = RatePath.of_shape(shape, steps * STEP_TOKENS, steps)
    tokens = np.linspace(0.01, 1, 200) * steps * STEP_TOKENS
    constants = TRUE + np.array([0.05, 0, 0.08, 0, 0, 0]) * math.log(size / 1e6)
    value = curve_terms(path, tokens, constants, 1e7).value
    loss = level - 0.2 * math.log10(size / 1e6) + value + noise * np.random.default_rng(seed).standard_normal(200)
    return Pilot(size, path, tokens, loss, name=f"{size:.0e}-{shape.__name__}")


def band_pilot(seed: int, size: float, steps: int) -> Pilot:
    generator = np.random.default_rng(seed)
    run = made_up(wsd, size, steps, seed, noise=0.0, level=2.5 + 0.01 * generator.standard_normal())
    share = np.linspace(0.0025, 1, 400)
    tokens = share * run.path.tokens[-1]
    loss = np.interp(tokens, run.tokens, run.loss) + 2 * np.exp(-share / 0.03) + 0.02 * generator.standard_normal(400)
    return Pilot(size, run.path, tokens, loss, np.full(400, 0.02), f"{seed}")


def some_pilots() -> list[Pilot]:
    """Return pilots of two sizes and three schedules."""
    runs = [(wsd, 1e6), (cosine, 1e6), (constant, 1e6), (wsd, 3e6), (cosine, 3e6), (constant, 3e6)]
    return [made_up(shape, size, 10_000, k) for k, (shape, size) in enumerate(runs)]
