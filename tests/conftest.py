"""What the tests share: one thread, a model of a few hundred parameters, ragged data, and recounts by brute force."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import warnings

import hypothesis
import pytest
from hypothesis import settings

settings.register_profile("no clock", deadline=None)  # a loaded machine makes no test wrong
settings.load_profile("no clock")

# on a busy machine an example may take any time, and no test asserts one
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    try:
        import torch
    except ImportError:  # the theory's tests run without
        return
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _quiet_trainer():
    """Lightning warns of few workers and short epochs; the runs here are small on purpose."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(pytorch_lightning|lightning)\..*")
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        yield


def pytest_terminal_summary(terminalreporter):
    """One line of how many faults were injected, and what came of them."""
    found = {
        outcome: [r for r in terminalreporter.stats.get(outcome, []) if "tests/faults/" in getattr(r, "nodeid", "")]
        for outcome in ("passed", "failed", "error")
    }
    if injected := sum(map(len, found.values())):
        met = len(found["passed"])
        terminalreporter.write_line(
            f"faults: {injected} injected (fault x moment x set-up): {met} ended in exact counts or in the error that "
            f"is documented for them, {injected - met} did not"
        )
