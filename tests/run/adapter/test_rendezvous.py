"""Ranks that meet or do not, over a real TCP store: all that are there get the same answer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from stores import tcp_store

from scalestop.run.adapter import rendezvous
from scalestop.run.adapter.rendezvous import Rendezvous


@pytest.fixture(scope="module")
def master():
    return tcp_store()


@pytest.fixture(scope="module")
def stores(master):
    """A connection for each rank; opening one takes longer than what is tested."""
    return [tcp_store(master) for _ in range(5)]


def meet(stores, nonce: str, world: int, coming: int, place: str = "end") -> list[bool]:
    """Each rank on a connection of its own, all at once."""
    ranks = [Rendezvous(nonce, store, world) for store in stores[:coming]]
    with ThreadPoolExecutor(coming) as pool:
        found = list(pool.map(lambda rank: rank(place), ranks))
    for rank in ranks:
        rank.close()
    return found


@pytest.mark.parametrize("world", [1, 2, 5])
def test_all_that_come_meet_and_leave_nothing(master, stores, monkeypatch, world):
    monkeypatch.setattr(rendezvous, "PATIENCE", 60.0)
    before = master.num_keys()
    assert meet(stores, f"all {world}", world, world) == [True] * world
    assert master.num_keys() == before


def test_whoever_waits_for_one_that_does_not_come_goes_on_and_so_does_the_late_one(stores, monkeypatch):
    monkeypatch.setattr(rendezvous, "PATIENCE", 0.05)
    assert meet(stores, "late", 3, 2) == [False, False]
    assert meet(stores, "late", 3, 1) == [False]  # the last one to come, though all three have been here by now


def test_one_answer_for_all_however_close_the_race(stores, monkeypatch):
    """A rank that gives up at the moment at which the last one comes: both go in, or neither."""
    monkeypatch.setattr(rendezvous, "PATIENCE", 0.001)
    answers = [meet(stores, f"race {i}", 3, 3) for i in range(40)]
    assert all(len(set(answer)) == 1 for answer in answers)


class Scripted:
    """A store in which something happens between a rank's time-out and its answer."""

    def __init__(self, store, then) -> None:
        self._store, self._then = store, then

    def __getattr__(self, name):
        return getattr(self._store, name)

    def wait(self, keys, timeout):
        self._then()
        raise RuntimeError("Timeout")


@pytest.mark.parametrize("last_comes", [True, False])
def test_the_last_moment(master, monkeypatch, last_comes):
    """The second of two comes just before the first gives up, or just after."""
    nonce, found = f"moment {last_comes}", []
    second = Rendezvous(nonce, master, 2)
    first = Rendezvous(nonce, Scripted(master, lambda: last_comes and found.append(second("end"))), 2)
    mine = first("end")
    if not last_comes:
        found.append(second("end"))
    assert [mine, *found] == [last_comes] * 2


def test_a_store_that_is_gone_is_nobody_to_meet():
    class Gone:
        def add(self, key, amount):
            raise RuntimeError("Connection reset by peer")

    assert Rendezvous("gone", Gone(), 2)("end") is False
