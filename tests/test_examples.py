"""Examples, configs and README blocks do what they say."""

import re
from pathlib import Path

import pytest
import yaml
from processes import Forked, run_script, scalestop

from scalestop import RunRecord

ROOT = Path(__file__).parent.parent


def run(script, folder):
    bare = {"OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    done = Forked(run_script, script, folder=folder, variables=bare).wait()
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_quickstart_stops_where_it_planned(tmp_path):
    out = run(ROOT / "examples" / "quickstart.py", tmp_path)
    match = re.search(r"^(\w+) after (\d+) steps, planned (\d+)$", out, re.MULTILINE)
    assert match is not None, out
    assert match[1] == "COMPUTE_OPTIMAL" and match[2] == match[3]


def test_quickstart_is_short():
    code = [line for line in (ROOT / "examples" / "quickstart.py").read_text().splitlines() if line.strip()]
    assert len(code) <= 30


@pytest.mark.slow
def test_the_config_is_the_main_job_and_runs(tmp_path):
    config = yaml.safe_load((ROOT / "configs" / "train_tiny.yaml").read_text())
    assert config["budget"] == "2e12 FLOPs"
    words = ("train", "--config", ROOT / "configs" / "train_tiny.yaml", "--budget", "2e9 FLOPs", "--out", "runs")
    done = scalestop(*words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert RunRecord.load(tmp_path / "runs" / "version_0" / "scalestop.json").stop_reason == "COMPUTE_OPTIMAL"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_readme_python_blocks_run(number, tmp_path):
    script = tmp_path / "block.py"
    script.write_text(blocks("python")[number])
    run(script, tmp_path)


def test_readme_python_blocks_run_at_a_third_of_the_budget(tmp_path):
    """The same lines; the stop of the first screen takes over a thousand steps."""
    together = "\n".join(blocks("python"))
    assert "6e10 FLOPs" in together
    script = tmp_path / "blocks.py"
    script.write_text(together.replace("6e10 FLOPs", "1.5e10 FLOPs"))
    said = run(script, tmp_path)
    assert re.search(
        r"^scalestop: BUDGET_EXHAUSTED: 1\.5e10 FLOPs of the 1\.5e10 FLOPs budget .* steps$", said, re.MULTILINE
    )
