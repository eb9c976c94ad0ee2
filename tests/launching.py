"""Two ranks as two real processes."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

from toys import environment

WORKER = Path(__file__).parent / "lightning" / "distributed_worker.py"
HARD_TIMEOUT = 300
"""Seconds; a rank that hangs is a failed test."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def launch(folder: Path, cases: dict[str, dict], nodes: int = 1) -> dict[str, list[dict]]:
    """Run the cases on two ranks, on one node or on two, and return each case's results by rank."""
    folder.mkdir(exist_ok=True)
    (folder / "cases.json").write_text(json.dumps(cases))
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", str(nodes), "--master-port", str(free_port())]
    command += ["--nproc-per-node", str(2 // nodes), "--master-addr", "127.0.0.1"]
    processes = []
    for node in range(nodes):
        with open(folder / f"node-{node}.log", "w") as log:
            one = [*command, "--node-rank", str(node), str(WORKER), str(folder / "cases.json")]
            processes.append(subprocess.Popen(one, stdout=log, stderr=subprocess.STDOUT, env=environment(), cwd=folder))
    try:
        codes = [process.wait(HARD_TIMEOUT) for process in processes]
    finally:
        for process in processes:
            process.terminate()
    logs = "\n".join((folder / f"node-{node}.log").read_text()[-6000:] for node in range(nodes))
    assert codes == [0] * nodes, logs
    ranks = [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(2)]
    return {name: [rank[name] for rank in ranks] for name in cases}
