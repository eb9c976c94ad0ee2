"""The corpus: what is in it, that it is the same every time, and what a folder of the reader's own becomes."""

import os
import platform
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from scalestop.errors import InputError
from scalestop.lab import corpus as corpus_module
from scalestop.lab.corpus import SEPARATOR, embedded_corpus, is_held_out, load_corpus


def test_embedded_corpus_is_the_standard_library_and_nothing_else():
    corpus = embedded_corpus()
    stdlib = Path(sysconfig.get_path("stdlib"))
    train, val = bytes(corpus.train.numpy()), bytes(corpus.val.numpy())

    for name in ("argparse.py", "json/decoder.py", "asyncio/base_events.py"):
        text = (stdlib / name).read_bytes()
        assert text in (val if is_held_out(name) else train), name
    for name in ("pydoc_data/topics.py", "encodings/cp1252.py", "ensurepip/__init__.py"):
        path = stdlib / name
        if path.exists():
            assert path.read_bytes() not in train + val, name
    assert corpus.python_version == platform.python_version()
    assert len(train) + len(val) > 4_000_000
    assert 0.01 < len(val) / len(train + val) < 0.12


def test_no_held_out_file_is_trained_on():
    corpus = embedded_corpus()
    train = bytes(corpus.train.numpy())
    long_texts = [text for text in bytes(corpus.val.numpy()).split(SEPARATOR) if len(text) > 1000]
    assert len(long_texts) >= 5
    assert not [text[:60] for text in long_texts if text in train]


def test_another_process_reads_the_same_corpus():
    # PYTHONHASHSEED differs between the processes: a split by hash() would differ too.
    # The module alone, and in place of torch the two names it needs: loading torch and Lightning is most of the time.
    script = f"""
import runpy, sys
from types import SimpleNamespace
sys.modules["torch"] = SimpleNamespace(Tensor=object, from_numpy=lambda array: array)
c = runpy.run_path({corpus_module.__file__!r})["embedded_corpus"]()
print(c.sha256, len(c.train), len(c.val))
print(hash("a"))
"""
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    )
    corpus, (said, hashed) = embedded_corpus(), done.stdout.splitlines()
    assert said == f"{corpus.sha256} {len(corpus.train)} {len(corpus.val)}"
    assert int(hashed) != hash("a")


def test_describe_is_plain_values():
    corpus, described = embedded_corpus(), embedded_corpus().describe()
    assert (described["num_train_bytes"], described["num_val_bytes"]) == (len(corpus.train), len(corpus.val))
    assert {type(value) for value in described.values()} <= {str, int}


def test_held_out_files_keep_their_place_when_files_are_added(tmp_path):
    names = [f"part{number}.txt" for number in range(100)]
    chosen = {name for name in names if is_held_out(name)}
    assert 1 <= len(chosen) <= 15
    for name in names:
        (tmp_path / name).write_text(f"<{name}>" * 20)
    val = bytes(load_corpus(tmp_path).val.numpy()).decode()
    assert {name for name in names if f"<{name}>" in val} == chosen

    (tmp_path / "part100.txt").write_text("more")
    again = bytes(load_corpus(tmp_path).val.numpy()).decode()
    assert {name for name in names if f"<{name}>" in again} == chosen


def test_single_file_holds_out_its_tail(tmp_path):
    text = "".join(f"line {number}\n" for number in range(1000)).encode()
    (tmp_path / "book.txt").write_bytes(text)
    corpus = load_corpus(tmp_path / "book.txt")
    assert corpus.split == "tail"
    assert bytes(corpus.train.numpy()) + bytes(corpus.val.numpy()) == text
    assert len(corpus.val) == round(0.06 * len(text))
    assert corpus.python_version is None


def test_folder_leaves_out_hidden_binary_and_empty_files(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "deep" / "a.md").write_text("first" * 50)
    (tmp_path / "b.txt").write_text("second" * 50)
    (tmp_path / "image.png").write_bytes(b"\x89PNG\0\0" * 50)
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / ".secret").write_text("hidden" * 50)
    (tmp_path / ".git" / "config").write_text("hidden" * 50)
    corpus = load_corpus(tmp_path)
    whole = bytes(corpus.train.numpy()) + bytes(corpus.val.numpy())
    assert corpus.num_files == 2
    assert whole == b"second" * 50 + SEPARATOR + b"first" * 50


def test_hash_sees_names_and_cuts(tmp_path):
    for folder, files in {
        "one": {"a": "xy", "b": "z"},
        "two": {"a": "x", "b": "yz"},
        "three": {"a": "xy", "c": "z"},
    }.items():
        (tmp_path / folder).mkdir()
        for name, text in files.items():
            (tmp_path / folder / name).write_text(text)
    hashes = [load_corpus(tmp_path / folder).sha256 for folder in ("one", "two", "three")]
    assert len(set(hashes)) == 3
    assert load_corpus(tmp_path / "one").sha256 == hashes[0]


def test_missing_path_is_named(tmp_path):
    with pytest.raises(InputError, match=r"path: no file or folder at '.*nowhere'; give an existing one"):
        load_corpus(tmp_path / "nowhere")


def test_folder_without_text_says_what_it_saw(tmp_path):
    (tmp_path / "x.bin").write_bytes(b"\0")
    with pytest.raises(InputError, match=r"path: no text in .* \(files seen: 1; .*\); give a file or folder with text"):
        load_corpus(tmp_path)


def test_python_without_sources_points_to_path(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus_module.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(InputError, match=r"no standard library sources.*give your own text with path="):
        corpus_module.embedded_corpus.__wrapped__()
