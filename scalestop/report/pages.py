"""Pages: one self-contained file, or Markdown, made from parts that a terminal shows alike."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from scalestop.errors import InputError
from scalestop.files import write_whole
from scalestop.report.style import DARK, LIGHT
from scalestop.run.ended import versions

FORMATS = {".html": "page.html.j2", ".htm": "page.html.j2", ".md": "page.md.j2"}
"""Kinds of page, by suffix."""
_NUMBER = re.compile(r"^[+−-]?\d[\d.,]*([eE][+-]?\d+)?\s?[kMBT%x]?( FLOPs)?$|^[-?]?$")


class Part(Protocol):
    """What a page is made of; see `scalestop.planning.advice.recommendation.Section`."""

    @property
    def title(self) -> str:
        """Its name, once on a page."""

    @property
    def lines(self) -> tuple[str, ...]:
        """Text."""

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the table's columns."""

    @property
    def rows(self) -> tuple[tuple[str, ...], ...]:
        """The table; empty for none."""

    @property
    def commands(self) -> tuple[str, ...]:
        """What to type."""


@dataclass(frozen=True)
class Page:
    """One page."""

    title: str
    subtitle: str
    parts: Sequence[Part]
    """The first is the answer, and stands out."""
    headline: str = ""
    """The line of it that stands out most."""
    pictures: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Pictures as SVG, by the title of the part that they belong to; a page in Markdown has none."""


def render(page: Page, suffix: str) -> str:
    """Return a page as text.

    Args:
        page: The page.
        suffix: `.html` or `.md`.

    Raises:
        InputError: If there is no such kind of page, or jinja2 is missing.
    """
    check_format(Path(f"page{suffix}"))
    try:
        import jinja2
    except ImportError:
        raise InputError("jinja2: a page needs it, and it is not installed; pip install 'scalestop[report]'") from None
    template = FORMATS[suffix.lower()]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=template.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["numeric"] = _is_numeric
    pictures = {part.title: page.pictures.get(part.title, ()) for part in page.parts}
    values: dict[str, Any] = {"light": asdict(LIGHT), "dark": asdict(DARK), "version": versions().get("scalestop", "")}
    shown = Page(page.title, page.subtitle, page.parts, page.headline, pictures)
    return environment.get_template(template).render(page=shown, **values).strip() + "\n"


def check_format(path: Path) -> None:
    """Refuse what is no kind of page, by its suffix.

    Raises:
        InputError: Naming the kinds.
    """
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"out: a page is one of {', '.join(FORMATS)}; got {path.suffix or 'no suffix'!r}")


def write_page(page: Page, path: str | Path) -> Path:
    """Write a page, as the suffix says: `.html` or `.md`; folders that are missing are made.

    Raises:
        InputError: If it is no kind of page, or jinja2 is missing.
    """
    path = Path(path)
    text = render(page, path.suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_whole(path, text)


def _is_numeric(part: Part, column: int) -> bool:
    """Whether a column of a part's table holds numbers, which stand to the right; not the first one."""
    return column > 0 and all(_NUMBER.match(row[column]) for row in part.rows) and any(row[column] for row in part.rows)
