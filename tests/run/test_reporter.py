"""What a run says: lost where it cannot be said, and never the end of the run."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings

import pytest
from toys import environment

from scalestop.errors import ScalestopWarning
from scalestop.run.reporter import Reporter


class Broken(io.StringIO):
    """A stdout that raises when it is written to, or when it is flushed."""

    def __init__(self, error: BaseException, when: str) -> None:
        super().__init__()

        def fail(*args):
            raise error

        setattr(self, when, fail)


@pytest.mark.parametrize("when", ["write", "flush"])
@pytest.mark.parametrize(
    "error",
    [
        BrokenPipeError(),
        OSError(28, "No space left on device"),
        ValueError("I/O operation on closed file"),
        MemoryError(),
    ],
)
def test_a_broken_stdout_is_no_error(monkeypatch, error, when):
    monkeypatch.setattr(sys, "stdout", Broken(error, when))
    Reporter(None, True, False).say("plan\nbudget")


@pytest.mark.parametrize("stdout", [None, object()])
def test_a_stdout_that_is_none_is_no_error(monkeypatch, stdout):
    monkeypatch.setattr(sys, "stdout", stdout)
    Reporter(None, True, False).say("plan")


def test_letters_that_a_terminal_lacks_are_replaced():
    script = "from scalestop.run.reporter import Reporter; Reporter(None, True, False).say('1 \\u2248 1')"
    env = environment(PYTHONIOENCODING="ascii")
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=env, timeout=60, check=True
    )
    assert done.stdout == "scalestop: 1 ? 1\n"


SAYS = """
import sys
from scalestop.run.reporter import Reporter
print("user's", flush=True)
reporter = Reporter("x", True, False)
for _ in range(3):
    reporter.say("plan\\nbudget")
sys.stderr.write("trained")
"""


@pytest.mark.parametrize("where", ["pipe", "full disk"])
def test_a_run_whose_output_is_lost_ends_with_status_0(where):
    """A `print` would leave its text in the buffer, and Python would end with status 120."""
    if where == "pipe":
        script = SAYS.replace('print("user\'s", flush=True)', "sys.stdin.read()")
        process = subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        process.stdout.close()  # nobody reads, before anything is said
        process.stdin.close()
        error = process.stderr.read()
        process.stderr.close()
    else:
        script = SAYS.replace('print("user\'s", flush=True)\n', "")
        with open("/dev/full", "w") as full:
            process = subprocess.Popen(
                [sys.executable, "-c", script], stdout=full, stderr=subprocess.PIPE, env=environment()
            )
            error = process.stderr.read()
            process.stderr.close()
    assert (process.wait(60), error) == (0, b"trained")


def test_lines_stand_in_order_among_the_users_own():
    done = subprocess.run(
        [sys.executable, "-c", SAYS], capture_output=True, text=True, env=environment(), timeout=60, check=True
    )
    assert done.stdout == "user's\n" + 3 * "scalestop[x]: plan\n  budget\n"


def test_a_broken_way_of_showing_warnings_is_no_error(monkeypatch):
    def fail(*args, **kwargs):
        raise ValueError("I/O operation on closed file")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", fail)
        Reporter(None, True, False).warn("mind this")


def test_a_filter_that_makes_warnings_errors_is_obeyed():
    with pytest.raises(ScalestopWarning, match="scalestop: mind this"):
        Reporter(None, True, False).warn("mind this")


def test_other_ranks_are_silent(capsys, recwarn):
    reporter = Reporter(None, True, True)
    reporter.take_place(None, False)
    reporter.say("plan")
    reporter.warn("mind this")
    assert capsys.readouterr().out == "" and not recwarn.list
