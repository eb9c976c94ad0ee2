"""Where a run keeps its files, and that a save which fails harms neither the run nor other ranks."""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, Logger
from toys import C_OPT, Toy, stopping, train

from scalestop.errors import ScalestopWarning
from scalestop.lightning import saving
from scalestop.run.records import RunRecord


def short(**options):
    return stopping("640 tokens", oversized="ignore", **options)


class Tracker(Logger):
    """A logger that keeps each run in a folder of its own and says only where they all are, as W&B and MLflow do."""

    def __init__(self, folder, version: str) -> None:
        super().__init__()
        self._folder, self._version = folder, version

    name = "tracked"
    version = property(lambda self: self._version)
    save_dir = property(lambda self: str(self._folder))

    def log_metrics(self, metrics, step=None):
        pass

    def log_hyperparams(self, *args, **kwargs):
        pass


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]["head.weight"]


@pytest.mark.parametrize("kind", ["tracker", "no logger", "own directory", "no checkpoints of Lightning's"])
def test_a_second_run_leaves_the_first_ones_weights_and_record_alone(tmp_path, kind):
    runs = []
    for i in range(2):
        torch.manual_seed(i)
        callback, more = short(), {}
        callbacks = [callback]
        if kind == "tracker":
            more["logger"] = Tracker(tmp_path, f"run-{i}")
        if kind == "own directory":
            callbacks.append(ModelCheckpoint(tmp_path / "mine"))
        if kind.startswith("no checkpoints"):
            callbacks = [short(save_checkpoint=True)]
            more["enable_checkpointing"] = False
        trainer = train(callbacks, tmp_path, **more)
        runs.append((callbacks[0], trainer.toy.head.weight))
    (first, one), (second, other) = runs
    assert first.checkpoint_path != second.checkpoint_path and first.record_path != second.record_path
    assert torch.equal(weights(first.checkpoint_path), one) and torch.equal(weights(second.checkpoint_path), other)
    assert not torch.equal(one, other)
    folder = {
        "tracker": tmp_path / "tracked" / "run-0" / "checkpoints",
        "no logger": tmp_path / "checkpoints",
        "own directory": tmp_path / "mine",
    }.get(kind, tmp_path / "checkpoints" / RunRecord.load(first.record_path).run[:8])
    assert first.checkpoint_path.parent == folder and first.checkpoint_path.name == "scalestop-stop-step=10.ckpt"


def test_the_same_run_stopping_twice_at_a_step_keeps_both(tmp_path):
    first = short()
    train([first, ModelCheckpoint(tmp_path / "kept", every_n_train_steps=4, save_top_k=-1)], tmp_path)
    at_4 = next((tmp_path / "kept").glob("*step=4.ckpt"))
    again = short()
    train([again, ModelCheckpoint(tmp_path / "kept")], tmp_path, ckpt_path=at_4)
    assert again.record_path == first.record_path  # it is one run
    assert {p.name for p in (tmp_path / "kept").glob("scalestop*")} == {
        "scalestop-stop-step=10.ckpt",
        "scalestop-stop-step=10-v2.ckpt",
    }
    assert not [p for p in tmp_path.rglob(".*")]  # no claim is left


# ---- what leaves nothing


@pytest.mark.parametrize("record", [None, True])
def test_a_dry_run_keeps_nothing(tmp_path, record):
    callback = short(record=record, save_checkpoint=True)
    with pytest.warns(ScalestopWarning, match="max_steps=1"):
        train(callback, tmp_path, fast_dev_run=True)
    assert callback.record_path is None and callback.checkpoint_path is None
    assert list(tmp_path.rglob("*")) == []


def in_working_directory(monkeypatch, tmp_path, callbacks, **options):
    monkeypatch.chdir(tmp_path)
    defaults = {"max_epochs": -1, "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(callbacks=callbacks, num_sanity_val_steps=0, **{"logger": False, **defaults, **options})
    from toys import loader

    trainer.fit(Toy(), loader())
    return sorted(p.name for p in tmp_path.iterdir())


def test_a_run_that_keeps_nothing_leaves_nothing_in_the_working_directory(tmp_path, monkeypatch):
    for _ in range(2):
        assert in_working_directory(monkeypatch, tmp_path, [short()], enable_checkpointing=False) == []


def test_unless_a_record_is_asked_for(tmp_path, monkeypatch):
    left = in_working_directory(monkeypatch, tmp_path, [short(record=True)], enable_checkpointing=False)
    assert left == ["scalestop.json"]


def test_without_a_logger_the_record_lies_beside_the_checkpoints(tmp_path, monkeypatch):
    callback = short()
    assert in_working_directory(monkeypatch, tmp_path, [callback]) == ["checkpoints"]
    assert callback.record_path == tmp_path / "checkpoints" / "scalestop.json"


def test_with_a_logger_it_lies_with_the_logs(tmp_path, monkeypatch):
    callback = short()
    logger = CSVLogger("logs", version=0)
    assert in_working_directory(monkeypatch, tmp_path, [callback], logger=logger) == ["logs"]
    assert callback.record_path.resolve() == tmp_path / "logs" / "lightning_logs" / "version_0" / "scalestop.json"


# ---- saves that fail


class Two:
    """Two ranks in threads, each with the Trainer's own order of things: the write, and a barrier after it."""

    def __init__(self, folder, fails: dict[int, tuple[str, BaseException]]) -> None:
        self.met, self.ends = threading.Barrier(2, timeout=20), {}
        self.shared, self.folder, self.fails = {}, folder, fails
        self.collectives: dict[int, list[str]] = {0: [], 1: []}

    def together(self, rank: int, what: str) -> None:
        self.collectives[rank].append(what)
        self.met.wait()

    def trainer(self, rank: int):
        def broadcast(value):
            if rank == 0:
                self.shared["value"] = value
            self.together(rank, "broadcast")
            return self.shared["value"]

        def save(path):
            when, error = self.fails.get(rank, ("never", None))
            if when == "before":
                raise error
            if rank == 0:
                path.write_text("half")
            if when == "after":
                raise error
            self.together(rank, "barrier")

        strategy = SimpleNamespace(broadcast=broadcast, barrier=lambda name: self.together(rank, "barrier"))
        return SimpleNamespace(is_global_zero=rank == 0, strategy=strategy, save_checkpoint=save, rank=rank)

    def sum(self, trainer, values):
        self.shared[trainer.rank] = values
        self.together(trainer.rank, "sum")
        total = [sum(column) for column in zip(self.shared[0], self.shared[1], strict=True)]
        self.met.wait()
        return total

    def run(self, rank: int) -> None:
        try:
            self.ends[rank] = saving.save_checkpoint(self.trainer(rank), self.folder, "stop", "a" * 32)
        except BaseException as error:
            self.ends[rank] = error

    def both(self, monkeypatch):
        monkeypatch.setattr(saving._trainer, "world_size", lambda trainer: 2)
        monkeypatch.setattr(saving._trainer, "sum_over_ranks", self.sum)
        threads = [threading.Thread(target=self.run, args=(rank,)) for rank in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self.ends[0], self.ends[1]


ERRORS = [OSError(28, "No space left"), RuntimeError("torch"), MemoryError(), TypeError("pickle"), LookupError("S3")]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("ranks", [(0,), (1,), (0, 1)])
def test_ranks_meet_again_whatever_fails_on_which(tmp_path, monkeypatch, ranks, error, when):
    two = Two(tmp_path, {rank: (when, error) for rank in ranks})
    ends = two.both(monkeypatch)
    for rank, end in enumerate(ends):
        assert end is error if rank in ranks else (type(end), str(end)) == (OSError, "another rank could not write it")
    assert two.collectives[0] == two.collectives[1] == ["broadcast", "barrier", "sum"]
    assert os.listdir(tmp_path) == []


def test_ranks_agree_on_the_name(tmp_path, monkeypatch):
    one, other = Two(tmp_path, {}).both(monkeypatch)
    assert one == other == tmp_path / "stop.ckpt" and os.listdir(tmp_path) == ["stop.ckpt"]


def test_a_folder_that_cannot_be_made_is_an_error_on_all_ranks(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    two = Two(tmp_path / "file" / "deep", {})
    one, other = two.both(monkeypatch)
    assert isinstance(one, NotADirectoryError) and str(other) == "rank 0 found no name for it"
    assert two.collectives[0] == two.collectives[1] == ["broadcast"]


def test_a_url_gets_a_name_of_the_runs_own(monkeypatch):
    saved = []
    strategy = SimpleNamespace(broadcast=lambda value: value)
    trainer = SimpleNamespace(is_global_zero=True, strategy=strategy, save_checkpoint=saved.append)
    name = saving.save_checkpoint(trainer, "s3://bucket/runs/", "stop", "0123456789abcdef")
    assert saved == [name] == ["s3://bucket/runs/stop-01234567.ckpt"]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_whatever_a_save_raises_the_run_ends_as_planned(tmp_path, error, monkeypatch, capsys):
    def fail(trainer, path, *args, **kwargs):
        with open(path, "w") as file:
            file.write("half")
        raise error

    monkeypatch.setattr(pl.Trainer, "save_checkpoint", fail)
    callback = stopping(1.05 * C_OPT, save_checkpoint=True)
    with pytest.warns(ScalestopWarning, match="the checkpoint could not be written") as caught:
        trainer = train(callback, tmp_path, enable_checkpointing=False)
    (said,) = [str(w.message) for w in caught if w.category is ScalestopWarning]
    assert type(error).__name__ in said
    assert trainer.global_step == callback.plan.stop_step and callback.decision.stop
    assert callback.checkpoint_path is None and not list(tmp_path.rglob("*.ckpt"))
    assert RunRecord.load(callback.record_path).exact is True
    assert "scalestop: COMPUTE_OPTIMAL" in capsys.readouterr().out
