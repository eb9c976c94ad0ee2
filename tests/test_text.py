"""The text files themselves: white space, line ends, links that lead somewhere, and a top level that holds no more."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOP = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "scalestop", "tests", "examples", "configs"}
TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".json", ".csv", ".jsonl", ""}


def files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def test_white_space():
    for path in files():
        if path.suffix not in TEXT:
            continue
        text = path.read_bytes().decode("utf-8")
        assert "\r" not in text, f"{path}: a carriage return"
        assert not text or text.endswith("\n"), f"{path}: no newline at its end"
        if path.suffix in {".py", ".md", ".toml", ".yaml"}:
            spaced = [number for number, line in enumerate(text.split("\n"), 1) if line != line.rstrip()]
            assert not spaced, f"{path}: white space at the end of lines {spaced}"


def test_the_top_level_holds_what_it_should():
    assert {path.relative_to(ROOT).parts[0] for path in files()} - TOP <= {
        path.relative_to(ROOT).parts[0] for path in files() if path.relative_to(ROOT).parts[0].startswith(".")
    }


def test_links_lead_somewhere():
    for page in [path for path in files() if path.suffix == ".md"]:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page}: {target} is not there"
