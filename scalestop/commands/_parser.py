"""What the commands' parsers share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from scalestop.commands._messages import of_building, of_options, of_parsing, options_of
from scalestop.commands._words import mended, placed, underscored
from scalestop.errors import InputError


def new_parser(command: str, description: str) -> ArgumentParser:
    """Return a parser that reads `--config` and knows `--print_config`, and raises instead of exiting."""
    parser = ArgumentParser(prog=f"scalestop {command}", description=description, exit_on_error=False)
    parser.add_argument("--config", action="config", help="YAML file with any of the options")
    return parser


_current: list[ArgumentParser] = []
"""The parser of the command that runs, last."""


def parse(parser: ArgumentParser, words: Sequence[str]) -> Namespace:
    """Parse the words of a command line.

    Options take `-` or `_`; a number is read with its suffix, such as 32k; the paths in a config file are relative to
    its folder.

    Raises:
        InputError: In one line, if they cannot be used.
    """
    _current[:] = [parser]
    given: list[str] | None = placed(underscored(words))
    while True:
        assert given is not None
        try:
            return parser.parse_args(given)
        except UnicodeDecodeError as error:
            raise InputError(f"config: a file is no text in UTF-8: {error.reason} at byte {error.start}") from None
        except RecursionError:
            raise InputError("config: a file or an option is nested too deeply") from None
        # whatever else jsonargparse raises, it is about words and files that the user gave
        except Exception as error:
            if (given := mended(given, str(error))) is None:
                said = of_parsing(parser, str(error)) or type(error).__name__
                raise InputError(one_line(said)) from None


def speak(text: str) -> str:
    """Return an error's message with the options of the command that runs for the arguments it names."""
    return of_options(text, options_of(_current[-1])) if _current else text


def build(make: Callable[[], Any], cls: type | None = None) -> Any:
    """Call `make`, turning what a class says of a bad argument into an `InputError`.

    Args:
        make: Builds it.
        cls: What is built, so that an argument it does not take can be told from one that it does.
    """
    try:
        return make()
    except InputError:
        raise
    except (ArgumentError, TypeError, ValueError, OverflowError, ImportError) as error:
        raise InputError(one_line(of_building(str(error), cls))) from None
    except Exception as error:
        if type(error).__name__ != "MisconfigurationException":  # Lightning's word for a bad argument
            raise
        raise InputError(one_line(str(error))) from None


def one_line(text: str) -> str:
    """Return the beginning of a text as one line."""
    return " ".join(text.split())[:600]
