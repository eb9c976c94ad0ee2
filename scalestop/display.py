"""How results look in a notebook, and as a data frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from scalestop.errors import InputError


def html_card(title: str, rows: Iterable[tuple[str, str]]) -> str:
    """Return named lines as HTML for a notebook; every text is escaped.

    Args:
        title: What it is.
        rows: Name and text of each line.
    """
    cell = "text-align:left;vertical-align:top"
    body = "".join(
        f'<tr><th style="{cell};white-space:nowrap">{escape(name)}</th>'
        f'<td style="{cell};white-space:pre-wrap">{escape(text)}</td></tr>'
        for name, text in rows
    )
    return f"<table><caption style='text-align:left'><b>{escape(title)}</b></caption><tbody>{body}</tbody></table>"


def data_frame(rows: Iterable[Mapping[str, Any]]) -> Any:
    """Return rows as a pandas DataFrame, one column for each name.

    Raises:
        InputError: If pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise InputError("to_frame: needs pandas; pip install scalestop[pandas]") from None
    return pandas.DataFrame.from_records([dict(row) for row in rows])
