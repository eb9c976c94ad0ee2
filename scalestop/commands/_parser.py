"""What the commands' parsers share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from scalestop.errors import InputError


def new_parser(command: str, description: str) -> ArgumentParser:
    """Return a parser that reads `--config` and knows `--print_config`, and raises instead of exiting."""
    parser = ArgumentParser(prog=f"scalestop {command}", description=description, exit_on_error=False)
    parser.add_argument("--config", action="config", help="YAML file with any of the options")
    return parser


def parse(parser: ArgumentParser, words: Sequence[str]) -> Namespace:
    """Parse the words of a command line.

    Raises:
        InputError: In one line, if they cannot be used.
    """
    try:
        return parser.parse_args(list(words))
    except ArgumentError as error:
        raise InputError(_one_line(str(error))) from None


def build(make: Callable[[], Any]) -> Any:
    """Call `make`, turning what a class says of a bad argument into an `InputError`."""
    try:
        return make()
    except (ArgumentError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(_one_line(str(error))) from None


def _one_line(text: str) -> str:
    return " ".join(text.split())[:600]
