"""The part of a transformer's FLOPs that grows with the context: scores and weighted sums, which have no parameters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from scalestop.errors import InputError

_LAYERS = ("num_hidden_layers", "num_layers", "n_layers", "n_layer", "depth")
_HEADS = ("num_attention_heads", "num_heads", "n_heads", "n_head")
_WIDTH = ("hidden_size", "d_model", "embed_dim", "n_embd", "d_attn", "dim", "width")


@dataclass(frozen=True)
class AttentionDims:
    """What sets the cost of a model's attention."""

    num_layers: int
    """Layers that attend."""
    d_attn: int
    """Width of the attention: heads times the width of a head (the mean of query's and value's where they differ)."""
    windows: tuple[int, ...] = ()
    """Sliding windows, tokens: one for each layer that attends to no more than that many."""
    source: str = "arguments"
    """Where the dims were found."""

    def __post_init__(self) -> None:
        for name in ("num_layers", "d_attn"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
                raise InputError(f"{name}={value!r}: give the model's as an int above 0.")
        if len(self.windows) > self.num_layers:
            raise InputError(
                f"windows: {len(self.windows)} of them for num_layers={self.num_layers}. Give one a layer."
            )

    def flops_per_token(self, context: int) -> int:
        """Forward and backward FLOPs of full attention per token: ``12 * d_attn * context`` a layer.

        Per layer and token, scores and weighted sum take 2 * d_attn * context FLOPs each forward, and twice that
        backward. Nothing is halved for causality: dense kernels compute the masked half too, and Chowdhery et al.
        2022 (PaLM, arXiv 2204.02311, appendix B) count so. Flash kernels make the scores again in the backward pass
        and skip masked blocks; neither is a model FLOP.

        Args:
            context: Tokens in a sequence.
        """
        if isinstance(context, bool) or not isinstance(context, int) or context <= 0:
            raise InputError(f"context={context!r}: give the sequence length in tokens as an int above 0.")
        full = (self.num_layers - len(self.windows)) * context
        return 12 * self.d_attn * (full + sum(min(window, context) for window in self.windows))


def attention_dims(
    module: nn.Module | None = None, *, num_layers: int | None = None, d_attn: int | None = None
) -> AttentionDims:
    """Find the dims of a model's attention.

    From the arguments; else from a ``config`` in the module (Hugging Face, sliding windows and differing query and
    value widths included); else from its ``nn.MultiheadAttention`` modules; else from attributes such as
    ``num_layers`` and ``d_model`` on the module or on its ``dims`` or ``config``. One argument alone, the layers that
    attend or heads times head width, overrides what was found.

    Raises:
        InputError: Not found, or an encoder-decoder, whose layers attend over different lengths.
    """
    if num_layers is not None and d_attn is not None:
        return AttentionDims(num_layers, d_attn)
    found = None if module is None else _from_configs(module) or _from_mha(module) or _from_attributes(module)
    if found is None:
        missing = [name for name, value in (("num_layers", num_layers), ("d_attn", d_attn)) if value is None]
        raise InputError(
            f"{' and '.join(missing)}: the attention's dims were not found in "
            f"{'no module' if module is None else type(module).__name__} (neither a config, nor nn.MultiheadAttention, "
            "nor attributes such as num_layers and d_model). Pass them, or choose flops_per_token='measured'."
        )
    if num_layers is None and d_attn is None:
        return found
    return AttentionDims(num_layers or found.num_layers, d_attn or found.d_attn, source=found.source)


def _from_configs(module: nn.Module) -> AttentionDims | None:
    for sub in module.modules():
        config = getattr(sub, "config", None)
        text = getattr(config, "text_config", None) or config
        if text is None or _first(text, _LAYERS) is None or _first(text, _HEADS) is None:
            continue
        if getattr(text, "is_encoder_decoder", False) is True:
            raise InputError(
                f"flops_per_token='6N+attention': {type(sub).__name__} is an encoder-decoder, whose layers attend over "
                "different lengths. Choose 'measured', a number or a function."
            )
        layers, heads = _first(text, _LAYERS), _first(text, _HEADS)
        width = _first(text, _WIDTH)
        head = _first(text, ("head_dim",)) or (width // heads if width and heads else None)
        if not layers or not heads or not head:
            continue
        query, value = _first(text, ("qk_head_dim",)), _first(text, ("v_head_dim",))
        if query is None and _first(text, ("qk_nope_head_dim",)) is not None:
            query = (_first(text, ("qk_nope_head_dim",)) or 0) + (_first(text, ("qk_rope_head_dim",)) or 0)
        d_attn = heads * (query + value) // 2 if query and value else heads * head
        kinds = getattr(text, "layer_types", None)
        window = _first(text, ("sliding_window",))
        if isinstance(kinds, list | tuple):
            windows = (window,) * sum(kind == "sliding_attention" for kind in kinds) if window else ()
            layers = sum("full" in kind or "sliding" in kind for kind in kinds) or layers
        else:
            on = window is not None and getattr(text, "use_sliding_window", True) is not False
            windows = (window,) * layers if on and window is not None else ()
        return AttentionDims(layers, d_attn, windows, source=f"config of {type(sub).__name__}")
    return None


def _from_mha(module: nn.Module) -> AttentionDims | None:
    widths = [sub.embed_dim for sub in module.modules() if isinstance(sub, nn.MultiheadAttention)]
    if not widths:
        return None
    if len(set(widths)) > 1:
        raise InputError(
            f"d_attn: the nn.MultiheadAttention modules differ in width ({', '.join(map(str, sorted(set(widths))))}). "
            "Choose flops_per_token='measured', a number or a function."
        )
    return AttentionDims(len(widths), widths[0], source="nn.MultiheadAttention modules")


def _from_attributes(module: nn.Module) -> AttentionDims | None:
    for sub in module.modules():
        for holder in (sub, getattr(sub, "dims", None), getattr(sub, "config", None)):
            if hasattr(holder, "model_type"):  # Hugging Face's: read by its heads, or of a model that does not attend
                continue
            layers, width = _first(holder, _LAYERS), _first(holder, _WIDTH)
            # A recurrent layer has num_layers too, and no width among these names.
            if layers and width and not isinstance(sub, nn.RNNBase):
                return AttentionDims(layers, width, source=f"attributes of {type(sub).__name__}")
    return None


def _first(holder: Any, names: Iterable[str]) -> int | None:
    """The first of these attributes that is an int above 0."""
    values = (getattr(holder, name, None) for name in names)
    return next((v for v in values if isinstance(v, int) and not isinstance(v, bool) and v > 0), None)
