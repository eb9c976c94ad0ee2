"""What a run says beside a progress bar: in a real terminal and in a pipe, with Lightning's own bars."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest
from toys import environment

TRAIN = """
import logging, sys, warnings
warnings.simplefilter("ignore")
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar, TQDMProgressBar
from scalestop import ComputeOptimalStopping
from toys import C_OPT, LAW, Stream, Toy, loader
bar = {"tqdm": TQDMProgressBar, "rich": RichProgressBar}[sys.argv[1]]()
trainer = pl.Trainer(
    max_epochs=-1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False,
    num_sanity_val_steps=int(sys.argv[2]), val_check_interval=30, check_val_every_n_epoch=None,
    callbacks=[bar, ComputeOptimalStopping(C_OPT, LAW, record=False)],
)
trainer.fit(Toy(), Stream(), loader(8))
"""
OWN_BAR = """
import sys, tqdm
from scalestop.run.reporter import Reporter
reporter = Reporter(None, True, False)
with tqdm.tqdm(total=3, file=getattr(sys, sys.argv[1])) as bar:
    for _ in range(3):
        bar.update()
        bar.refresh()
        reporter.say("plan\\n" + "x" * 100)
reporter.say("done")
"""
SLOW = [pytest.param(*case, marks=pytest.mark.slow) for case in (("tqdm", "2"), ("rich", "0"))]
ESCAPE = re.compile(r"\x1b\[([\d;?]*)([A-Za-z])")


def screen(text: str) -> list[str]:
    """Rows of a terminal that is wide enough, after a text was written to it."""
    rows, row, column, i = [""], 0, 0, 0
    while i < len(text):
        char = text[i]
        if found := ESCAPE.match(text, i):
            i = found.end()
            number = int(found[1]) if found[1].isdigit() else 1
            if found[2] == "A":
                row = max(0, row - number)
            elif found[2] == "K":
                rows[row] = "" if found[1] == "2" else rows[row][:column]
            continue
        i += 1
        if char == "\n":
            row += 1
            rows += [""] * (row + 1 - len(rows))
        elif char == "\r":
            column = 0
        else:
            rows[row] = rows[row].ljust(column)[:column] + char + rows[row][column + 1 :]
            column += 1
    return [row.rstrip() for row in rows]


def in_terminal(script: str, *words: str) -> list[str]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
    env = environment(TERM="xterm")
    env.pop("COLUMNS", None)
    process = subprocess.Popen([sys.executable, "-c", script, *words], env=env, stdout=slave, stderr=slave, stdin=slave)
    os.close(slave)
    found = b""
    try:
        while chunk := os.read(master, 65536):
            found += chunk
    except OSError:  # the other side is closed
        pass
    os.close(master)
    assert process.wait(300) == 0, found.decode()
    return screen(found.decode())


def in_pipe(script: str, *words: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout.split("\n")  # a carriage return ends no line for whoever greps


@pytest.mark.parametrize("where", [pytest.param(in_terminal, marks=pytest.mark.slow), in_pipe])
@pytest.mark.parametrize(("bar", "sanity"), [("tqdm", "0"), *SLOW])
def test_plan_and_closing_line_stand_alone_beside_lightnings_bars(where, bar, sanity):
    rows = where(TRAIN, bar, sanity)
    start = rows.index("scalestop: plan")
    names = [row.split()[0] for row in rows[start + 1 : start + 7]]
    assert names == ["budget", "law", "optimum", "model", "stop", "loss"]
    assert all(row.startswith("  ") for row in rows[start + 1 : start + 7])
    (end,) = [row for row in rows if "COMPUTE_OPTIMAL: " in row]
    assert end.startswith("scalestop: COMPUTE_OPTIMAL: ")
    assert "it/s" not in end
    assert any("it/s" in row for row in rows)  # the bars are there


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("where", [in_terminal, in_pipe])
def test_ones_own_bar_is_left_whole(where, stream):
    rows = where(OWN_BAR, stream)
    said = [row for row in rows if "it/s" not in row and row.strip()]
    assert said == [*["scalestop: plan", "  " + "x" * 100] * 3, "scalestop: done"]
    assert "3/3" in [row for row in rows if "it/s" in row][-1]
