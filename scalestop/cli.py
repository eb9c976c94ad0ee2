"""The command line. Each command loads only what it needs: planning never imports torch."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from importlib import import_module

from scalestop.errors import InputError

COMMANDS = {
    "train": "train a tiny GPT under a compute budget until its optimum, on real text",
    "plan": "what a budget buys: model size, tokens, loss, and where a run would stop",
    "laws": "list the scaling laws, or show one with its source and its errata",
    "fit": "fit a scaling law to the records of your own runs",
    "task": "forecast a metric, such as a task's accuracy, from runs that logged it",
    "forecast": "write down what a run will end at, sealed before it begins",
    "score": "hold the records of runs against what was forecast for them",
    "ladder": "train a ladder of small runs, fit your own law to it, and forecast the big run",
    "audit": "hold the analytic FLOP count of a model against the measured one",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Words of the command line; `sys.argv` if None.

    Returns:
        The exit code: 0 done, 2 bad input, told in one line on stderr.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if words[0] == "--version":
        from scalestop import __version__

        print(__version__)
        return 0
    command, *rest = words
    try:
        if command not in COMMANDS:
            near = difflib.get_close_matches(command, COMMANDS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InputError(f"no command {command!r}{hint} There are {', '.join(COMMANDS)}")
        return int(import_module(f"scalestop.commands.{command}").run(rest))
    except InputError as error:
        print(f"scalestop: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        sys.stderr.close()
        return 0


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        (
            "usage: scalestop COMMAND [options]",
            "",
            "Give a training run a compute budget: it stops at its compute-optimal point and tells you why.",
            "",
            *lines,
            "",
            "scalestop COMMAND --help tells a command's options; each takes --config FILE and --print_config.",
        )
    )


if __name__ == "__main__":
    sys.exit(main())
