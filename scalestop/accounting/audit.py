"""The analytic FLOP count held against the measured one, module by module."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from torch import nn

from scalestop.accounting.attention import AttentionDims, attention_dims
from scalestop.accounting.experts import inactive_params
from scalestop.accounting.flops import batch_context, six_n
from scalestop.accounting.measure import Measurement, StepFlops, measure_flops
from scalestop.accounting.meta import Step, unwrap
from scalestop.accounting.params import count_params
from scalestop.accounting.roles import find_embeddings
from scalestop.accounting.sizes import full_numel, full_shape
from scalestop.accounting.tokens import CountTokens
from scalestop.errors import InputError
from scalestop.units import human_count

#: Relative gap between analytic and measured FLOPs that is worth a name.
TOLERANCE = 0.05
_NOTHING = StepFlops()


@dataclass(frozen=True)
class AuditRow:
    """One module, or the same module of several layers (``blocks.*.up``), summed.

    Attributes:
        name: Dotted name; ``*`` stands for each layer's number.
        kind: Class.
        count: Modules summed.
        analytic: Predicted FLOPs per token, forward and backward; None where no formula applies.
        measured: Counted model FLOPs per token.
        recomputed: Counted FLOPs per token done again in the backward pass.
        unseen: Operators that ran here and cannot be counted.
    """

    name: str
    kind: str
    count: int
    analytic: int | None
    measured: int
    recomputed: int = 0
    unseen: tuple[str, ...] = ()

    @property
    def gap(self) -> float | None:
        """Relative difference of measured from analytic; None without an analytic count above 0."""
        return self.measured / self.analytic - 1 if self.analytic else None


@dataclass(frozen=True)
class Audit:
    """Analytic against measured FLOPs per processed token, forward and backward.

    Attributes:
        rows: By module; those that multiply no matrices are left out.
        charges: By whole-model rule (``"6N"``, ``"6N+attention"``), what it charges per token.
        model: Measured model FLOPs per token.
        hardware: Measured FLOPs per token with those done again in the backward pass.
        tokens: Tokens in the batch that was measured.
        convention: What N counts in ``charges``.
        tolerance: Relative gap from which a row is named.
        notes: Assumptions and limits, for people.
    """

    rows: tuple[AuditRow, ...]
    charges: dict[str, int]
    model: int
    hardware: int
    tokens: int
    convention: str
    tolerance: float = TOLERANCE
    notes: tuple[str, ...] = ()

    @property
    def gaps(self) -> tuple[AuditRow, ...]:
        """Modules whose measured FLOPs differ from the analytic ones by more than the tolerance."""
        return tuple(row for row in self.rows if row.gap is not None and abs(row.gap) > self.tolerance)

    @property
    def unseen(self) -> tuple[AuditRow, ...]:
        """Modules that ``FlopCounterMode`` could not see: an operator without a formula, or nothing counted at all."""
        return tuple(row for row in self.rows if row.unseen or (row.analytic and not row.measured))

    def charge_gap(self, rule: str) -> float:
        """Relative difference of the measured FLOPs from what a whole-model rule charges."""
        return self.model / self.charges[rule] - 1

    def text(self) -> str:
        """The audit as an aligned plain-text table."""
        head = ("module", "kind", "modules", "analytic", "measured", "gap")
        body = [_cells(row, self.tolerance) for row in self.rows]
        # the analytic sum only where each module has a formula
        parts = [row.analytic for row in self.rows]
        whole = AuditRow("all modules", "", 0, None if None in parts else sum(p or 0 for p in parts), self.model)
        sums = [(whole.name, "", "", *_cells(whole, self.tolerance)[3:])]
        if self.hardware != self.model:
            sums.append(("with recomputation", "", "", "", human_count(self.hardware, 4), ""))
        for rule, flops in self.charges.items():
            gap = self.charge_gap(rule)
            label = f"charged by {rule} ({self.convention})"
            sums.append((label, "", "", human_count(flops, 4), human_count(self.model, 4), _gap(gap, self.tolerance)))
        lines = _aligned([head, *body, *sums], rules_after=(0, len(body)))
        limit = f"{100 * self.tolerance:g} %"
        lines.append(f"FLOPs per token, forward and backward, over {self.tokens:,} tokens; * marks gaps over {limit}")
        for row in self.unseen:
            why = f"no formula for {', '.join(row.unseen)}" if row.unseen else "it ran nothing that can be counted"
            lines.append(f"not seen by FlopCounterMode: {row.name} ({why})")
        return "\n".join(lines + [f"note: {note}" for note in self.notes])


def audit(
    module: nn.Module,
    batch: Any,
    *,
    convention: str = "total",
    num_layers: int | None = None,
    d_attn: int | None = None,
    context: int | None = None,
    active_experts: int | tuple[int, int] | None = None,
    step: Step | None = None,
    count_tokens: CountTokens | None = None,
    tolerance: float = TOLERANCE,
) -> Audit:
    """Hold the analytic FLOPs of a training step against the measured ones, per module.

    The analytic count assumes that each token passes each layer once, and charges a layer 6 FLOPs per weight of its
    matrices (4 if frozen, 2 if the whole model is), and attention 12 * width * context. Where a module breaks that
    assumption (a frozen layer below the first trained one, pooling, a kernel without a formula) the gap says so.

    Args:
        module: The model, before it is wrapped or sharded.
        batch: One batch of the size to be trained with; only its shapes matter.
        convention: What N counts: ``"total"``, ``"body"`` or ``"active"``.
        num_layers: Layers that attend, if the module does not say.
        d_attn: Heads times head width, if the module does not say.
        context: Tokens in a sequence, if the batch does not show it.
        active_experts: ``k`` or ``(k, n)`` of a mixture of experts, where its config does not say.
        step: ``step(module, batch)`` that returns the loss, where the module's own step needs values.
        count_tokens: The user's rule for a batch's tokens.
        tolerance: Relative gap from which a row is named.

    Returns:
        The audit.

    Raises:
        InputError: As :func:`scalestop.accounting.measure.measure_flops` and
            :func:`scalestop.accounting.params.count_params`.
    """
    module = unwrap(module)
    measurement = measure_flops(module, batch, step=step, count_tokens=count_tokens)
    params = count_params(module, active_experts=active_experts)
    base = six_n(params, convention)
    charges, notes = {"6N": base.model}, [*params.notes, *base.notes]
    dims = length = None
    try:
        dims = attention_dims(module, num_layers=num_layers, d_attn=d_attn)
        length = context if context is not None else batch_context(batch)
        cost = dims.flops_per_token(length)
        charges["6N+attention"] = base.model + (cost if params.trainable else cost // 3)
    except InputError as error:
        notes.append(f"attention is not predicted: {error}")
    rows, row_notes = _rows(module, measurement, dims, length, inactive_params(module, active_experts)[0])
    return Audit(
        rows=rows,
        charges=charges,
        model=round(measurement.total.model / measurement.tokens),
        hardware=round(measurement.total.hardware / measurement.tokens),
        tokens=measurement.tokens,
        convention=convention,
        tolerance=tolerance,
        notes=(*notes, *row_notes),
    )


def _rows(
    module: nn.Module,
    measurement: Measurement,
    dims: AttentionDims | None,
    context: int | None,
    inactive: dict[int, int],
) -> tuple[tuple[AuditRow, ...], list[str]]:
    lookups = find_embeddings(module)
    trains = any(p.requires_grad for p in module.parameters())
    modules = dict(module.named_modules())
    inside_mha = {f"{name}.out_proj" for name, sub in modules.items() if isinstance(sub, nn.MultiheadAttention)}
    weights: dict[str, int | None] = {}
    for name, sub in modules.items():
        if name not in inside_mha:  # nn.MultiheadAttention multiplies by its child's weight itself
            weights[name] = _weight_flops(sub, name, lookups, inactive, trains)
    attention = _attention_modules(modules, weights, measurement, dims)
    each = None
    if dims is not None and context is not None:
        each = dims.flops_per_token(context) / dims.num_layers / (1 if trains else 3)

    def predict(name: str) -> float | None:
        analytic: float | None = weights.get(name, 0)
        if name in attention and analytic is not None:
            return None if each is None else analytic + each
        return analytic if analytic or not measurement.by_module.get(name, _NOTHING).model else None

    groups: dict[str, list[str]] = {}
    for name in modules:
        groups.setdefault(_pattern(name), []).append(name)
    rows, tokens = [], measurement.tokens
    for pattern, names in groups.items():
        parts = [predict(name) for name in names]
        # without a formula for each of them there is none for their sum
        analytic = None if None in parts else sum(part or 0 for part in parts)
        shares = [measurement.by_module.get(name, _NOTHING) for name in names]
        model, again = sum(share.model for share in shares), sum(share.recomputed for share in shares)
        unseen = tuple(sorted({operator for where, operator in measurement.unseen if where in names}))
        if model or analytic or unseen:
            kind, whole = type(modules[names[0]]).__name__, None if analytic is None else round(analytic)
            rows.append(
                AuditRow(
                    pattern or "(root)", kind, len(names), whole, round(model / tokens), round(again / tokens), unseen
                )
            )
    silent = dims is not None and not attention
    return tuple(rows), [
        "attention is not told apart: no set of modules matches its number of layers"
    ] if silent else []


def _weight_flops(
    sub: nn.Module, name: str, lookups: dict[int, str], inactive: dict[int, int], trains: bool
) -> int | None:
    """Training FLOPs per token of a module's own matrices; None for a convolution, whose outputs are not tokens."""
    if isinstance(sub, nn.modules.conv._ConvNd):
        return None
    own = list(sub.named_parameters(recurse=False))
    if isinstance(sub, nn.MultiheadAttention):
        own += list(sub.out_proj.named_parameters())
    flops = 0
    for parameter_name, param in own:
        full = f"{name}.{parameter_name}" if name else parameter_name
        if len(full_shape(param)) < 2 or lookups.get(id(param)) == full:
            continue
        used = full_numel(param, full) - inactive.get(id(param), 0)
        flops += used * ((6 if param.requires_grad else 4) if trains else 2)
    return flops


def _attention_modules(
    modules: dict[str, nn.Module],
    weights: dict[str, int | None],
    measurement: Measurement,
    dims: AttentionDims | None,
) -> set[str]:
    """Modules whose own operations are attention: as many of one name as layers attend.

    Attention multiplies matrices that are no parameters; so candidates are modules that did that, or that ran an
    attention operator without a formula, and every ``nn.MultiheadAttention``.
    """
    if dims is None:
        return set()
    unseen = {name for name, operator in measurement.unseen if "attention" in operator}
    found = [
        name
        for name, sub in modules.items()
        if isinstance(sub, nn.MultiheadAttention)
        or name in unseen
        or (weights.get(name) == 0 and name in measurement.by_module and measurement.by_module[name].model)
    ]
    sizes = Counter(_pattern(name) for name in found)
    return {name for name in found if sizes[_pattern(name)] == dims.num_layers}


def _pattern(name: str) -> str:
    return re.sub(r"(?<=\.)\d+(?=\.|$)|^\d+(?=\.)", "*", name)


def _cells(row: AuditRow, tolerance: float) -> tuple[str, ...]:
    analytic = "-" if row.analytic is None else human_count(row.analytic, 4)
    gap = "unseen" if row.unseen or (row.analytic and not row.measured) else _gap(row.gap, tolerance)
    return row.name, row.kind, str(row.count), analytic, human_count(row.measured, 4), gap


def _gap(gap: float | None, tolerance: float) -> str:
    return "-" if gap is None else f"{100 * gap:+.1f} %{'*' if abs(gap) > tolerance else ' '}"


def _aligned(table: list[tuple[str, ...]], rules_after: tuple[int, ...]) -> list[str]:
    """Text columns to the left, numbers to the right, a rule under the given lines."""
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    lines = []
    for number, line in enumerate(table):
        cells = [c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
        if number in rules_after:
            lines.append("-" * (sum(widths) + 2 * (len(widths) - 1)))
    return lines
