"""What a ladder will be worth, before it is trained: the interval of its forecast, by simulation."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from scalestop.errors import InputError, ScalestopWarning
from scalestop.fitting import fit_law
from scalestop.ladder.plan import LadderPlan


@dataclass(frozen=True)
class Accuracy:
    """How well ladders like this one forecast the target's loss, if the prior law is about right."""

    loss: float
    """The target's loss by the prior law at its optimum, nats per token."""
    half_width: float
    """Half of the 90 % interval for the target run, nats per token; the median over the simulated ladders."""
    error: float
    """Absolute error of the forecast, nats per token; the median over them."""
    num_simulations: int
    """Ladders simulated."""


def expected_accuracy(
    plan: LadderPlan, simulations: int = 15, bootstrap: int = 300, seed: int = 0, level: float = 0.9
) -> Accuracy:
    """Simulate ladders of this plan: losses by the prior law, each with its own scatter; fit them, and forecast.

    Args:
        plan: The ladder.
        simulations: Ladders to simulate.
        bootstrap: Refits for each one's interval.
        seed: Seed of the scatter.
        level: Share of the distribution inside an interval.

    Raises:
        InputError: If the ladder's runs cannot determine a law.
    """
    settings, law = plan.settings, plan.settings.prior
    pilots = plan.pilots
    params = np.array([rung.num_params for rung in pilots], dtype=np.float64)
    tokens = np.array([rung.num_tokens for rung in pilots], dtype=np.float64)
    best = law.optimal(float(plan.target_flops))
    at = float(best.num_params), float(best.num_tokens)
    truth, losses = float(law.loss(*at)), np.asarray(law.loss(params, tokens))
    generator = np.random.default_rng(seed)
    widths, errors = [], []
    for _ in range(simulations):
        scattered = losses * np.exp(settings.noise * generator.standard_normal(len(losses)))
        columns = {"params": params, "tokens": tokens, "loss": scattered}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ScalestopWarning)
            fit = fit_law(columns, bootstrap=bootstrap, level=level, n_counts=law.info.n_counts)
            found = fit.predict(*at)
        widths.append((found.new_run[1] - found.new_run[0]) / 2)
        errors.append(abs(found.loss.estimate - truth))
    return Accuracy(truth, float(np.median(widths)), float(np.median(errors)), simulations)


def describe_accuracy(plan: LadderPlan) -> str:
    """Return in words what the ladder's share of the target buys."""
    noise = plan.settings.noise
    try:
        found = expected_accuracy(plan)
    except InputError as error:
        return f"these runs determine no law: {error}"
    return (
        f"expected accuracy at the target: {found.loss:.3f} ± {found.half_width:.3f} nats/token (90 % interval), "
        f"typical error {found.error:.3f}; by {found.num_simulations} simulated ladders under law "
        f"{plan.settings.prior.name} with {noise:.2%} scatter per run"
    )
