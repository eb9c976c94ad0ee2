"""The command line. Each command loads only what it needs: planning never imports torch."""

from __future__ import annotations

import contextlib
import difflib
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from scalestop.errors import InputError, shown
from scalestop.files import disk_trouble

COMMANDS = {
    "train": "train a tiny GPT under a compute budget until its optimum, on real text",
    "plan": "what a budget buys: model size, tokens, loss, and where a run would stop",
    "recommend": "what to train for the next budget, on one page: decision, why, alternatives, risks, commands",
    "compare": "whether a run is well spent, and which of several is better, such as 70Bx1.4T 280Bx300B",
    "next": "what the next 2x of compute, parameters or data buys, and the least for a target",
    "serve": "size and tokens of a model that will be served",
    "batch": "how large a batch, and a learning rate to start with",
    "checklist": "when a forecast will fail",
    "laws": "list the scaling laws, or show one with its source and its errata",
    "fit": "fit a scaling law to the records of your own runs",
    "task": "forecast a metric, such as a task's accuracy, from runs that logged it",
    "forecast": "write down what a run will end at, sealed before it begins",
    "score": "hold the records of runs against what was forecast for them",
    "watch": "a live run or ladder in the terminal: budget, time left, rate, loss",
    "report": "a page of a run, of a ladder, or of several runs compared",
    "ladder": "train a ladder of small runs, fit your own law to it, and forecast the big run",
    "campaign": "one budget for many runs: open it, or see what is left",
    "audit": "hold the analytic FLOP count of a model against the measured one",
}
_OWN_CLASSES = ("train", "ladder", "audit")
"""Commands that take a class by its path."""
_LONGEST_LINE = 1500


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Words of the command line; `sys.argv` if None.

    Returns:
        The exit code: 0 done; 2 input that cannot be used or a file that cannot be read or written, told in one line
        on stderr; 3 from `train`: the model is too large for its budget, and nothing was trained.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _run(words)
        sys.stdout.flush()  # a full disk under it shows here at the latest
        return code
    except InputError as error:
        parser = sys.modules.get("scalestop.commands._parser")  # loaded by the command, if one was found
        return _complain(parser.speak(str(error)) if parser else str(error))
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        _leave_stdout()
        return 0
    except OSError as error:
        _leave_stdout()
        where = f"{error.filename}: " if error.filename else ""
        return _complain(f"{where}{error.strerror or error}")
    except RuntimeError as error:
        if (trouble := disk_trouble(error)) is None:
            raise
        return _complain(f"a file could not be written: {trouble}")


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if words[0] == "--version":
        from scalestop import __version__

        print(__version__)
        return 0
    command, *rest = words
    if command not in COMMANDS:
        near = difflib.get_close_matches(command[:100], COMMANDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"no command {shown(command)}{hint} There are {', '.join(COMMANDS)}")
    if command in _OWN_CLASSES and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does, which a script that pip installs does not
    return int(import_module(f"scalestop.commands.{command}").run(rest))


def _complain(text: str) -> int:
    """Tell in one line what is wrong."""
    line = " ".join(text.split())
    if len(line) > _LONGEST_LINE:
        line = f"{line[:_LONGEST_LINE]}..."
    with contextlib.suppress(OSError):
        print(f"scalestop: error: {line}", file=sys.stderr)
    return 2


def _leave_stdout() -> None:
    """Let what is still to be written to a closed pipe or a full disk go nowhere, or Python complains as it ends."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        return
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


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
            "Exit codes: 0 done; 2 input that cannot be used, told in one line; 3 (train) the model is too large for",
            "its budget, and nothing was trained.",
        )
    )


if __name__ == "__main__":
    sys.exit(main())
