"""Examples, configs and README blocks do what they say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from scalestop import RunRecord

ROOT = Path(__file__).parent.parent


def run(arguments, cwd):
    result = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(cwd)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_quickstart_stops_where_it_planned(tmp_path):
    out = run([ROOT / "examples" / "quickstart.py"], tmp_path)
    match = re.search(r"^(\w+) after (\d+) steps, planned (\d+)$", out, re.MULTILINE)
    assert match is not None, out
    assert match[1] == "COMPUTE_OPTIMAL" and match[2] == match[3]


def test_quickstart_is_short():
    code = [line for line in (ROOT / "examples" / "quickstart.py").read_text().splitlines() if line.strip()]
    assert len(code) <= 30


def test_the_config_is_the_main_job_and_runs(tmp_path):
    config = yaml.safe_load((ROOT / "configs" / "train_tiny.yaml").read_text())
    assert config["budget"] == "2e12 FLOPs"
    words = ["-m", "scalestop.cli", "train", "--config", ROOT / "configs" / "train_tiny.yaml", "--budget", "2e10 FLOPs"]
    run(words, tmp_path)
    assert RunRecord.load(tmp_path / "runs" / "version_0" / "scalestop.json").stop_reason == "COMPUTE_OPTIMAL"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_readme_python_blocks_run(number, tmp_path):
    script = tmp_path / "block.py"
    script.write_text(blocks("python")[number])
    run([script], tmp_path)


def test_readme_names_only_commands_that_exist():
    from scalestop.cli import COMMANDS

    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"(?:^|\W)scalestop ([a-z]+)(?= --| list| show|`|$)", text, re.MULTILINE))
    assert named and named <= set(COMMANDS)
