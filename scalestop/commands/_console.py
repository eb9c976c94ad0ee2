"""The console that the commands' tables go to."""

from __future__ import annotations

import os

from rich.console import Console

_UNLIMITED = 1000
"""Columns where nobody looks at the width: a pipe or a file."""


def new_console(least: int = 0, stderr: bool = False) -> Console:
    """Return a console on which a table is never cut: as wide as it likes in a pipe or a file.

    Args:
        least: Columns that the table needs; a narrower terminal wraps its lines.
        stderr: Whether it is standard error.
    """
    console = Console(soft_wrap=True, stderr=stderr)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        return Console(soft_wrap=True, stderr=stderr, width=_UNLIMITED)
    return Console(soft_wrap=True, stderr=stderr, width=max(least, console.width))
