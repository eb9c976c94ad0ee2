"""Decay branches: one trunk on its plateau serves several budgets."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from scalestop.errors import InputError
from scalestop.lightning.callback import StoppingCallback
from scalestop.lightning.saving import what_is_wrong_with
from scalestop.planning.budget import Budget
from scalestop.run.adapter.resume import STATE_KEY
from scalestop.run.saved import read_state
from scalestop.units import human_count


def decay_to(checkpoint: str | Path, tokens: int | str, **options: Any) -> StoppingCallback:
    """Return the callback that anneals a trunk's checkpoint to a token count of one's choice.

    A trunk trains under `BudgetLR` and saves checkpoints while its rate is on the plateau. A branch goes on from one
    of them, lets the rate fall from there to its floor, and stops at `tokens`::

        branch = decay_to("trunk-step=7000.ckpt", tokens="2B tokens")
        Trainer(max_epochs=-1, callbacks=[branch]).fit(model, data, ckpt_path="trunk-step=7000.ckpt")

    So one trunk serves several budgets, each for the price of its decay (Haegele et al. 2024, arXiv 2405.18392,
    section 4). The last 10 to 30 % of the tokens are what a decay is usually given: for 2B tokens start from a
    checkpoint at 1.4B to 1.8B. The branch is a run of its own, with its own record, and can itself be resumed.

    Args:
        checkpoint: Of the trunk, from its plateau; or of this branch, to resume it. Give it to `fit` too.
        tokens: D of the annealed model: tokens trained on, the trunk's included; a count or text (`"2B tokens"`).
        **options: Further arguments of `ComputeOptimalStopping`, such as `law` and `count_tokens`; as for the trunk.

    Raises:
        InputError: If the checkpoint is not on a plateau or has already seen so many tokens: at once where the file
            can be read, else before the first step.
    """
    budget = Budget.parse(tokens if isinstance(tokens, str) else Budget(tokens=tokens))
    if budget.tokens is None or str(budget) != str(Budget(tokens=budget.tokens)):
        raise InputError(f"tokens: the tokens at which the branch ends; got {tokens!r}")
    own = {"budget", "tolerance", "oversized", "undersized", "anneal"} & set(options)
    if own:
        raise InputError(f"decay_to: {', '.join(sorted(own))}: a branch ends at its tokens and nowhere else")
    _check(Path(checkpoint), budget.tokens)
    # with no tolerance no size is the optimal one, so that nothing but the tokens ends the branch
    from scalestop.lightning import ComputeOptimalStopping  # of the namespace imported by now

    return ComputeOptimalStopping(budget, tolerance=0.0, oversized="ignore", anneal=True, **options)


def _check(path: Path, tokens: int) -> None:
    """Look for what is wrong with a checkpoint file, as far as it can be read by itself."""
    if not path.exists():
        raise InputError(f"checkpoint: there is no {path}")
    if (wrong := what_is_wrong_with(path)) is not None:
        raise InputError(f"checkpoint: {wrong}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return  # a sharded or foreign one; looked at when it has been loaded
    states = content.get("callbacks", {}) if isinstance(content, Mapping) else None
    if not isinstance(states, Mapping):
        raise InputError(f"checkpoint: {path} is no checkpoint of a Lightning Trainer")
    own = [read_state(s, str(path)) for key, s in states.items() if str(key).startswith(STATE_KEY) and s]
    if not own:
        raise InputError(
            f"checkpoint: {path} holds no counts; the trunk too must be trained with scalestop.ComputeOptimalStopping"
        )
    counts = [state["meter"].get("tokens_non_padding") for state in own]
    if not all(isinstance(count, int) for count in counts):
        raise InputError(f"checkpoint: {path} has lost its count of tokens; take another checkpoint")
    if (seen := max(counts)) >= tokens:
        raise InputError(
            f"checkpoint: {path} has seen {human_count(seen)} tokens, the branch is to end at {human_count(tokens)}; "
            f"take an earlier checkpoint or more tokens"
        )
