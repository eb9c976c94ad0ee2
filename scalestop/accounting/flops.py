"""Training FLOPs per token, by the method of one's choice.

Everything counts a multiply-add as 2 FLOPs, and the backward pass as twice the forward one. All counts are per
*processed* token: padding costs what text costs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from scalestop.accounting.attention import AttentionDims, attention_dims
from scalestop.accounting.measure import Measurement, measure_flops
from scalestop.accounting.meta import Step
from scalestop.accounting.params import ParamCount
from scalestop.accounting.tokens import CountTokens
from scalestop.errors import InputError, shown

#: A way to get FLOPs per token: a name, the number itself, or a function of module and batch that returns it.
FlopsSpec = str | int | float | Callable[[Any, Any], float]

METHODS = ("6N", "6N+attention", "measured")


@dataclass(frozen=True)
class FlopsPerToken:
    """What training on one token costs.

    Attributes:
        model: FLOPs that the model's mathematics asks for, forward and backward, per processed token.
        hardware: FLOPs that the device does, work done again in the backward pass included; None where not known.
        source: How it was found.
        notes: What is left out or assumed, for people.
        forward: FLOPs of the forward pass alone (validation) per token; None where not known.
    """

    model: int
    hardware: int | None
    source: str
    notes: tuple[str, ...] = ()
    forward: int | None = None


def six_n(params: ParamCount | int, convention: str = "total") -> FlopsPerToken:
    """FLOPs per token as 6N: 2 forward, 2 for the input's gradient, 2 for the weight's, each per parameter.

    Kaplan et al. 2020 (arXiv 2001.08361, section 2.1) and Hoffmann et al. 2022 (arXiv 2203.15556) call training
    compute 6·N·D, and so define what a budget in their laws means.

    - A frozen parameter costs 4: it takes no gradient of its own but passes one on. A model that trains nothing costs
      2. Frozen layers *below* the first trained one pass none either and cost 2, but the order of execution is not in
      the module tree: they are charged 4, which is right for LoRA and too much for a probe on a frozen trunk.
      ``measured`` knows.
    - Of a mixture of experts, the active parameters are charged.
    - An embedding lookup multiplies nothing; under ``"total"`` it is charged as N all the same, because the law's N
      was counted so. Under ``"body"`` the output head's matmul is left out, for the same reason.

    Args:
        params: The model's count, or a bare N.
        convention: What the law's N counts: ``"total"``, ``"body"`` or ``"active"``.

    Returns:
        The cost.

    Raises:
        InputError: N is not above 0; an unknown convention.
    """
    if isinstance(params, int):
        if isinstance(params, bool) or params <= 0:
            raise InputError(f"params={params!r}: N must be an int above 0, or a ParamCount.")
        return FlopsPerToken(6 * params, None, "6N", forward=2 * params)
    inactive = params.total - params.active  # all in the body
    trainable = params.body_trainable if convention == "body" else params.trainable
    trainable -= params.inactive_trainable
    active = params.by(convention) - (0 if convention == "active" else inactive)
    frozen = active - trainable
    notes = [_charged(params, convention)]
    if inactive:
        notes.append(f"active parameters only: {inactive:,} of {params.total:,} lie in experts a token does not pass")
    if params.trainable == 0:
        notes.append("nothing trains: 2N, forward only")
        return FlopsPerToken(2 * active, None, "6N", tuple(filter(None, notes)), 2 * active)
    if frozen:
        notes.append(
            f"{frozen:,} frozen parameters at 4N: gradients pass through them. If they lie below the first trained "
            "layer they cost 2N; 'measured' tells"
        )
    model = 6 * trainable + 4 * frozen
    return FlopsPerToken(model, None, "6N", tuple(filter(None, notes)), 2 * active)


def _charged(params: ParamCount, convention: str) -> str:
    """How N differs from the parameters that matmuls use, where it does by over 5 %."""
    matmul = params.body + params.head + params.tied
    count = params.by("body" if convention == "body" else "total")
    if abs(count - matmul) <= 0.05 * matmul:
        return ""
    odd = "embedding lookups, which cost none, are charged" if count > matmul else "the output head is left out"
    return f"N by the law's convention ({convention}) is {count:,}, in matmuls there are {matmul:,}: {odd}"


def flops_per_token(
    spec: FlopsSpec = "6N",
    params: ParamCount | int | None = None,
    convention: str = "total",
    *,
    module: nn.Module | None = None,
    batch: Any = None,
    num_layers: int | None = None,
    d_attn: int | None = None,
    context: int | None = None,
    step: Step | None = None,
    count_tokens: CountTokens | None = None,
) -> FlopsPerToken:
    """Training FLOPs per processed token.

    Args:
        spec: ``"6N"`` (see :func:`six_n`); ``"6N+attention"``, which adds 12 * layers * d_attn * context for full
            attention, not halved for causality; ``"measured"``, which counts one step on a meta copy of the module
            (:func:`scalestop.accounting.measure.measure_flops`); the number itself; or a function
            ``(module, batch) -> number``.
        params: The model's count, or a bare N; for the first two.
        convention: What the law's N counts: ``"total"``, ``"body"`` or ``"active"``.
        module: The model; for ``"measured"``, a function, and to find the attention's dims.
        batch: One batch; for ``"measured"``, a function, and to find the context.
        num_layers: Layers that attend, if the module does not say.
        d_attn: Heads times head width, if the module does not say.
        context: Tokens in a sequence, if there is no batch.
        step: ``step(module, batch)`` that returns the loss, to measure a module whose own step needs values.
        count_tokens: The user's rule for a batch's tokens.

    Returns:
        The cost.

    Raises:
        InputError: An unknown method, or one without what it needs; a number or a function's answer that is not
            finite and above 0.
    """
    check_flops_spec(spec)
    if isinstance(spec, str):
        if spec == "measured":
            _need(spec, module=module, batch=batch)
            assert module is not None
            return per_token(measure_flops(module, batch, step=step, count_tokens=count_tokens))
        _need(spec, params=params)
        assert params is not None
        base = six_n(params, convention)
        if spec == "6N":
            return base
        length = context if context is not None else batch_context(batch)
        dims = attention_dims(module, num_layers=num_layers, d_attn=d_attn)
        return _with_attention(base, dims, length, trains=isinstance(params, int) or params.trainable > 0)
    if callable(spec):
        return FlopsPerToken(_whole(spec(module, batch), "flops_per_token's function returned"), None, "function")
    return FlopsPerToken(_whole(spec, "flops_per_token ="), None, "number")


def check_flops_spec(spec: Any) -> None:
    """Check a way to get FLOPs per token, as far as it can be without a model.

    Raises:
        InputError: It is no known method, no finite number above 0 and no function.
    """
    if isinstance(spec, str):
        if spec not in METHODS:
            raise InputError(
                f"flops_per_token={shown(spec)} is none of {', '.join(map(repr, METHODS))}, a number, or a function "
                "(module, batch) -> number."
            )
    elif not callable(spec):
        _whole(spec, "flops_per_token =")


def _with_attention(base: FlopsPerToken, dims: AttentionDims, context: int, trains: bool) -> FlopsPerToken:
    attention = dims.flops_per_token(context)
    windowed = f", {len(dims.windows)} of them within a window" if dims.windows else ""
    note = (
        f"attention: {dims.num_layers} layers{windowed}, width {dims.d_attn} ({dims.source}), context {context}; full, "
        "not halved for causality"
    )
    forward = None if base.forward is None else base.forward + attention // 3
    model = base.model + (attention if trains else attention // 3)
    return FlopsPerToken(model, None, "6N+attention", (*base.notes, note), forward)


def per_token(measurement: Measurement) -> FlopsPerToken:
    """A measured step as FLOPs per token, rounded to whole FLOPs; ``hardware`` includes what is recomputed."""
    tokens, total = measurement.tokens, measurement.total
    notes = [f"{measurement.ran} on meta tensors, {tokens:,} tokens"]
    if total.recomputed:
        notes.append(
            f"activations recomputed: {_rounded(total.recomputed, tokens):,} FLOPs per token beside the model's"
        )
    if measurement.unseen:
        shown = ", ".join(sorted({operator for _, operator in measurement.unseen}))
        notes.append(f"too low: FlopCounterMode has no formula for {shown}; 'audit' names the modules")
    return FlopsPerToken(
        model=_rounded(total.model, tokens),
        hardware=_rounded(total.hardware, tokens),
        source="measured",
        notes=tuple(notes),
        forward=_rounded(total.forward, tokens),
    )


def _rounded(flops: int, tokens: int) -> int:
    return (2 * flops + tokens) // (2 * tokens)


def _need(spec: str, **given: object) -> None:
    missing = [name for name, value in given.items() if value is None]
    if missing:
        raise InputError(f"flops_per_token={spec!r} needs {' and '.join(missing)}. Pass {'=..., '.join(missing)}=...")


def batch_context(batch: Any) -> int:
    """Tokens in a row of a batch: the second dimension of its first tensor that has one.

    Raises:
        InputError: There is no such tensor.
    """
    items = batch.values() if hasattr(batch, "values") and not isinstance(batch, Tensor) else batch
    tensors = [batch] if isinstance(batch, Tensor) else [] if items is None else [*items]
    for tensor in tensors:
        if isinstance(tensor, Tensor) and tensor.ndim >= 2:
            return int(tensor.shape[1])
    raise InputError(
        "flops_per_token='6N+attention' needs the context: pass context=, the sequence length in tokens, or a batch."
    )


def _whole(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e300:
        raise InputError(f"{what} {shown(value)}: FLOPs per token are a finite number above 0.")
    return max(1, round(value))
