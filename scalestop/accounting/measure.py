"""FLOPs of a training step, counted once by running its shapes through torch's ``FlopCounterMode`` on meta tensors.

What ``FlopCounterMode`` gets wrong, and what is done about it here (torch 2.13):

- **The zero-SDPA trap.** On the CPU ``scaled_dot_product_attention`` runs as a fused kernel that has no formula and
  counts 0. On meta tensors it is made of matmuls, all of them counted; the copy runs there, under the math backend.
- ``nn.LSTM`` and an encoder layer's fast path count 0 on the CPU for the same reason, and are right on meta.
- The weight gradient of a convolution in groups is counted as if it had one group: a depthwise one of 5,120 channels
  5,120 times over, which made a Mamba of 2.8B cost 1.8 times what it does. Here it is divided by the groups.
- Custom operators and ``nn.Bilinear`` count 0 everywhere: they are found and named in ``Measurement.unseen``.
- Its own per-module table charges a layer with its sisters' backward FLOPs when they share an input (three projections
  of one tensor: 512 for 384, 1152 for 768). Here a backward operation belongs to the module whose forward made its
  autograd node, told by the node's sequence number.
- Work done again in the backward pass (activation checkpointing) is counted in with the rest. Here it is kept apart:
  model FLOPs are without it, hardware FLOPs with it.
"""

from __future__ import annotations

import bisect
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from scalestop.accounting.meta import Step, meta_batch, meta_copy, run_step
from scalestop.accounting.tokens import CountTokens, TokenCounter
from scalestop.errors import InputError

# aten operators that multiply matrices and have no formula in FlopCounterMode's registry.
_MATMUL_LIKE = re.compile(
    r"_scaled_dot_product_|.*attention|_trilinear|.*rnn|.*lstm|.*gru|.*_mm$|^mv$|^addmv$|^dot$|^ger$|^addr$|.*gemm"
    r"|mkldnn_.*|_transformer_encoder_layer_fwd|_native_multi_head_attention|_addmm_activation|_?cdist|_?fft|.*linear"
)
_HARMLESS = frozenset({"aten", "prim", "prims"})


@dataclass(frozen=True)
class StepFlops:
    """FLOPs of one step, or of one module's share of it."""

    forward: int = 0
    """Forward FLOPs."""
    backward: int = 0
    """Backward FLOPs, without work done again."""
    recomputed: int = 0
    """Forward FLOPs done again in the backward pass."""

    @property
    def model(self) -> int:
        """What the model's mathematics asks for: forward and backward."""
        return self.forward + self.backward

    @property
    def hardware(self) -> int:
        """What the device does: the model's FLOPs and the recomputed ones."""
        return self.forward + self.backward + self.recomputed


@dataclass(frozen=True)
class Measurement:
    """What one training step of one batch costs."""

    total: StepFlops
    """FLOPs of the whole step."""
    tokens: int
    """Tokens that the batch put through the model, padding included."""
    by_module: dict[str, StepFlops]
    """FLOPs of each module's own operations, without its children's; ``""`` is the root."""
    unseen: tuple[tuple[str, str], ...]
    """``(module, operator)`` that ran and cannot be counted."""
    ran: str
    """What was run: ``training_step``, ``forward``, ..."""


def measure_flops(
    module: nn.Module, batch: Any, *, step: Step | None = None, count_tokens: CountTokens | None = None
) -> Measurement:
    """Count the FLOPs of one training step: forward and backward, by module.

    A copy on the meta device runs; nothing is computed, and neither the module nor its hooks nor the random state are
    touched. Matmuls, convolutions and attention are counted, a multiply-add as 2; element-wise work is not. Attention
    counts in full, causal or not. Call it once, never around training: the counter makes compiled graphs run eagerly.

    Args:
        module: The model as it will be trained, before it is wrapped or sharded.
        batch: One batch; its shapes alone matter.
        step: ``step(module, batch)`` that returns the loss, where ``training_step`` or ``forward`` cannot run on meta
            tensors.
        count_tokens: The user's rule for a batch's tokens.

    Returns:
        The measurement.

    Raises:
        InputError: The module cannot be copied or run on meta tensors; the batch has no tokens; nothing was counted.
    """
    tokens = TokenCounter(count_tokens)(batch).processed
    if tokens <= 0:
        raise InputError("batch: it holds no token to measure the FLOPs of. Pass a batch of at least one token.")
    random_state = torch.get_rng_state()
    try:
        with torch.inference_mode(False), torch.enable_grad():
            copied = meta_copy(module)
            counter = _Counter(copied)
            ran = counter.run(meta_batch(batch), step)
    finally:
        torch.set_rng_state(random_state)
    if counter.total.hardware == 0:
        seen = ", ".join(sorted({operator for _, operator in counter.unseen})) or "none that multiplies matrices"
        raise InputError(
            f"module={type(module).__name__}: FlopCounterMode counted 0 FLOPs (operators without a formula: {seen}). "
            "Choose flops_per_token='6N', a number or a function."
        )
    by_module = {name: counter.share(name) for name, _ in copied.named_modules()}
    return Measurement(counter.total, tokens, by_module, tuple(sorted(counter.unseen)), ran)


class _Counter(FlopCounterMode):
    """FlopCounterMode that keeps each operation's FLOPs by module and phase. Holds all the private names we need."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__(display=False)
        self._module = module
        self.unseen: set[tuple[str, str]] = set()
        self._flops: dict[tuple[str, str], int] = defaultdict(int)
        self._stack: list[str] = []
        # From autograd node number `_starts[i]` on, module `_names[i]` was running.
        self._starts: list[int] = []
        self._names: list[str] = []

    def run(self, batch: Any, step: Step | None) -> str:
        handles = []
        for name, sub in self._module.named_modules():
            handles.append(sub.register_forward_pre_hook(lambda *_, name=name: self._enter(name), prepend=True))
            handles.append(sub.register_forward_hook(lambda *_: self._leave(), always_call=True))
        try:
            with self, sdpa_kernel(SDPBackend.MATH):
                return run_step(self._module, batch, step, before=self._clear)
        finally:
            for handle in handles:
                handle.remove()

    def _clear(self) -> None:
        """Forget a step that failed half way."""
        self.flop_counts.clear()
        for kept in (self.unseen, self._flops, self._stack, self._starts, self._names):
            kept.clear()
        self._mark()

    def _enter(self, name: str) -> None:
        self._stack.append(name)
        self._mark()

    def _leave(self) -> None:
        self._stack.pop()
        self._mark()

    def _mark(self) -> None:
        self._starts.append(torch.autograd._get_sequence_nr())
        self._names.append(self._stack[-1] if self._stack else "")

    def _count_flops(self, func_packet: Any, out: Any, args: Any, kwargs: Any) -> Any:
        in_backward = torch._C._current_graph_task_id() != -1
        # A backward pass runs without gradients; work done again in it is a forward, which needs them.
        recomputing = in_backward and torch.is_grad_enabled()
        name = self._stack[-1] if self._stack else ""
        node = torch._C._current_autograd_node() if in_backward and not recomputing else None
        if node is not None:
            found = bisect.bisect_right(self._starts, node._sequence_nr()) - 1
            name = self._names[found] if found >= 0 else ""
        if func_packet in self.flop_registry:
            flops = self.flop_registry[func_packet](*args, **kwargs, out_val=out)
            if func_packet is torch.ops.aten.convolution_backward:
                flops -= self._grouped_excess(func_packet, args, out)
            phase = "recomputed" if recomputing else "backward" if in_backward else "forward"
            if phase == "backward" and "attention" in str(func_packet):
                # A fused attention's backward makes the scores again: one matmul of its five.
                self._flops[name, "recomputed"] += flops // 5
                flops -= flops // 5
            self._flops[name, phase] += flops
        else:
            namespace, _, operator = str(func_packet).partition(".")
            if namespace not in _HARMLESS or _MATMUL_LIKE.match(operator):
                self.unseen.add((name, f"{namespace}.{operator}"))
        return super()._count_flops(func_packet, out, args, kwargs)

    def _grouped_excess(self, func_packet: Any, args: Any, out: Any) -> int:
        """What the formula charges for a weight gradient beyond its groups' own channels."""
        *first, groups, mask = args
        if groups == 1 or not mask[1]:
            return 0
        dense = self.flop_registry[func_packet](*first, groups, (False, True, False), out_val=out)
        return dense - dense // groups

    def share(self, name: str) -> StepFlops:
        return StepFlops(*(self._flops[name, phase] for phase in ("forward", "backward", "recomputed")))

    @property
    def total(self) -> StepFlops:
        names = {name for name, _ in self._flops}
        shares = [self.share(name) for name in names]
        return StepFlops(
            sum(s.forward for s in shares), sum(s.backward for s in shares), sum(s.recomputed for s in shares)
        )
