"""`scalestop ladder` as a user meets it: real processes."""

import csv
import json
import os
import random
import re
import resource
import select
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ladder_toys import PRIOR, Noted, micro, path_of
from processes import scalestop

from scalestop import RunRecord, get_law
from scalestop.cli import main
from scalestop.ladder.launch import submit
from scalestop.ladder.plan import plan_ladder
from scalestop.ladder.store import Ladder

ROOT = Path(__file__).parents[2]
MICRO = {
    "target": "2e9 FLOPs",
    "budgets": ["1e8", "2e8", "4e8"],
    "num_sizes": 3,
    "spread": 2.5,
    "seeds": [1],
    "context": 16,
    "steps": 40,
    "bootstrap": 100,
    "lr_factors": [],
    "data": {"class_path": "scalestop.lab.data.TextData", "init_args": {"val_tokens": 2048}},
    "trainer": {"accelerator": "cpu"},
    "flops_per_second": "1 GFLOP/s",
}


def config(folder, **changes):
    """A config file beside its prior law."""
    PRIOR.save(folder / "prior.json")
    path = folder / f"ladder{len(list(folder.glob('ladder*.yaml')))}.yaml"  # JSON is YAML
    path.write_text(json.dumps({**MICRO, "law": str(folder / "prior.json"), **changes}))
    return path


def command(*words, cwd):
    return [sys.executable, "-m", "scalestop.cli", "ladder", *map(str, words)], {
        "cwd": cwd,
        "env": {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }


def run(*words, cwd):
    words, options = command(*words, cwd=cwd)
    done = subprocess.run(words, **options, timeout=300, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def results(folder):
    """What a ladder's records say, by name."""
    found = {}
    for path in folder.glob("*/*.json"):
        record = RunRecord.load(path)
        found[path.parent.name, path.stem] = (record.run, record.num_params, record.num_tokens, record.loss)
    return found


def test_a_dry_run_prints_the_table_and_leaves_nothing(tmp_path, capsys):
    path = config(tmp_path, seeds=[2, 1], held_out=["8e8"])
    assert main(["ladder", "--config", str(path), "--out", str(tmp_path / "out"), "--dry-run", "--workers", "2"]) == 0
    said = capsys.readouterr().out
    rows = [line.split() for line in said.splitlines() if line.strip()[:1].isdigit() and "x3" in line]
    assert len(rows) == 10  # three sizes at three budgets, and a held-out run
    assert [row[0] for row in rows] == ["1e8"] * 3 + ["2e8"] * 3 + ["4e8"] * 3 + ["8e8"]
    assert all(float(row[-1].rstrip("%")) > 0 for row in rows)
    for words in (
        "12 pilots spend 2.4e9 FLOPs",
        "learning rate 0.2 / width^1 at 640 tokens a step, growing as batch^0.2",
        "on 2 workers, at the stated speed",
        "1 held out beside them, for ",
        f"expected accuracy at the target: {PRIOR.loss(*PRIOR.optimal(2e9)):.3f} ± 0.",
        "pilots usually spend 10 to 20 %",
    ):
        assert words in said
    assert not (tmp_path / "out").exists()


def test_the_config_in_the_repository_is_the_ladder_whose_runs_are_committed(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = ["--flops_per_second", "20 GFLOP/s", "--out", str(tmp_path), "--dry_run"]
    assert main(["ladder", "--config", "configs/ladder_tiny.yaml", *words]) == 0
    said = capsys.readouterr().out
    assert "50 pilots" in said and "up to 30 times the dearest pilot's budget" in said
    planned = {(line.split()[0], line.split()[1].replace(",", "")) for line in said.splitlines() if "x3" in line}
    with (ROOT / "examples" / "stdlib_ladder_runs.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["shape"].endswith("x3")]
    trained = {(f"{float(row['budget']):.0e}".replace("e+0", "e").replace("+", ""), row["params"]) for row in rows}
    assert planned == trained
    assert "pilots usually spend" not in said  # at most 20 % of the target's compute


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("--data", "no/such/folder"), ("data", "no/such/folder")),
        (("--share", "2"), ("share", "2")),
        (("--workers", "0"), ("workers", "0")),
        (("fit", "nowhere"), ("out", "nowhere")),
        (("--nun_sizes", "3"), ("nun_sizes",)),
        (("--seeds", "[0]"), ("seeds", "0")),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, words, names):
    if words[0] != "fit":
        words = ("--config", str(config(tmp_path)), "--out", str(tmp_path / "out"), *words)
    assert main(["ladder", *words]) == 2
    err = capsys.readouterr().err
    assert err.startswith("scalestop: error: ") and err.count("\n") == 1
    assert all(name in err for name in names)


@pytest.mark.slow
def test_a_newcomers_folder_of_text_becomes_a_law_without_editing_code(tmp_path):
    text = tmp_path / "notes"
    text.mkdir()
    for source in sorted(Path(json.__file__).parents[1].glob("a*.py"))[:8]:
        (text / f"{source.stem}.txt").write_bytes(source.read_bytes())
    path = config(tmp_path, budgets=["1e8", "2e8", "4e8", "8e8"], data=str(text))
    said = run("--config", path, "--out", "mine", cwd=tmp_path)
    law = get_law(tmp_path / "mine" / "law.json")
    assert 0 <= law.E < 5.5
    assert "forecast for 2e9 FLOPs" in said and "backtest" in said
    said = run("fit", "mine", cwd=tmp_path)  # again, from the records alone
    assert get_law(tmp_path / "mine" / "law.json") == law and "forecast for 2e9 FLOPs" in said
    program, *words = shlex.split(re.search(r"^next: (.*)$", said, re.MULTILINE)[1])
    assert program == "scalestop" and words[:4] == ["train", "--law", "mine/law.json", "--budget"]
    assert words[5:] == ["--data.path", str(text), "--data.context", "16"]
    words += ["--budget", "1e9 FLOPs", "--out", "big", "--trainer.accelerator", "cpu"]
    words += ["--model.num_params", "4408", "--stop.oversized", "ignore"]  # what so small a ladder fits is a sketch
    trained = subprocess.run(
        [sys.executable, "-m", "scalestop.cli", *words],
        **command(cwd=tmp_path)[1],
        timeout=300,
        check=True,
    )
    assert re.search(r"loss \d\.\d+ against \d\.\d+ predicted", trained.stdout)
    # the data given by path is the text itself, not the default corpus
    assert RunRecord.load(next((tmp_path / "mine" / "records").glob("*.json"))).unique_tokens < 500_000


@pytest.mark.slow
def test_two_ladders_at_once_in_one_folder_train_each_rung_once(tmp_path, monkeypatch):
    monkeypatch.setenv("LADDER_NOTES", str(tmp_path / "notes"))
    path = config(tmp_path, model=path_of(Noted))
    words, options = command("--config", path, "--out", "out", "--workers", "2", cwd=tmp_path)
    both = [subprocess.Popen(words, **options) for _ in range(2)]
    ended = [process.communicate(timeout=400) for process in both]
    lines = [line.split(maxsplit=1) for line in (tmp_path / "notes").read_text().splitlines()]
    ladder = Ladder.load(tmp_path / "out")
    assert all(ladder.is_done(rung) for rung in ladder.rungs)
    assert len(lines) == len({what for _, what in lines}) == len(ladder.rungs)
    assert len({pid for pid, _ in lines}) > 1
    # whichever ran out of work waited for the other's runs
    assert all("forecast for" in out for out, _ in ended) and [process.returncode for process in both] == [0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_one_line_and_the_ladder_goes_on_where_it_was(tmp_path, workers):
    """Files that may not grow past 20 kB: records fit, resume points do not, and the kernel says so in mid-write."""
    path = config(tmp_path, steps=250, checkpoint_seconds=0.05, num_sizes=1, budgets=["1e8", "2e8"], target="4e8")
    words, options = command("--config", path, "--out", "out", "--workers", workers, cwd=tmp_path)

    def small_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))

    done = subprocess.run(words, **options, preexec_fn=small_disk, timeout=300, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("scalestop: ")]
    assert line.startswith("scalestop: error: --out: out cannot be written: ") and "goes on where it was" in line
    assert not [file for file in (tmp_path / "out").rglob("*") if file.suffix in (".part", ".tmp")]
    done = subprocess.run(words, **options, timeout=300, check=False)
    assert all(Ladder.load(tmp_path / "out").is_done(rung) for rung in Ladder.load(tmp_path / "out").rungs)


@pytest.mark.slow
def test_printed_commands_train_the_ladder_in_any_order(tmp_path):
    """Standard output holds commands alone, so that it can go to a shell; run backwards, branches come first."""
    path = config(tmp_path, budgets=["1e8", "2e8"], num_sizes=2, trunk=True, bootstrap=20)
    words, options = command("--config", path, "--out", "out", "--launcher", "print", cwd=tmp_path)
    done = subprocess.run(words, **options, timeout=300, check=True)
    lines = done.stdout.splitlines()
    ladder = Ladder.load(tmp_path / "out")
    told = [shlex.split(line) for line in lines]
    assert [words[:4] for words in told] == [["scalestop", "ladder", "work", str(tmp_path / "out")]] * len(lines)
    assert sorted(words[4] for words in told) == sorted(rung.name for rung in ladder.rungs)
    assert told[0][4].startswith("trunk") and not told[-1][4].startswith("trunk")
    assert "when they are done: scalestop ladder fit out" in " ".join(done.stderr.split())
    for line in reversed(lines):
        ended = scalestop(*shlex.split(line)[1:], folder=tmp_path)
        assert ended.returncode == 0, ended.stderr
    assert all(map(ladder.is_done, ladder.rungs))
    again = subprocess.run(words, **options, timeout=300, check=False)
    assert again.stdout == "", again.stderr  # nothing is left to run


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "trunk", "times"), [(1, False, 10), (2, True, 4)])
def test_killed_again_and_again_it_ends_with_the_records_of_the_unbroken_ladder(tmp_path, workers, trunk, times):
    path = config(tmp_path, steps=250, trunk=trunk, checkpoint_seconds=0.05)
    run("--config", path, "--out", "whole", "--workers", "1", "--threads", "1", cwd=tmp_path)
    draw = random.Random(workers)
    kills = 0
    finished: set = set()
    for _ in range(40):
        words, options = command("--config", path, "--out", "broken", "--workers", workers, cwd=tmp_path)
        process = subprocess.Popen(words, **options, start_new_session=True)
        if kills == times:
            _, err = process.communicate(timeout=400)
            assert process.returncode == 0, err
            break
        # the first line of the table says that the imports are over: from there on a random moment
        process.stdout.readline()
        try:
            process.wait(timeout=draw.uniform(0.2, 3.0))
        except subprocess.TimeoutExpired:
            process.kill()  # its workers end with it
            kills += 1
        process.communicate()
        now = results(tmp_path / "broken")
        assert finished <= set(now)
        finished = set(now)
    assert kills == times
    assert results(tmp_path / "broken") == results(tmp_path / "whole")
    assert not list((tmp_path / "broken" / "work").glob("*/step=*"))


@pytest.mark.slow
def test_workers_end_with_the_ladder_that_started_them(tmp_path):
    path = config(tmp_path, steps=5000)
    words, options = command("--config", path, "--out", "out", "--workers", "2", cwd=tmp_path)
    process = subprocess.Popen(words, **options)
    locks = tmp_path / "out" / "claims"
    owners: set[int] = set()
    while len(owners) < 2:
        assert process.poll() is None
        owners = {int(lock.read_text().split()[1]) for lock in locks.glob("*.lock") if lock.read_text().strip()}
    watched = [os.pidfd_open(owner) for owner in owners]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    for descriptor in watched:  # readable once the worker has ended
        assert select.select([descriptor], [], [], 120)[0]
    ladder = Ladder.load(tmp_path / "out")
    left = ladder.open_rungs()
    assert left and sum(ladder.take() is not None for _ in left) == len(left)  # every claim is free again


@pytest.mark.slow
def test_an_array_of_tasks_trains_the_ladder_through_submitit(tmp_path):
    pytest.importorskip("submitit")
    path = config(tmp_path, launcher="slurm", slurm={"cluster": "local", "timeout_min": 5}, workers=2)
    said = run("--config", path, "--out", "out", cwd=tmp_path)
    assert "submitted 2 tasks" in said and "forecast for" in said
    assert len(results(tmp_path / "out")) == 9


@pytest.mark.slow
def test_a_preempted_task_is_queued_again_and_goes_on(tmp_path, monkeypatch):
    submitit = pytest.importorskip("submitit")
    monkeypatch.setenv("LADDER_NOTES", str(tmp_path / "notes"))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'tests'}")
    options = {"num_sizes": 1, "budgets": ["4e9"], "steps": 6000, "checkpoint_seconds": 0.1}
    settings = micro(tmp_path, model=path_of(Noted), **options)
    ladder = Ladder.open(plan_ladder(settings))
    (job,) = submit(ladder, 1, {"cluster": "local", "timeout_min": 5})
    assert isinstance(job, submitit.Job)
    (rung,) = ladder.rungs
    while not list(ladder.work(rung).glob("step=*.ckpt")):
        assert not job.done(), job.stderr()
    # as slurm does before it preempts
    os.kill(int((tmp_path / "notes").read_text().split()[0]), signal.SIGUSR2)
    assert job.result() == 0
    starts = [line.split() for line in (tmp_path / "notes").read_text().splitlines()]
    assert len(starts) == 2 and starts[0][0] != starts[1][0]  # two processes
    assert int(starts[0][-1]) == 0 < int(starts[1][-1])  # the second from a checkpoint
    assert ladder.record(rung).num_tokens == rung.num_tokens
