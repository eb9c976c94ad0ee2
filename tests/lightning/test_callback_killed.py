"""Killed with SIGKILL at random moments and resumed each time, a run ends at the same counts as if nothing happened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from processes import Forked, run_script
from toys import environment

WORKER = Path(__file__).with_name("kill_worker.py")


def lives(folder: Path, kills: int, seed: int) -> dict:
    words = (str(folder), str(kills), str(seed))
    done = Forked(run_script, WORKER, *words, folder=folder, variables=environment()).wait(400)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def check(found: dict, kills: int) -> None:
    assert found["kills"] == kills
    assert found["killed"] == found["whole"]
    assert found["whole"]["reason"] == "TOKEN_LIMIT" and found["whole"]["tokens_non_padding"] >= 24_000
    assert sorted(found["resumed_at"]) == found["resumed_at"]  # no life loses what an earlier one saved


@pytest.mark.slow
def test_50_kills(tmp_path):
    check(lives(tmp_path, 50, seed=1), 50)


@pytest.mark.slow
def test_a_few_kills(tmp_path):
    check(lives(tmp_path, 4, seed=2), 4)
