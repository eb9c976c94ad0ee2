"""A ladder on a real Ray on this machine, one of whose workers is killed."""

from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path

import pytest
from ladder_toys import micro
from rich.console import Console

from scalestop import InputError
from scalestop.ladder.launch import launch
from scalestop.ladder.plan import plan_ladder
from scalestop.ladder.store import Ladder


def test_without_ray_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    ladder = Ladder.open(plan_ladder(micro(tmp_path)))
    with pytest.raises(InputError, match=r"launcher: 'ray' needs ray; pip install scalestop\[ray\]"):
        launch(ladder, "ray", 1, Console(file=io.StringIO()))


@pytest.fixture
def killer(tmp_path, monkeypatch):
    """Kills the first worker that trains, from inside and once: Ray sees a process that is gone."""
    mark = tmp_path / "killed"
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import os, signal\n"
        "def _arm():\n"
        "    from scalestop.ladder import work\n"
        "    train = work.train_rung\n"
        "    def once(ladder, rung):\n"
        "        try:\n"
        f"            os.close(os.open({str(mark)!r}, os.O_CREAT | os.O_EXCL))\n"
        "        except FileExistsError:\n"
        "            return train(ladder, rung)\n"
        f"        os.kill(os.getpid(), {int(signal.SIGKILL)})\n"
        "    work.train_rung = once\n"
        "if os.environ.get('SCALESTOP_KILL'):\n"
        "    import importlib.abc, importlib.util, sys\n"
        "    class Finder(importlib.abc.MetaPathFinder):\n"
        "        def find_spec(self, name, path=None, target=None):\n"
        "            if name != 'scalestop.ladder.ray_engine':\n"
        "                return None\n"
        "            sys.meta_path.remove(self)\n"
        "            _arm()\n"
        "            return None\n"
        "    sys.meta_path.insert(0, Finder())\n"
    )
    here = Path(__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, [site, here.parent, here])))
    monkeypatch.setenv("SCALESTOP_KILL", "1")
    return mark


@pytest.mark.slow
def test_every_rung_is_trained_though_a_worker_is_killed(tmp_path, killer):
    ray = pytest.importorskip("ray")
    ladder, out = Ladder.open(plan_ladder(micro(tmp_path))), io.StringIO()
    try:
        assert launch(ladder, "ray", 2, Console(file=out, width=200)) == []
    finally:
        ray.shutdown()
    assert killer.exists()
    assert f"queued {len(ladder.rungs)} tasks on Ray" in out.getvalue()
