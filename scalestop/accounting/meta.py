"""A model and a batch on the meta device: shapes without values, so that a step costs no compute and no memory."""

from __future__ import annotations

import contextlib
import copy
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from scalestop.accounting.batches import describe
from scalestop.accounting.sizes import full_shape, refuse_flat_shards
from scalestop.errors import InputError

#: A user's own training step: module and batch in, loss (or anything holding it) out.
Step = Callable[[Any, Any], Any]


def meta_copy(module: nn.Module) -> nn.Module:
    """Copy a module to the meta device; the original is not touched and no weight is duplicated.

    Tied weights stay tied. Wrappers of ``torch.compile`` and DDP are taken off: a compiled graph would be counted
    wrongly, and DDP's hooks want real tensors. The copy is in training mode.

    Raises:
        InputError: The module cannot be copied (FSDP, or something in it that does not copy).
    """
    module = unwrap(module)
    refuse_flat_shards(module)
    # deepcopy takes an object that is in the memo as copied already: each tensor becomes a meta one, once.
    memo: dict[int, Any] = {}
    for param in module.parameters():
        memo[id(param)] = nn.Parameter(_meta_like(param), requires_grad=param.requires_grad)
    for sub in module.modules():
        tensors = [*sub.buffers(recurse=False), *(v for v in vars(sub).values() if isinstance(v, Tensor))]
        memo.update({id(t): _meta_like(t) for t in tensors if id(t) not in memo})
    try:
        copied = copy.deepcopy(module, memo)
    except Exception as error:
        raise InputError(
            f"module={type(module).__name__} cannot be copied to the meta device for measuring ({_short(error)}). "
            "Measure before the module is wrapped or sharded, or choose flops_per_token='6N', a number or a function."
        ) from error
    for sub in copied.modules():
        # Hugging Face experts look at which tokens were routed where, except in this form, which costs the same FLOPs.
        choose = getattr(sub, "set_experts_implementation", None)
        if callable(choose):
            with contextlib.suppress(Exception):  # a model without experts refuses
                choose("batched_mm")
    return copied if copied.training else copied.train()


def unwrap(module: nn.Module) -> nn.Module:
    """Take off what ``torch.compile`` and DDP put around a module."""
    wrappers = {"OptimizedModule": "_orig_mod", "DistributedDataParallel": "module"}
    while (inner := wrappers.get(type(module).__name__)) is not None:
        module = getattr(module, inner)
    return module


def _meta_like(tensor: Tensor) -> Tensor:
    return torch.empty(full_shape(tensor), dtype=tensor.dtype, device="meta")


def meta_batch(batch: Any) -> Any:
    """Copy a batch, nested at will, to the meta device: tensors lose their values, everything else stays."""
    if isinstance(batch, Tensor):
        return torch.empty_like(batch, device="meta")
    if isinstance(batch, Mapping):
        moved = {key: meta_batch(value) for key, value in batch.items()}
        try:  # keep what else the mapping can do: models read a BatchEncoding by attribute
            same = copy.copy(batch)
            for key, value in moved.items():
                same[key] = value  # type: ignore[index]
        except TypeError:
            return moved
        return same
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(meta_batch(item) for item in batch))
    if isinstance(batch, tuple | list):
        return type(batch)(meta_batch(item) for item in batch)
    return batch


def run_step(module: nn.Module, batch: Any, step: Step | None = None, before: Callable[[], None] = lambda: None) -> str:
    """Run one forward and backward pass of a meta copy.

    In order: ``step(module, batch)`` if given; the ``training_step`` of a Lightning module; ``forward`` with the fields
    of a dict that it takes, or with the first tensor. What comes back is its ``loss``, or is summed. ``before`` is
    called before each attempt. Returns what was run, in words.

    Raises:
        InputError: Nothing ran on meta tensors, which have no values; the reasons are given.
    """
    failures = []
    for name, attempt in _attempts(module, batch, step):
        before()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                loss = find_loss(attempt())
                if loss.requires_grad:
                    loss.backward()
            return name
        except Exception as error:
            failures.append(f"{name}: {_short(error)}")
    raise InputError(
        f"module={type(module).__name__}: no step ran on meta tensors of {describe(batch)}. Tried "
        + "; ".join(failures)
        + ". Code that looks at values cannot run on them: pass step=function(module, batch) that returns the loss "
        "without doing so, or choose flops_per_token='6N', a number or a function."
    )


def _attempts(module: nn.Module, batch: Any, step: Step | None) -> Iterator[tuple[str, Callable[[], Any]]]:
    if step is not None:
        yield "step", partial(step, module, batch)
        return
    training_step = getattr(module, "training_step", None)
    if callable(training_step) and getattr(module, "automatic_optimization", True):
        takes_index = len(inspect.signature(training_step).parameters) > 1
        for how, variant in _mask_variants(batch):
            arguments = (variant, 0) if takes_index else (variant,)
            yield f"training_step{how}", partial(training_step, *arguments)
    if isinstance(batch, Mapping):
        accepted = inspect.signature(module.forward).parameters
        takes_all = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
        named = False
        for how, variant in _mask_variants(batch):
            fields = {key: value for key, value in variant.items() if takes_all or key in accepted}
            if fields:
                named = True
                yield f"forward{how}", partial(module, **fields)
        batch = None if named else list(batch.values())
    first = batch if isinstance(batch, Tensor) else next((b for b in batch or () if isinstance(b, Tensor)), None)
    if first is not None:
        yield "forward", partial(module, first)
        if first.ndim == 2 and "attention_mask" in inspect.signature(module.forward).parameters:
            yield "forward with a square mask", partial(module, first, attention_mask=_square_mask(first))


def _mask_variants(batch: Any) -> Iterator[tuple[str, Any]]:
    """The batch, and the same with masks that no model looks into: shapes, and so FLOPs, do not depend on them.

    A model may ask whether a mask is all ones to take a shortcut. Hugging Face models do not ask that of a mask that
    says for each query what it attends to.
    """
    yield "", batch
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    ids = batch.get("input_ids") if isinstance(batch, Mapping) else None
    shaped = next((t for t in (mask, ids) if isinstance(t, Tensor) and t.ndim == 2), None)
    if shaped is None:
        return
    for how, replacement in ((" with a square mask", _square_mask(shaped)), (" without its mask", None)):
        variant = dict(batch) if not hasattr(batch, "data") else copy.copy(batch)
        variant["attention_mask"] = replacement
        yield how, variant


def _square_mask(ids: Tensor) -> Tensor:
    """All of it attended: ``[B, 1, T, T]``."""
    rows, length = ids.shape
    return torch.ones(rows, 1, length, length, dtype=torch.bool, device="meta")


def find_loss(output: Any) -> Tensor:
    """The loss in what a step returned: ``.loss``, ``["loss"]``, a scalar, else the sum of all float tensors in it.

    Raises:
        InputError: There is no float tensor in it.
    """
    loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if isinstance(loss, Tensor):
        return loss.sum()
    floats = [t for t in _tensors(output) if t.is_floating_point() or t.is_complex()]
    if not floats:
        raise InputError(f"the step returned {describe(output)}, without a float tensor to call its loss")
    # Summing costs no matmul, and sends a gradient through every output.
    return torch.stack([t.sum().real if t.is_complex() else t.sum().float() for t in floats]).sum()


def _tensors(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    items = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else ()
    return [tensor for item in items for tensor in _tensors(item)]


def _short(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:160]}" if text else type(error).__name__
