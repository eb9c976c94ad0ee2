from __future__ import annotations

import numpy as np
import pytest
from ladder_toys import PRIOR, micro, record_of
from report_toys import record, write_run

from scalestop.cli import main
from scalestop.ladder.plan import plan_ladder
from scalestop.ladder.store import Ladder


@pytest.fixture(scope="module")
def ladder(tmp_path_factory):
    """A ladder whose records follow its prior law, as if it had been trained; one of its runs is not done."""
    folder = tmp_path_factory.mktemp("ladder")
    budgets = ["1e8", "3e8", "1e9", "3e9"]
    plan = plan_ladder(micro(folder, budgets=budgets, num_sizes=4, held_out=["1e10"], target="1e11 FLOPs"))
    found = Ladder.open(plan)
    draw = np.random.default_rng(0)
    for rung in found.rungs[1:]:
        loss = float(PRIOR.loss(rung.num_params, rung.num_tokens)) * float(np.exp(0.005 * draw.standard_normal()))
        found.finish(rung, record_of(rung, loss=loss))
    return found.folder


def report(capsys, *words):
    code = main(["report", *map(str, words)])
    seen = capsys.readouterr()
    return code, seen.out + seen.err


def test_a_ladder_has_its_page(capsys, tmp_path, ladder):
    code, said = report(capsys, ladder, "--out", tmp_path / "ladder.html")
    assert code == 0 and said == f"page saved: {tmp_path / 'ladder.html'}\n"
    text = (tmp_path / "ladder.html").read_text()
    for words in ("for 1e11 FLOPs: expect a loss of", "Held out", "1 of 17 runs are not done yet", "The fit",
                  "Where the compute went", "Findings", "learning rate"):  # fmt: skip
        assert words in text, words
    assert text.count("<svg ") == 9


def test_a_run_and_several_runs_have_theirs(capsys, tmp_path):
    for name, size in (("a", 1.0), ("b", 3.0), ("version_0", 0.5)):
        write_run(tmp_path / name, record(size=size))
    assert report(capsys, tmp_path / "a", "--out", tmp_path / "one.html")[0] == 0
    assert "<h1>Run a</h1>" in (tmp_path / "one.html").read_text()
    folders = [tmp_path / name for name in ("a", "b", "version_0")]
    assert report(capsys, *folders, "--out", tmp_path / "three.md")[0] == 0
    text = (tmp_path / "three.md").read_text()
    assert "# 3 runs compared" in text and f"{tmp_path.name}/version_0" in text
    assert report(capsys, tmp_path, "--law", "besiroglu", "--out", tmp_path / "all.html")[0] == 0
    assert "Law besiroglu" in (tmp_path / "all.html").read_text()


def test_runs_of_one_name_are_told_apart(capsys, tmp_path):
    for folder in ("x", "y"):
        write_run(tmp_path / folder / "same", record(size=1.0 if folder == "x" else 2.0))
    assert report(capsys, tmp_path / "x", tmp_path / "y", "--out", tmp_path / "two.md")[0] == 0
    assert "same (1), same (2)" in (tmp_path / "two.md").read_text()


def test_what_cannot_be_reported_is_told_in_one_line(capsys, tmp_path, ladder):
    write_run(tmp_path / "live", record(), ended=False)
    for words, complaint in (
        ([tmp_path / "nowhere"], "nowhere"),
        ([tmp_path / "live"], "live"),
        ([ladder, tmp_path], "paths: a ladder's page is its own"),
        ([ladder, "--out", "page.txt"], "out: a page is one of .html, .htm, .md; got '.txt'"),
    ):
        code, said = report(capsys, *words)
        assert code == 2 and complaint in said and said.count("\n") == 1, said
    for i in range(6):
        write_run(tmp_path / "many" / str(i), record())
    code, said = report(capsys, tmp_path / "many")
    assert code == 2 and "paths: at most 5 runs are compared on one page; got 6" in said


def test_a_ladder_without_a_pilot_says_so(capsys, tmp_path):
    found = Ladder.open(plan_ladder(micro(tmp_path)))
    code, said = report(capsys, found.folder)
    assert code == 2 and "has a loss yet; train it with scalestop ladder" in said
