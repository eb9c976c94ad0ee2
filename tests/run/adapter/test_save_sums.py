"""Sums at a checkpoint, over a real TCP store: exact when all save, an estimate when one saves alone, nothing left."""

from __future__ import annotations

import threading

import pytest
from stores import Counted, tcp_store

from scalestop.run.adapter.save_sums import SaveSums

BEYOND_INT64 = 2**70


def ranks_of(store, world: int, nonce: str = "fit", patience: float = 0.05) -> list[SaveSums]:
    return [SaveSums(nonce, patience, store, rank, world) for rank in range(world)]


def numbers(rank: int) -> list[int]:
    return [rank, BEYOND_INT64 + rank]


def save(ranks: list[SaveSums], moment: str):
    """All of them save; the writing rank is asked last, so that none has to wait."""
    others = [ranks[rank](moment, numbers(rank)) for rank in range(1, len(ranks))]
    assert set(others) <= {None}
    return ranks[0](moment, numbers(0))


@pytest.fixture(scope="module")
def master():
    return tcp_store()


@pytest.mark.parametrize("world", [2, 100])
def test_a_checkpoint_is_one_request_a_rank_and_leaves_no_key(master, world):
    store = Counted(master)
    before = master.num_keys()
    ranks = ranks_of(store, world)
    assert save(ranks, "5/0/1") == [sum(range(world)), world * BEYOND_INT64 + sum(range(world))]
    assert store.requests == {"append": world, "get": 1}
    assert master.num_keys() == before + 1
    assert save(ranks, "9/0/1") is not None
    assert master.num_keys() == before + 1  # not one more for each checkpoint
    ranks[0].close()
    assert master.num_keys() == before
    assert sum(store.requests.values()) == 2 * (world + 2)


def test_the_writing_rank_waits_for_the_slow_ones(master):
    """It asks first, on a connection of its own, as processes do."""
    ranks = [SaveSums("slow", 60.0, tcp_store(master), rank, 3) for rank in range(3)]
    found, asked = [], threading.Event()

    class Tells(Counted):
        def get(self, key):
            asked.set()
            return master.get(key)

    ranks[0]._store = Tells(ranks[0]._store)
    writer = threading.Thread(target=lambda: found.append(ranks[0]("1/0/0", numbers(0))))
    writer.start()
    assert asked.wait(60)
    for rank in (1, 2):
        ranks[rank]("1/0/0", numbers(rank))
    writer.join(60)
    assert found == [[3, 3 * BEYOND_INT64 + 3]]


def test_one_that_saves_alone_gets_no_sum_and_spoils_no_later_one(master):
    ranks = ranks_of(master, 3, "alone")
    assert ranks[0]("1/0/0", numbers(0)) is None
    assert ranks[1]("2/0/0", numbers(1)) is None
    assert save(ranks, "3/0/0") == [3, 3 * BEYOND_INT64 + 3]
    ranks[1]("4/0/0", numbers(1))  # some of them, and not the one that writes
    assert ranks[0]("4/0/0", numbers(0)) is None


def test_one_that_always_saves_alone_soon_waits_less(master, monkeypatch):
    waited = []
    monkeypatch.setattr("scalestop.run.adapter.save_sums.time", FakeTime(waited))
    ranks = ranks_of(master, 2, "lonely", patience=20.0)
    for moment in ("1/0/0", "2/0/0"):
        waited.append(0.0)
        ranks[0](moment, numbers(0))
    assert 19.0 < waited[0] <= 20.0 and waited[1] <= 1.0
    assert save(ranks, "3/0/0") is not None
    waited.append(0.0)
    ranks[0]("4/0/0", numbers(0))
    assert waited[-1] > 19.0  # the others save too, after all


class FakeTime:
    """Time that passes only while somebody sleeps; sums up by checkpoint."""

    def __init__(self, waited: list[float]) -> None:
        self.now, self.waited = 0.0, waited

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.waited[-1] += seconds


def test_two_files_of_one_moment_hold_the_same_counts(master):
    """A last and a best checkpoint: the others leave their numbers twice, in whatever order."""
    ranks = ranks_of(master, 2, "twice")
    for _ in range(2):
        ranks[1]("7/0/2", numbers(1))
    assert ranks[0]("7/0/2", numbers(0)) == ranks[0]("7/0/2", numbers(0)) == [1, 2 * BEYOND_INT64 + 1]


def test_a_checkpoint_resumed_twice_in_a_process_reads_its_own_fit_alone(master):
    """Both fits come through the same moments; in the second one the other rank does not save."""
    first, second = ranks_of(master, 2, "first fit"), ranks_of(master, 2, "second fit")
    first[1]("3/0/1", [1000])
    assert first[0]("3/0/1", [1]) == [1001]
    assert second[0]("3/0/1", [1]) is None
    second[1]("3/0/1", [2000])
    assert second[0]("3/0/1", [1]) == [2001]


def test_a_store_that_fails_or_cannot_append_gives_an_estimate():
    class Broken:
        def append(self, key, value):
            raise RuntimeError("Connection reset by peer")

    ranks = ranks_of(Broken(), 2)
    assert ranks[0]("1/0/0", [1]) is None and ranks[1]("1/0/0", [1]) is None
    ranks[0].close()
