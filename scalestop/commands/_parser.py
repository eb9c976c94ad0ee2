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
    except UnicodeDecodeError as error:
        raise InputError(f"config: a file is no text in UTF-8: {error.reason} at byte {error.start}") from None
    except RecursionError:
        raise InputError("config: a file or an option is nested too deeply") from None
    # whatever else jsonargparse raises, it is about words and files that the user gave
    except Exception as error:
        raise InputError(one_line(str(error)) or type(error).__name__) from None


def build(make: Callable[[], Any]) -> Any:
    """Call `make`, turning what a class says of a bad argument into an `InputError`."""
    try:
        return make()
    except InputError:
        raise
    except (ArgumentError, TypeError, ValueError, OverflowError, ImportError) as error:
        raise InputError(one_line(str(error))) from None
    except Exception as error:
        if type(error).__name__ != "MisconfigurationException":  # Lightning's word for a bad argument
            raise
        raise InputError(one_line(str(error))) from None


def one_line(text: str) -> str:
    """Return the beginning of a text as one line."""
    return " ".join(text.split())[:600]
