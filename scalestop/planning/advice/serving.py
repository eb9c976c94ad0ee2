"""A model that will be served: size and tokens for the least compute over its lifetime (Sardana et al. 2024)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from scalestop.errors import InputError
from scalestop.laws import ScalingLaw
from scalestop.laws.intervals import Pair, interval_over_draws
from scalestop.laws.repeated import bisect
from scalestop.planning.advice.basis import (
    MOST,
    Answer,
    Basis,
    Spot,
    amount,
    basis_of,
    best_spot,
    block,
    need_loss,
    spot_of,
)
from scalestop.planning.advice.bills import Bill, bill
from scalestop.planning.advice.frontier import flops_for_loss, is_minimum
from scalestop.planning.advice.regime import run_name
from scalestop.planning.allocation import spread
from scalestop.planning.speed import Speed
from scalestop.units import human_count, human_flops

_COUNTED = (
    "6N a token trained, 2N a token served, as Sardana et al. 2024 (arXiv 2401.00448) count; at equal utilisation"
)
_FARTHEST = math.log(1e12)
"""How far below the training optimum a size is looked for, as the log of a factor."""


@dataclass(frozen=True)
class Serving(Answer):
    """The model of a given loss that costs least to train and to serve."""

    demand: float
    """Tokens served over the model's lifetime, prompts and answers together."""
    best: Spot
    """The model with the least lifetime compute."""
    chinchilla: Spot
    """The model of the same loss with the least training compute."""
    chinchilla_multiple: float
    """Its tokens over those with which its size is compute-optimal: 1 without demand, above 1 is deliberate
    over-training."""
    lifetime_flops: float
    """6·N·D + 2·N·demand of the best, FLOPs."""
    chinchilla_lifetime_flops: float
    """The same of the training optimum, FLOPs."""
    params_interval: Pair | None
    """90 % interval of the best's N: by each draw of the law the size for the loss that this model has by that draw."""
    bill: Bill | None
    """What training the best takes."""
    basis: Basis

    @property
    def saved(self) -> float:
        """Share of the training optimum's lifetime compute that the best saves."""
        return 1 - self.lifetime_flops / self.chinchilla_lifetime_flops

    @property
    def extra_training(self) -> float:
        """The price of over-training: training compute over that of the training optimum, less 1."""
        return self.best.flops / self.chinchilla.flops - 1

    def __str__(self) -> str:
        best, other = self.best, self.chinchilla
        rows = {
            "demand": f"{human_count(self.demand)} tokens served" if self.demand else "none",
            "loss": spread(best.loss or 0, best.loss_interval, ".3f"),
            "train": f"{run_name(best)}, N {spread(best.num_params, self.params_interval)}, "
            f"{best.tokens_per_param:.3g} tokens per param: {self.chinchilla_multiple:.3g}x those with which its size "
            f"is compute-optimal",
            "instead of": f"{run_name(other)}, which reaches that loss for the least training",
            "lifetime": f"{human_flops(self.lifetime_flops)} against {human_flops(self.chinchilla_lifetime_flops)}: "
            f"{self.saved:.0%} saved, for {self.extra_training:.0%} more training compute",
        }
        if self.bill is not None and self.bill.seconds is not None:
            rows["training"] = str(self.bill)
        return block(rows | {"counted": _COUNTED, "law": str(self.basis)})


def serve(
    law: ScalingLaw,
    demand: float,
    *,
    loss: float | None = None,
    flops: float | None = None,
    speed: Speed | None = None,
) -> Serving:
    """Return the size and tokens that reach a loss for the least lifetime compute, 6·N·D + 2·N·demand.

    Sardana et al. 2024 (arXiv 2401.00448). Serving costs 2·N a token, training 6·N, and both run at the same
    utilisation; the paper's section on real-world costs treats the rest.

    Args:
        law: A law whose optimum is the minimum of its loss.
        demand: Tokens served over the lifetime, prompts and answers together; 0 for none.
        loss: The loss that the model has to reach, nats per token.
        flops: In its place a training budget, whose optimum's loss is to be reached.
        speed: Device speed and price, for hours and money of training.

    Raises:
        InputError: If the loss is given twice or not at all, is out of reach, or the law's optimum is not the minimum
            of its loss.
    """
    need_loss(law, "serving")
    if (loss is None) == (flops is None):
        raise InputError("loss: give the loss to reach, or flops whose optimum's loss is to be reached; one of the two")
    if demand != 0:
        demand = amount(demand, "demand")
    if loss is None:
        budget: float | None = amount(flops, "flops")
    else:
        budget = flops_for_loss(law, amount(loss, "loss"))
    if budget is None:
        raise InputError(f"loss: {loss!r} is out of reach of law {law.name!r}, whatever the compute; give a higher one")
    if not is_minimum(law, budget):
        raise InputError(
            f"law: the optimum of {law.name!r} is not the minimum of its loss, so nothing can be weighed against "
            f"serving; use one such as 'besiroglu'"
        )
    chinchilla = best_spot(law, budget)
    assert chinchilla.loss is not None
    target = chinchilla.loss
    size, tokens = chinchilla.num_params, chinchilla.num_tokens
    if demand:
        size = float(_sizes(law, target, demand, size))
        tokens = float(tokens_for_loss(law, size, target))
    best = spot_of(law, size, tokens)
    return Serving(
        demand=float(demand),
        best=best,
        chinchilla=chinchilla,
        chinchilla_multiple=best.num_tokens / float(law.optimal_tokens(best.num_params)),
        lifetime_flops=best.flops + 2 * best.num_params * demand,
        chinchilla_lifetime_flops=chinchilla.flops + 2 * chinchilla.num_params * demand,
        params_interval=interval_over_draws(
            law, lambda drawn: _sizes(drawn, drawn.loss(size, tokens), float(demand), size), drift_at=best.flops
        ),
        bill=None if speed is None else bill(best.flops, speed),
        basis=basis_of(law, best.num_params, best.num_tokens, best.flops),
    )


def serve_within(law: ScalingLaw, demand: float, flops: float, speed: Speed | None = None) -> Serving:
    """Return the model with the least lifetime compute for its loss among those whose training spends a budget.

    Where `serve` keeps the loss of a budget's optimum and trains for longer than the budget, this keeps the budget.

    Args:
        law: A law whose optimum is the minimum of its loss.
        demand: Tokens served over the lifetime, prompts and answers together; 0 for none.
        flops: What training may spend, FLOPs.
        speed: Device speed and price, for hours and money of training.

    Raises:
        InputError: As `serve` does.
    """
    need_loss(law, "serving")
    high = math.log(amount(flops, "flops"))
    if not demand:
        return serve(law, demand, flops=flops, speed=speed)
    low = high - math.log(1e4)
    for _ in range(30):
        middle = (low + high) / 2
        size, tokens = law.optimal(math.exp(middle))
        loss = float(law.loss(size, tokens))
        size = float(_sizes(law, loss, amount(demand, "demand"), float(size)))
        low, high = (middle, high) if 6 * size * tokens_for_loss(law, size, loss) <= flops else (low, middle)
    return serve(law, demand, flops=math.exp(low), speed=speed)


@dataclass(frozen=True)
class ImpliedDemand(Answer):
    """What the makers of a run expected to serve, if they expected to minimise lifetime compute."""

    spot: Spot
    """The run."""
    demand: float
    """Tokens served for which it has the least lifetime compute of all runs of its loss; below 0 for an undertrained
    model, which no demand explains."""
    demand_interval: Pair | None
    """90 % interval of that, over the law's draws."""
    chinchilla_multiple: float
    """Its tokens over those with which its size is compute-optimal."""
    basis: Basis

    def __str__(self) -> str:
        name = run_name(self.spot)
        if self.demand > 0:
            text = f"{name} is the cheapest run of its loss, training and serving, for "
            text += f"{spread(self.demand, self.demand_interval)} tokens served"
        else:
            text = f"none explains {name}: a smaller model on more tokens has its loss for less, served or not"
        multiple = f"{self.chinchilla_multiple:.3g}x the tokens with which its size is compute-optimal"
        return block({"demand": text, "trained on": multiple, "law": str(self.basis)})


def explain_demand(law: ScalingLaw, num_params: float, num_tokens: float) -> ImpliedDemand:
    """Return the tokens served for which a run has the least lifetime compute of all runs of its loss.

    Along a line of equal loss 6·N·D + 2·N·I is least where I = 3·D·(p_N/p_D - 1), with p the loss's slopes in log N
    and log D: that is what an over-trained model's makers expected to serve, if they expected to minimise this. Below 0
    it is an undertrained model, which no demand explains.

    Args:
        law: A law that predicts a loss.
        num_params: N, counted as the law counts it.
        num_tokens: D, tokens.

    Raises:
        InputError: If the law predicts no loss.
    """
    need_loss(law, "an implied demand")
    spot = spot_of(law, amount(num_params, "num_params"), amount(num_tokens, "num_tokens"))
    return ImpliedDemand(
        spot=spot,
        demand=float(_implied(law, spot.num_params, spot.num_tokens)),
        demand_interval=interval_over_draws(law, lambda drawn: _implied(drawn, num_params, num_tokens)),
        chinchilla_multiple=num_tokens / float(law.optimal_tokens(float(num_params))),
        basis=basis_of(law, spot.num_params, spot.num_tokens, spot.flops),
    )


def _implied(law: ScalingLaw, n: Any, d: Any) -> Any:
    """The implied demand by a law, or by each draw of one."""
    up, down = 1 + 1e-4, 1 - 1e-4
    size = np.asarray(law.loss(n * down, d)) - law.loss(n * up, d)
    data = np.asarray(law.loss(n, d * down)) - law.loss(n, d * up)
    # past all repetition more tokens bring nothing, and no demand is large enough
    return np.where(data > 0, 3 * d * (size / np.where(data > 0, data, 1) - 1), math.inf)


def _sizes(law: ScalingLaw, loss: Any, demand: float, near: float) -> Any:
    """Return the size with the least lifetime compute at a loss, by a law or, with a loss for each, by its draws.

    It is looked for from far below a size to a thousandfold above.
    """

    def still_wanted(log_size: Any) -> Any:
        sizes = np.exp(log_size)
        tokens = tokens_for_loss(law, sizes, loss)
        reached = np.isfinite(tokens)
        # a size too small for the loss is best for no demand, however large
        return np.where(reached, _implied(law, sizes, np.where(reached, tokens, MOST)), math.inf) - demand

    low = np.full(np.shape(loss), math.log(near) - _FARTHEST)
    return np.exp(bisect(still_wanted, low, low + _FARTHEST + math.log(1e3), 50))


def tokens_for_loss(law: ScalingLaw, num_params: Any, loss: Any) -> Any:
    """Return the tokens with which sizes reach losses, element by element; infinite where they never do."""
    low = np.zeros(np.broadcast_shapes(np.shape(num_params), np.shape(loss)))
    found = np.exp(bisect(lambda y: law.loss(num_params, np.exp(y)) - loss, low, low + math.log(MOST), 50))
    return np.where(np.asarray(law.loss(num_params, MOST)) < loss, found, math.inf)
