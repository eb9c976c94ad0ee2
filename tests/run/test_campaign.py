"""One budget, many runs: exact under concurrent processes, whatever kills them."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys

import pytest
from toys import environment, strict_json

from scalestop import InputError, Usage
from scalestop.cli import main
from scalestop.run.campaign import Campaign

BIG = 3 * 10**21 + 1  # beyond 2^63, and odd: a float would lose it


def campaign(tmp_path, budget="1e24 FLOPs"):
    return Campaign.create(tmp_path / "sweep.jsonl", budget)


# ---- what is counted


def test_totals_count_once_and_never_go_back(tmp_path):
    shared = campaign(tmp_path)
    for flops in (BIG, BIG, 5, BIG + 1):
        shared.charge("a", Usage(flops=flops))
    shared.charge("b", Usage(flops=7))
    assert Campaign(shared.path).status().spent("flops") == BIG + 8


def test_each_job_of_a_run_counts(tmp_path):
    """The first one is killed at 100 and its successor goes on from a checkpoint at 60: 140 are computed for 100."""
    shared = campaign(tmp_path)
    shared.charge("a", Usage(flops=100), job="1")
    shared.charge("a", Usage(flops=40), job="2")
    shared.charge("a", Usage(flops=40), job="2")
    assert shared.status().accounts[0].spent["flops"] == 140


def test_tokens_are_those_that_are_no_padding_and_money_is_device_time_at_its_price(tmp_path):
    shared = campaign(tmp_path, "1000 tokens or 100 USD")
    answer = shared.charge(
        "a", Usage(tokens=900, tokens_non_padding=600, device_seconds=7200.0), usd_per_device_hour=3.0
    )
    assert answer.left == {"tokens": 400, "usd": 94.0}
    with pytest.raises(InputError, match="usd_per_device_hour: the campaign's budget is in money; give the device's"):
        shared.charge("a", Usage(tokens_non_padding=700))
    assert shared.status().spent("tokens") == 600


# ---- what is held


def test_a_run_gets_what_is_left_and_no_more(tmp_path):
    shared = campaign(tmp_path, "100 tokens")
    assert shared.reserve("a", "60 tokens").granted
    refused = shared.reserve("b", "41 tokens")
    assert not refused.granted and refused.left == {"tokens": 40}
    assert refused.message == "the campaign has 40 tokens left of 100 tokens, and 'b' asks for 41 tokens"
    assert shared.reserve("b", "40 tokens").granted
    shared.charge("a", Usage(tokens_non_padding=25))
    assert not shared.reserve("c", "1 tokens").granted
    shared.release("a")  # ended after 25 of its 60
    assert shared.reserve("c", "35 tokens").granted


def test_a_resumed_run_asks_again_for_the_whole_and_is_held_to_what_it_had_not_spent(tmp_path):
    shared = campaign(tmp_path, "100 tokens")
    assert shared.reserve("a", "100 tokens").granted
    shared.charge("a", Usage(tokens_non_padding=70))
    assert shared.reserve("a", "100 tokens").granted
    assert not shared.reserve("a", "101 tokens").granted


def test_a_run_is_stopped_when_the_campaign_is_spent_or_the_rest_is_held_for_others(tmp_path):
    shared = campaign(tmp_path, "100 tokens")
    shared.reserve("a", "60 tokens")
    assert shared.charge("b", Usage(tokens_non_padding=39)).granted
    stopped = shared.charge("b", Usage(tokens_non_padding=40))
    assert not stopped.granted and "the rest is held for other runs" in stopped.message
    assert shared.charge("a", Usage(tokens_non_padding=59)).granted
    stopped = shared.charge("a", Usage(tokens_non_padding=61))
    assert not stopped.granted and shared.status().is_spent
    assert stopped.message == "the campaign's 100 tokens are used up: 101 tokens spent"


def test_asking_in_another_unit_names_both(tmp_path):
    with pytest.raises(
        InputError, match=r"wanted: the campaign's budget is 5 h, and 1e6 FLOPs names no .* ask for sec"
    ):
        campaign(tmp_path, "5h").reserve("a", "1e6 FLOPs")


# ---- concurrent processes

CHARGES = """
import sys
from scalestop import Usage
from scalestop.run.campaign import Campaign
shared, name, steps = Campaign(sys.argv[1]), sys.argv[2], int(sys.argv[3])
sys.stdin.readline()
for step in range(1, steps + 1):
    shared.charge(name, Usage(flops=step * (3 * 10**21 + 1)))
    print(step, flush=True)
"""
RESERVES = """
import sys
from scalestop.run.campaign import Campaign
shared = Campaign(sys.argv[1])
sys.stdin.readline()
print(int(shared.reserve(sys.argv[2], "10 tokens").granted))
"""


def start(script, path, *words):
    return subprocess.Popen(
        [sys.executable, "-c", script, str(path), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )


def go(processes):
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()


def test_twenty_writers_and_sigkill_lose_nothing(tmp_path):
    """Every charge that returned is in the ledger, none twice, and the killed ones' locks hold up nobody."""
    shared = campaign(tmp_path, "1e30 FLOPs")
    workers = [start(CHARGES, shared.path, f"run-{i}", "40" if i % 2 else "1000000") for i in range(20)]
    go(workers)
    draws = random.Random(0)
    told = [0] * 20
    for i in range(0, 20, 2):  # each is killed after a charge of its own, at whatever it is doing then
        for _ in range(draws.randrange(1, 20)):
            told[i] = int(workers[i].stdout.readline())
        workers[i].kill()
    for i, worker in enumerate(workers):
        told[i] = int([str(told[i]), *worker.stdout.read().split()][-1])
        worker.stdin.close()
        worker.stdout.close()
        assert worker.wait(120) == (0 if i % 2 else -signal.SIGKILL)
    spent = {account.run: account.spent["flops"] for account in shared.status().accounts}
    for i in range(20):
        steps, rest = divmod(spent[f"run-{i}"], BIG)
        # what a killed one was at may be in or not; what it was told is in
        assert rest == 0 and told[i] <= steps <= told[i] + 1
        assert told[i] == 40 or i % 2 == 0
    assert shared.path.read_bytes().count(b"\n") == 1 + sum(spent.values()) // BIG
    assert shared.status().spent("flops") == sum(spent.values())


def test_twenty_askers_get_ten_shares_of_ten(tmp_path):
    shared = campaign(tmp_path, "100 tokens")
    askers = [start(RESERVES, shared.path, f"run-{i}") for i in range(20)]
    go(askers)
    assert sum(int(asker.communicate(timeout=120)[0]) for asker in askers) == 10
    assert shared.status().left() == {"tokens": 0}


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_line_that_is_not_whole_is_none_and_the_next_writer_cuts_it_off(tmp_path, cut):
    shared = campaign(tmp_path)
    shared.charge("a", Usage(flops=5))
    whole = shared.path.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    shared.path.write_bytes(whole + last.replace(b'"flops": 5', b'"flops": 99')[: cut * len(last) // 12])
    assert Campaign(shared.path).status().spent("flops") == 5 == shared.status().spent("flops")
    Campaign(shared.path).charge("b", Usage(flops=6))
    assert shared.status().spent("flops") == 11
    assert all(strict_json(line) for line in shared.path.read_text().splitlines())


def test_a_full_disk_leaves_the_ledger_as_it_was(tmp_path):
    """A limit on the file's size cuts the line short, as a full disk does."""
    shared = campaign(tmp_path)
    shared.charge("a", Usage(flops=5))
    before = shared.path.read_bytes()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, len(before) + 20))
        try:
            shared.charge("a", Usage(flops=99))
        except OSError:
            os._exit(0 if shared.status().spent("flops") == 5 else 3)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert shared.path.read_bytes() == before
    assert shared.charge("a", Usage(flops=6)).granted and shared.status().spent("flops") == 6


# ---- what is no campaign, and the command


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be opened: No such file or directory; `scalestop campaign create` opens one"),
        (b"", "is empty"),
        (b"\xff\n", "cannot be used: byte 0"),
        (b"[1]\n", "cannot be used: byte 0"),
        (b'{"campaign": 7}\n', "version 7, and this reads 1"),
        (
            b'{"campaign": 1, "budget": "1 FLOPs"}\n{"run": "a", "at": 0, "job": "", "spent": {"flops": -1}}\n',
            "-1 is no",
        ),
    ],
)
def test_what_is_no_campaign_is_refused_in_one_line(tmp_path, content, says, capsys):
    path = tmp_path / "x.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"campaign: {path} .*{says}"):
        Campaign(path)
    assert main(["campaign", "status", str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_campaign_is_never_opened_over_another(tmp_path):
    shared = campaign(tmp_path)
    with pytest.raises(InputError, match=r"exists already; open it, or choose another name"):
        Campaign.create(shared.path, "1 FLOPs")
    other = tmp_path / "notes.txt"
    other.write_text("mine\n")
    with pytest.raises(InputError, match="cannot be used"):
        Campaign.create(other, "1 FLOPs")
    assert other.read_text() == "mine\n"


def test_the_command_opens_shows_and_gives_back(tmp_path, capsys):
    path = str(tmp_path / "deep" / "sweep.jsonl")
    assert main(["campaign", "create", path, "--budget", "100 tokens"]) == 0
    Campaign(path).reserve("a", "60 tokens")
    Campaign(path).charge("a", Usage(tokens_non_padding=20))
    capsys.readouterr()
    assert main(["campaign", "status", path]) == 0
    shown = capsys.readouterr().out
    assert "spent   20 tokens (20.0%), 40 tokens held, left 40 tokens" in shown
    assert main(["campaign", "release", path, "a"]) == 0
    capsys.readouterr()
    assert main(["campaign", "status", path, "--json"]) == 0
    data = strict_json(capsys.readouterr().out)
    assert data["left"] == {"tokens": 80} and data["runs"][0]["spent"]["tokens"] == 20
