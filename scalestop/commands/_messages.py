"""What the command line says of input that cannot be used: in its own words, of options and not of arguments."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterable, Iterator
from importlib import import_module

from jsonargparse import ArgumentParser

_ALIASES = {
    "num_params": "params",
    "num_tokens": "tokens",
    "num_devices": "devices",
    "peak_flops_per_second": "peak",
    "flops": "budget",
    "budget": "target",
    "style": "shapes",
}
"""Arguments in Python that an option of another name gives."""
_NAME = re.compile(r"(?<![\w.-])([a-z]+(?:_[a-z]+)+)(?![\w=(.])")
_KEYWORD = re.compile(r"(?<![\w.-])([a-z_]+)=(?=['\"\d])")
_KINDS = re.compile(r"Expected an? <class '(int|float|str|bool|list)'>")


def options_of(parser: ArgumentParser) -> set[str]:
    """Return the names of a parser's options, without their dashes, those of its subcommands included."""
    return {word[2:] for found in _parsers(parser) for word in found._option_string_actions if word.startswith("--")}


def _parsers(parser: ArgumentParser) -> Iterator[ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(choices := getattr(action, "_name_parser_map", None), dict):
            for child in choices.values():
                yield from _parsers(child)


def of_options(text: str, options: Iterable[str]) -> str:
    """Return an error's message with the options that give the arguments it speaks of.

    Args:
        text: Such as `tokens_per_step: must be positive`.
        options: Names of the command's options.
    """
    known = set(options)

    def option(name: str) -> str | None:
        for found in (name, _ALIASES.get(name)):
            if found in known:
                return f"--{found}"
        if name.partition(".")[0] in known and "." in name:
            return f"--{name}"  # of a class that is chosen by its path
        nested = [found for found in known if found.endswith(f".{name}")]
        return f"--{nested[0]}" if len(nested) == 1 else None

    head, colon, rest = text.partition(": ")
    if colon and re.fullmatch(r"[a-z_]+(\.[a-z_]+)*", head) and (found := option(head)):
        text = f"{found}: {rest}"
    text = _KEYWORD.sub(lambda match: f"--{match[1]} " if match[1] in known else match[0], text)
    return _NAME.sub(lambda match: f"--{match[1]}" if match[1] in known else match[1], text)


def did_you_mean(word: str, known: Iterable[str], prefix: str = "") -> str:
    """Return what to say of a word that is like a known one; "" if none is."""
    near = difflib.get_close_matches(word[:100], list(known), n=1)
    return f"; did you mean {prefix}{near[0]}?" if near else ""


def of_parsing(parser: ArgumentParser, text: str) -> str:
    """Return what a parser said, in the command line's words.

    Args:
        parser: The one that said it.
        text: Its error.
    """
    text = " ".join(text.split())
    known = options_of(parser)
    if found := re.match(r"unrecognized arguments: (--([\w.]+).*)", text):
        name = found[2]
        return f"no option --{name}{did_you_mean(name, known - {'print_shtab'}, '--')}"
    keys = [key for key in re.findall(r'Parser key "([\w.]+)"', text) if key]
    if found := re.search(r"class_path '([\w.]+)': Option '([\w.]+)' is not accepted", text):
        option = ".".join([*keys[:1], found[2]])
        return f"--{option}: {found[1]} takes no {found[2]}{did_you_mean(found[2], _arguments(found[1]))}"
    found = re.search(r"Problem with given class_path '([\w.]+)': (?!Parser key|Expected)(.*?)(?: - Expected|$)", text)
    if keys and found:
        return f"--{keys[0]}: {found[1]}: {found[2]}"
    if found := re.search(r"Option '([\w.]+)' is not accepted", text):
        return f"config: there is no option {found[1]}{did_you_mean(found[1], known)}"
    if found := re.match(r'expected "subcommand" to be one of \{(.*?)\}', text):
        return f"say what to do: {found[1].replace(',', ', ')}"
    if found := re.match(r"the following arguments are required: (.*)", text):
        words = [word.rpartition(".")[2] for word in found[1].split(", ")]
        return f"missing: {', '.join(f'--{word}' if word in known else word for word in words)}"
    if found := re.match(r"argument subcommand: invalid choice: '(.*?)' \(choose from (.*)\)", text):
        choices = re.findall(r"\w+", found[2])
        return f"no {found[1]!r} here{did_you_mean(found[1], choices)}: there are {', '.join(choices)}"
    if found := re.match(r"argument (--[\w.]+): (.*)", text):
        return f"{found[1]}: {found[2]}"
    if keys and (found := re.search(r"(?:Got|Given) value: (\S+)", text)):
        kinds = dict.fromkeys(_KINDS.findall(text))
        choices = re.findall(r"Literal\[(.*?)\]", text)
        wanted = f"one of {choices[0]}" if choices else " or ".join(kinds)
        if wanted:
            return f"{_dashed('.'.join(dict.fromkeys(keys)), known)}: expected {_plain(wanted)}; got {found[1]}"
    return re.sub(r'^Parser key "([\w.]+)": ', lambda key: f"{_dashed(key[1], known)}: ", text)


def of_building(text: str, cls: type | None = None) -> str:
    """Return what a class said of its arguments, with the one that was meant where there is one like it."""
    if cls is not None and (found := re.search(r"unexpected keyword argument '(\w+)'", text)):
        known = inspect.signature(cls).parameters
        name = cls.__name__
        return f"{name.lower()}.{found[1]}: {name} takes no {found[1]}{did_you_mean(found[1], known)}"
    return text


def _plain(wanted: str) -> str:
    names = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false", "list": "a list"}
    return re.sub(r"\b(int|float|str|bool|list)\b", lambda kind: names[kind[1]], wanted)


def _dashed(key: str, known: set[str]) -> str:
    key = key.replace(".init_args", "")
    name = key.rpartition(".")[2]
    return f"--{key}" if key.partition(".")[0] in known else f"--{name}" if name in known else name


def _arguments(class_path: str) -> list[str]:
    """Return the names of a class's arguments; none if it cannot be had."""
    module, _, name = class_path.rpartition(".")
    try:
        return list(inspect.signature(getattr(import_module(module), name).__init__).parameters)
    except Exception:
        return []
