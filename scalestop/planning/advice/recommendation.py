"""What a recommendation is: the decision and its reasons, as parts that a terminal and a page show alike."""

from __future__ import annotations

from dataclasses import dataclass

from scalestop.laws.intervals import Pair
from scalestop.planning.advice.basis import Answer, Basis, Spot, block, signed, table
from scalestop.planning.advice.batch import BatchAdvice
from scalestop.planning.advice.bills import Bill
from scalestop.planning.advice.checks import Checklist, Mark
from scalestop.planning.advice.gains import Gains
from scalestop.planning.advice.regime import run_name
from scalestop.planning.advice.serving import Serving
from scalestop.planning.advice.shapes import TransformerShape
from scalestop.planning.advice.unique import FREE_EPOCHS, DataWall
from scalestop.planning.allocation import spread
from scalestop.units import human_count, human_flops

FLAT = 0.05
"""A size that wastes less than this share of the budget is as good as the best for most purposes."""


@dataclass(frozen=True)
class Evidence:
    """How a law does on runs that were measured."""

    which: str
    """What runs they are, in a word or two."""
    num_runs: int
    largest_flops: float
    """Compute of the dearest of them, FLOPs."""
    mean_miss: float
    """Mean of measured over forecast loss, less 1: above 0 the runs end worse than the law says."""
    worst_miss: float
    """The miss farthest from 0, likewise."""
    inside: int | None
    """How many lie inside the law's 90 % of runs; None where it does not know."""

    def __str__(self) -> str:
        text = f"your {self.num_runs} {self.which}, up to {human_flops(self.largest_flops)}, end {self.mean_miss:+.1%} "
        text += f"off this law on average, {self.worst_miss:+.1%} at worst"
        return text if self.inside is None else f"{text}; {self.inside} of them inside its 90 %"


@dataclass(frozen=True)
class Alternative:
    """Another way to spend the budget."""

    what: str
    spot: Spot
    change: float | None
    """Its loss less that of what is recommended, nats per token, by the recommendation's law."""
    note: str


@dataclass(frozen=True)
class Section:
    """One part of the page: lines of text, then perhaps a table, or commands."""

    title: str
    lines: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    commands: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [*self.lines, *([table(self.heads, self.rows)] if self.rows else []), *self.commands]
        return "\n".join(parts)


@dataclass(frozen=True)
class Recommendation(Answer):
    """What to train for a budget, with its reasons, its rivals and its risks."""

    budget: str
    """The budget as it was given."""
    flops: float
    """The compute that it is, FLOPs."""
    train: Spot
    """What to train."""
    params_interval: Pair | None
    """90 % interval of its N."""
    run_interval: Pair | None
    """Where 90 % of such runs end, nats per token; None where the law does not know."""
    first: str | None
    """What to do before training it; None where nothing speaks against going on."""
    law_reason: str
    """Why it is this law."""
    bill: Bill | None
    shape: TransformerShape | None
    """A transformer of about this size; None where there is none."""
    batch: BatchAdvice
    flat: tuple[float, float] | None
    """Between which multiples of the best N the budget is hardly less well spent; None where the law cannot say."""
    alternatives: tuple[Alternative, ...]
    gains: Gains
    """What the next steps from there buy."""
    checks: Checklist
    commands: tuple[str, ...]
    """What to type next."""
    basis: Basis
    serving: Serving | None = None
    """The model for the demand, where there is one."""
    wall: DataWall | None = None
    """What limited unique tokens do, where there are."""
    evidence: Evidence | None = None
    """How the law does on the user's runs, where they were given."""

    @property
    def decision(self) -> str:
        """The decision in one sentence."""
        s = self.train
        text = f"Train {human_count(s.num_params)} parameters on {human_count(s.num_tokens)} tokens "
        return text + f"({s.tokens_per_param:.3g} per {self.basis.n_counts} parameter)."

    @property
    def sections(self) -> tuple[Section, ...]:
        """The page, part by part; terminal, Markdown and HTML show the same."""
        return (
            Section("Decision", self._decided()),
            Section("Why", self._why()),
            Section("Alternatives", heads=("", "N", "tokens", "loss", "change", ""), rows=self._rivals()),
            Section("The next 2x", self._from(), heads=("", "run", "loss", "change", ""), rows=self._steps()),
            Section("Risks", risk_lines(self.checks)),
            Section("Commands", commands=self.commands),
        )

    def __str__(self) -> str:
        return block([(section.title.lower(), str(section)) for section in self.sections], 12)

    def _decided(self) -> tuple[str, ...]:
        s = self.train
        loss = f"Expect a loss of {spread(s.loss or 0, s.loss_interval, '.3f')} nats per token"
        if self.run_interval is not None:
            loss += f"; 90 % of such runs end between {self.run_interval[0]:.3f} and {self.run_interval[1]:.3f}"
        lines = [*([f"First: {self.first}."] if self.first else []), self.decision, f"{loss}."]
        if self.bill is not None and self.bill.seconds is not None:
            lines.append(f"It takes {self.bill}.")
        if self.shape is not None:
            h = self.shape
            lines.append(
                f"Shape: {h.num_layers} layers, {h.width} wide, {h.num_heads} heads ({h.num_kv_heads} of keys and "
                f"values), feed-forward {h.feed_forward}: {h.count(self.basis.n_counts):,} parameters with a "
                f"vocabulary of {h.vocab_size:,}."
            )
        b = self.batch
        if b.step_law_outside is None:
            lines.append(f"Start at a peak rate of {b.learning_rate:.2g} with {human_count(b.batch)} tokens a step.")
        return tuple(lines)

    def _why(self) -> tuple[str, ...]:
        lines = [f"Law {self.basis}", f"chosen: {self.law_reason}"]
        if self.evidence is not None:
            lines.append(str(self.evidence))
        if self.serving is not None and self.serving.demand:
            v = self.serving
            lines.append(
                f"{human_count(v.demand)} tokens served make a smaller model worth more training: {v.saved:.0%} of "
                f"lifetime compute saved against {run_name(v.chinchilla)} of the same loss; "
                f"{v.chinchilla_multiple:.3g}x the tokens that are compute-optimal for its size"
            )
        elif self.params_interval is not None:
            low, high = (human_count(end) for end in self.params_interval)
            lines.append(f"the best size lies between {low} and {high} parameters (90 %)")
        if self.wall is not None:
            w = self.wall
            passes = self.train.num_tokens / w.unique_tokens
            worth = f"up to {FREE_EPOCHS:g} cost almost nothing" + (
                ", beyond each buys less" if passes > FREE_EPOCHS else ""
            )
            lines.append(f"{human_count(w.unique_tokens)} unique tokens: {passes:.3g} passes over them; {worth}")
        if self.flat is not None and not (self.serving and self.serving.demand):
            lines.append(
                f"the valley is flat: from {self.flat[0]:g} to {self.flat[1]:g} of the compute-optimal size less than "
                f"{FLAT:.0%} of the budget is wasted"
            )
        return tuple(lines)

    def _rivals(self) -> tuple[tuple[str, ...], ...]:
        return tuple(
            (
                a.what,
                human_count(a.spot.num_params),
                human_count(a.spot.num_tokens),
                "-" if a.spot.loss is None else f"{a.spot.loss:.3f}",
                "" if a.change is None else signed(a.change),
                a.note,
            )
            for a in self.alternatives
        )

    def _from(self) -> tuple[str, ...]:
        return ("from the recommended run; more compute is split for the lowest loss",) if self.serving else ()

    def _steps(self) -> tuple[tuple[str, ...], ...]:
        return tuple(
            (g.what, run_name(g.spot), f"{g.spot.loss:.3f}", signed(-g.gain), g.in_words) for g in self.gains.gains
        )


def risk_lines(checks: Checklist) -> tuple[str, ...]:
    """Return a checklist as lines of a page: what fails first, what is fine in one line at the end."""
    order = (Mark.FAILS, Mark.WATCH, Mark.UNKNOWN)
    found = sorted((item for item in checks.items if item.mark in order), key=lambda item: order.index(item.mark))
    fine = [item.topic for item in checks.items if item.mark is Mark.FINE]
    lines = tuple(f"{item.mark}: {item.topic}: {item.text}" for item in found)
    return (*lines, *([f"fine: {', '.join(fine)}"] if fine else []))
