"""The words of a command line as the parser wants them: options, counts, and the paths of a config file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import get_loader

from scalestop.errors import InputError
from scalestop.files import as_path
from scalestop.units import parse_quantity

_CONFIG = "--config"
_INPUTS = ("law", "data", "data.path", "data.init_args.path", "resume", "records", "stop.records", "plan", "task")
"""Options that may name a file or folder; where a config's folder has it, it is meant."""
_OUTPUTS = ("out", "plot")
"""Options that name what is written."""
_REFUSED = re.compile(r"Expected an? <class '(int|float)'>.*?(?:Got|Given) value: (\S+)", re.DOTALL)
_NUMBER_REFUSED = re.compile(r"Expected a <class 'str'>\. Got value: (\S+)")


def underscored(words: Sequence[str]) -> list[str]:
    """Return the words with `-` in the names of options as `_`: options take either."""
    found = []
    for word in words:
        name, equals, value = word.partition("=")
        if name.startswith("--") and len(name) > 2:
            name = "--" + name[2:].replace("-", "_")
        found.append(name + equals + value)
    return found


def placed(words: Sequence[str]) -> list[str]:
    """Return the words with each config file's relative paths resolved against its folder.

    A file with nothing to resolve, or one that cannot be read, is left to the parser.
    """
    return _with_configs(words, _place)


def mended(words: Sequence[str], complaint: str) -> list[str] | None:
    """Return the words with a value that was refused as a number written out, such as 32k; None if that is no help.

    Args:
        words: What the parser did not take.
        complaint: What it said.
    """
    if found := _REFUSED.search(complaint):
        wanted, value = found[1], found[2].strip("'\",)")
        try:  # as a count of tokens, which may end in K, M, B or T
            amount = parse_quantity(f"{value} tokens", argument="value", examples=("1", "1k", "1M")).value
        except InputError:
            return None
        if amount.denominator != 1:
            return None
        number = str(amount.numerator) if wanted == "int" else repr(float(amount))

        def in_config(data: Any, folder: Path) -> Any:
            return _changed(data, lambda item: int(number) if item == value and wanted == "int" else item)

        new = []
        for word in words:
            name, equals, written = word.rpartition("=")
            new.append(name + equals + number if _same(written, value) else word)
    elif found := _NUMBER_REFUSED.search(complaint):  # a bare number in a config, for an option that reads text
        value = found[1]

        def in_config(data: Any, folder: Path) -> Any:
            is_it = lambda item: isinstance(item, int | float) and not isinstance(item, bool) and str(item) == value  # noqa: E731
            return _changed(data, lambda item: str(item) if is_it(item) else item)

        new = list(words)
    else:
        return None
    new = _with_configs(new, in_config)
    return None if new == list(words) else new


def _same(written: str, value: str) -> bool:
    """Whether a word is the value that was refused, which YAML may have read as a float."""
    try:
        return written == value or float(written) == float(value)
    except ValueError:
        return False


def _with_configs(words: Sequence[str], change: Callable[[Any, Path], Any]) -> list[str]:
    """Return the words with the content of each config file in its place, where `change` makes another of it."""
    found = list(words)
    for place, given, prefix in list(_configs(words)):
        try:
            inline = given.lstrip().startswith("{")
            folder = Path() if inline else as_path(given, "config").resolve().parent
            text = given if inline else as_path(given, "config").read_text(encoding="utf-8")
            data = get_loader("yaml")(text)
        except Exception:  # the parser says what is wrong with it
            continue
        if isinstance(data, dict) and (new := change(data, folder)) != data:
            found[place] = prefix + json.dumps(new, default=str)
    return found


def _configs(words: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    """Yield where in the words a config is named, its name, and what stands before it in the same word."""
    for place, word in enumerate(words):
        if word == _CONFIG and place + 1 < len(words):
            yield place + 1, words[place + 1], ""
        elif word.startswith(f"{_CONFIG}="):
            yield place, word.partition("=")[2], f"{_CONFIG}="


def _place(data: Any, folder: Path) -> Any:
    return _changed(data, lambda item: item, lambda name, item: _place_one(name, item, folder))


def _place_one(name: str, item: Any, folder: Path) -> Any:
    if isinstance(item, list):
        return [_place_one(name, part, folder) for part in item]
    if not isinstance(item, str) or not item or "\0" in item or Path(item).is_absolute() or item.startswith("~"):
        return item
    try:
        there = name in _OUTPUTS or (name in _INPUTS and (any(folder.glob(item)) or (folder / item).exists()))
    except (OSError, ValueError, NotImplementedError):
        return item
    return str(folder / item) if there else item


def _changed(
    data: Any,
    leaf: Callable[[Any], Any],
    named: Callable[[str, Any], Any] = lambda name, item: item,
    name: str = "",
) -> Any:
    """Return data with `leaf` of each value in it, and before that `named` of each with its dotted name."""
    if isinstance(data, dict):
        return {key: _changed(value, leaf, named, f"{name}.{key}" if name else str(key)) for key, value in data.items()}
    data = named(name, data)
    if isinstance(data, list):
        return [_changed(item, leaf, lambda _, item: item, name) for item in data]
    return leaf(data)
