"""Claims and the folder: what concurrent and killed processes leave behind."""

import json
import os
import signal
from pathlib import Path

import pytest
from ladder_toys import holder, micro, record_of

from scalestop.errors import InputError
from scalestop.ladder.claims import Claim
from scalestop.ladder.plan import plan_ladder
from scalestop.ladder.store import Ladder

ROOT = Path(__file__).parents[2]


def test_a_claim_is_held_by_one_process_and_freed_by_its_death(tmp_path):
    path = tmp_path / "claims" / "rung.lock"
    owner, said = holder(path)
    rival, heard = holder(path)
    rival.communicate()
    assert (said, heard) == ("held", "refused")
    assert Claim.take(path) is None
    assert path.read_text().split()[1] == str(owner.pid)
    os.kill(owner.pid, signal.SIGKILL)
    owner.communicate()
    with Claim.take(path) as claim:
        assert claim is not None


def test_a_claim_is_not_kept_by_the_children_of_its_owner(tmp_path):
    claim = Claim.take(tmp_path / "rung.lock")
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:  # such as a data worker that outlives its parent
        os.write(told, b"x")
        signal.pause()
        os._exit(0)
    try:
        os.read(ready, 1)
        assert Claim.take(tmp_path / "rung.lock") is None
        claim.release()
        again = Claim.take(tmp_path / "rung.lock")
        assert again is not None
        again.release()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_rungs_are_taken_once_dearest_first_and_never_when_done(tmp_path):
    ladder = Ladder.open(plan_ladder(micro(tmp_path)))
    taken = []
    while (got := ladder.take()) is not None:
        taken.append(got)
    assert {rung.name for rung, _ in taken} == {rung.name for rung in ladder.rungs}
    assert [rung.flops for rung, _ in taken] == sorted((rung.flops for rung in ladder.rungs), reverse=True)
    rung, claim = taken[0]
    ladder.finish(rung, record_of(rung))
    claim.release()
    taken[1][1].release()
    assert ladder.take()[0] == taken[1][0]
    assert ladder.take(skip={taken[1][0].name}) is None


def test_a_branch_waits_for_its_point_and_a_done_ladder_for_nothing(tmp_path):
    ladder = Ladder.open(plan_ladder(micro(tmp_path, trunk=True, num_sizes=1, spread=1.5, budgets=["1e8", "1.3e8"])))
    names = {rung.kind: rung for rung in ladder.rungs}
    if "trunk" not in names:
        pytest.fail("the plan has no trunk to test")
    trunk, claim = ladder.take()
    assert trunk.kind == "trunk"
    assert ladder.take() is None and ladder.waits()
    first = min(ladder.branches(trunk.name), key=lambda rung: rung.start_tokens)
    ladder.start_point(first).parent.mkdir(parents=True)
    ladder.start_point(first).touch()
    assert ladder.take()[0] == first  # while the trunk goes on
    for rung in ladder.rungs:
        ladder.finish(rung, record_of(rung))
    claim.release()
    assert ladder.take() is None and not ladder.waits()
    assert not ladder.start_point(first).exists()  # nobody needs it any more


def test_a_ladder_is_read_back_as_it_was_written(tmp_path):
    ladder = Ladder.open(plan_ladder(micro(tmp_path, trunk=True)))
    again = Ladder.load(ladder.folder)
    assert again.rungs == ladder.rungs and again.target_flops == ladder.target_flops
    assert plan_ladder(again.settings).rungs == ladder.rungs


def test_a_ladder_can_grow_but_not_change_how_it_trains(tmp_path):
    first = Ladder.open(plan_ladder(micro(tmp_path)))
    done = first.rungs[0]
    first.finish(done, record_of(done))
    grown = Ladder.open(plan_ladder(micro(tmp_path, budgets=["2e8", "4e8"], target="9e9 FLOPs")))
    assert done.name in {rung.name for rung in grown.rungs} and grown.is_done(done)
    with pytest.raises(InputError) as error:
        Ladder.open(plan_ladder(micro(tmp_path, lr_scale=0.5)))
    assert "lr_scale was 0.2 and is 0.5" in str(error.value)
    assert "choose another folder" in str(error.value)


def test_what_a_kill_left_behind_a_record_is_cleared(tmp_path):
    ladder = Ladder.open(plan_ladder(micro(tmp_path)))
    done, other = ladder.rungs[:2]
    for rung in (done, other):
        ladder.work(rung).mkdir(parents=True)
        (ladder.work(rung) / "step=5.ckpt").touch()
    record_of(done).save(ladder.record_path(done))
    Ladder.open(plan_ladder(micro(tmp_path)))
    assert not ladder.work(done).exists()
    assert (ladder.work(other) / "step=5.ckpt").exists()


def test_what_is_no_ladder_is_told(tmp_path):
    with pytest.raises(InputError, match="no ladder"):
        Ladder.load(tmp_path)
    (tmp_path / "ladder.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        Ladder.load(tmp_path)
    (tmp_path / "ladder.json").write_text(json.dumps({"schema": "other"}))
    with pytest.raises(InputError, match="schema"):
        Ladder.load(tmp_path)
    ladder = Ladder.open(plan_ladder(micro(tmp_path)))
    path = ladder.folder / "ladder.json"
    path.write_text(path.read_text().replace('"spike"', '"spikes"'))
    with pytest.raises(InputError, match="spikes"):
        Ladder.load(ladder.folder)


def test_a_rung_named_out_of_the_folder_is_refused_before_anything_is_touched(tmp_path):
    ladder = Ladder.open(plan_ladder(micro(tmp_path / "here")))
    victim = tmp_path / "x"
    victim.mkdir()
    (victim / "precious").touch()
    path = ladder.folder / "ladder.json"
    path.write_text(path.read_text().replace(ladder.rungs[0].name, "../../../x"))
    with pytest.raises(InputError, match=r"ladder\.json: rung: name: letters, digits .* got '\.\./\.\./\.\./x'"):
        Ladder.load(ladder.folder)
    with pytest.raises(InputError, match="rung: name"):
        Ladder.open(plan_ladder(micro(tmp_path / "here")))
    assert (victim / "precious").exists() and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("inside", ["work", "records", "claims", "trunks"])
def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path, inside):
    ladder = Ladder.open(plan_ladder(micro(tmp_path, trunk=True)))
    rung = next(r for r in ladder.rungs if r.kind == ("trunk" if inside == "trunks" else "branch"))
    outside = tmp_path / "elsewhere"
    (outside / rung.name).mkdir(parents=True)
    (outside / rung.name / "precious").touch()
    place = ladder.folder / inside
    if place.exists():
        for file in place.iterdir():
            file.unlink()
        place.rmdir()
    place.symlink_to(outside)
    use = {
        "work": lambda: ladder._clear(rung),
        "records": lambda: ladder.finish(rung, record_of(rung)),
        "claims": lambda: ladder.take(),
        "trunks": lambda: ladder.finish(rung, record_of(rung)),
    }[inside]
    with pytest.raises(InputError, match=r"is a link that leads out of the ladder's folder"):
        use()
    assert [path.name for path in outside.iterdir()] == [rung.name]
    assert (outside / rung.name / "precious").exists()


def test_links_within_the_folder_and_to_the_folder_are_fine(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    ladder = Ladder.open(plan_ladder(micro(tmp_path / "link")))
    rung, claim = ladder.take()
    ladder.finish(rung, record_of(rung))
    claim.release()
    assert Ladder.load(tmp_path / "real" / "ladder").is_done(rung)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ([1], "schema 'list'"),
        ({"schema": [1]}, r"schema \[1\]"),
        ({"schema": "scalestop.ladder/1"}, "is damaged"),
        ({"rungs": 5}, "is damaged"),
        ({"rungs": [5]}, "rung: "),
        ({"rungs": [{}]}, "rung: 'points'"),
        ({"target_flops": "much"}, "is damaged"),
        ({"settings": {"num_sizes": "two"}}, "num_sizes: a whole number; got 'two'"),
        ({"settings": {"seeds": "x"}}, "seeds: a list of whole numbers"),
        ({"settings": {"law": "~nobody-at-all"}}, None),
        ({"settings": {"model": 5}}, "model: values by name"),
        ({"settings": {"trunk": 1}}, "trunk: true or false"),
        ({"settings": {"share": 10**400}}, "share: a finite number"),
    ],
)
def test_a_ladder_file_that_holds_anything(tmp_path, change, text):
    ladder = Ladder.open(plan_ladder(micro(tmp_path)))
    path = ladder.folder / "ladder.json"
    whole = json.loads(path.read_text())
    given = {**whole, **change} if isinstance(change, dict) and set(change) != {"schema"} else change
    if isinstance(given, dict) and "num_sizes" not in given.get("settings", {"num_sizes": 0}):
        given["settings"] = {**whole["settings"], **given["settings"]}
    path.write_text(json.dumps(given))
    if text is None:
        Ladder.load(ladder.folder)  # whether the law is there shows when it is asked for
        return
    with pytest.raises(InputError, match=text):
        Ladder.load(ladder.folder)


def test_a_rung_twice_is_refused(tmp_path):
    ladder = Ladder.open(plan_ladder(micro(tmp_path)))
    path = ladder.folder / "ladder.json"
    data = json.loads(path.read_text())
    data["rungs"].append(data["rungs"][0])
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match="names a rung twice"):
        Ladder.load(ladder.folder)


@pytest.mark.parametrize("name", ["records", "text.json"])
@pytest.mark.parametrize("content", [b"\xff", b"[" * 100_000, b"null"], ids=["binary", "deep", "null"])
def test_damaged_files_in_the_folder_are_named(tmp_path, name, content):
    ladder = Ladder.open(plan_ladder(micro(tmp_path)))
    rung = ladder.rungs[0]
    path = ladder.record_path(rung) if name == "records" else ladder.folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    with pytest.raises(InputError, match=path.name.replace("+", r"\+")):
        ladder.record(rung) if name == "records" else ladder.text()
