"""The full size of a parameter, however it is sharded, deferred or packed."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from scalestop.errors import InputError


def full_numel(param: nn.Parameter, name: str) -> int:
    """Elements of the whole parameter, not of this rank's share.

    A FSDP2 / tensor-parallel ``DTensor`` and a meta tensor report the global size themselves; DeepSpeed ZeRO-3 keeps
    it in ``ds_numel``; bitsandbytes' 4-bit weights are packed and keep it in ``quant_state.shape``. The dotted name is
    for errors.

    Raises:
        InputError: The size is not known here: a lazy parameter before its first batch, or 4-bit weights not yet
            quantised.
    """
    if is_lazy(param):
        raise InputError(
            f"parameter {name!r} is lazy and has no shape yet. Run one batch through the module (or build it with its "
            "sizes) before counting its parameters."
        )
    whole = getattr(param, "ds_numel", None)
    if isinstance(whole, int):
        return whole
    if type(param).__name__ == "Params4bit":
        shape = getattr(getattr(param, "quant_state", None), "shape", None)
        if shape is None:
            raise InputError(
                f"parameter {name!r} is a 4-bit weight whose full shape is not known before it is quantised. Move the "
                "module to its device first, or pass num_params."
            )
        return math.prod(shape)
    return int(param.numel())


def refuse_flat_shards(module: nn.Module) -> None:
    """Refuse a module under FSDP1: its parameters are this rank's shares, some of them empty, and say nothing of it.

    Raises:
        InputError: ``module`` holds a ``FullyShardedDataParallel`` wrapper.
    """
    for name, sub in module.named_modules():
        # By name: importing torch.distributed.fsdp to ask isinstance costs more than the whole count.
        if any(base.__name__ == "FullyShardedDataParallel" for base in type(sub).__mro__):
            raise InputError(
                f"module: {name or 'it'!r} is wrapped by FSDP1, whose parameters are this rank's flat shards. Count "
                "before the module is wrapped, use FSDP2 (ModelParallelStrategy), whose DTensors know their full "
                "size, or pass the number of parameters yourself."
            )


def full_shape(param: Tensor) -> tuple[int, ...]:
    """Shape of the whole parameter; DeepSpeed ZeRO-3 keeps it in ``ds_shape``, everything else in ``shape``."""
    return tuple(int(size) for size in getattr(param, "ds_shape", param.shape))
