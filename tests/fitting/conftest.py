"""The public tables, read once."""

from __future__ import annotations

import numpy as np
import pytest
from fitting_data import chinchilla_runs, data_folder, read_columns


@pytest.fixture(scope="session")
def chinchilla() -> dict[str, np.ndarray]:
    """The 240 runs that Besiroglu et al. 2024 fit: columns params, tokens, loss."""
    return chinchilla_runs()


@pytest.fixture(scope="session")
def gadre() -> dict[str, np.ndarray]:
    """All 104 runs of Gadre et al. 2024."""
    return read_columns(data_folder() / "gadre_testbed.csv")
