"""Is this run well spent, and how does it compare with others: regimes, waste, and what it should have been."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from scalestop.errors import InputError, shown
from scalestop.laws import ScalingLaw
from scalestop.laws.intervals import Pair, interval_of_optimum
from scalestop.planning.advice.basis import Answer, Basis, Spot, amount, basis_of, best_spot, block, spot_of
from scalestop.planning.advice.bills import Bill, bill
from scalestop.planning.advice.frontier import flops_for_loss, is_minimum
from scalestop.planning.allocation import spread
from scalestop.planning.speed import Speed
from scalestop.units import human_count, human_flops, parse_count

LITTLE = 0.05
"""A run that wastes less than this share of its compute is limited by compute: no other split buys much."""
_BAND = 1.5
"""The same in sizes, for laws that cannot tell the waste: 5 % is wasted at about 1.5 N_opt and 0.7 N_opt."""


class Regime(StrEnum):
    """What holds a run's loss back most."""

    PARAMETERS = "parameter-limited"
    DATA = "data-limited"
    COMPUTE = "compute-limited"


@dataclass(frozen=True)
class Appraisal(Answer):
    """What a law says of one model and its tokens."""

    spot: Spot
    """The run."""
    best: Spot
    """The law's optimum of the same compute: what the run should have been."""
    best_interval: Pair | None
    """90 % interval of that optimum's N."""
    own_tokens: float
    """Tokens with which a model of this size is itself compute-optimal."""
    regime: Regime
    """Parameter-limited: more parameters would buy most. Data-limited: more tokens would. Compute-limited: near the
    optimum, where only more of both helps."""
    params_return: float | None
    """What doubling N alone takes off the loss, nats per token."""
    tokens_return: float | None
    """What doubling D alone takes off the loss, nats per token."""
    size_term: float | None
    """A/N^alpha, the loss that a larger model could still remove; None for a law without such a term."""
    data_term: float | None
    """B/D^beta, the loss that more data could still remove; None likewise."""
    enough: float | None
    """Compute with which the optimal split has the same loss, FLOPs; None where the law's optimum is not the minimum
    of its loss, or it has no loss."""
    basis: Basis

    @property
    def size_ratio(self) -> float:
        """N over the N_opt of the same compute."""
        return self.spot.num_params / self.best.num_params

    @property
    def trained(self) -> float:
        """D over the tokens with which this size is optimal: below 1 undertrained, above 1 overtrained."""
        return self.spot.num_tokens / self.own_tokens

    @property
    def wasted(self) -> float | None:
        """Share of the compute that the optimal split would save for the same loss."""
        return None if self.enough is None else max(0.0, 1 - self.enough / self.spot.flops)

    def __str__(self) -> str:
        s = self.spot
        loss = "" if s.loss is None else f", loss {spread(s.loss, s.loss_interval, '.3f')}"
        over, best = self.size_ratio, self.best
        better = f"{run_name(best)} for the same compute" + ("" if best.loss is None else f": {best.loss:.3f}")
        rows = {
            "run": f"{run_name(s)}: {human_flops(s.flops)}, {s.tokens_per_param:.3g} tokens per param{loss}",
            "regime": self._regime(),
            "size": f"{over:.3g} N_opt of its compute, {_how_far(over, 'oversized', 'undersized')}",
            "tokens": f"{self.trained:.3g} of the {human_count(self.own_tokens)} with which this size is optimal, "
            f"{_how_far(self.trained, 'overtrained', 'undertrained')}",
            "better": better + (f"; N {spread(best.num_params, self.best_interval)}" if self.best_interval else ""),
        }
        if self.enough is not None and self.wasted is not None:
            wasted = f"{self.wasted:.0%} is wasted"
            rows["waste"] = f"the optimal split has this loss for {human_flops(self.enough)}: {wasted}"
        elif s.loss is not None:
            rows["waste"] = "not told: this law's optimum is not the minimum of its loss"
        return block(rows | {"law": str(self.basis)})

    def _regime(self) -> str:
        text = str(self.regime)
        if self.params_return is not None and self.tokens_return is not None:
            text += f": twice the parameters buy {self.params_return:.3f}, twice the tokens {self.tokens_return:.3f}"
        if self.size_term is not None and self.data_term is not None:
            larger = "size" if self.size_term > self.data_term else "data"
            text += f"; the {larger} term dominates (size {self.size_term:.3f}, data {self.data_term:.3f})"
        return text


def appraise(law: ScalingLaw, num_params: float, num_tokens: float) -> Appraisal:
    """Return whether a model and its tokens are well matched, and what the mismatch costs.

    Args:
        law: The law.
        num_params: N, counted as the law counts it.
        num_tokens: D, tokens.
    """
    n, d = amount(num_params, "num_params"), amount(num_tokens, "num_tokens")
    spot = spot_of(law, n, d)
    best = best_spot(law, spot.flops)
    enough = flops_for_loss(law, spot.loss) if spot.loss is not None and is_minimum(law, spot.flops) else None
    if enough is not None:
        near = 1 - enough / spot.flops < LITTLE
    else:
        near = 1 / _BAND < n / best.num_params < _BAND
    small = n < best.num_params
    terms: tuple[float | None, float | None] = None, None
    c: Any = law.constants
    # with repeated tokens D is worth less than it counts, and the plain term would not be the law's
    if {"A", "B", "alpha", "beta"} <= set(c) and c.get("unique_tokens") is None:
        terms = float(c["A"] * n ** -c["alpha"]), float(c["B"] * d ** -c["beta"])
    return Appraisal(
        spot=spot,
        best=best,
        best_interval=interval_of_optimum(law, spot.flops).num_params,
        own_tokens=float(law.optimal_tokens(n)),
        regime=Regime.COMPUTE if near else Regime.PARAMETERS if small else Regime.DATA,
        params_return=None if spot.loss is None else spot.loss - float(law.loss(2 * n, d)),
        tokens_return=None if spot.loss is None else spot.loss - float(law.loss(n, 2 * d)),
        size_term=terms[0],
        data_term=terms[1],
        enough=enough,
        basis=basis_of(law, n, d, spot.flops),
    )


@dataclass(frozen=True)
class Comparison(Answer):
    """Several runs by one law."""

    runs: tuple[Appraisal, ...]
    """The runs in the order they were given."""
    bills: tuple[Bill, ...]
    """What each takes, in the same order."""
    sure: float | None
    """Share of the law's draws by which the best run is the best; None without draws or loss."""
    basis: Basis

    @property
    def best(self) -> int | None:
        """Which run has the lowest loss, counted from 0; None where the law predicts none."""
        losses = [run.spot.loss for run in self.runs]
        return None if None in losses else int(np.argmin(losses))  # type: ignore[arg-type]

    @property
    def dearest(self) -> int:
        """Which run takes the most compute, counted from 0."""
        return int(np.argmax([run.spot.flops for run in self.runs]))

    def __str__(self) -> str:
        rows = []
        for run, its_bill in zip(self.runs, self.bills, strict=True):
            text = human_flops(run.spot.flops)
            if run.spot.loss is not None:
                text += f", loss {spread(run.spot.loss, run.spot.loss_interval, '.3f')}"
            text += f"; {_how_far(run.trained, 'overtrained', 'undertrained')} ({run.trained:.3g} of "
            text += f"{human_count(run.own_tokens)} tokens), {run.regime}"
            if run.wasted:
                text += f", {run.wasted:.0%} of its compute wasted"
            if its_bill.seconds is not None:
                text += f"\n{its_bill}"
            rows.append((run_name(run.spot), text))
        dear = self.runs[self.dearest]
        text = f"with the compute of {run_name(dear.spot)}, {run_name(dear.best)} would have been best"
        if dear.best.loss is not None:
            text += f": {dear.best.loss:.3f}"
        rows.append(("rather", text))
        if self.best is not None:
            winner = self.runs[self.best]
            others = [run.spot.loss for i, run in enumerate(self.runs) if i != self.best and run.spot.loss is not None]
            text = f"{run_name(winner.spot)}"
            if others and winner.spot.loss is not None:
                text += f", by {min(others) - winner.spot.loss:.3f} nats per token"
            if self.sure is not None:
                text += f", by {self.sure:.0%} of the law's draws"
            rows.append(("best", text))
        return block([*rows, ("law", str(self.basis))])


def compare(law: ScalingLaw, runs: Sequence[tuple[float, float]], speed: Speed | None = None) -> Comparison:
    """Hold runs against each other by one law.

    Args:
        law: The law.
        runs: (N, D) of each, at least two; N counted as the law counts it.
        speed: Device speed and price, for hours and money.

    Raises:
        InputError: If there are fewer than two.
    """
    if len(runs) < 2:
        raise InputError(f"runs: give at least two to compare; got {len(runs)}")
    found = tuple(appraise(law, n, d) for n, d in runs)
    sizes, tokens = (np.array([getattr(run.spot, name) for run in found]) for name in ("num_params", "num_tokens"))
    sure = None
    if law.uncertainty is not None and law.has_loss:
        draws = np.stack([np.asarray(law.drawn().loss(float(n), float(d))) for n, d in zip(sizes, tokens, strict=True)])
        best = int(np.argmin([run.spot.loss or np.inf for run in found]))
        sure = float(np.mean(np.argmin(draws, axis=0) == best))
    bills = tuple(bill(run.spot.flops, speed) for run in found)
    return Comparison(found, bills, sure, basis_of(law, sizes, tokens, 6 * sizes * tokens))


def parse_run(text: str) -> tuple[float, float]:
    """Read a run such as `70Bx1.4T`: parameters, an x, tokens.

    Returns:
        N and D.

    Raises:
        InputError: If it is no run; saying what is wrong with it.
    """
    parts = re.split(r"\s*[x×*]\s*", text.strip()) if isinstance(text, str) else []
    if len(parts) != 2:
        raise InputError(f"run: cannot read {shown(text)} as parameters x tokens. Write for example '70Bx1.4T'.")
    values = []
    for part, what in zip(parts, ("parameters", "tokens"), strict=True):
        try:
            values.append(float(parse_count(part, "run")))
        except InputError:
            raise InputError(
                f"run: in {shown(text)}, {shown(part)} is no number of {what}. Write for example '70Bx1.4T'."
            ) from None
    return values[0], values[1]


def run_name(spot: Spot) -> str:
    """Return a run as people write it: 70B x 1.4T."""
    return f"{human_count(spot.num_params)} x {human_count(spot.num_tokens)}"


def _how_far(ratio: float, over: str, under: str) -> str:
    if 1 / 1.1 <= ratio <= 1.1:
        return "about right"
    return f"{human_count(ratio, 2)}x {over}" if ratio > 1 else f"{human_count(1 / ratio, 2)}x {under}"
