"""Faults x moments x set-ups: after each, exact counts on resume, or the error that is documented for it.

A fault either ends the run, and then it is the user's own error that comes out, the record holds what was trained to
the token, and the resumed run ends where the unbroken one does; or it is survived, and the run ends where the unbroken
one does with one warning; or the run is refused before its first batch, in words that say what to do.
"""

from __future__ import annotations

import errno
import io
import itertools
import os
import pickle
import re
import signal
import sys
import tempfile
import warnings

import pytest
import pytorch_lightning as pl
import torch
from faults.scenes import (
    MOMENTS,
    SETUPS,
    VALIDATES,
    At,
    assert_as_unbroken,
    assert_record_of,
    assert_taken_up,
    go,
    last_kept,
    own,
    unbroken,
)
from pytorch_lightning.loggers import CSVLogger
from toys import ResumableLoader

from scalestop.errors import InputError, ScalestopWarning
from scalestop.run.records import RunRecord


@pytest.fixture(autouse=True)
def _signals_as_they_were():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def table(*cases, every=3):
    """Parameters with readable ids; all but every so many of them are slow, so that the quick ones take 20 s."""
    marked = []
    for i, case in enumerate(cases):
        slow = i % every != i // every % every  # along the diagonal, so that no set-up is left out
        marked.append(pytest.param(*case, marks=pytest.mark.slow if slow else (), id=" | ".join(map(str, case))))
    return marked


# ---- what ends the run

ENDINGS = {
    "bug": lambda: ZeroDivisionError("the user's own"),
    "device error": lambda: RuntimeError("CUDA error: device-side assert triggered"),
    "memory": lambda: MemoryError("out of memory"),
    "disk full": lambda: OSError(errno.ENOSPC, "No space left on device"),
    "ctrl-c": lambda: KeyboardInterrupt(),
}
ENDED = [
    case
    for case in itertools.product(ENDINGS, MOMENTS, SETUPS)
    if SETUPS[case[2]].validates or case[1] not in VALIDATES
]


def trained_by(moment: str, outcome) -> int:
    """Batches that were trained on by a moment: the one at hand counts once it has been stepped."""
    return len(outcome.toy.batches) - (moment == "backward")


@pytest.mark.parametrize(("fault", "moment", "setup"), table(*ENDED, every=9))
def test_ended(fault, moment, setup, tmp_path):
    error = ENDINGS[fault]()

    def strike():
        raise error

    callback = own(SETUPS[setup], verbose=False)
    at = At(moment, strike, callback)
    late = moment in ("stop", "plan")
    outcome = go(SETUPS[setup], tmp_path, callback, [] if late else [at], [at] if late else [])
    if isinstance(error, KeyboardInterrupt):
        assert isinstance(outcome.error, SystemExit) and outcome.error.__context__ is error
    else:
        assert outcome.error is error and not hasattr(error, "__notes__")
    assert outcome.warned == []
    assert_record_of(outcome, SETUPS[setup], trained_by(moment, outcome), type(error).__name__)
    assert_taken_up(setup, tmp_path, last_kept(tmp_path))


def preempt():
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("moment", "setup"),
    table(*[c for c in itertools.product(("first step", "in a window", "backward", "step"), SETUPS)]),
)
def test_preempted(moment, setup, tmp_path):
    """Lightning ends the run after the batch at hand, and our checkpoint of that moment goes on from there."""
    callback = own(SETUPS[setup], verbose=False)
    outcome = go(SETUPS[setup], tmp_path, callback, [At(moment, preempt, callback)])
    assert isinstance(outcome.error, SystemExit) and type(outcome.error).__name__ == "SIGTERMException"
    assert callback.checkpoint_path.parent == tmp_path / "kept" and "preempted" in callback.checkpoint_path.name
    assert_record_of(outcome, SETUPS[setup], len(outcome.toy.batches), "SIGTERMException")
    # where a validation was due with that batch, Lightning takes it for done
    assert_taken_up(setup, tmp_path, callback.checkpoint_path, validation=False)


@pytest.mark.parametrize(
    ("moment", "setup"), table(*itertools.product(("first step", "in a window", "step"), ("plain", "accumulate")))
)
def test_preempted_onto_a_full_disk(moment, setup, tmp_path, monkeypatch):
    """Nothing can be saved any more; the record says what was used, and the user's own checkpoint goes on."""
    callback = own(SETUPS[setup], verbose=False)
    keeps = pl.Trainer.save_checkpoint

    def save(trainer, path, *args, **kwargs):
        if "scalestop-preempted" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        keeps(trainer, path, *args, **kwargs)

    monkeypatch.setattr(pl.Trainer, "save_checkpoint", save)
    outcome = go(SETUPS[setup], tmp_path, callback, [At(moment, preempt, callback)])
    assert type(outcome.error).__name__ == "SIGTERMException" and callback.checkpoint_path is None
    assert_record_of(outcome, SETUPS[setup], len(outcome.toy.batches), "SIGTERMException")
    monkeypatch.undo()
    assert_taken_up(setup, tmp_path, last_kept(tmp_path))


class BrokenLoader(ResumableLoader):
    """Raises before its seventh batch."""

    def __iter__(self):
        for i, batch in enumerate(super().__iter__()):
            if i == 6:
                raise self.error
            yield batch


@pytest.mark.parametrize(
    ("fault", "setup"),
    table(*itertools.product(("bug", "disk full", "memory"), ("plain", "accumulate", "manual", "validation"))),
)
def test_a_dataset_raises(fault, setup, tmp_path, monkeypatch):
    BrokenLoader.error = ENDINGS[fault]()
    callback = own(SETUPS[setup], verbose=False)
    with monkeypatch.context() as patch:
        patch.setattr("faults.scenes.ResumableLoader", BrokenLoader)
        outcome = go(SETUPS[setup], tmp_path, callback)
    assert outcome.error is BrokenLoader.error
    # Lightning fetches a batch ahead, so the sixth may be waiting
    assert len(outcome.toy.batches) in (5, 6)
    assert_record_of(outcome, SETUPS[setup], len(outcome.toy.batches), type(outcome.error).__name__)
    assert_taken_up(setup, tmp_path, last_kept(tmp_path))


@pytest.mark.parametrize(("at", "setup"), table(*itertools.product((0, 1, 5), ("plain", "accumulate", "manual"))))
def test_an_optimizer_raises(at, setup, tmp_path, monkeypatch):
    error, calls = RuntimeError("the optimizer's state is gone"), []
    steps = torch.optim.SGD.step

    def step(self, closure=None):
        loss = closure() if closure is not None else None  # the batch goes through the model
        calls.append(self)
        if len(calls) > at:
            raise error
        steps(self)
        return loss

    callback = own(SETUPS[setup], verbose=False)
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", step)
        outcome = go(SETUPS[setup], tmp_path, callback)
    assert outcome.error is error
    assert_record_of(outcome, SETUPS[setup], len(outcome.toy.batches) - 1, "RuntimeError")
    assert_taken_up(setup, tmp_path, last_kept(tmp_path))


# ---- what is survived

STORAGE = {
    "disk full": OSError(errno.ENOSPC, "No space left on device"),
    "torch": RuntimeError("[enforce fail at inline_container.cc] . PytorchStreamWriter failed writing file"),
    "object store": ConnectionError("SlowDown: please reduce your request rate"),
    "pickling": pickle.PicklingError("Can't pickle <function <lambda>>"),
    "memory": MemoryError(),
    "foreign": type("ClientError", (Exception,), {})("403 Forbidden"),
}


@pytest.mark.parametrize(
    ("fault", "setup"),
    table(*itertools.product(STORAGE, SETUPS), every=4),
)
def test_the_stop_cannot_be_saved(fault, setup, tmp_path, monkeypatch):
    keeps, error = pl.Trainer.save_checkpoint, STORAGE[fault]

    def save(trainer, path, *args, **kwargs):
        if "scalestop-stop" not in str(path):
            return keeps(trainer, path, *args, **kwargs)
        with open(path, "wb") as file:
            file.write(b"half")
        raise error

    callback = own(SETUPS[setup], verbose=False)
    with monkeypatch.context() as patch:
        patch.setattr(pl.Trainer, "save_checkpoint", save)
        outcome = go(SETUPS[setup], tmp_path, callback)
    assert_as_unbroken(setup, outcome)
    assert outcome.warned == [f"the checkpoint could not be written: {type(error).__name__}: {error}"]
    assert callback.checkpoint_path is None and not list(tmp_path.rglob("*scalestop*.c*"))
    assert_taken_up(setup, tmp_path, last_kept(tmp_path))


class Deaf(CSVLogger):
    """Takes none of our metrics."""

    error: Exception

    def log_metrics(self, metrics, step=None):
        if any(name.startswith("scalestop/") for name in metrics):
            raise self.error
        super().log_metrics(metrics, step)


class Hears(CSVLogger):
    """Keeps what it is told."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.heard: list[float] = []

    def log_metrics(self, metrics, step=None):
        if "scalestop/tokens" in metrics:
            self.heard.append(metrics["scalestop/tokens"])
        super().log_metrics(metrics, step)


LOGGERS = {
    "server away": ConnectionError("the tracking server is away"),
    "disk full": OSError(errno.ENOSPC, "No space left on device"),
    "rejects": ValueError("metric names may not hold a slash"),
}


@pytest.mark.parametrize(
    ("fault", "place", "setup"),
    table(*itertools.product(LOGGERS, ("before a good one", "after a good one"), ("plain", "accumulate", "manual"))),
)
def test_a_logger_raises(fault, place, setup, tmp_path):
    deaf, hears = Deaf(tmp_path / "deaf"), Hears(tmp_path / "hears")
    deaf.error = LOGGERS[fault]
    callback = own(SETUPS[setup], verbose=False)
    loggers = [deaf, hears] if place.startswith("before") else [hears, deaf]
    outcome = go(SETUPS[setup], tmp_path, callback, logger=loggers)
    assert_as_unbroken(setup, outcome)
    metrics = [line for line in outcome.warned if line.startswith("metrics could not be logged: ")]
    assert metrics == [f"metrics could not be logged: {deaf.error}"]  # once, though it raises at every interval
    assert set(outcome.warned) - set(metrics) <= {f"Deaf: {deaf.error}"}  # and of what is told at the end
    steps = unbroken(setup)[0]["optimizer_steps"]
    assert len(hears.heard) == steps // 3 + (steps % 3 > 0) and hears.heard[-1] == callback.usage.tokens_non_padding
    assert outcome.trainer.callback_metrics["scalestop/tokens"] == callback.usage.tokens_non_padding
    assert_taken_up(setup, tmp_path, last_kept(tmp_path))


class Broken(io.StringIO):
    def __init__(self, error: Exception, when: str) -> None:
        super().__init__()
        self.error, self.failures = error, 0
        setattr(self, when, self.fail)

    def fail(self, *args):
        self.failures += 1
        raise self.error


OUTPUT = {
    "closed pipe": BrokenPipeError(errno.EPIPE, "Broken pipe"),
    "disk full": OSError(errno.ENOSPC, "No space left on device"),
    "closed file": ValueError("I/O operation on closed file."),
    "ascii terminal": UnicodeEncodeError("ascii", "≈", 0, 1, "ordinal not in range(128)"),
}


@pytest.mark.parametrize(
    ("fault", "when", "setup"),
    table(*itertools.product(OUTPUT, ("write", "flush"), ("plain", "validation"))),
)
def test_stdout_raises(fault, when, setup, tmp_path, monkeypatch):
    out = Broken(OUTPUT[fault], when)
    callback = own(SETUPS[setup])
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        outcome = go(SETUPS[setup], tmp_path, callback)
    assert out.failures >= 2  # the plan and the closing line
    assert_as_unbroken(setup, outcome)
    assert outcome.warned == []
    assert_taken_up(setup, tmp_path, last_kept(tmp_path))


def no_room(error):
    def fail(*args, **kwargs):
        raise error

    return fail


RECORDS = {
    "disk full": (tempfile, "mkstemp", OSError(errno.ENOSPC, "No space left on device")),
    "read-only": (tempfile, "mkstemp", OSError(errno.EROFS, "Read-only file system")),
    "quota": (os, "fdopen", OSError(errno.EDQUOT, "Disk quota exceeded")),
    "no rights": (os, "chmod", PermissionError(errno.EPERM, "Operation not permitted")),
}


@pytest.mark.parametrize(("fault", "setup"), table(*itertools.product(RECORDS, ("plain", "accumulate", "validation"))))
def test_the_record_cannot_be_written(fault, setup, tmp_path, monkeypatch):
    module, name, error = RECORDS[fault]
    callback = own(SETUPS[setup], verbose=False)
    at = At("train end", lambda: monkeypatch.setattr(module, name, no_room(error)))
    outcome = go(SETUPS[setup], tmp_path, callback, [at])
    monkeypatch.undo()
    assert_as_unbroken(setup, outcome, record=False)
    assert outcome.warned == [f"the record could not be written to {tmp_path}: {error}"]
    assert callback.record_path is None
    assert not list(tmp_path.glob("*.json")) and not list(tmp_path.glob(".scalestop*"))
    assert_taken_up(setup, tmp_path, last_kept(tmp_path))


@pytest.mark.parametrize("place", ["file in the way", "record of another run", "somebody's notes", "half a record"])
def test_the_records_place_is_taken(place, tmp_path):
    setup, taken = SETUPS["plain"], tmp_path / "scalestop.json"
    if place == "file in the way":
        blocked = tmp_path / "file"
        blocked.write_text("in the way")
        outcome = go(setup, tmp_path, own(setup, verbose=False), logger=CSVLogger(blocked, version=0))
        assert isinstance(outcome.error, OSError)  # Lightning's own logger cannot write there either
        return
    content = {"somebody's notes": "notes", "half a record": '{"schema": "scalestop.record/2", "run"'}.get(place)
    if content is None:
        go(setup, tmp_path, own(setup, verbose=False))
        content = taken.read_text()
    taken.write_text(content)
    outcome = go(setup, tmp_path, own(setup, verbose=False))
    assert_as_unbroken("plain", outcome)
    assert outcome.callback.record_path.name == "scalestop-2.json" and taken.read_text() == content


class Unreadable(dict):
    """Metrics of which one cannot be read, as after an error on a device."""

    def __getitem__(self, name):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


@pytest.mark.parametrize(
    ("moment", "setup"),
    table(("fit end", "plain"), ("fit end", "accumulate"), ("fit end", "manual"), ("fit end", "validation")),
)
def test_a_metric_cannot_be_read(moment, setup, tmp_path, monkeypatch):
    callback = own(SETUPS[setup], verbose=False, loss_metric="val_loss")
    metrics = property(lambda trainer: Unreadable(val_loss=1.0))
    at = At(moment, lambda: monkeypatch.setattr(pl.Trainer, "callback_metrics", metrics))
    outcome = go(SETUPS[setup], tmp_path, callback, [at])
    monkeypatch.undo()
    assert_as_unbroken(setup, outcome, record=False)
    told = ["the loss could not be read: RuntimeError: CUDA error: an illegal memory access was encountered"]
    assert outcome.warned == ([] if setup == "validation" else told)  # that was read when it was new
    record = RunRecord.load(callback.record_path)
    assert record.loss == pytest.approx(3, abs=2) and record.exact is True
    assert_taken_up(setup, tmp_path, last_kept(tmp_path))


@pytest.mark.parametrize(
    ("also", "moment", "setup"),
    table(
        *itertools.product(
            ("metrics", "record", "stdout", "learning rate"),
            ("first step", "in a window", "step"),
            ("plain", "accumulate"),
        )
    ),
)
def test_the_users_error_is_not_hidden_by_a_second_one(also, moment, setup, tmp_path, monkeypatch):
    error, callback = RuntimeError("CUDA error: device-side assert triggered"), own(SETUPS[setup])

    def strike():
        if also == "metrics":
            monkeypatch.setattr(pl.Trainer, "callback_metrics", property(no_room(error)))
        if also == "record":
            monkeypatch.setattr(tempfile, "mkstemp", no_room(OSError(errno.ENOSPC, "full")))
        if also == "stdout":
            monkeypatch.setattr(sys, "stdout", Broken(BrokenPipeError(), "write"))
        if also == "learning rate":
            monkeypatch.setattr(pl.Trainer, "optimizers", property(no_room(error)))
        raise error

    outcome = go(SETUPS[setup], tmp_path, callback, [At(moment, strike)])
    monkeypatch.undo()
    assert outcome.error is error
    if also == "record":
        assert callback.record_path is None
        (line,) = outcome.warned
        assert line.startswith("the record could not be written")
    else:
        assert_record_of(outcome, SETUPS[setup], len(outcome.toy.batches), "RuntimeError")
    assert_taken_up(setup, tmp_path, last_kept(tmp_path))


def test_a_filter_that_makes_warnings_errors_hides_no_error(tmp_path, monkeypatch):
    """The filter is the user's own wish, and obeyed while the run goes on; what ended it comes out all the same."""
    error = ZeroDivisionError()

    def strike():
        monkeypatch.setattr(tempfile, "mkstemp", no_room(OSError(errno.ENOSPC, "full")))
        raise error

    with warnings.catch_warnings():
        warnings.simplefilter("error", ScalestopWarning)
        with pytest.raises(ZeroDivisionError) as raised:
            SETUPS["plain"].fit([At("step", strike), own(SETUPS["plain"], verbose=False)], tmp_path)
    assert raised.value is error


# ---- what is refused before the first batch

STATES = {
    "a later release": ({"schema": 99}, "has schema 99, this scalestop reads up to 2; update scalestop, or"),
    "no version": ({"schema": "x"}, "has schema 'x', which is no version; take another checkpoint, or"),
    "no counts": ({"meter": None}, "meter in the callback's state cannot be None; take another checkpoint"),
    "half the counts": ({"meter": {"tokens": 5}}, "is damaged: meter state: missing .*; take another checkpoint"),
    "negative counts": ({"negative": True}, "is damaged: meter state: tokens must be a count; got -64; take another"),
    "no run": ({"run": 5}, "run in the callback's state cannot be 5; take another checkpoint"),
    "an old curve of words": ({"schema": 1, "curve": [["a", "b"]]}, "curve in the .* holds no pairs of numbers; take"),
    "a history of words": ({"history": {"curve": "abc"}}, "is damaged: history: cannot be read: .*; take another"),
    "no mapping": ("text", "the callback's state is a str, no mapping; take another checkpoint"),
    "a missing part": ("del", "the callback's state lacks fingerprint; take another checkpoint"),
}


def kept_by(name: str, folder):
    """The user's last checkpoint of a run that ended as planned: from some steps before its end."""
    go(SETUPS[name], folder, own(SETUPS[name], verbose=False))
    return last_kept(folder)


@pytest.mark.parametrize(("fault", "setup"), table(*itertools.product(STATES, ("plain", "manual", "validation"))))
def test_a_damaged_state_is_refused(fault, setup, tmp_path):
    changes, message = STATES[fault]
    path, callback = kept_by(setup, tmp_path), own(SETUPS[setup], verbose=False)
    content = torch.load(path, weights_only=True)
    state = content["callbacks"][callback.state_key]
    if changes == "text":
        content["callbacks"][callback.state_key] = "text"
    elif changes == "del":
        del state["fingerprint"]
    elif "negative" in changes:
        state["meter"]["tokens"] = -64
    else:
        state.update(changes)
    torch.save(content, tmp_path / "damaged.ckpt")
    record = (tmp_path / "scalestop.json").read_text()
    outcome = go(SETUPS[setup], tmp_path, callback, ckpt_path=tmp_path / "damaged.ckpt")
    assert isinstance(outcome.error, InputError) and outcome.toy.batches == []
    assert re.search(message, str(outcome.error))
    assert (tmp_path / "scalestop.json").read_text() == record
    assert_taken_up(setup, tmp_path, path)  # the one before it is as good as ever


@pytest.mark.parametrize(
    ("left", "setup"), table(*itertools.product((0, 1, 100, 0.25, 0.5, 0.9, 0.999), ("plain", "accumulate")))
)
def test_a_checkpoint_that_was_cut_off_is_refused(left, setup, tmp_path):
    path, callback = kept_by(setup, tmp_path), own(SETUPS[setup], verbose=False)
    whole = path.read_bytes()
    cut = tmp_path / "cut.ckpt"
    cut.write_bytes(whole[: left if isinstance(left, int) else int(left * len(whole))])
    outcome = go(SETUPS[setup], tmp_path, callback, ckpt_path=cut)
    assert outcome.error is not None and outcome.toy.batches == [] and callback.record_path is None
    if left != 1:  # one byte tells nothing of what it was
        (note,) = outcome.error.__notes__
        assert ("is empty" if left == 0 else "is truncated") in note and note.endswith("take another checkpoint")
    assert_taken_up(setup, tmp_path, path)


@pytest.mark.parametrize(
    ("answer", "setup"),
    table(*itertools.product(("warn", "error", "estimate", "initial_tokens"), ("plain", "accumulate", "manual"))),
)
def test_a_checkpoint_without_counts(answer, setup, tmp_path):
    path = kept_by(setup, tmp_path)
    content = torch.load(path, weights_only=True)
    name = own(SETUPS[setup]).state_key
    before = content["callbacks"].pop(name)["meter"]["tokens"]
    torch.save(content, tmp_path / "bare.ckpt")
    options = {"initial_tokens": before} if answer == "initial_tokens" else {"on_missing_state": answer}
    callback = own(SETUPS[setup], verbose=False, **options)
    outcome = go(SETUPS[setup], tmp_path, callback, ckpt_path=tmp_path / "bare.ckpt")
    whole = unbroken(setup)[0]
    if answer == "error":
        assert isinstance(outcome.error, InputError) and outcome.toy.batches == []
        assert "holds no counts of this callback; initial_tokens=" in str(outcome.error)
        return
    assert outcome.error is None
    record = RunRecord.load(callback.record_path)
    if answer == "warn":
        (line,) = outcome.warned
        assert "the tokens behind it are unknown and count as 0" in line
        trained = sum(batch.tokens for batch in outcome.toy.batches)
        assert trained == callback.usage.tokens >= SETUPS[setup].tokens and record.exact is False
    else:
        assert outcome.warned == [] and record.exact is (answer == "initial_tokens")
        used = callback.usage
        assert (used.tokens, used.flops, used.optimizer_steps) == (
            whole["tokens"],
            whole["flops"],
            whole["optimizer_steps"],
        )
