from __future__ import annotations

import json
from pathlib import Path

import pytest

from scalestop.accounting.meter import Usage
from scalestop.accounting.params import ParamCount
from scalestop.cli import main
from scalestop.laws import get_law
from scalestop.planning.plan import make_plan
from scalestop.run.ended import build_record
from scalestop.run.stopping import decide

SIZE = 68_000


@pytest.fixture
def ended(tmp_path: Path) -> Path:
    """The folder of one run that ended just where it was forecast to."""
    plan = make_plan("1e12 FLOPs", get_law("stdlib-bytes"), SIZE, 256)
    d = plan.stop_tokens
    usage = Usage(tokens=d, tokens_non_padding=d, flops=6 * SIZE * d, optimizer_steps=plan.stop_step, seconds=5.0)
    params = ParamCount(SIZE, SIZE, 0, 0, SIZE, SIZE)
    # far in the future, so that a seal made now is older than the run
    build_record(plan=plan, params=params, usage=usage, decision=decide(plan, usage), loss=plan.loss_at_stop,
                 loss_name="val_loss", run="a", now=4e9).save(tmp_path / "a" / "scalestop.json")  # fmt: skip
    return tmp_path


def test_the_whole_way_from_forecast_to_score(ended: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seal = ended / "seal.json"
    words = ["forecast", "--law", "stdlib-bytes", "--budget", "1e12 FLOPs", "--params", str(SIZE), "--seal", str(seal)]
    assert main(words) == 0
    said = capsys.readouterr().out
    digest = json.loads(seal.read_text())["digest"]
    assert f"digest {digest}" in said and "90 % of runs" in said
    assert main(["score", str(ended), "--expect", digest, "--plot", str(ended / "score.png")]) == 0
    said = capsys.readouterr().out
    assert "1/1 = 100%" in said and "; sealed" in said and (ended / "score.png").read_bytes().startswith(b"\x89PNG")
    # nobody can move the line afterwards
    assert main(words) == 2
    assert "is there already, and a forecast is not written twice" in capsys.readouterr().err
    seal.chmod(0o644)
    seal.write_text(seal.read_text().replace('"loss": 1', '"loss": 2'))
    assert main(["score", str(ended), "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert not run["sealed"] and "is broken" in run["remark"]


def test_json_has_every_sum(ended: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(ended), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["all"]["count"], data["all"]["inside"], data["all"]["share_inside"]) == (1, 1, 1.0)
    assert data["all"]["mean_miss"] == 0 and data["runs"][0]["inside"] is True


def test_what_holds_no_record_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(tmp_path)]) == 2
    assert "no run can be held against a forecast: no run record is among them" in capsys.readouterr().err
