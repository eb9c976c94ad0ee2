"""When will this forecast fail? A checklist, filled in from the law, the data and the run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from scalestop.laws import Provenance, ScalingLaw, differences
from scalestop.laws.valid import factors_of_ten
from scalestop.planning.advice.basis import Answer, Basis, amount, basis_of, block
from scalestop.planning.advice.shapes import shape_spread
from scalestop.planning.advice.unique import FREE_EPOCHS
from scalestop.planning.choice import ADVICE_BEYOND
from scalestop.units import human_count

FEW_RUNS = 10
"""Fewer runs than this leave the five constants of a law hardly determined."""


_TOLD = ("tokenizer", "vocabulary", "context", "optimizer")
_TAILS = "an average may fall while rare cases stand still: log each domain or slice apart, and fit each its own law"


class Mark(StrEnum):
    """What one item comes to."""

    FINE = "fine"
    WATCH = "watch"
    FAILS = "fails"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Item:
    """One way in which a forecast fails."""

    topic: str
    mark: Mark
    text: str
    """What was found, and what to do about it."""


Found: TypeAlias = tuple[Mark, str]


@dataclass(frozen=True)
class Checklist(Answer):
    """The ways in which a forecast may fail."""

    items: tuple[Item, ...]
    basis: Basis

    @property
    def worst(self) -> Mark:
        """The worst mark of the list."""
        order = (Mark.FINE, Mark.UNKNOWN, Mark.WATCH, Mark.FAILS)
        return max((item.mark for item in self.items), key=order.index)

    def __str__(self) -> str:
        width = max(len(item.topic) for item in self.items)
        rows = [(str(item.mark), f"{item.topic:<{width}}  {item.text}") for item in self.items]
        return block([*rows, ("law", str(self.basis))], 8)


def checklist(
    law: ScalingLaw,
    num_params: float,
    num_tokens: float,
    *,
    run: Provenance | None = None,
    unique_tokens: float | None = None,
    lr_decayed: bool | None = None,
) -> Checklist:
    """Return when a law's forecast of a run will fail.

    Args:
        law: The law.
        num_params: N of the run, counted as the law counts it.
        num_tokens: D, tokens.
        run: What is known of the run's text and recipe.
        unique_tokens: Unique tokens there are; None where nobody said.
        lr_decayed: Whether the learning rate ends where the run ends; None where nobody said.
    """
    n, d = amount(num_params, "num_params"), amount(num_tokens, "num_tokens")
    basis = basis_of(law, n, d, 6 * n * d)
    found = {
        "range": _extrapolation(basis),
        "data": _corpus(law, run),
        "repetition": _repetition(law, d, unique_tokens),
        "rate": _rate(lr_decayed),
        "pilots": _pilots(law),
        "constants": _constants(law),
        "recipe": _recipe(law),
        "interval": _spread(law),
        "counting": (
            Mark.WATCH,
            f"N must count {basis.n_counts} parameters and the loss be nats per token of the law's tokenizer; another "
            f"count is another law",
        ),
        "shape": (Mark.FINE, str(shape_spread())),
        "task": (Mark.WATCH, "a loss is not your task: fit it with `scalestop task` from runs that logged it"),
        "tails": (Mark.WATCH, _TAILS),
    }
    return Checklist(tuple(Item(topic, mark, text) for topic, (mark, text) in found.items()), basis)


def _extrapolation(basis: Basis) -> Found:
    if not basis.has_range:
        return Mark.UNKNOWN, "the law does not state where it was fitted, so every answer may be far outside"
    if basis.outside is None:
        return Mark.FINE, "inside the runs the law was fitted to"
    far = basis.distance > ADVICE_BEYOND
    text = f"{factors_of_ten(basis.distance)} outside its runs at the farthest: {basis.outside}"
    return Mark.FAILS if far else Mark.WATCH, f"{text}; {'fit a law nearer' if far else 'train a pilot between'}"


def _corpus(law: ScalingLaw, run: Provenance | None) -> Found:
    if law.info.provenance is None:
        return Mark.UNKNOWN, f"nobody stated text and tokenizer as data; it was fitted on {law.info.fitted_on}"
    if run is None:
        known = ", ".join(f"{what} {value}" for what, value in law.info.provenance.rows() if what in _TOLD)
        return Mark.UNKNOWN, f"say what the run has (--run.tokenizer and so on); the law had {known}"
    found = differences(law, run)
    if not found:
        return Mark.FINE, "what is stated of text, tokenizer, model and recipe is the same"
    fatal = any(line.startswith(("tokenizer", "vocabulary")) for line in found)
    return Mark.FAILS if fatal else Mark.WATCH, "; ".join(found)


def _repetition(law: ScalingLaw, num_tokens: float, unique_tokens: float | None) -> Found:
    if unique_tokens is None:
        return Mark.UNKNOWN, "say how many unique tokens there are (--unique_tokens)"
    epochs = num_tokens / amount(unique_tokens, "unique_tokens")
    text = f"{epochs:.3g} passes over {human_count(unique_tokens)} unique tokens"
    if epochs <= 1:
        return Mark.FINE, text
    told = law.constants.get("unique_tokens") is not None
    if told:
        return Mark.FINE, f"{text}: the law knows of them"
    if epochs <= FREE_EPOCHS:
        return Mark.WATCH, f"{text}: up to {FREE_EPOCHS:g} cost almost nothing"
    return Mark.FAILS, f"{text}: the law takes each for fresh; plan with --unique_tokens"


def _rate(lr_decayed: bool | None) -> Found:
    if lr_decayed is None:
        return Mark.UNKNOWN, "a law's runs end with their rate decayed, as a rule; see that this one does (BudgetLR)"
    if lr_decayed:
        return Mark.FINE, "the learning rate ends where the run ends"
    return Mark.FAILS, "a run whose rate has not come down ends above the law: use BudgetLR, or decay_to"


def _pilots(law: ScalingLaw) -> Found:
    if law.uncertainty is None:
        return Mark.UNKNOWN, "how many runs are behind it is not recorded, and no interval is known"
    runs = law.uncertainty.num_runs
    few = runs < FEW_RUNS
    text = f"fitted to {runs} runs" if runs else "its draws come from a published interval, not from runs"
    return Mark.WATCH if few else Mark.FINE, text + ("; add pilots" if few and runs else "")


def _constants(law: ScalingLaw) -> Found:
    broken = law.info.broken
    if broken:
        return Mark.FAILS, "; ".join(finding.message for finding in broken)
    return Mark.FINE, "none is known to be undetermined or at a bound"


def _recipe(law: ScalingLaw) -> Found:
    found = [finding for finding in law.info.findings if finding.severity == "warning" and not finding.breaks]
    if found:
        return Mark.WATCH, "; ".join(finding.message for finding in found)
    return Mark.WATCH, "a law describes the recipe of its runs, badly tuned ones too; hold a pilot against it"


def _spread(law: ScalingLaw) -> Found:
    if law.uncertainty is None:
        return Mark.UNKNOWN, "the law knows no uncertainty: a miss cannot be told from bad luck"
    if not law.uncertainty.knows_scatter:
        return Mark.WATCH, "its interval is the law's own; one run scatters around it besides"
    return Mark.FINE, "it knows how single runs scatter around it"
