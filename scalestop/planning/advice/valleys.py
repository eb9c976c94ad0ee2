"""How flat the valley is: the loss over model sizes at one budget, and what several laws say of it side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scalestop.errors import InputError
from scalestop.laws import ScalingLaw
from scalestop.laws.intervals import Pair, interval_of_optimum
from scalestop.planning.advice.basis import (
    Answer,
    Basis,
    Spot,
    amount,
    basis_of,
    best_spot,
    need_loss,
    signed,
    spot_of,
    table,
)
from scalestop.planning.advice.frontier import flops_for_loss, is_minimum
from scalestop.planning.allocation import spread
from scalestop.units import human_count, human_flops

FACTORS = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0, 10.0)
"""Multiples of N_opt that a valley shows."""


@dataclass(frozen=True)
class ValleyRow:
    """One size at the budget."""

    of_optimum: float
    """N/N_opt."""
    spot: Spot
    """The model, for the whole budget."""
    over: float
    """Loss above the optimum's, nats per token; below 0 only where the law's optimum is not its loss's minimum."""
    wasted: float | None
    """Share of the budget that the optimal split would save for the same loss; None where the law cannot say."""


@dataclass(frozen=True)
class Valley(Answer):
    """Loss against size at one budget."""

    flops: float
    """The budget, FLOPs."""
    basis: Basis
    rows: tuple[ValleyRow, ...]
    """From the smallest size to the largest."""

    def __str__(self) -> str:
        rows = [
            (
                f"{row.of_optimum:g} N_opt",
                human_count(row.spot.num_params),
                human_count(row.spot.num_tokens),
                f"{row.spot.tokens_per_param:.3g}",
                f"{row.spot.loss:.3f}",
                signed(row.over),
                "?" if row.wasted is None else f"{row.wasted:.0%}",
            )
            for row in self.rows
        ]
        return f"{table(('size', 'N', 'tokens', 'D/N', 'loss', 'over', 'wasted'), rows)}\nlaw {self.basis}"


def valley(law: ScalingLaw, flops: float, factors: Sequence[float] = FACTORS) -> Valley:
    """Return the loss of several sizes, each trained for the whole budget.

    Args:
        law: A law that predicts a loss.
        flops: The budget, FLOPs.
        factors: Multiples of N_opt.

    Raises:
        InputError: If the law predicts no loss.
    """
    need_loss(law, "a valley")
    flops = amount(flops, "flops")
    best = best_spot(law, flops)
    assert best.loss is not None
    minimum = is_minimum(law, flops)
    rows = []
    for factor in factors:
        size = best.num_params * amount(factor, "factors")
        spot = spot_of(law, size, flops / (6 * size))
        assert spot.loss is not None
        enough = flops_for_loss(law, spot.loss) if minimum else None
        wasted = None if enough is None else max(0.0, 1 - enough / flops)
        rows.append(ValleyRow(float(factor), spot, spot.loss - best.loss, wasted))
    # the table's own ends may lie outside where the question itself does not
    return Valley(flops, basis_of(law, best.num_params, best.num_tokens, flops), tuple(rows))


@dataclass(frozen=True)
class LawRow:
    """What one law says of a budget."""

    basis: Basis
    best: Spot
    """Its optimum."""
    params_interval: Pair | None
    """90 % interval of N_opt."""
    exponent: float
    """a of N_opt ~ C^a, at this budget."""
    source: str
    fitted_on: str


@dataclass(frozen=True)
class LawsSideBySide(Answer):
    """One budget by several laws."""

    flops: float
    """The budget, FLOPs."""
    rows: tuple[LawRow, ...]

    @property
    def why(self) -> tuple[str, ...]:
        """Why they differ, one line each; empty for one law."""
        rows = self.rows
        if len(rows) < 2:
            return ()
        sizes = [row.best.num_params for row in rows]
        lines = [f"N_opt differs {max(sizes) / min(sizes):.2g}-fold between them at {human_flops(rows[0].best.flops)}"]
        if len({row.basis.n_counts for row in rows}) > 1:
            lines.append(
                "they count other parameters: body leaves embeddings and head out, which matters below some 1B"
            )
        steps = sorted(rows, key=lambda row: row.exponent)
        if steps[-1].exponent - steps[0].exponent > 0.02:
            lines.append(
                f"they grow apart: N_opt goes as C^{steps[0].exponent:.2f} by {steps[0].basis.law} and "
                f"C^{steps[-1].exponent:.2f} by {steps[-1].basis.law}, so they agree at one budget at most"
            )
        if len({row.fitted_on for row in rows}) > 1:
            lines += [f"{row.basis.law} was fitted on {row.fitted_on}" for row in rows]
            lines.append("a loss per token is comparable only for one text and one tokenizer")
        else:
            lines.append("they were fitted on the same runs: it is the fit that differs, not the data")
        return tuple(lines)

    def __str__(self) -> str:
        rows = [
            (
                row.basis.law,
                spread(row.best.num_params, row.params_interval),
                row.basis.n_counts,
                human_count(row.best.num_tokens),
                f"{row.best.tokens_per_param:.3g}",
                "-" if row.best.loss is None else f"{row.best.loss:.3f}",
                f"{row.exponent:.2f}",
                f"{row.basis.distance:.1f}",
            )
            for row in self.rows
        ]
        heads = ("law", "N_opt", "N counts", "D_opt", "D/N", "loss", "a", "outside")
        lines = [table(heads, rows), "a: N_opt grows as C^a; outside: factors of ten beyond the law's runs"]
        return "\n".join([*lines, *self.why])


def side_by_side(laws: Sequence[ScalingLaw], flops: float) -> LawsSideBySide:
    """Return what several laws say of one budget.

    Args:
        laws: The laws.
        flops: The budget, FLOPs.

    Raises:
        InputError: If there is no law.
    """
    flops = amount(flops, "flops")
    if not laws:
        raise InputError("laws: name at least one law")
    rows = []
    for law in laws:
        best = best_spot(law, flops)
        wider, narrower = (float(law.optimal(flops * step).num_params) for step in (1.1, 1 / 1.1))
        exponent, interval = math.log(wider / narrower) / math.log(1.21), interval_of_optimum(law, flops).num_params
        basis = basis_of(law, best.num_params, best.num_tokens, flops)
        rows.append(LawRow(basis, best, interval, exponent, law.info.source, law.info.fitted_on))
    return LawsSideBySide(flops, tuple(rows))
