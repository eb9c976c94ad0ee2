"""What the user asked of a run, apart from the model."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from scalestop.errors import InputError, shown
from scalestop.laws import Provenance, ScalingLaw
from scalestop.planning.budget import Budget
from scalestop.planning.choice import AUTO, LawChoice, LawLike, resolve_law
from scalestop.planning.plan import make_plan
from scalestop.planning.planned import Plan
from scalestop.planning.rule import StopRule
from scalestop.planning.speed import Speed
from scalestop.run.campaign import Campaign
from scalestop.run.gate import Gate

OnTrouble = Literal["warn", "stop", "ignore"]
StopWhen = Literal["marginal"]


@dataclass(frozen=True)
class Reactions:
    """What a run does when its own curve says that it goes wrong, or is no longer worth its compute."""

    on_forecast: OnTrouble = "warn"
    """When the forecast's whole interval lies above what the law expects of this N and D, or the curve leaves the band
    of the law's own runs: `warn`, `stop` (for the forecast alone), or `ignore`."""
    on_nonfinite: OnTrouble = "warn"
    """When losses are not finite, or jump and do not come back: `warn`, `stop`, or `ignore`."""
    stop_when: StopWhen | None = None
    """`marginal` ends the run where its next unit of compute is better spent on a larger model from the start."""

    def __post_init__(self) -> None:
        for name in ("on_forecast", "on_nonfinite"):
            if getattr(self, name) not in get_args(OnTrouble):
                wanted = ", ".join(map(repr, get_args(OnTrouble)))
                raise InputError(f"{name}: one of {wanted}; got {shown(getattr(self, name))}")
        if self.stop_when not in (None, *get_args(StopWhen)):
            raise InputError(f"stop_when: 'marginal' or None; got {shown(self.stop_when)}")

    @property
    def may_stop(self) -> bool:
        """Whether anything here ends a run."""
        return "stop" in (self.on_forecast, self.on_nonfinite) or self.stop_when is not None


@dataclass(frozen=True)
class Aims:
    """What the user asked of a run, apart from the model; the same for every adapter."""

    budget: Budget
    """What the run may spend."""
    job_budget: Budget | None
    """What this job alone may spend."""
    law: LawLike
    """The law that knows the optimum, `"auto"` until `settle` has chosen one, or None."""
    rule: StopRule
    """Settings of the stop rule."""
    gate: Gate
    """Metrics that a compute-optimal stop waits for."""
    speed: Speed
    """Peak, MFU and price as the user gave them."""
    tokens_per_step: int | None = None
    """Tokens per optimizer step as the user gave them."""
    campaign: Campaign | None = None
    """The budget that the run shares with others."""
    origin: Provenance | None = None
    """Text and recipe of the run, as far as they are known: the plan says where the law's runs had others."""
    reactions: Reactions = field(default_factory=Reactions)
    """What is done when the run's own curve says that it goes wrong."""

    def settle(self, num_params: int | None = None, is_text: bool = True) -> Aims:
        """Return the same aims with their law chosen.

        Args:
            num_params: N of the model; with it a budget in tokens is an amount of compute.
            is_text: Whether the model reads tokens. Laws speak of language models, and `"auto"` takes none for others.
        """
        if not is_text and self.law == AUTO:
            reason = "the model embeds no tokens, and laws speak of language models; the budget alone ends the run"
            return replace(self, law=LawChoice(None, f"{reason} (name a law to have it obeyed)", "none"))
        return replace(self, law=resolve_law(self.law, self.budget, num_params, speed=self.speed))

    @property
    def settled_law(self) -> ScalingLaw | None:
        """The law that was chosen; None if the run has none, or none yet."""
        law = self.law.law if isinstance(self.law, LawChoice) else self.law
        return law if isinstance(law, ScalingLaw) else None

    @property
    def convention(self) -> str:
        """Which parameters N means."""
        return self.settled_law.info.n_counts if self.settled_law is not None else "total"

    def plan(
        self, num_params: int, tokens_per_step: int | None, flops_per_token: int | None, speed: Speed | None = None
    ) -> Plan:
        """Return the plan for a model; see `make_plan`."""
        return make_plan(
            self.budget,
            self.law,
            num_params,
            tokens_per_step,
            rule=self.rule,
            flops_per_token=flops_per_token,
            speed=speed or self.speed,
            job_budget=self.job_budget,
            run=self.origin,
        )
