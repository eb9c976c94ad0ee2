"""Files that anybody may have written."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from scalestop import get_law
from scalestop.errors import InputError, shown
from scalestop.files import as_path, disk_trouble, parse_json, read_json, write_whole


class Rude:
    def __repr__(self):
        raise RuntimeError("no")


def looped():
    found: list = []
    found.append(found)
    return found


def nested(depth):
    found: list = []
    for _ in range(depth):
        found = [found]
    return found


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("abc", "'abc'"),
        (3, "3"),
        ("x" * 500, "'" + "x" * 159 + "... (502 characters)"),
        (10**5000, "a value of type int that cannot be printed"),
        (Rude(), "a value of type Rude that cannot be printed"),
        (nested(100_000), "a value of type list that cannot be printed"),
        (looped(), "[[...]]"),
        ("two\nlines", "'two\\nlines'"),
    ],
    ids=["text", "int", "long text", "long int", "rude", "deep", "looped", "lines"],
)
def test_a_value_is_shown_in_one_short_line_whatever_it_is(value, text):
    assert shown(value) == text


@pytest.mark.parametrize(("given", "why"), [("~nobody-at-all/x", "there is no such user"), ("a\0b", "zero byte")])
def test_a_path_that_is_none_is_told_by_its_argument(given, why):
    with pytest.raises(InputError, match=f"^law: .*{why}"):
        as_path(given, "law")
    assert as_path("~/x", "law") == Path.home() / "x"


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000, "1" * 5000, "{"],
    ids=["[", "{", "[]", "long", "half"],
)
def test_json_that_cannot_be_decoded_is_a_value_error(text):
    with pytest.raises(ValueError):
        parse_json(text)


def test_json_files_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "bin.json").write_bytes(b"\xff\xfe")
    for path, why in ((tmp_path, "cannot be read: Is a directory"), (tmp_path / "bin.json", "is not JSON: ")):
        with pytest.raises(InputError, match=f"law: {path} {why}"):
            read_json(path, "law")


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path):
    """In a process whose files may not grow: the kernel refuses the write in its middle, as a full disk does."""
    path = write_whole(tmp_path / "deep" / "law.json", "old")
    script = "import sys; from pathlib import Path; from scalestop.files import write_whole; "
    done = subprocess.run(
        [sys.executable, "-c", script + "write_whole(Path(sys.argv[1]), 'x' * 100_000)", str(path)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)),
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 1 and "File too large" in done.stderr
    assert path.read_text() == "old" and os.listdir(path.parent) == ["law.json"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x.ckpt"), "No space left on device: x.ckpt"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
        (RuntimeError("[enforce fail at inline_container.cc] . PytorchStreamWriter failed writing file"), "PytorchStr"),
        (FileNotFoundError(errno.ENOENT, "No such file"), None),
        (RuntimeError("out of luck"), None),
        (ValueError("No space left on device"), None),
    ],
)
def test_trouble_with_the_disk_is_told_from_other_trouble(error, text):
    found = disk_trouble(error)
    assert (found is None) == (text is None) and (found or "").startswith(text or "")


def test_what_is_no_file_stays_what_it_is(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    end = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_whole(tmp_path / "pipe", "law")
    assert os.read(end, 10) == b"law" and (tmp_path / "pipe").is_fifo()
    os.close(end)
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path / "folder", "law")
    assert os.listdir(tmp_path / "folder") == [] and sorted(os.listdir(tmp_path)) == ["folder", "pipe"]


def test_a_law_saved_to_a_link_is_saved_where_it_leads(tmp_path):
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    law = get_law("besiroglu")
    assert law.save(tmp_path / "link.json") == tmp_path / "link.json"
    assert (tmp_path / "link.json").is_symlink() and get_law(tmp_path / "real.json") == law
