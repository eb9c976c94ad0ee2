"""Files in shared folders: whole, under names of their own, and gone where they failed."""

from __future__ import annotations

import errno
import os
import threading

import pytest

from scalestop.run.files import free_name, write_new


def nobodys(path):
    return False


def test_names_count_up_and_none_is_written_over(tmp_path):
    for i in range(3):
        write_new(tmp_path / "deep" / "a.json", str(i), nobodys)
    assert {p.name: p.read_text() for p in (tmp_path / "deep").iterdir()} == {
        "a.json": "0",
        "a-2.json": "1",
        "a-3.json": "2",
    }


def test_ones_own_file_is_replaced_wherever_it_stands(tmp_path):
    for i in range(3):
        write_new(tmp_path / "a.json", str(i), nobodys)
    path = write_new(tmp_path / "a.json", "new", lambda path: path.read_text() == "1")
    assert path.name == "a-2.json" and path.read_text() == "new"
    assert len(os.listdir(tmp_path)) == 3


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.EMLINK])
def test_without_hard_links_names_are_taken_all_the_same(tmp_path, monkeypatch, code):
    def no_links(*args):
        raise OSError(code, "no hard links here")

    monkeypatch.setattr(os, "link", no_links)
    for i in range(3):
        write_new(tmp_path / "a.json", str(i), nobodys)
    assert sorted(p.read_text() for p in tmp_path.iterdir()) == ["0", "1", "2"]

    def full(*args):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="full"):
        write_new(tmp_path / "a.json", "3", nobodys)
    assert sorted(p.read_text() for p in tmp_path.iterdir()) == ["0", "1", "2"]


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "chmod", full)
    with pytest.raises(OSError, match="full"):
        write_new(tmp_path / "a.json", "x", nobodys)
    assert os.listdir(tmp_path) == []


def test_a_free_name_is_nobodys_and_is_held(tmp_path):
    (tmp_path / "a.ckpt").write_text("weights")
    with free_name(tmp_path / "a.ckpt") as first, free_name(tmp_path / "a.ckpt") as second:
        assert (first.name, second.name) == ("a-v2.ckpt", "a-v3.ckpt")
        first.write_text("1")
    with free_name(tmp_path / "a.ckpt") as third:
        assert third.name == "a-v3.ckpt"  # the second one wrote nothing
    assert sorted(os.listdir(tmp_path)) == ["a-v2.ckpt", "a.ckpt"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_failed_save_left_is_removed(tmp_path, kind):
    def save():
        with free_name(tmp_path / "a.ckpt") as name:
            if kind == "file":
                name.write_text("half")
            else:
                name.mkdir()
                (name / "shard").write_text("half")
            raise MemoryError

    with pytest.raises(MemoryError):
        save()
    assert os.listdir(tmp_path) == []


def test_many_at_once_get_a_name_each(tmp_path):
    together, names = threading.Barrier(8), []

    def save(i: int) -> None:
        for turn in range(4):
            together.wait(30)
            with free_name(tmp_path / "a.ckpt") as name:
                assert not name.exists()
                name.write_text(f"{i}-{turn}")
                names.append(name)

    threads = [threading.Thread(target=save, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({*names}) == 32
    assert sorted(p.read_text() for p in tmp_path.iterdir()) == sorted(
        f"{i}-{turn}" for i in range(8) for turn in range(4)
    )
