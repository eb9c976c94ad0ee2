"""Which law plans a run: the one that the user names, or the built-in one whose runs were nearest to the budget."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from scalestop.errors import InputError
from scalestop.laws import DEFAULT_LAW, ScalingLaw, get_law, list_laws
from scalestop.laws.valid import factors_of_ten
from scalestop.planning.budget import Budget, BudgetLike
from scalestop.planning.inverse import flops_of
from scalestop.planning.speed import Speed
from scalestop.units import human_count, human_flops

AUTO = "auto"
"""The law argument that leaves the choice to `choose_law`."""
NO_LAW = "none"
"""What a plan without a law calls it; at the command line, the name that asks for one."""
AUTO_LAWS = (DEFAULT_LAW, "stdlib-bytes")
"""The laws that `auto` chooses among: of the published ones the corrected one, and the embedded small-scale one. At
equal distance the first is taken."""
ADVICE_BEYOND = 3.0
"""Factors of ten outside its runs beyond which a law that nobody named ends no run."""

NAMED = "named by the user"
"""The reason for a law of which there is nothing more to say."""
_WORTH_A_WORD = 1.0
"""Factors of ten outside its runs beyond which a named law is told of a nearer one."""


@dataclass(frozen=True)
class LawChoice:
    """A law, why it is this one, and whether it may end a run."""

    law: ScalingLaw | None
    """The law; None for budgets and accounting alone."""
    reason: str
    """Why, in a few words."""
    how: Literal["auto", "named", "none"]
    """Who chose it."""
    distance: float | None = None
    """Factors of ten between the budget and the law's fitted range of compute, 0 inside it; of size, where the compute
    is not known. None where neither is known, or the law states no range."""
    advisory: bool = False
    """Whether the law only advises: the budget alone ends the run."""

    @property
    def name(self) -> str:
        """The law's name, or `none`."""
        return NO_LAW if self.law is None else self.law.name


LawLike: TypeAlias = str | Path | ScalingLaw | LawChoice | None
"""What `resolve_law` reads: "auto", a name, a file, a law, a choice already made, or None for no law."""


def resolve_law(
    law: LawLike,
    budget: BudgetLike,
    num_params: float | None = None,
    *,
    flops_per_token: float | None = None,
    speed: Speed | None = None,
) -> LawChoice:
    """Return the law that a run is planned with, and why.

    Args:
        law: `"auto"`, a law's name or file, a law, None for no law (data that is no text, say), or a choice already
            made, which stays.
        budget: Anything `Budget.parse` reads.
        num_params: N of the model, where it is known; with it a budget in tokens is an amount of compute.
        flops_per_token: What a token costs; 6·N if None.
        speed: Device speed and price; they make compute of time and money.

    Raises:
        InputError: If the law or the budget cannot be used.
    """
    if isinstance(law, LawChoice):
        return law
    if law is None:
        return LawChoice(None, "no law was asked for: the budget alone ends the run", "none")
    budget = Budget.parse(budget)
    known: dict[str, Any] = {"num_params": num_params, "flops_per_token": flops_per_token, "speed": speed}
    if isinstance(law, str) and law == AUTO:
        return choose_law(budget, **known)
    found = get_law(law)
    distance, _ = _distance(found, compute_of(budget, found, **known), num_params)
    reason = NAMED
    if distance is not None and distance > _WORTH_A_WORD:
        nearest = choose_law(budget, **known)
        if nearest.distance is not None and nearest.distance < distance and nearest.name != found.name:
            reason += f", and obeyed; law 'auto' would take {nearest.name}, whose runs are nearer"
    return LawChoice(found, reason, "named", distance)


def choose_law(
    budget: BudgetLike,
    num_params: float | None = None,
    *,
    flops_per_token: float | None = None,
    speed: Speed | None = None,
) -> LawChoice:
    """Return the built-in law whose fitted range of compute is nearest to a budget, in factors of ten.

    Where even that one is over three factors of ten away, it advises: the plan shows its optimum, and the budget alone
    ends the run. A budget in time or money without a speed is no compute yet; the model's size decides then, and
    without one the default law is taken. See `resolve_law` for the arguments.
    """
    budget = Budget.parse(budget)
    laws = {law.name: law for law in map(get_law, (name for name in AUTO_LAWS if name in list_laws()))}
    computes = {
        name: compute_of(budget, law, num_params, flops_per_token=flops_per_token, speed=speed)
        for name, law in laws.items()
    }
    found = {name: _distance(law, computes[name], num_params) for name, law in laws.items()}
    known = {name: distance for name, (distance, _) in found.items() if distance is not None}
    if not known:
        reason = "the default: neither the budget's compute nor the model's size is known yet"
        return LawChoice(laws[DEFAULT_LAW], reason, "auto")
    best = min(known, key=lambda name: known[name])
    distance, by = known[best], found[best][1]
    flops = computes[best]
    if by == "flops" and flops is not None:
        what, pair, unit = human_flops(flops), laws[best].info.valid.flops, "FLOPs"
    else:
        what, pair, unit = f"N {human_count(num_params or 0)}", laws[best].info.valid.num_params, "parameters"
    assert pair is not None
    low, high = (human_flops(x).removesuffix(" FLOPs") if by == "flops" else human_count(x) for x in pair)
    if distance == 0:
        reason = f"{what} lies within its runs, {low} to {high} {unit}"
    else:
        reason = f"of the built-in laws its runs are nearest to {what}: {low} to {high} {unit}, "
        reason += f"{factors_of_ten(distance)} away"
    return LawChoice(laws[best], reason, "auto", distance, advisory=distance > ADVICE_BEYOND)


def compute_of(
    budget: Budget,
    law: ScalingLaw,
    num_params: float | None = None,
    *,
    flops_per_token: float | None = None,
    speed: Speed | None = None,
) -> float | None:
    """Return the compute, in the law's currency of 6·N·D, that a budget buys; None if only a speed could tell.

    The law turns tokens into compute where there is no model. See `resolve_law` for the other arguments.
    """
    candidates = list(speed.flops_for(budget)) if speed is not None else []
    if budget.flops is not None:
        candidates.append(budget.flops)
    share = 1.0 if num_params is None or flops_per_token is None else 6 * num_params / flops_per_token
    found = [flops * share for flops in candidates]
    if budget.tokens is not None:
        if num_params is not None:
            found.append(6.0 * num_params * budget.tokens)
        else:
            found.append(float(flops_of(Budget(tokens=budget.tokens), law)))
    return min(found, default=None)


def advice(choice: LawChoice, flops: float | None) -> str | None:
    """Return the line that says a law only advises and how to get one's own; None for a law that rules."""
    if not choice.advisory or choice.law is None:
        return None
    target = human_flops(flops) if flops else "YOUR BUDGET"
    return (
        f"law {choice.name} only advises, over {ADVICE_BEYOND:.0f} factors of ten from its runs: the budget alone ends "
        f"the run. For a law of your own: scalestop ladder --target '{target}' (or name a law, which is then obeyed)"
    )


def _distance(
    law: ScalingLaw, flops: float | None, num_params: float | None
) -> tuple[float | None, Literal["flops", "num_params"]]:
    """How far outside its range the compute is; the size, where there is no compute to go by."""
    valid = law.info.valid
    if flops is not None and valid.flops is not None:
        return abs(valid.distance("flops", flops)), "flops"
    if num_params is not None and valid.num_params is not None:
        return abs(valid.distance("num_params", num_params)), "num_params"
    return None, "flops"


def need_law(choice: LawChoice, what: str) -> ScalingLaw:
    """Return the law of a choice.

    Raises:
        InputError: If there is none, saying what needs one.
    """
    if choice.law is None:
        raise InputError(f"law: {what} needs a law; name one (see `scalestop laws list`), or use 'auto'")
    return choice.law
