"""Numbers in a unit that cannot be: parameters in millions, tokens in steps, perplexity for loss."""

from __future__ import annotations

import numpy as np

from scalestop.errors import InputError
from scalestop.fitting.solve.newton import Array
from scalestop.fitting.tables.table import RunTable
from scalestop.laws.findings import Finding, warnings_of
from scalestop.units import FLOPS_PER_PF_DAY

LEAST_PARAMS = 300.0
"""No language model is smaller: Kaplan et al. 2020 (arXiv 2001.08361, section 2) begin at 768 parameters."""

LEAST_TOKENS = 2_000.0
"""No run is shorter than this, and half of a table's are ten times as long: 1e5 bytes hardly teach bigrams."""

RATIOS = (0.1, 1e5)
"""Tokens per parameter between which half of a table's runs lie. Public tables have medians of 8 to 70; 135M
parameters on 2e12 tokens are 15,000."""

MOST_NATS = 12.5
"""A uniform guess over 262,144 tokens."""

LARGE = (1e8, 2e9, 5.0)
"""Models of so many parameters and tokens end below so many nats: at most 3.7 in public tables."""

_WORDS = ((1e3, "thousands"), (1e6, "millions"), (1e9, "billions"))
_USUAL_RATIO = 20.0


def require_counts(table: RunTable) -> None:
    """Check that N and D are counts at all.

    Raises:
        InputError: Naming a run with less than one parameter or token.
    """
    for name, symbol, values in (("params", "N", table.params), ("tokens", "D", table.tokens)):
        if values.min() < 1:
            row = int(values.argmin())
            raise InputError(
                f"{name}: {symbol} = {values[row]:.3g} is no count ({table.origin[row]}); write {name} out in full, "
                f"not in millions or billions, and compute in FLOPs"
            )


def unit_findings(table: RunTable) -> tuple[Finding, ...]:
    """Return what looks as if it were in another unit: warnings, as a strange table may still be right."""
    ratio = float(np.median(table.tokens / table.params))
    found = {
        "params-unit": _params(table.params, ratio),
        "tokens-unit": _tokens(table.tokens, ratio),
        "loss-unit": _loss(table),
        "flops-unit": _flops(table),
    }
    return warnings_of({code: message for code, message in found.items() if message})


def _params(params: Array, ratio: float) -> str | None:
    if params.min() >= LEAST_PARAMS and ratio <= RATIOS[1]:
        return None
    factor, word = _unit(ratio / _USUAL_RATIO) if ratio > RATIOS[1] else (1e6, "millions or billions")
    return (
        f"N runs from {params.min():.3g} to {params.max():.3g}, with {ratio:.2g} tokens a parameter in the middle: "
        f"params look as if given in {word}. Give counts (times {factor:.0e}), or budgets and optima will be in the "
        f"wrong unit too."
    )


def _tokens(tokens: Array, ratio: float) -> str | None:
    few = tokens.min() < LEAST_TOKENS or np.median(tokens) < 10 * LEAST_TOKENS
    if not few and ratio >= RATIOS[0]:
        return None
    what = "steps, thousands or millions" if ratio > 1e-6 else "millions or billions"
    return (
        f"D runs from {tokens.min():.3g} to {tokens.max():.3g}, with {ratio:.2g} tokens a parameter in the middle: "
        f"tokens look as if given in {what}. Give the tokens trained on (steps times tokens a step), or budgets and "
        f"optima will be in the wrong unit too."
    )


def _loss(table: RunTable) -> str | None:
    params, tokens, nats = LARGE
    large = table.loss[(table.params >= params) & (table.tokens >= tokens)]
    low, high = float(table.loss.min()), float(table.loss.max())
    if np.median(table.loss) > MOST_NATS:
        why = f"most losses lie above {MOST_NATS:g} nats, a uniform guess over 262,144 tokens"
    elif len(large) and large.min() > nats:
        why = f"models of {params:.0e} parameters and {tokens:.0e} tokens end below {nats:g} nats"
    else:
        return None
    return (
        f"Loss runs from {low:.3g} to {high:.3g}, and {why}: it looks like a perplexity. Give its logarithm "
        f"({np.log(max(low, 1.0)):.3g} to {np.log(max(high, 1.0)):.3g}), nats per token."
    )


def _flops(table: RunTable) -> str | None:
    ratio = float(np.median(table.flops / (6 * table.params * table.tokens)))
    # a mixture of experts whose N counts all of them comes to some hundredths
    if 1e-2 <= ratio <= 20:
        return None
    units = [(1 / FLOPS_PER_PF_DAY, "flops look as if given in PF-days"), (1e-15, "flops look as if given in PFLOPs")]
    units += [(1e-18, "flops look as if given in EFLOPs"), (1e-12, "flops look as if given in TFLOPs")]
    units += [(factor, f"params or tokens look as if given in {word}") for factor, word in _WORDS]
    factor, what = min(units, key=lambda unit: abs(np.log(ratio / unit[0])))
    guess = f": {what}" if 1 / 3 < ratio / factor < 3 else ""
    return (
        f"FLOPs are {ratio:.2g} times 6·N·D in the middle{guess}. The fit uses N and D as given; give all three in "
        f"full, or leave the FLOPs out."
    )


def _unit(factor: float) -> tuple[float, str]:
    """Return the unit nearest to what a count would have to be multiplied by."""
    return min(_WORDS, key=lambda unit: abs(np.log(factor / unit[0])))
