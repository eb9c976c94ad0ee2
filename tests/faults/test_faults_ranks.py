"""Faults on two ranks, in real processes: nobody is left waiting, and records say what is an estimate."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from launching import free_port
from toys import environment

from scalestop.run.records import RunRecord

WORKER = Path(__file__).with_name("ranks_worker.py")
HARD_TIMEOUT = 300
"""Seconds; a rank that hangs is a failed test."""


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each rank saw, by fault."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port"]
    command += [str(free_port()), str(WORKER), str(folder)]
    with open(folder / "log", "w") as log:
        done = subprocess.run(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment(), timeout=HARD_TIMEOUT, check=False
        )
    assert done.returncode == 0, (folder / "log").read_text()[-6000:]
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(2)], folder


def both(ranks, what):
    (first, second), _ = ranks
    return first[what], second[what]


@pytest.mark.slow
def test_a_full_disk_at_the_stop_hangs_nobody(ranks):
    """40 s is the time-out of a rank that waits for one that swallowed its error."""
    first, second = both(ranks, "full disk")
    for rank in (first, second):
        assert rank["error"] is None and rank["reason"] == "TOKEN_LIMIT" and rank["checkpoint"] == "None"
        assert rank["seconds"] < 35
        assert rank["usage"] == sum(first["tokens"]) + sum(second["tokens"]) >= 3000
    (line,) = first["warnings"]
    assert line.endswith("the checkpoint could not be written: OSError: [Errno 28] No space left on device")
    assert second["warnings"] == []
    assert not list((ranks[1] / "full disk").rglob("*.ckpt"))
    assert RunRecord.load(first["record"]).exact is True


@pytest.mark.slow
@pytest.mark.parametrize("what", ["preempted", "preempted, unsaved"])
def test_all_ranks_preempted_count_up_exactly(ranks, what):
    first, second = both(ranks, what)
    assert first["error"] == second["error"] == "SIGTERMException"
    record = RunRecord.load(first["record"])
    total = sum(first["tokens"]) + sum(second["tokens"])
    assert (record.num_tokens, record.usage["optimizer_steps"]) == (total, len(first["tokens"]))
    assert record.exact is True
    if what == "preempted":
        state = torch.load(first["checkpoint"], weights_only=True)["callbacks"]
        (ours,) = [s for key, s in state.items() if key.startswith("ComputeOptimal")]
        assert ours["meter"]["tokens_non_padding"] == total and ours["exact"] is True
    else:
        assert first["checkpoint"] == "None"


@pytest.mark.slow
def test_a_broken_run_says_that_the_other_ranks_were_not_asked(ranks):
    first, second = both(ranks, "raises")
    assert first["error"] == second["error"] == "ZeroDivisionError"
    record = RunRecord.load(first["record"])
    assert record.exact is False and record.inexact_because.startswith("the run was broken off, and each rank's count")
    assert record.usage["optimizer_steps"] == len(first["tokens"]) == 12
    total = sum(first["tokens"]) + sum(second["tokens"])
    assert record.num_tokens == pytest.approx(total, rel=0.05)  # of one moment with the steps, if not exact
