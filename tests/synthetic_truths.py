"""Synthetic tables of known law: Chinchilla's own form and four that are not quite it, in three designs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

Loss = Callable[[np.ndarray, np.ndarray], np.ndarray]

TRUTHS = ("chinchilla", "sum power", "interaction", "sized", "kaplan")
"""E + u + v; E + (u + v)^gamma; E + u + v + g·sqrt(u·v); an alpha that drifts with log N; and the law of Kaplan et al.
2020, eq. 1.5."""

FACTORS = (10, 30, 100)
"""How far above the dearest run of a table its held-out runs reach."""

_LOWEST = 1e17
_NUM_HELD = 12


class Case(NamedTuple):
    """A table to fit, and runs to forecast."""

    truth: str
    factor: int
    design: str
    fitted: dict[str, np.ndarray]
    """Columns params, tokens, loss."""
    held: dict[str, np.ndarray]
    """The same, within x2 of the optimum, up to `factor` times the dearest compute fitted."""


def truths(rng: np.random.Generator) -> dict[str, Loss]:
    """Return each truth with constants drawn afresh: terms of .5 to .9 nats at N 1e8, D 2e9."""
    E, alpha, beta = rng.uniform(1.5, 2.0), rng.uniform(0.28, 0.40), rng.uniform(0.28, 0.40)
    size, data = rng.uniform(0.5, 0.9, 2)
    g, gamma = rng.choice([-0.6, 0.6, 1.0]), rng.uniform(0.4, 0.8)
    bend = rng.choice([-1, 1]) * rng.uniform(0.01, 0.03)

    def u(N: np.ndarray) -> np.ndarray:
        return size * (N / 1e8) ** -alpha

    def v(D: np.ndarray) -> np.ndarray:
        return data * (D / 2e9) ** -beta

    def sized(N: np.ndarray, D: np.ndarray) -> np.ndarray:
        z = np.log(N / 1e8)
        return E + size * np.exp(-alpha * z * (1 - bend * z)) + v(D)

    return {
        "chinchilla": lambda N, D: E + u(N) + v(D),
        "sum power": lambda N, D: E + (0.7 * u(N) ** (1 / gamma) + 0.7 * v(D) ** (1 / gamma)) ** gamma,
        "interaction": lambda N, D: E + u(N) + v(D) + g * np.sqrt(u(N) * v(D)),
        "sized": sized,
        "kaplan": lambda N, D: ((6.4e13 / N) ** (0.076 / 0.103) + 1.8e13 / D) ** 0.103,
    }


def best_sizes(loss: Loss, flops: np.ndarray | float) -> np.ndarray:
    """Return N_opt of each budget, by brute force."""
    sizes = np.geomspace(1e5, 1e13, 1500)
    return np.array([sizes[np.argmin(loss(sizes, c / 6 / sizes))] for c in np.atleast_1d(flops)])


def design(rng: np.random.Generator, loss: Loss) -> tuple[str, np.ndarray, np.ndarray]:
    """Return a design's name, N and D: isoFLOP budgets, a grid of sizes and multiples, or scattered runs."""
    low, high = _LOWEST, _LOWEST * 10 ** rng.uniform(2, 3.5)
    kind = str(rng.choice(["isoflop", "grid", "random"]))
    ends = best_sizes(loss, np.array([low, high]))
    if kind == "isoflop":
        budgets, sizes = rng.integers(4, 9), rng.integers(5, 10)
        reach = np.log(rng.uniform(3, 12))
        N = np.concatenate([n * np.exp(np.linspace(-reach, reach, sizes)) for n in np.geomspace(*ends, budgets)])
        return kind, N, np.repeat(np.geomspace(low, high, budgets), sizes) / 6 / N
    if kind == "grid":
        sizes = rng.integers(5, 12)
        n, multiples = np.geomspace(*ends, sizes), np.array([0.25, 0.5, 1, 2, 4, 8])[: rng.integers(4, 7)]
        N = np.repeat(n, len(multiples))
        D = np.tile(multiples, sizes) * np.repeat(np.geomspace(low, high, sizes) / 6 / n, len(multiples))
        kept = high * 1.001 >= 6 * N * D
        return kind, N[kept], D[kept]
    flops = np.exp(rng.uniform(np.log(low), np.log(high), rng.integers(30, 200)))
    sizes = np.geomspace(ends[0] / 2, ends[1] * 2, rng.integers(6, 15))
    wanted = best_sizes(loss, flops) * np.exp(rng.normal(0, 0.8, len(flops)))
    N = sizes[np.abs(np.log(sizes) - np.log(wanted)[:, None]).argmin(axis=1)]
    return kind, N, flops / 6 / N


def cases(num: int, seed: int = 0, only: Sequence[str] = TRUTHS) -> Iterator[Case]:
    """Yield `num` tables of each truth, scattered by .3 to 1 %."""
    for i in range(num):
        for truth, loss in truths(np.random.default_rng([seed, i])).items():
            if truth not in only:
                continue
            rng = np.random.default_rng([seed, i, 1])
            kind, N, D = design(rng, loss)
            noise = np.exp(rng.uniform(np.log(0.003), np.log(0.01)))
            factor = FACTORS[i % 3]
            flops = (6 * N * D).max() * np.exp(rng.uniform(0, np.log(factor), _NUM_HELD))
            held_n = best_sizes(loss, flops) * np.exp(rng.uniform(-np.log(2), np.log(2), _NUM_HELD))
            held_d = flops / 6 / held_n

            def table(N: np.ndarray, D: np.ndarray, loss: Loss = loss, noise: float = noise) -> dict[str, np.ndarray]:
                return {"params": N, "tokens": D, "loss": loss(N, D) * np.exp(rng.normal(0, noise, len(N)))}  # noqa: B023

            yield Case(truth, factor, kind, table(N, D), table(held_n, held_d))
