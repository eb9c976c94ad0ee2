"""What the next factor of compute, parameters or data buys, and the least compute for a target loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scalestop.errors import InputError
from scalestop.laws import ScalingLaw
from scalestop.laws.intervals import Pair, interval_of_gain
from scalestop.planning.advice.basis import (
    Answer,
    Basis,
    Spot,
    amount,
    basis_of,
    best_spot,
    block,
    irreducible,
    need_loss,
    negated,
    signed,
    spot_of,
    table,
)
from scalestop.planning.advice.bills import Bill, bill
from scalestop.planning.advice.frontier import flops_for_loss, interval_of_flops
from scalestop.planning.advice.regime import run_name
from scalestop.planning.allocation import spread
from scalestop.planning.speed import Speed
from scalestop.units import human_flops

_SHARES = (
    (0.9, "nearly all"), (0.7, "three quarters"), (0.6, "two thirds"), (0.45, "a half"), (0.3, "a third"),
    (0.225, "a quarter"), (0.175, "a fifth"), (0.135, "a seventh"), (0.085, "a tenth"), (0.06, "a fifteenth"),
    (0.035, "a twentieth"), (0.015, "a fiftieth"), (0.0, "hardly anything"),
)  # fmt: skip


@dataclass(frozen=True)
class Gain:
    """What one step buys."""

    what: str
    """The step, such as `2x compute`."""
    spot: Spot
    """The run after it."""
    gain: float
    """What it takes off the loss, nats per token; below 0 where it makes it worse."""
    gain_interval: Pair | None
    """90 % interval of that, over the law's draws; None without draws."""
    of_reducible: float
    """The gain as a share of what is still reducible by this law, L - E."""

    @property
    def in_words(self) -> str:
        """Such as `a tenth of what is still reducible`."""
        if self.gain < 0:
            return "makes it worse"
        return f"{next(word for least, word in _SHARES if self.of_reducible >= least)} of what is still reducible"


@dataclass(frozen=True)
class Gains(Answer):
    """What the next steps from a run buy."""

    start: Spot
    """Where the steps start."""
    reducible: float
    """Loss above the law's E there, nats per token."""
    gains: tuple[Gain, ...]
    basis: Basis

    def __str__(self) -> str:
        rows = [
            (
                gain.what,
                run_name(gain.spot),
                human_flops(gain.spot.flops),
                f"{gain.spot.loss:.3f}",
                signed(-gain.gain, negated(gain.gain_interval)),
                gain.in_words,
            )
            for gain in self.gains
        ]
        loss = spread(self.start.loss or 0, self.start.loss_interval, ".3f")
        start = f"{run_name(self.start)}: loss {loss}, of which {self.reducible:.3f} is still reducible by this law"
        steps = table(("", "run", "compute", "loss", "change", ""), rows)
        return block({"from": start, "steps": steps, "law": str(self.basis)})


def what_next(
    law: ScalingLaw,
    num_params: float | None = None,
    num_tokens: float | None = None,
    *,
    flops: float | None = None,
    factors: Sequence[float] = (2.0, 10.0),
) -> Gains:
    """Return what a factor of compute, of parameters alone and of tokens alone buys.

    More compute is split optimally; more parameters keep the tokens, and more tokens the parameters.

    Args:
        law: A law that predicts a loss.
        num_params: N of the run at hand; with `num_tokens`.
        num_tokens: D of it, tokens.
        flops: In their place a budget, whose optimum is the start.
        factors: The factors, each above 1.

    Raises:
        InputError: If the start is given twice or not at all, or the law predicts no loss.
    """
    need_loss(law, "what the next step buys")
    if (num_params is None) != (num_tokens is None) or (num_params is None) == (flops is None):
        raise InputError("flops: start from num_params with num_tokens, or from flops; give one of the two")
    if flops is not None:
        start = best_spot(law, amount(flops, "flops"))
    else:
        start = spot_of(law, amount(num_params, "num_params"), amount(num_tokens, "num_tokens"))
    assert start.loss is not None
    reducible = start.loss - irreducible(law)
    gains = []
    for factor in factors:
        if not factor > 1:
            raise InputError(f"factors: each above 1; got {factor!r}")
        steps = {
            "compute": best_spot(law, start.flops * amount(factor, "factors")),
            "parameters": spot_of(law, start.num_params * factor, start.num_tokens),
            "tokens": spot_of(law, start.num_params, start.num_tokens * factor),
        }
        for what, spot in steps.items():
            assert spot.loss is not None
            pair = interval_of_gain(law, (start.num_params, start.num_tokens), (spot.num_params, spot.num_tokens))
            gain = start.loss - spot.loss
            gains.append(Gain(f"{factor:g}x {what}", spot, gain, pair, gain / reducible if reducible > 0 else 0.0))
    everything = [start, *(gain.spot for gain in gains)]
    asked: Any = zip(*((s.num_params, s.num_tokens, s.flops) for s in everything), strict=True)
    return Gains(start, reducible, tuple(gains), basis_of(law, *asked))


@dataclass(frozen=True)
class Target(Answer):
    """The least that reaches a loss."""

    loss: float
    """The target, nats per token."""
    best: Spot | None
    """The cheapest run that reaches it; None where no compute does."""
    flops_interval: tuple[float | None, float | None] | None
    """Budgets at which the low and the high end of the law's 90 % interval reach it; an end that never does is None."""
    bill: Bill | None
    """Hours and money of it."""
    irreducible: float
    """E: no compute goes below this by the law, nats per token."""
    basis: Basis

    def __str__(self) -> str:
        if self.best is None:
            text = f"loss {self.loss:g} is out of reach: no compute goes below {self.irreducible:.3f} by this law"
            return block({"target": text, "law": str(self.basis)})
        text = f"loss {self.loss:g} takes {human_flops(self.best.flops)}"
        if self.flops_interval is not None:
            ends = ("never" if end is None else human_flops(end) for end in self.flops_interval)
            text += f" (90 %: {' to '.join(ends)})"
        rows = {"target": text, "run": f"{run_name(self.best)}, {self.best.tokens_per_param:.3g} tokens per param"}
        if self.bill is not None and self.bill.seconds is not None:
            rows["takes"] = str(self.bill)
        return block(rows | {"law": str(self.basis)})


def least_for_loss(law: ScalingLaw, loss: float, speed: Speed | None = None) -> Target:
    """Return the least compute, hours and money for a target loss.

    Args:
        law: A law that predicts a loss.
        loss: Target, nats per token.
        speed: Device speed and price, for hours and money.

    Raises:
        InputError: If the law predicts no loss.
    """
    need_loss(law, "a target loss")
    loss = amount(loss, "loss")
    flops = flops_for_loss(law, loss)
    if flops is None:
        return Target(loss, None, None, None, irreducible(law), basis_of(law, None, None, None))
    best = best_spot(law, flops)
    basis = basis_of(law, best.num_params, best.num_tokens, flops)
    return Target(loss, best, interval_of_flops(law, loss), bill(flops, speed), irreducible(law), basis)
