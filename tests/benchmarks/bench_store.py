"""What the counts of all ranks cost at a checkpoint, on a real TCP store.

    python tests/benchmarks/bench_store.py [--ranks 1024 16384] [--connections 32]

The ranks share a few connections, each in a thread of its own: what is measured is the store's time for their requests.
`written` is the time from the first rank's request until the writing rank has its sums; a rank that does not write has
long gone on by then.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from stores import Counted, tcp_store

from scalestop.run.adapter.save_sums import SaveSums

VALUES = [10**9] * 6 + [10**22, 10**21]
"""A rank's numbers, as large as they get."""


def measure(world: int, connections: int = 32, saves: int = 3) -> tuple[float, int, int]:
    """Return a checkpoint's seconds, the best of some, its requests, and the keys that are left in the end."""
    master = tcp_store()
    before = master.num_keys()
    stores = [Counted(tcp_store(master)) for _ in range(connections)]
    ranks = [SaveSums("fit", 600.0, stores[rank % connections], rank, world) for rank in range(world)]
    ranks[0]._store = own = Counted(tcp_store(master))
    best = float("inf")

    def leave(share: int, moment: str, gate: threading.Barrier) -> None:
        gate.wait()
        for rank in ranks[share::connections]:
            if rank is not ranks[0]:
                rank(moment, VALUES)

    with ThreadPoolExecutor(connections) as pool:
        for save in range(saves):
            gate = threading.Barrier(connections + 1)
            moment = f"{save}/0/0"
            waiting = [pool.submit(leave, share, moment, gate) for share in range(connections)]
            gate.wait()
            start = time.perf_counter()
            assert ranks[0](moment, VALUES) == [world * value for value in VALUES]
            best = min(best, time.perf_counter() - start)
            for one in waiting:
                one.result()
    ranks[0].close()
    requests = sum(sum(store.requests.values()) for store in [own, *stores])
    return best, requests // saves, master.num_keys() - before


@pytest.mark.benchmark
def test_requests_grow_with_the_ranks_and_no_faster():
    for world in (64, 1024):
        _, requests, left = measure(world)
        assert world < requests < world + 40 and left == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 1024, 16384])
    parser.add_argument("--connections", type=int, default=32)
    arguments = parser.parse_args()
    print(f"{'ranks':>8}{'written s':>12}{'requests':>10}{'keys left':>10}")
    for world in arguments.ranks:
        seconds, requests, left = measure(world, min(world, arguments.connections))
        print(f"{world:>8}{seconds:>12.3f}{requests:>10}{left:>10}")


if __name__ == "__main__":
    main()
