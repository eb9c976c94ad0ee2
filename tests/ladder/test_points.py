"""Resume points hold data and nothing else, and nothing in one is run."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from ladder_toys import Breaks, HoldsObjects, SavesObjects, micro, path_of

from scalestop.errors import InputError
from scalestop.ladder.plan import plan_ladder
from scalestop.ladder.points import UNREADABLE, latest_point, why_unreadable
from scalestop.ladder.run import train_rung
from scalestop.ladder.store import Ladder
from scalestop.ladder.work import work


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def ladder_of(folder, **changes):
    return Ladder.open(plan_ladder(micro(folder, **changes)))


def points(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".json" and path.name != "progress")


def test_a_point_that_would_run_code_is_set_aside_and_the_rung_begins_anew(tmp_path, capsys):
    ladder = ladder_of(tmp_path, num_sizes=1, budgets=["1e8"])
    (rung,) = ladder.rungs
    ladder.work(rung).mkdir(parents=True)
    torch.save({"state_dict": Payload(tmp_path / "ran")}, ladder.work(rung) / "step=5.ckpt")
    assert train_rung(ladder, rung).num_tokens == rung.num_tokens
    assert not (tmp_path / "ran").exists()
    assert (
        "step=5.ckpt is set aside, as it is no plain data: Trying to load unsupported GLOBAL posix.mkdir"
        in capsys.readouterr().err
    )


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    "content",
    [b"", b"half", pickle.dumps({"a": Path("x")}), b"PK\x03\x04 cut short"],
    ids=["empty", "text", "pickle", "zip"],
)
def test_a_damaged_point_gives_way_to_the_one_before(tmp_path, content):
    torch.save({"state_dict": {}}, tmp_path / "step=9.ckpt")
    (tmp_path / "step=10.ckpt").write_bytes(content)
    (tmp_path / "step=odd.ckpt").write_bytes(content)
    assert why_unreadable(tmp_path / "step=10.ckpt")
    assert latest_point(tmp_path) == tmp_path / "step=9.ckpt"
    assert points(tmp_path) == ["step=10.ckpt" + UNREADABLE, "step=9.ckpt", "step=odd.ckpt"]


def test_the_latest_point_is_that_of_the_most_steps(tmp_path):
    for step in (9, 100, 20):
        torch.save({}, tmp_path / f"step={step}.ckpt")
    assert latest_point(tmp_path) == tmp_path / "step=100.ckpt"
    assert latest_point(tmp_path / "nowhere") is None


def test_a_trunks_point_that_would_run_code_is_refused(tmp_path):
    ladder = ladder_of(tmp_path, trunk=True, steps=60, num_sizes=1, budgets=["1e8", "1.3e8"])
    branch = next(rung for rung in ladder.rungs if rung.kind == "branch")
    ladder.start_point(branch).parent.mkdir(parents=True)
    torch.save({"callbacks": Payload(tmp_path / "ran")}, ladder.start_point(branch))
    with pytest.raises(InputError, match=r"cannot be loaded as plain data: .* the trunk is trained again"):
        train_rung(ladder, branch)
    assert not (tmp_path / "ran").exists() and not ladder.is_done(branch)


def test_hyperparameters_of_any_class_are_not_in_a_point(tmp_path, monkeypatch):
    """A model whose arguments are objects is resumed all the same: the ladder builds it from its own settings."""
    monkeypatch.setenv("LADDER_NOTES", str(tmp_path / "broken"))
    ladder = ladder_of(tmp_path, num_sizes=1, budgets=["1e8"], model=path_of(HoldsObjects), checkpoint_seconds=1e-9)
    (rung,) = ladder.rungs
    assert work(ladder) == [rung.name]  # breaks at step 12
    point = latest_point(ladder.work(rung))
    assert point is not None
    content = torch.load(point, weights_only=True)
    assert not [name for name in content if "hyper_parameters" in name]
    assert work(ladder) == [] and ladder.is_done(rung)


def test_state_that_is_no_data_is_told_at_once_and_the_rung_still_ends(tmp_path, capsys):
    ladder = ladder_of(tmp_path, num_sizes=1, budgets=["1e8"], model=path_of(SavesObjects), checkpoint_seconds=1e-9)
    (rung,) = ladder.rungs
    assert train_rung(ladder, rung).num_tokens == rung.num_tokens
    said = capsys.readouterr().err
    assert said.count("begins anew if it is killed, as its checkpoint holds more than plain data and tensors") == 1


def test_a_trunk_whose_state_is_no_data_is_refused(tmp_path):
    options = {"trunk": True, "steps": 60, "num_sizes": 1, "budgets": ["1e8", "1.3e8"]}
    taken = {name: name for name in ("width", "depth", "num_heads", "lr", "warmup", "decay")}
    ladder = ladder_of(tmp_path, model=path_of(SavesObjects), model_args=taken, **options)
    trunk = next(rung for rung in ladder.rungs if rung.kind == "trunk")
    with pytest.raises(InputError, match=r"^trunk: branches cannot leave .* leave trunk out"):
        train_rung(ladder, trunk)
    assert not list(ladder.points(trunk.name).glob("*"))


def test_a_resumed_rung_loads_only_data(tmp_path, monkeypatch):
    """Lightning is told so: the file may change between the look at it and the load."""
    monkeypatch.setenv("LADDER_NOTES", str(tmp_path / "broken"))
    ladder = ladder_of(tmp_path, num_sizes=1, budgets=["1e8"], model=path_of(Breaks), checkpoint_seconds=1e-9)
    work(ladder)
    asked = []
    plain = torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: asked.append(k.get("weights_only")) or plain(*a, **k))
    assert work(ladder) == []
    assert len(asked) >= 2 and set(asked) == {True}
