"""Which runs make a ladder: budgets, sizes about each optimum, tokens, batches, learning rates. Nothing trains here."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scalestop.errors import InputError, shown
from scalestop.ladder.rung import Rung
from scalestop.ladder.rung_maker import RungMaker, with_trunks
from scalestop.ladder.settings import LadderSettings
from scalestop.ladder.sizes import Size, size_finder
from scalestop.planning.allocation import flops_of
from scalestop.planning.budget import Budget

_SWEPT_SIZES = 2
_MOST_RUNS = 2_000


@dataclass(frozen=True)
class LadderPlan:
    """The runs of a ladder, and what they are for."""

    settings: LadderSettings
    """What was asked for."""
    target_flops: int
    """Compute of the run to forecast, FLOPs."""
    rungs: tuple[Rung, ...]
    """Every run: the pilots, their trunks, and the held-out runs."""

    @property
    def pilots(self) -> tuple[Rung, ...]:
        """The runs that the law is fitted to."""
        return tuple(rung for rung in self.rungs if rung.is_pilot)

    @property
    def held_out(self) -> tuple[Rung, ...]:
        """The runs that the forecast is held against."""
        return tuple(rung for rung in self.rungs if rung.held_out and rung.kind == "run")

    @property
    def valley(self) -> tuple[Rung, ...]:
        """The runs far up both sides of one budget's optimum, which the fit may not see either."""
        return tuple(rung for rung in self.rungs if rung.kind == "valley")

    @property
    def flops(self) -> int:
        """What pilots, trunks and the check of the learning rate spend together, FLOPs."""
        return sum(rung.new_flops for rung in self.rungs if not rung.held_out)

    @property
    def independent_flops(self) -> int:
        """What the same pilots would spend without trunks, FLOPs."""
        return sum(rung.flops for rung in self.pilots)

    @property
    def share(self) -> float:
        """What the pilots spend, as a share of the target's compute."""
        return self.flops / self.target_flops

    @property
    def seconds(self) -> float | None:
        """Predicted time of all runs on one worker; None if no speed is known."""
        times = [rung.seconds for rung in self.rungs]
        return None if None in times else sum(times)  # type: ignore[arg-type]


def plan_ladder(settings: LadderSettings) -> LadderPlan:
    """Propose the runs of a ladder.

    Args:
        settings: What is asked for.

    Raises:
        InputError: If a budget is too small to measure anything, or the settings lead beyond all numbers.
    """
    try:
        return _plan(settings)
    except InputError:
        raise
    except (OverflowError, ZeroDivisionError, ValueError):
        raise InputError(
            "ladder: its settings lead to sizes, budgets or learning rates beyond all numbers; see spread, "
            "budget_ratio, num_budgets, lr_power and lr_batch_power"
        ) from None


def _plan(settings: LadderSettings) -> LadderPlan:
    prior, find = settings.prior, size_finder(settings)
    budgets = pilot_budgets(settings)
    optima = [float(prior.optimal(float(flops)).num_params) for flops in budgets]
    grid = _size_grid(settings, optima, find)
    maker = RungMaker(settings)
    _few(len(budgets) * settings.num_sizes * max(settings.seeds))
    cells: list[tuple[int, Size, int]] = []
    for i, (flops, optimum) in enumerate(zip(budgets, optima, strict=True)):
        nearest = sorted(grid, key=lambda size, n=optimum: abs(math.log(size.num_params / n)))  # type: ignore[misc]
        seeds = settings.seeds[min(i, len(settings.seeds) - 1)]
        cells += [(flops, size, seed) for size in nearest[: settings.num_sizes] for seed in range(seeds)]
    below = [cell for cell in cells if cell[0] < _fit_from(settings)]
    cells = cells[len(below) :]
    if not cells:
        raise InputError(f"fit_from: no budget reaches {shown(settings.fit_from)}; the fit would have no runs")
    rungs = with_trunks(maker, cells) if settings.trunk else [maker.run(*cell) for cell in cells]
    rungs += _sweep(maker, cells)
    rungs += [maker.run(*cell, kind="below", held_out=True) for cell in below]
    for amount in settings.held_out:
        flops = flops_of(Budget.parse(amount), prior)
        rungs.append(maker.run(flops, find(float(prior.optimal(float(flops)).num_params)), 0, held_out=True))
    rungs += _valley(maker, rungs, find)
    order = ("run", "branch", "trunk", "sweep", "valley", "below")
    rungs.sort(key=lambda r: (r.held_out, order.index(r.kind), r.budget, r.num_params, r.seed, r.lr))
    names = Counter(rung.name for rung in rungs)
    if twice := sorted(name for name, count in names.items() if count > 1):
        raise InputError(f"budgets: {', '.join(twice)} would be trained twice; give budgets further apart")
    return LadderPlan(settings, settings.target_flops, tuple(rungs))


def _few(count: int) -> int:
    """Return a number of sizes or runs that somebody may have meant.

    Raises:
        InputError: If nobody would train so many.
    """
    if count > _MOST_RUNS:
        raise InputError(
            f"ladder: its settings ask for {count:.3g} sizes or runs, over {_MOST_RUNS:,}; see budgets, num_sizes, "
            f"spread, valley_spread and seeds"
        )
    return count


def _fit_from(settings: LadderSettings) -> int:
    """Return the cheapest budget that the fit may see, FLOPs."""
    return 0 if settings.fit_from is None else flops_of(Budget.parse(settings.fit_from), settings.prior)


def target_rung(settings: LadderSettings) -> Rung:
    """Return the target run as the ladder would train it."""
    optimum = float(settings.prior.optimal(float(settings.target_flops)).num_params)
    return RungMaker(settings).run(settings.target_flops, size_finder(settings)(optimum), 0, held_out=True)


def _valley(maker: RungMaker, rungs: Sequence[Rung], find: Callable[[float], Size]) -> list[Rung]:
    """Return runs at one budget from far below the optimum to far above it, where no pilot of that budget lies."""
    settings = maker.settings
    if settings.valley is None:
        return []
    flops = flops_of(Budget.parse(settings.valley), settings.prior)
    optimum = float(settings.prior.optimal(float(flops)).num_params)
    trained = [rung.num_params for rung in rungs if rung.is_pilot and rung.budget == flops]
    step = 2 * math.log(settings.spread) / max(settings.num_sizes - 1, 1)
    count = _few(math.ceil(math.log(settings.valley_spread) / step))
    wanted = [optimum * settings.valley_spread ** (i / count) for i in range(-count, count + 1)]
    near = step / 2
    sizes = {size.num_params: size for size in map(find, wanted)}
    return [
        maker.run(flops, size, 0, kind="valley", held_out=True)
        for n, size in sorted(sizes.items())
        if all(abs(math.log(n / other)) > near for other in trained)
    ]


def pilot_budgets(settings: LadderSettings) -> list[int]:
    """Return the budgets of the pilots, FLOPs each, cheapest first."""
    if settings.budgets is not None:
        found = sorted(flops_of(Budget.parse(amount), settings.prior) for amount in settings.budgets)
        if not found:
            raise InputError("budgets: an empty list; give some, or leave it out to derive them from share")
        return found
    total = settings.share * settings.target_flops
    seeds = [settings.seeds[min(i, len(settings.seeds) - 1)] for i in range(settings.num_budgets)]
    weights = [float(settings.budget_ratio) ** i for i in range(settings.num_budgets)]
    runs = [weight * count * settings.num_sizes for weight, count in zip(weights, seeds, strict=True)]
    runs.append(min(_SWEPT_SIZES, settings.num_sizes) * len(_swept_factors(settings)) * seeds[0])
    return [round(total * weight / sum(runs)) for weight in weights]


def _size_grid(settings: LadderSettings, optima: Sequence[float], find: Callable[[float], Size]) -> list[Size]:
    """Return sizes evenly spread in log N, the same ones for every budget, from below the least to above the greatest.

    Shared sizes give curves of constant N as well as of constant C, and let one trunk serve several budgets.
    """
    if settings.num_sizes == 1:
        wanted = list(optima)
    else:
        step = 2 * math.log(settings.spread) / (settings.num_sizes - 1)
        low, high = math.log(min(optima) / settings.spread), math.log(max(optima) * settings.spread)
        count = _few(math.ceil((high - low) / step - 1e-9))
        wanted = [math.exp(low + i * (high - low) / count) for i in range(count + 1)]
    sizes = {size.num_params: size for size in map(find, wanted)}
    return [sizes[n] for n in sorted(sizes)]


def _swept_factors(settings: LadderSettings) -> tuple[float, ...]:
    """Return the multiples of the rule's rate to train at; 1 too where no independent pilot has it."""
    factors = tuple(settings.lr_factors)
    return (*factors, 1.0) if factors and settings.trunk else factors


def _sweep(maker: RungMaker, cells: Sequence[tuple[int, Size, int]]) -> list[Rung]:
    """Return runs at other learning rates: the two smallest sizes at the cheapest budget, with each of its seeds."""
    cheapest = min(flops for flops, _, _ in cells)
    sizes = {size.num_params: size for flops, size, _ in cells if flops == cheapest}
    return [
        maker.run(cheapest, sizes[n], seed, lr_factor=factor)
        for n in sorted(sizes)[:_SWEPT_SIZES]
        for factor in _swept_factors(maker.settings)
        for seed in range(maker.settings.seeds[0])
    ]
