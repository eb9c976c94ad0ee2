"""Only so many unique tokens: epochs, their worth, and the best size under the data wall (Muennighoff et al. 2023)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, cast

from scalestop.errors import InputError
from scalestop.laws import DataConstrainedLaw, ParametricLaw, ScalingLaw, get_law
from scalestop.laws.repeated import effective_amount
from scalestop.planning.advice.basis import (
    Answer,
    Basis,
    Spot,
    amount,
    basis_of,
    best_spot,
    block,
    signed,
    spot_of,
    table,
)
from scalestop.planning.advice.regime import run_name
from scalestop.units import human_count

SOURCE = "muennighoff"
"""The law that R_D* and R_N* are taken from, for a law that has none of its own."""
EPOCHS = (1, 2, 4, 8, 16, 32, 64)
FREE_EPOCHS = 4.0
"""Up to here repeated data are almost as good as new: Muennighoff et al. 2023, abstract."""


@dataclass(frozen=True)
class Epochs:
    """So many passes over the unique tokens."""

    epochs: int
    tokens: float
    """Tokens processed."""
    worth: float
    """Unique tokens that would be worth as much."""
    last: float
    """What a token of the last pass is worth against a fresh one, between 0 and 1."""


@dataclass(frozen=True)
class DataWall(Answer):
    """A budget with limited unique tokens."""

    flops: float
    """The budget, FLOPs."""
    unique_tokens: float
    """Unique tokens there are, U."""
    free: Spot
    """The optimum if there were enough of them."""
    best: Spot
    """The optimum with what there is."""
    free_repeated: Spot
    """The model of `free` on this data, repeated as often as its tokens need."""
    half_life: float
    """R_D*: repetitions after which another is worth 1/e of fresh tokens."""
    half_worth: float
    """The pass whose tokens are worth half of fresh ones."""
    most_worth: float
    """What any number of passes is worth at most: U·(1 + R_D*), tokens."""
    table: tuple[Epochs, ...]
    grafted: bool
    """Whether the worth of repetition is another law's than the loss."""
    basis: Basis

    @property
    def epochs(self) -> float:
        """Passes over the data at the best."""
        return self.best.num_tokens / self.unique_tokens

    @property
    def worth(self) -> float:
        """Unique tokens that the best run's tokens are worth."""
        return float(effective_amount(self.best.num_tokens, self.unique_tokens, self.half_life))

    @property
    def price(self) -> float:
        """What the wall costs: loss above that of unlimited data, nats per token."""
        return (self.best.loss or 0.0) - (self.free.loss or 0.0)

    @property
    def warning(self) -> str | None:
        """Why to get more data; None where repeating costs next to nothing."""
        if self.epochs <= FREE_EPOCHS:
            return None
        text = f"this budget means {self.epochs:.3g} passes over {human_count(self.unique_tokens)} unique tokens; "
        if self.epochs - 1 > self.half_life:
            return text + f"past {1 + self.half_life:.0f} more compute buys next to nothing: get more data"
        return text + f"up to {FREE_EPOCHS:g} cost almost nothing, beyond each buys less"

    def __str__(self) -> str:
        again = self.free_repeated
        cells = [
            (f"{e.epochs}", human_count(e.tokens), human_count(e.worth), f"{e.worth / e.tokens:.0%}", f"{e.last:.2f}")
            for e in self.table
        ]
        rows = {
            "unique": f"{human_count(self.unique_tokens)} tokens",
            "unlimited": f"{run_name(self.free)}: loss {self.free.loss:.3f}",
            "best here": f"{run_name(self.best)}: {self.epochs:.3g} epochs, worth {human_count(self.worth)} unique "
            f"tokens; loss {self.best.loss:.3f} ({signed(self.price)})",
            "same size": f"{run_name(again)} on this data: loss {again.loss:.3f}" if self.epochs > 1 else "",
            "epochs": table(("passes", "tokens", "worth", "of them", "last pass"), cells),
            "stops": f"a pass is worth half a fresh one after {self.half_worth:.3g} of them; any number of them at "
            f"most {human_count(self.most_worth)} unique tokens (R_D* {self.half_life:.3g})",
            "worth": f"R_D* and R_N* are those of {SOURCE} (arXiv 2305.16264, fitted on C4), the loss of "
            f"{self.basis.law}"
            if self.grafted
            else "",
            "warning": self.warning or "",
            "law": str(self.basis),
        }
        return block({name: text for name, text in rows.items() if text})


def repeating(law: ScalingLaw, unique_tokens: float) -> DataConstrainedLaw:
    """Return a law that knows what repeated tokens are worth, for a corpus of a size.

    A data-constrained law is taken as it is. A parametric one keeps its constants, its range and its draws, and gets
    R_D* and R_N* of Muennighoff et al. 2023 (arXiv 2305.16264, appendix A), which its runs say nothing of.

    Args:
        law: The law.
        unique_tokens: Unique tokens there are.

    Raises:
        InputError: If it is of another form.
    """
    unique = amount(unique_tokens, "unique_tokens")
    if isinstance(law, DataConstrainedLaw):
        return law.with_unique_tokens(unique)
    if not isinstance(law, ParametricLaw):
        raise InputError(
            f"unique_tokens: law {law.name!r} says nothing of repeated tokens, and its form takes no such term; use "
            f"'{SOURCE}', or a law of the form E + A/N^alpha + B/D^beta such as 'besiroglu'"
        )
    known = get_law(SOURCE)
    assert isinstance(known, DataConstrainedLaw)
    note = f"R_D* and R_N* are those of {SOURCE}; these runs never repeated their data."
    info, constants = replace(law.info, notes=(*law.info.notes, note)), cast(Any, law.constants)
    return replace(known, info=info, uncertainty=law.uncertainty, unique_tokens=unique, **constants)


def data_wall(law: ScalingLaw, flops: float, unique_tokens: float) -> DataWall:
    """Return what a budget buys with limited unique tokens: epochs, their worth, and the best size.

    Args:
        law: A parametric or data-constrained law; see `repeating`.
        flops: The budget, FLOPs.
        unique_tokens: Unique tokens there are.

    Raises:
        InputError: If the law is of another form.
    """
    flops = amount(flops, "flops")
    walled = repeating(law, unique_tokens)
    unique = float(walled.unique_tokens or 0)
    free = best_spot(walled.with_unique_tokens(None), flops)
    best = free if free.num_tokens <= unique else best_spot(walled, flops)
    return DataWall(
        flops=flops,
        unique_tokens=unique,
        free=free,
        best=best,
        free_repeated=spot_of(walled, free.num_params, free.num_tokens),
        half_life=walled.R_D,
        # pass n is the (n-1)th repetition, and a token of it is worth exp(-(n-1)/R*)
        half_worth=1 + walled.R_D * math.log(2),
        most_worth=unique * (1 + walled.R_D),
        table=tuple(
            Epochs(
                n, n * unique, float(effective_amount(n * unique, unique, walled.R_D)), math.exp(-(n - 1) / walled.R_D)
            )
            for n in EPOCHS
        ),
        grafted=not isinstance(law, DataConstrainedLaw),
        basis=basis_of(walled, best.num_params, best.num_tokens, flops),
    )
