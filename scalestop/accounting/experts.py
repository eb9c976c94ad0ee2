"""Mixture of experts: how many parameters one token does not pass.

A token passes ``k`` of ``n`` experts, so a mixture's training FLOPs follow its active parameters, not its total.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import nn

from scalestop.accounting.sizes import full_numel, full_shape
from scalestop.errors import InputError

_EXPERTS_NAME = re.compile(r"(?!.*shared)(.*_)?experts")
_TOP_K_NAMES = ("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_top_k", "moe_topk")


def inactive_params(
    module: nn.Module, active_experts: int | tuple[int, int] | None = None
) -> tuple[dict[int, int], tuple[str, ...]]:
    """Parameters of the experts that a token does not pass.

    Experts are an ``nn.ModuleList`` or ``nn.ModuleDict`` called ``experts`` (or ``..._experts``, but not
    ``shared_...``), or a module of that name holding fused weights ``[n, ., .]``, as in Mixtral, Qwen-MoE, OLMoE and
    DeepSeek. ``k`` is ``active_experts``, or is read from ``top_k`` beside the experts, or ``num_experts_per_tok`` of
    a ``config`` around them. Routers and shared experts are passed by every token. ``active_experts`` is ``k``, or
    ``(k, n)``: experts that each token passes, and experts in a layer.

    Returns:
        ``{id(parameter): inactive elements}``, whose sum is exact (which experts of a layer a token passes does not
        matter, as they are equal), and notes.

    Raises:
        InputError: ``active_experts`` fits no experts here; there are experts and no top-k to be found; or the experts
            of one layer differ in size.
    """
    declared_k, declared_n = _check(active_experts)
    inactive: dict[int, int] = {}
    layers: dict[str, list[str]] = {}
    for name, experts, n in _expert_layers(module, declared_n):
        k = declared_k if declared_k is not None else _detect_top_k(module, name, n)
        if k is None:
            raise InputError(
                f"{name!r} holds {n} experts, but how many of them a token passes (top-k) was not found. "
                f"Pass active_experts=(k, {n}), or ({n}, {n}) if each token passes all of them."
            )
        if k > n:
            raise InputError(f"active_experts: k={k} is more than the {n} experts of {name!r}. Pass k <= n.")
        inactive.update(_inactive_of(experts, name, k, n))
        layers.setdefault(f"{k} of {n} experts active per token", []).append(name)
    if active_experts is not None and not layers:
        size = f" with {declared_n} experts" if declared_n else ""
        raise InputError(
            f"active_experts={active_experts!r}: the module has no list, dict or fused weights called 'experts'{size}. "
            "Rename the container, correct n, or leave active_experts out."
        )
    notes = (f"{names[0]}{f' (and {len(names) - 1} more)' * (len(names) > 1)}: {s}" for s, names in layers.items())
    return inactive, tuple(notes)


def _inactive_of(experts: nn.Module, name: str, k: int, n: int) -> dict[int, int]:
    if not isinstance(experts, nn.ModuleList | nn.ModuleDict):
        fused = [p for p in experts.parameters(recurse=False) if len(full_shape(p)) >= 2 and full_shape(p)[0] == n]
        return {id(p): full_numel(p, name) // n * (n - k) for p in fused}
    sizes = [sum(full_numel(p, name) for p in expert.parameters()) for expert in experts.children()]
    if len(set(sizes)) > 1:
        raise InputError(
            f"{name!r}: its {n} experts differ in size ({min(sizes)} to {max(sizes)} parameters), so a token does not "
            "pass k/n of their parameters. Pass flops_per_token as a number or a function."
        )
    return {id(p): full_numel(p, name) for expert in list(experts.children())[k:] for p in expert.parameters()}


def _check(active_experts: int | tuple[int, int] | None) -> tuple[int | None, int | None]:
    if active_experts is None:
        return None, None
    pair = tuple(active_experts) if isinstance(active_experts, tuple | list) else (active_experts,)
    counts = all(isinstance(value, int) and not isinstance(value, bool) and value > 0 for value in pair)
    if not counts or len(pair) not in (1, 2) or pair[0] > pair[-1]:
        raise InputError(
            f"active_experts={active_experts!r} is not k or (k, n) with 0 < k <= n. "
            "For 2 of 8 experts per token pass active_experts=(2, 8)."
        )
    return pair[0], (pair[1] if len(pair) == 2 else None)


def _expert_layers(module: nn.Module, declared_n: int | None) -> Iterator[tuple[str, nn.Module, int]]:
    for name, sub in module.named_modules():
        if not _EXPERTS_NAME.fullmatch(name.rpartition(".")[2]):
            continue
        if isinstance(sub, nn.ModuleList | nn.ModuleDict):
            n = len(sub)
        else:
            # Fused weights are a stack [n, out, in] in the module itself: three dimensions, all as deep.
            depths = {full_shape(p)[0] for p in sub.parameters(recurse=False) if len(full_shape(p)) == 3}
            n = depths.pop() if len(depths) == 1 else 0
        if n > 1 and declared_n in (None, n):
            yield name, sub, n


def _detect_top_k(module: nn.Module, name: str, n: int) -> int | None:
    parts = name.split(".")
    # `top_k` also names a sampling option, so it is believed only on the experts themselves and right beside them.
    for path in (parts, parts[:-1]):
        near = module.get_submodule(".".join(path))
        for holder in (near, getattr(near, "router", None), getattr(near, "gate", None)):
            k = _top_k_of(holder, ("top_k", *_TOP_K_NAMES), n)
            if k is not None:
                return k
    for depth in range(len(parts), -1, -1):
        around = module.get_submodule(".".join(parts[:depth]))
        k = _top_k_of(getattr(around, "config", None), _TOP_K_NAMES, n)
        if k is not None:
            return k
    return None


def _top_k_of(holder: object, names: tuple[str, ...], n: int) -> int | None:
    values = (getattr(holder, name, None) for name in names)
    return next((v for v in values if isinstance(v, int) and not isinstance(v, bool) and 0 < v <= n), None)
