"""Workers that share a folder, and a disk that is full."""

from __future__ import annotations

import errno
import io
import os

import pytest
import pytorch_lightning as pl
from ladder_toys import holder, micro, record_of
from rich.console import Console

from scalestop.cli import main
from scalestop.errors import InputError
from scalestop.ladder import launch as launching
from scalestop.ladder import work as working
from scalestop.ladder.plan import plan_ladder
from scalestop.ladder.store import Ladder
from scalestop.ladder.work import DISK_TROUBLE, work


def ladder_of(folder, **changes):
    return Ladder.open(plan_ladder(micro(folder, **changes)))


@pytest.fixture
def trained(monkeypatch):
    """Names of the rungs that this process trains; each ends at once."""
    found = []

    def train(ladder, rung):
        found.append(rung.name)
        ladder.finish(rung, record_of(rung))

    monkeypatch.setattr(working, "train_rung", train)
    return found


def test_a_rung_that_another_process_trains_is_waited_for(tmp_path, trained):
    ladder = ladder_of(tmp_path)
    rung = ladder.open_rungs()[0]
    owner, _ = holder(ladder.folder / "claims" / f"{rung.name}.lock")
    waits = []

    def wait(seconds):
        waits.append(seconds)
        assert ladder.is_held(rung)
        if len(waits) == 3:  # the other one has trained it
            ladder.finish(rung, record_of(rung))
            owner.communicate()

    assert work(ladder, wait) == []
    assert len(waits) == 3 and rung.name not in trained and len(trained) == len(ladder.rungs) - 1


def test_a_rung_whose_process_dies_is_taken_over(tmp_path, trained):
    ladder = ladder_of(tmp_path)
    rung = ladder.open_rungs()[0]
    owner, _ = holder(ladder.folder / "claims" / f"{rung.name}.lock")

    def wait(seconds):
        owner.kill()
        owner.communicate()

    assert work(ladder, wait) == []
    assert trained[-1] == rung.name and len(trained) == len(ladder.rungs)


def test_one_that_does_not_stay_leaves_others_their_rungs(tmp_path, trained):
    ladder = ladder_of(tmp_path)
    rung = ladder.open_rungs()[0]
    owner, _ = holder(ladder.folder / "claims" / f"{rung.name}.lock")
    assert work(ladder, lambda seconds: pytest.fail("it waits"), stay=False) == []
    assert not ladder.is_done(rung) and len(trained) == len(ladder.rungs) - 1
    owner.communicate()


def test_a_rung_that_failed_here_is_not_waited_for_though_another_tries_it(tmp_path, trained, monkeypatch, capsys):
    ladder = ladder_of(tmp_path)
    rung = ladder.open_rungs()[0]
    plain, owners = working.train_rung, []

    def train(ladder, given):
        if given == rung:
            raise RuntimeError("out of luck")
        plain(ladder, given)
        if not owners:
            owners.append(holder(ladder.folder / "claims" / f"{rung.name}.lock")[0])

    monkeypatch.setattr(working, "train_rung", train)
    assert work(ladder, lambda seconds: pytest.fail("it waits")) == [rung.name]
    assert "out of luck" in capsys.readouterr().err
    owners[0].communicate()


def test_branches_of_a_trunk_that_failed_are_not_waited_for(tmp_path, monkeypatch, capsys):
    ladder = ladder_of(tmp_path, trunk=True, steps=60, num_sizes=1, budgets=["1e8", "1.3e8"])

    def train(ladder, rung):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(working, "train_rung", train)
    (trunk,) = [rung.name for rung in ladder.rungs if rung.kind == "trunk"]
    assert work(ladder, lambda seconds: pytest.fail("it waits")) == [trunk]


# ---- a full disk


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device", "step=5.ckpt")


FULL = r"^out: .* cannot be written: No space left on device: .*make room, and the same command goes on where it was$"


def test_a_full_disk_ends_the_work_with_one_error_and_keeps_what_there_is(tmp_path, monkeypatch):
    ladder = ladder_of(tmp_path, checkpoint_seconds=1e-9)
    first = ladder.open_rungs()[0]
    save, saved = pl.Trainer.save_checkpoint, []

    def fills_up(self, path, *args, **kwargs):
        saved.append(path)
        save(self, path, *args, **kwargs)
        if len(saved) == 3:
            full()

    monkeypatch.setattr(pl.Trainer, "save_checkpoint", fills_up)
    with pytest.raises(InputError, match=FULL):
        work(ladder)
    kept = sorted(path.name for path in ladder.work(first).iterdir())
    assert [name for name in kept if "step=" in name] == ["step=2.ckpt"]  # no part of the one that did not fit
    assert not any(map(ladder.is_done, ladder.rungs)) and not any(map(ladder.is_held, ladder.rungs))
    monkeypatch.setattr(pl.Trainer, "save_checkpoint", save)
    assert work(ladder) == []


def test_torchs_own_word_for_a_full_disk(tmp_path, monkeypatch):
    ladder = ladder_of(tmp_path)

    def train(ladder, rung):
        raise RuntimeError("[enforce fail at inline_container.cc:668] . PytorchStreamWriter failed writing file data/0")

    monkeypatch.setattr(working, "train_rung", train)
    with pytest.raises(InputError, match="PytorchStreamWriter failed"):
        work(ladder)
    assert working.main(ladder.folder) == DISK_TROUBLE


def test_a_full_disk_under_the_claims_and_under_the_words_of_an_error(tmp_path, monkeypatch, capsys):
    ladder = ladder_of(tmp_path)
    monkeypatch.setattr(working, "write_whole", full)  # the traceback of a rung that failed finds no room

    def train(ladder, rung):
        raise ValueError("out of luck")

    monkeypatch.setattr(working, "train_rung", train)
    assert len(work(ladder)) == len(ladder.rungs)
    monkeypatch.setattr(os, "open", full)
    with pytest.raises(InputError, match=FULL):
        work(ladder)


def test_a_worker_that_cannot_write_is_told_of_once_by_its_ladder(tmp_path, monkeypatch):
    ladder = ladder_of(tmp_path)

    class Worker:
        def __init__(self, *args, **kwargs):
            pass

        def wait(self):
            return DISK_TROUBLE

        kill = wait

    monkeypatch.setattr(launching.subprocess, "Popen", Worker)
    with pytest.raises(InputError, match=r"out: .* cannot be written: a worker could not save"):
        launching.launch(ladder, "local", 2, Console(file=io.StringIO()))


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    micro(tmp_path)
    words = ["ladder", "--out", str(tmp_path / "file" / "ladder"), "--target", "2e9", "--budgets", "[1e8]"]
    words += ["--steps", "30", "--context", "16", "--num_sizes", "1", "--flops_per_second", "1 GFLOP/s"]
    assert main([*words, "--law", str(tmp_path / "prior.json")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("scalestop: error: ") and err.count("\n") == 1 and "Not a directory" in err


# ---- one command a rung, and other engines


def test_a_worker_of_one_rung_leaves_the_others(tmp_path, trained):
    ladder = ladder_of(tmp_path)
    name = ladder.rungs[-1].name
    assert work(ladder, only=name, stay=False) == []
    assert trained == [name]
    with pytest.raises(InputError, match=r"rung: .* has no 'nope'; `--launcher print` tells their names"):
        work(ladder, only="nope")


def test_a_branch_alone_trains_its_trunk_first(tmp_path, trained):
    ladder = ladder_of(tmp_path, trunk=True)
    branch = next(rung for rung in ladder.rungs if rung.kind == "branch")
    assert work(ladder, only=branch.name, stay=False) == []
    assert trained == [branch.trunk, branch.name]


def test_a_third_engine_needs_three_methods(tmp_path, trained):
    """Submit, wait, cancel: whatever happens, what was started is ended."""

    class Mine:
        def __init__(self, error=None):
            self.said, self.error = [], error

        def submit(self, ladder, workers):
            self.said.append(workers)
            return "started"

        def wait(self, ladder):
            self.said.append("waits")
            if self.error is not None:
                raise self.error
            work(ladder)

        def cancel(self):
            self.said.append("cancels")

    ladder, mine, out = ladder_of(tmp_path), Mine(), io.StringIO()
    launching.run_on(mine, ladder, 3, Console(file=out))
    assert mine.said == [3, "waits", "cancels"] and out.getvalue().startswith("started")
    assert sorted(trained) == sorted(rung.name for rung in ladder.rungs)
    broken = Mine(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        launching.run_on(broken, ladder, 1, Console(file=out))
    assert broken.said[-1] == "cancels"
    queued = Mine()
    launching.run_on(queued, ladder, 1, Console(file=out), wait=False)
    assert queued.said == [1]
