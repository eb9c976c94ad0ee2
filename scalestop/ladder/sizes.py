"""From a parameter count to arguments of a model: of the tiny GPT, or of anybody's LightningModule."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from scalestop.accounting.params import count_params
from scalestop.errors import InputError
from scalestop.lab.dims import GPTDims, dims_for, smallest_dims
from scalestop.ladder.build import build_model, import_class
from scalestop.ladder.settings import TINY_GPT, LadderSettings

SIZES = ("num_params", "width", "depth", "num_heads")
MODEL_QUANTITIES = (*SIZES, "lr", "warmup", "decay", "steps", "seed", "num_tokens")
DATA_QUANTITIES = ("batch_size", "context", "seed")
_TINY_GPT_ARGS = {name: name for name in (*SIZES[1:], "lr", "warmup", "decay")}


@dataclass(frozen=True)
class Size:
    """A model's size, and the shape it was built from."""

    num_params: int
    """N, counted as the prior law counts it."""
    dims: GPTDims
    """The shape asked for."""

    @property
    def quantities(self) -> dict[str, int]:
        """What a model's arguments may take from it."""
        dims = self.dims
        return {
            "num_params": dims.num_params,
            "width": dims.width,
            "depth": dims.depth,
            "num_heads": dims.num_heads,
        }


def model_args(settings: LadderSettings) -> Mapping[str, str]:
    """Return which argument of the model takes which quantity.

    Raises:
        InputError: If none takes a size, or one that does is given as well.
    """
    path = settings.model["class_path"]
    if settings.model_args is None and path == TINY_GPT:
        found: Mapping[str, str] = _TINY_GPT_ARGS
    else:
        found = _arguments("model", path, settings.model_args, MODEL_QUANTITIES)
        if settings.model_args is None and "width" in found.values():
            found = {name: quantity for name, quantity in found.items() if quantity != "num_params"}
    if not set(found.values()) & set(SIZES):
        raise InputError(
            f"model_args: no argument of {path} takes the size. Say which does, such as model_args={{'d_model': "
            f"'width', 'n_layer': 'depth'}}; sizes are {', '.join(SIZES)}"
        )
    given = settings.model.get("init_args") or {}
    if twice := sorted(name for name, quantity in found.items() if quantity in SIZES and name in given):
        raise InputError(
            f"model.init_args: {', '.join(twice)} is what the ladder varies; leave it out, or map another argument "
            f"with model_args"
        )
    return {name: quantity for name, quantity in found.items() if name not in given}


def data_args(settings: LadderSettings) -> Mapping[str, str]:
    """Return which argument of the data takes which quantity.

    Raises:
        InputError: If the batch size cannot be set.
    """
    found = _arguments("data", settings.data["class_path"], settings.data_args, DATA_QUANTITIES)
    given = settings.data.get("init_args") or {}
    if "batch_size" not in found.values():
        raise InputError(
            f"data_args: no argument of {settings.data['class_path']} takes the batch size, which has to grow with the "
            f"tokens; say which does, such as data_args={{'samples': 'batch_size'}}"
        )
    for name, quantity in found.items():
        if name in given and quantity != "seed":
            raise InputError(f"data.init_args: {name} is set by the ladder's own {quantity}; give it there")
    return {name: quantity for name, quantity in found.items() if name not in given}


def _arguments(
    what: str, path: str, mapping: Mapping[str, str] | None, quantities: tuple[str, ...]
) -> Mapping[str, str]:
    if mapping is not None:
        for name, quantity in mapping.items():
            if quantity not in quantities:
                raise InputError(f"{what}_args: {name}: {quantity!r} is not one of {', '.join(quantities)}")
        return mapping
    return {name: name for name in inspect.signature(import_class(path, what)).parameters if name in quantities}


def size_finder(settings: LadderSettings) -> Callable[[float], Size]:
    """Return a function that gives the buildable size nearest to an N.

    For a model of the user's own, N is counted on the meta device, and the shape is corrected until N comes out.

    Args:
        settings: The ladder's.
    """
    counts = settings.prior.info.n_counts
    arguments = model_args(settings)
    given = settings.model.get("init_args") or {}
    tiny = settings.model["class_path"] == TINY_GPT
    tied = bool(given.get("tied", True)) if tiny else True
    vocab_size = int(given.get("vocab_size", 256)) if tiny else 256

    @cache
    def count(dims: GPTDims) -> int:
        if tiny:
            return dims.num_params if counts == "total" else dims.body
        values = Size(0, dims).quantities
        sized = {name: values[quantity] for name, quantity in arguments.items() if quantity in SIZES}
        with torch.device("meta"):
            return count_params(build_model(settings, sized)).by(counts)

    least = smallest_dims(tied, vocab_size).num_params

    def find(num_params: float) -> Size:
        wanted, best = num_params, None
        for _ in range(8):
            dims = dims_for(max(wanted, least), tied, vocab_size)
            size = Size(count(dims), dims)
            if best is None or _distance(size, num_params) < _distance(best, num_params):
                best = size
            wanted *= num_params / size.num_params
        assert best is not None
        return best

    return find


def _distance(size: Size, num_params: float) -> float:
    return abs(math.log(size.num_params / num_params))


def filled_in(arguments: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with their quantities' values."""
    return {name: values[quantity] for name, quantity in arguments.items()}
