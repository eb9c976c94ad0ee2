"""The console that the commands' tables go to."""

from __future__ import annotations

import os

from rich.console import Console

_UNLIMITED = 1000
"""Columns where nobody looks at the width: a pipe or a file."""


def new_console(least: int = 0) -> Console:
    """Return a console on which a table is never cut: as wide as it likes in a pipe or a file.

    Args:
        least: Columns that the table needs; a narrower terminal wraps its lines.
    """
    console = Console(soft_wrap=True)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        return Console(soft_wrap=True, width=_UNLIMITED)
    return Console(soft_wrap=True, width=max(least, console.width))
