"""What a batch is: where its token ids, masks and labels are, or an error that says how to tell.

Nothing is guessed: a batch that fits no rule, or two, is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from itertools import islice
from typing import Any, NoReturn

import torch
from torch import Tensor

from scalestop.accounting.readers import EXACT, INTEGERS, FieldReader, NestedReader, Reader, TensorReader
from scalestop.errors import InputError, shown

INPUT_KEYS = ("input_ids", "tokens", "inputs", "x")
LABEL_KEYS = ("labels", "targets", "target", "y")


_DEEPEST = 8
"""Batches within batches that are looked into: loaders of loaders are two or three."""

_READ = frozenset(
    (*INPUT_KEYS, *LABEL_KEYS, "inputs_embeds", "attention_mask", "decoder_input_ids", "decoder_attention_mask")
)


def inspect_batch(
    batch: Any, ignore_index: int = -100, encoder_decoder: bool | None = None, *, depth: int = 0
) -> Reader:
    """Find out how to read batches like this one; see :func:`scalestop.accounting.tokens.count_tokens` for the rules.

    ``depth`` is in how many batches this one lies.

    Raises:
        InputError: The batch cannot be read without guessing.
    """
    if isinstance(batch, Tensor):
        _check_ids(batch, batch)
        return TensorReader(batch.dtype)
    if depth > _DEEPEST:
        refuse(batch, f"it lies more than {_DEEPEST} deep in batches of batches")
    if not isinstance(batch, Mapping | tuple | list):
        refuse(batch, "it is neither a tensor, a dict, a tuple nor a list")
    parts = list(batch.values()) if isinstance(batch, Mapping) else batch
    if parts and all(part is None or isinstance(part, Mapping | tuple | list) for part in parts):
        part = partial(inspect_batch, ignore_index=ignore_index, encoder_decoder=encoder_decoder, depth=depth + 1)
        return NestedReader(tuple(batch) if isinstance(batch, Mapping) else len(batch), part)
    if isinstance(batch, Mapping):
        return _inspect_mapping(batch, ignore_index, encoder_decoder)
    return _inspect_sequence(batch, ignore_index, encoder_decoder)


def _inspect_mapping(batch: Mapping[Any, Any], ignore_index: int, encoder_decoder: bool | None) -> Reader:
    tensors = [key for key in INPUT_KEYS if isinstance(batch.get(key), Tensor)]
    if "input_ids" in tensors:
        tensors = ["input_ids"]
    _check_plain(batch, batch.items())
    embeds = batch.get("inputs_embeds")
    if not tensors and isinstance(embeds, Tensor) and embeds.ndim == 3:
        return _field_reader(batch, "inputs_embeds", embeds, ignore_index, encoder_decoder)
    if len(tensors) > 1:
        refuse(batch, f"{' and '.join(map(repr, tensors))} could each be the input")
    if tensors:
        return _field_reader(batch, tensors[0], _check_ids(batch[tensors[0]], batch), ignore_index, encoder_decoder)
    refuse(batch, f"no integer tensor under {', '.join(map(repr, INPUT_KEYS))}")


def _field_reader(
    batch: Mapping[Any, Any], ids_key: str, ids: Tensor, ignore_index: int, encoder_decoder: bool | None
) -> Reader:
    shape = tuple(ids.shape[:2])
    mask = batch.get("attention_mask")
    if mask is not None:
        _check_mask(mask, shape, batch)
    label_keys = [key for key in LABEL_KEYS if isinstance(batch.get(key), Tensor) and key != ids_key]
    if "labels" in label_keys:
        label_keys = ["labels"]
    if len(label_keys) > 1:
        refuse(batch, f"{' and '.join(map(repr, label_keys))} could each be the labels")
    labels_key = label_keys[0] if label_keys else None
    labels = batch[labels_key] if labels_key else None
    decoder_ids = batch.get("decoder_input_ids")
    decoder = encoder_decoder is not False and (encoder_decoder is True or isinstance(decoder_ids, Tensor))
    bystanders: tuple[tuple[Any, torch.dtype, int], ...] = ()
    text = labels is not None and labels.ndim == 2 and labels.dtype in INTEGERS
    if labels is not None and (not text or (not decoder and labels.shape != shape)):
        if text:
            refuse(
                batch,
                f"{labels_key!r} {list(labels.shape)} is not aligned with {ids_key!r} {list(shape)}; if it is the text "
                "of a decoder, pass encoder_decoder=True",
            )
        bystanders, labels_key = ((labels_key, labels.dtype, labels.ndim),), None
    if decoder and not isinstance(decoder_ids, Tensor) and labels_key is None:
        refuse(batch, "encoder_decoder=True, but there are neither 'decoder_input_ids' nor integer labels [B, T]")
    return FieldReader(
        layout=tuple(batch),
        ids=ids_key,
        dtype=ids.dtype,
        ndim=ids.ndim,
        ignore_index=ignore_index,
        mask=None if mask is None else "attention_mask",
        mask_ndim=0 if mask is None else mask.ndim,
        labels=labels_key,
        decoder_ids="decoder_input_ids" if decoder and isinstance(decoder_ids, Tensor) else None,
        decoder_mask="decoder_attention_mask" if isinstance(batch.get("decoder_attention_mask"), Tensor) else None,
        decoder=decoder,
        bystanders=bystanders,
    )


def _inspect_sequence(batch: Any, ignore_index: int, encoder_decoder: bool | None) -> Reader:
    tensors = [(i, item) for i, item in enumerate(batch) if isinstance(item, Tensor)]
    if not tensors:
        refuse(batch, "it holds no tensor")
    if any(isinstance(item, Mapping) for item in batch):
        refuse(batch, "it mixes tensors and dicts")
    (index, ids), *others = tensors
    _check_plain(batch, tensors)
    _check_ids(ids, batch)
    rivals = [(i, other) for i, other in others if other.ndim == 2 and not other.is_floating_point()]
    if len(rivals) > 1:
        refuse(batch, f"its {len(rivals) + 1} integer tensors [batch, sequence] could be input, mask and labels")
    if rivals and rivals[0][1].shape != ids.shape and not encoder_decoder:
        refuse(batch, "its two integer tensors differ in shape; for a source and a target pass encoder_decoder=True")
    if rivals and _may_be_mask(ids, rivals[0][1]):
        refuse(batch, f"item {rivals[0][0]} holds only 0 and 1, so it could be a mask as well as labels")
    if encoder_decoder and not rivals:
        refuse(batch, "encoder_decoder=True, but there is one text")
    return FieldReader(
        layout=len(batch),
        ids=index,
        dtype=ids.dtype,
        ndim=2,
        ignore_index=ignore_index,
        labels=rivals[0][0] if rivals else None,
        decoder=bool(encoder_decoder),
        bystanders=tuple((i, t.dtype, t.ndim) for i, t in others if not rivals or i != rivals[0][0]),
    )


def _may_be_mask(ids: Tensor, other: Tensor) -> bool:
    """Whether the second tensor looks like 0/1 flags beside token ids. Reads values, so for inspection only."""
    if other.dtype is torch.bool:
        return True
    if other.is_meta or ids.is_meta or not other.numel():
        return False
    flags = (other == 0) | (other == 1)
    return bool((flags.all() & (ids > 1).any()).item())


def _check_ids(ids: Tensor, batch: Any) -> Tensor:
    if ids.dtype not in INTEGERS:
        refuse(batch, f"its input is {str(ids.dtype).removeprefix('torch.')}, not token ids")
    _check_plain(batch, [("input", ids)])
    if ids.ndim != 2:
        refuse(batch, "token ids must be [batch, sequence]")
    return ids


def _check_plain(batch: Any, parts: Iterable[tuple[Any, Any]]) -> None:
    """Refuse tensors without a plain shape among those that are read."""
    for name, part in parts:
        if not isinstance(part, Tensor) or (isinstance(batch, Mapping) and name not in _READ):
            continue
        if part.is_nested:
            refuse(batch, f"{name!r} is a nested tensor, whose rows differ in length")
        if part.layout is not torch.strided:
            refuse(batch, f"{name!r} is a sparse tensor")


def _check_mask(mask: Any, shape: tuple[int, ...], batch: Any) -> None:
    if not isinstance(mask, Tensor):
        refuse(batch, f"'attention_mask' is a {type(mask).__name__}, not a tensor")
    if mask.ndim > 2 and mask.dtype not in EXACT:
        refuse(batch, "'attention_mask' is an additive mask of floats, whose padding is not marked by zeros")
    square = mask.ndim in (3, 4) and mask.shape[0] in (1, shape[0]) and mask.shape[-1] == shape[1]
    if tuple(mask.shape) != shape and not square:
        refuse(batch, f"'attention_mask' {list(mask.shape)} does not fit token ids {list(shape)}")


def refuse(batch: Any, why: str) -> NoReturn:
    """Raise the InputError for a batch that cannot be read: why, what was got, and how to pass a rule."""
    raise InputError(
        f"batch: cannot tell its tokens: {why}. Got {describe(batch)}. Pass count_tokens=function, which takes a batch "
        "and returns the number of tokens in it (an int) or a TokenCount."
    )


def describe(batch: Any, depth: int = 0) -> str:
    """A batch in words, for errors: types, dtypes and shapes, no values."""
    if isinstance(batch, Tensor):
        shape = "of ragged rows" if batch.is_nested else str(list(batch.shape))
        return f"{str(batch.dtype).removeprefix('torch.')} tensor {shape}"
    name = type(batch).__name__
    if depth < 2 and isinstance(batch, Mapping):
        items = [f"{shown(key, 40)}: {describe(value, depth + 1)}" for key, value in islice(batch.items(), 12)]
        return f"{name}({', '.join(items + ['...'] * (len(batch) > 12))})"
    if depth < 2 and isinstance(batch, tuple | list):
        items = [describe(item, depth + 1) for item in batch[:4]] + ["..."] * (len(batch) > 4)
        return f"{name}({', '.join(items)})"
    return name
