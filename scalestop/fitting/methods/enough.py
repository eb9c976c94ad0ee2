"""What a table must hold for a law of N and D to be determined at all."""

from __future__ import annotations

import numpy as np

from scalestop.errors import InputError
from scalestop.fitting.methods.method import FitOptions
from scalestop.fitting.tables.sweep import apart
from scalestop.fitting.tables.table import RunTable

APART = 1.05
"""Sizes (or token counts) within this factor count as one."""

ONE_BUDGET = 1.5
"""Compute spans at least this factor, or the runs count as one budget."""


def require_spread(table: RunTable) -> None:
    """Check that runs take at least three sizes, three token counts and two budgets.

    Raises:
        InputError: Saying what is missing and what to add.
    """
    for name, symbol, values in (("params", "N", table.params), ("tokens", "D", table.tokens)):
        if apart(values, APART).max() < 2:
            low, high = float(values.min()), float(values.max())
            raise InputError(
                f"records: {symbol} takes fewer than three values ({low:.3g} to {high:.3g}), so the loss as a function "
                f"of {name} is not determined; add runs of other {name}, such as {low / 4:.2g} or {high * 4:.2g}"
            )
    flops = 6 * table.params * table.tokens
    if flops.max() / flops.min() < ONE_BUDGET:
        middle = float(np.sqrt(flops.min() * flops.max()))
        raise InputError(
            f"records: all {len(table)} runs spend about one budget ({middle:.3g} FLOPs), along which N rises as D "
            f"falls, so what each of them is worth is not determined; add runs of at least one other budget, such as "
            f"{middle / 10:.2g} or {middle * 10:.2g} FLOPs"
        )


def require_floor(table: RunTable, options: FitOptions) -> None:
    """Check that an E that was given lies below every loss.

    Raises:
        InputError: If it does not.
    """
    least = float(table.loss.min())
    if options.irreducible is not None and options.irreducible >= least:
        raise InputError(f"irreducible: E = {options.irreducible:g} is not below the least loss measured, {least:.4g}")
