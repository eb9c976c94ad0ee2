"""Two ranks as two real processes."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

from processes import Forked, run_script
from toys import environment

WORKER = Path(__file__).parent / "lightning" / "distributed_worker.py"
HARD_TIMEOUT = 300
"""Seconds; a rank that hangs is a failed test."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def launch(folder: Path, cases: dict[str, dict]) -> dict[str, list[dict]]:
    """Run the cases on two ranks of one node, forked with what torchrun would tell them; each one's results by rank."""
    path = write(folder, cases)
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    shared |= {"TORCHELASTIC_RUN_ID": "none", "GROUP_RANK": "0"}
    ranks = [
        Forked(
            run_script,
            WORKER,
            str(path),
            folder=folder,
            variables=environment(**shared, RANK=rank, LOCAL_RANK=rank),
        )
        for rank in ("0", "1")
    ]
    ended = [rank.wait(HARD_TIMEOUT) for rank in ranks]
    log = "\n".join(done.stdout + done.stderr for done in ended)
    (folder / "ranks.log").write_text(log)
    assert [done.returncode for done in ended] == [0, 0], log[-6000:]
    return read(folder, cases)


def launch_nodes(folder: Path, cases: dict[str, dict]) -> dict[str, list[dict]]:
    """Run the cases on two nodes of one rank each, by torchrun itself."""
    path = write(folder, cases)
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--master-port", str(free_port())]
    command += ["--nproc-per-node", "1", "--master-addr", "127.0.0.1"]
    processes = []
    for node in range(2):
        with open(folder / f"node-{node}.log", "w") as log:
            one = [*command, "--node-rank", str(node), str(WORKER), str(path)]
            processes.append(subprocess.Popen(one, stdout=log, stderr=subprocess.STDOUT, env=environment(), cwd=folder))
    try:
        codes = [process.wait(HARD_TIMEOUT) for process in processes]
    finally:
        for process in processes:
            process.terminate()
    logs = "\n".join((folder / f"node-{node}.log").read_text()[-6000:] for node in range(2))
    assert codes == [0, 0], logs
    return read(folder, cases)


def write(folder: Path, cases: dict[str, dict]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "cases.json").write_text(json.dumps(cases))
    return folder / "cases.json"


def read(folder: Path, cases: dict[str, dict]) -> dict[str, list[dict]]:
    ranks = [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(2)]
    return {name: [rank[name] for rank in ranks] for name in cases}
