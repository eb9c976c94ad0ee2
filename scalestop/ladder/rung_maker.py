"""A budget and a size become a rung: its tokens in whole steps, its batch, rate and arguments; trunks for several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from scalestop.errors import InputError
from scalestop.lab.data import batch_size_for
from scalestop.ladder.rung import Rung
from scalestop.ladder.settings import LadderSettings
from scalestop.ladder.sizes import Size, data_args, filled_in, model_args
from scalestop.units import human_flops

MIN_STEPS = 10
"""Fewer optimizer steps than these measure nothing."""


class RungMaker:
    """Makes rungs by the ladder's rules."""

    def __init__(self, settings: LadderSettings) -> None:
        self.settings = settings
        self.model_args, self.data_args = model_args(settings), data_args(settings)

    def batch_size(self, num_tokens: float) -> int:
        """Samples in a batch for a run of so many tokens."""
        settings = self.settings
        if settings.steps is None:
            samples: float = batch_size_for(num_tokens, settings.context)
        else:
            samples = num_tokens / (settings.steps * settings.context)
        return max(1, round(samples / settings.batches_per_step))

    def run(self, flops: int, size: Size, seed: int, *, lr_factor: float | None = None, **more: Any) -> Rung:
        """Return an independent run that spends a budget on a size."""
        batch_size = self.batch_size(flops / (6 * size.num_params))
        return self.make(flops, size, seed, batch_size, lr_factor, **more)

    def make(
        self, flops: int, size: Size, seed: int, batch_size: int, lr_factor: float | None = None, **more: Any
    ) -> Rung:
        """Return a rung; its tokens are what the budget buys, in whole steps."""
        settings = self.settings
        tokens_per_step = batch_size * settings.batches_per_step * settings.context
        steps = round(flops / (6 * size.num_params * tokens_per_step))
        if steps < MIN_STEPS:
            enough = 6 * size.num_params * tokens_per_step * 100
            what, least = "budgets", float(enough)
            if settings.budgets is None:  # then it is the target that they follow from
                what, least = "target", enough / flops * settings.target_flops
            raise InputError(
                f"{what}: {human_flops(flops)}, the cheapest budget, train {size.num_params:,} parameters for {steps} "
                f"steps of {tokens_per_step} tokens; give a {what.removesuffix('s')} of at least {human_flops(least)}, "
                f"or a smaller context or spread"
            )
        num_tokens = steps * tokens_per_step
        lr = settings.lr(size.dims.width, tokens_per_step) * (lr_factor or 1.0)
        name = f"{flops:.2e}-n{size.num_params}-s{seed}".replace("e+", "e")
        if lr_factor is not None:
            more, name = {**more, "kind": "sweep"}, f"{name}-lr{lr_factor:g}x"
        values: dict[str, Any] = {
            **size.quantities,
            "lr": lr,
            "warmup": settings.warmup,
            "decay": settings.decay,
            "steps": steps,
            "seed": seed,
            "num_tokens": num_tokens,
            "batch_size": batch_size,
            "context": settings.context,
        }
        return Rung(
            name=name,
            num_params=size.num_params,
            num_tokens=num_tokens,
            flops=6 * size.num_params * num_tokens,
            budget=flops,
            seed=seed,
            lr=lr,
            batch_size=batch_size,
            tokens_per_step=tokens_per_step,
            shape=f"{size.dims.width}x{size.dims.depth}",
            width=size.dims.width,
            model_args=filled_in(self.model_args, values),
            data_args=filled_in(self.data_args, values),
            **more,
        )

    def with_shares(self, rung: Rung, warmup: float, decay: float, **more: Any) -> Rung:
        """Return the rung with another warm-up and decay, shares of its own tokens."""
        shares = {"warmup": warmup, "decay": decay}
        changed = {name: shares[quantity] for name, quantity in self.model_args.items() if quantity in shares}
        if len(changed) < 2:
            raise InputError(
                f"trunk: {self.settings.model['class_path']} takes no warm-up and decay from the ladder; say with "
                f"model_args which of its arguments take 'warmup' and 'decay'"
            )
        return replace(rung, model_args={**rung.model_args, **changed}, **more)


def with_trunks(maker: RungMaker, cells: Sequence[tuple[int, Size, int]]) -> list[Rung]:
    """Return, for each size and seed, one trunk and a branch for each budget; a plain run where there is one budget.

    The trunk's rate is constant after its warm-up. A branch to D tokens leaves it at (1 - decay)·D and lets the rate
    fall from there, so that its last `decay` share is what an independent run's is (Haegele et al. 2024, arXiv
    2405.18392, section 4). One batch size serves all branches: that of the geometric mean of their tokens.
    """
    decay, warmup = maker.settings.decay, maker.settings.warmup
    groups: dict[tuple[int, int], list[tuple[int, Size]]] = {}
    for flops, size, seed in cells:
        groups.setdefault((size.num_params, seed), []).append((flops, size))
    rungs = []
    for (num_params, seed), members in groups.items():
        if len(members) == 1:
            rungs.append(maker.run(*members[0], seed))
            continue
        tokens = [flops / (6 * num_params) for flops, _ in members]
        batch_size = maker.batch_size(math.exp(sum(map(math.log, tokens)) / len(tokens)))
        branches = [maker.make(flops, size, seed, batch_size) for flops, size in members]
        step = branches[0].tokens_per_step
        starts = [max(1, round((1 - decay) * rung.steps)) * step for rung in branches]
        end, name = max(starts), f"trunk-n{num_params}-s{seed}"
        rise = warmup * min(rung.num_tokens for rung in branches) / end
        trunk = replace(
            maker.with_shares(branches[-1], rise, 0.0),
            name=name,
            kind="trunk",
            num_tokens=end,
            flops=6 * num_params * end,
            points=tuple(sorted(set(starts))),
        )
        rungs.append(trunk)
        rungs += [
            maker.with_shares(rung, rise, 0.0, kind="branch", trunk=name, start_tokens=start)
            for rung, start in zip(branches, starts, strict=True)
        ]
    return rungs
