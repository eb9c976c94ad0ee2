"""Batches: exact counts, one order for each seed, and the same batches after a resume."""

import signal

import pytest
import torch
from processes import Forked, run_code
from text_toys import Recorder, digest, trainer

from scalestop.errors import InputError
from scalestop.lab.corpus import embedded_corpus
from scalestop.lab.data import FixedWindows, TextData, TrainStream, batch_size_for


@pytest.fixture
def counting():
    """3,001 bytes, each telling its place: value 0..255 at place modulo 256."""
    return (torch.arange(3001) % 256).to(torch.uint8)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "book.txt").write_bytes(bytes(embedded_corpus().train[:5000].numpy()))
    return str(tmp_path / "text")  # 4,700 bytes to train on: 18 batches of 8 x 32


def test_shapes_and_shifted_labels(counting):
    batch = next(iter(TrainStream(counting, context=10, batch_size=4)))
    assert batch["input_ids"].shape == batch["labels"].shape == (4, 10)
    assert batch["input_ids"].dtype == batch["labels"].dtype == torch.int64
    assert torch.equal(batch["labels"], (batch["input_ids"] + 1) % 256)
    assert torch.equal(batch["labels"][:, :-1], batch["input_ids"][:, 1:])


def test_batches_grow_slower_than_the_run():
    sizes = [batch_size_for(tokens) for tokens in (1e4, 1.1e5, 1.1e6, 3.7e6, 2e7)]
    assert sizes == [1, 1, 3, 7, 19]
    assert batch_size_for(3.7e6, context=32) == 28


def test_one_pass_takes_every_window_once(counting):
    stream = TrainStream(counting[:256], context=10, batch_size=1, seed=3)
    starts = sorted(batch["input_ids"][0, 0].item() for batch in stream)
    assert len(starts) == len(stream) == 24
    assert starts == list(range(starts[0], starts[0] + 240, 10))


def test_every_batch_is_full(counting):
    assert {tuple(batch["input_ids"].shape) for batch in TrainStream(counting, 10, 7)} == {(7, 10)}


def test_the_order_is_a_function_of_the_seed(counting):
    def order(seed):
        return [digest(batch) for batch in TrainStream(counting, 10, 4, seed)]

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert not set(order(1)) & set(order(2))


def test_passes_differ_and_iterating_goes_on(counting):
    stream = TrainStream(counting, 10, 4, seed=1)
    first, second = [digest(b) for b in stream], [digest(b) for b in stream]
    assert not set(first) & set(second)
    assert [digest(stream.batch(number)) for number in range(2 * len(stream))] == first + second


def test_state_moves_to_a_fresh_stream(counting):
    unbroken = TrainStream(counting, 10, 4, seed=1)
    expected = [digest(unbroken.batch(number)) for number in range(200)]
    stream = TrainStream(counting, 10, 4, seed=1)
    iterator = iter(stream)
    for _ in range(17):
        next(iterator)
    fresh = TrainStream(counting, 10, 4, seed=1)
    fresh.load_state_dict(stream.state_dict())
    assert [digest(batch) for batch in fresh] == expected[17 : 17 + len(fresh)]


def test_state_holds_plain_ints(counting):
    assert {type(value) for value in TrainStream(counting, 10, 4).state_dict().values()} == {int}


def test_ranks_share_the_stream(counting):
    whole = TrainStream(counting, 10, 4, seed=5)
    shards = [TrainStream(counting, 10, 4, seed=5, rank=rank, world_size=2) for rank in range(2)]
    together = [digest(shards[number % 2].batch(number // 2)) for number in range(100)]
    assert together == [digest(whole.batch(number)) for number in range(100)]


def test_world_size_may_change_on_resume(counting):
    shard = TrainStream(counting, 10, 4, seed=5, rank=1, world_size=2)
    iterator = iter(shard)
    for _ in range(6):
        next(iterator)
    alone = TrainStream(counting, 10, 4, seed=5)
    alone.load_state_dict(shard.state_dict())
    assert digest(next(iter(alone))) == digest(alone.batch(12))


def test_state_of_another_order_is_refused(counting):
    state = TrainStream(counting, 10, 4, seed=1).state_dict()
    with pytest.raises(InputError, match="batch_size: the checkpoint's data stream has 4, this one 8; resume with"):
        TrainStream(counting, 10, 8, seed=1).load_state_dict(state)


def test_text_too_short_for_a_batch(counting):
    with pytest.raises(InputError, match=r"batch_size 16 x context 128 .* has 200 bytes, at least 2176 are needed"):
        TrainStream(counting[:200], 128, 16)
    assert len(TrainStream(counting[:2176], 128, 16)) == 1


def test_validation_windows_are_spread_and_fixed():
    text = (torch.arange(64_001) % 256).to(torch.uint8)
    windows = FixedWindows(text, context=32, batch_size=8, num_tokens=320)
    batches = list(windows)
    assert windows.num_tokens == 320 == sum(batch["input_ids"].numel() for batch in batches)
    assert [len(batch["input_ids"]) for batch in batches] == [8, 2]
    assert [digest(batch) for batch in windows] == [digest(batch) for batch in batches]


def test_validation_uses_what_there_is(counting):
    assert FixedWindows(counting, 10, 8, 10**9).num_tokens == 3000
    with pytest.raises(InputError, match="context 5000: the held-out text has 3001 bytes"):
        FixedWindows(counting, 5000, 8, 100)


def test_validation_shards_cover_all_windows_once(counting):
    whole = torch.cat([batch["input_ids"] for batch in FixedWindows(counting, 10, 8, 10**9)])
    parts = [torch.cat([b["input_ids"] for b in FixedWindows(counting, 10, 8, 10**9, rank, 3)]) for rank in range(3)]
    assert sorted(torch.cat(parts)[:, 0].tolist()) == sorted(whole[:, 0].tolist())


@pytest.mark.parametrize("name", ["context", "batch_size", "val_tokens", "val_batch_size"])
def test_sizes_must_be_positive(name):
    with pytest.raises(InputError, match=f"{name} is 0; it must be at least 1"):
        TextData(**{name: 0})


def test_negative_seed_is_refused():
    with pytest.raises(InputError, match="seed is -1; it must be between 0 and"):
        TextData(seed=-1)


def test_trainer_sees_exactly_the_tokens_of_the_batch_shapes(tmp_path, folder):
    data, model = TextData(folder, context=32, batch_size=8), Recorder()
    trainer(tmp_path, max_steps=30).fit(model, data)
    assert model.tokens == 30 * data.tokens_per_batch == 30 * 8 * 32
    stream = data.train_dataloader()
    assert model.seen == [digest(stream.batch(number)) for number in range(30)]


@pytest.mark.parametrize("limit", [1.0, 7])
@pytest.mark.parametrize("saved_at", [3, 18, 31])
def test_resumed_run_sees_what_the_unbroken_run_saw(tmp_path, folder, saved_at, limit):
    unbroken = Recorder()
    trainer(tmp_path, max_steps=45, limit_train_batches=limit).fit(unbroken, TextData(folder, context=32, batch_size=8))

    first = Recorder()
    run = trainer(tmp_path, max_steps=saved_at, limit_train_batches=limit)
    run.fit(first, TextData(folder, context=32, batch_size=8))
    run.save_checkpoint(tmp_path / "half.ckpt")
    second = Recorder()
    trainer(tmp_path, max_steps=45, limit_train_batches=limit).fit(
        second, TextData(folder, context=32, batch_size=8), ckpt_path=tmp_path / "half.ckpt", weights_only=True
    )
    assert first.seen + second.seen == unbroken.seen
    assert torch.equal(second.embedding.weight, unbroken.embedding.weight)


KILLED_RUN = """
import sys
import pytorch_lightning as pl
from text_toys import Recorder, trainer
from scalestop.lab.data import TextData
root, folder, log, kill_at = sys.argv[1:]
save = pl.callbacks.ModelCheckpoint(root, "last", every_n_train_steps=4, save_on_train_epoch_end=False)
run = trainer(root, max_steps=50, enable_checkpointing=True, callbacks=[save])
run.fit(Recorder(log, int(kill_at)), TextData(folder, context=32, batch_size=8))
"""


@pytest.mark.slow
def test_killed_and_resumed_is_the_unbroken_run(tmp_path, folder):
    def go(log, ckpt=None):
        model = Recorder(tmp_path / log)
        trainer(tmp_path, max_steps=50).fit(model, TextData(folder, context=32, batch_size=8), ckpt_path=ckpt)
        return model, dict(line.split() for line in (tmp_path / log).read_text().splitlines())

    words = (str(tmp_path), folder, str(tmp_path / "killed.log"), "23")
    assert Forked(run_code, KILLED_RUN, *words, folder=tmp_path).wait().returncode == -signal.SIGKILL
    killed_log = dict(line.split() for line in (tmp_path / "killed.log").read_text().splitlines())
    whole, whole_log = go("whole.log")
    resumed, resumed_log = go("resumed.log", tmp_path / "last.ckpt")
    assert list(map(int, killed_log)) == list(range(23))
    assert list(map(int, resumed_log)) == list(range(20, 50))
    assert {**killed_log, **resumed_log} == whole_log
    assert torch.equal(resumed.embedding.weight, whole.embedding.weight)
