from __future__ import annotations

import numpy as np
import pytest
from fitting_data import surface_runs

from scalestop.errors import InputError
from scalestop.fitting import fit_law
from scalestop.fitting.tables.sweep import apart


@pytest.mark.parametrize("method", ["parametric", "kaplan"])
def test_one_budget_alone_is_refused_with_what_to_add(method: str) -> None:
    params = np.geomspace(1e8, 1e9, 30)
    tokens = 1e20 / 6 / params * np.exp(np.random.default_rng(0).uniform(-0.1, 0.1, 30))
    runs = {"params": params, "tokens": tokens, "loss": 1.8 + 480 / params**0.35 + 2100 / tokens**0.37}
    with pytest.raises(
        InputError, match=r"all 30 runs spend about one budget \(1e\+20 FLOPs\).* add runs of .*1e\+19 or 1e\+21 FLOPs"
    ):
        fit_law(runs, method)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["parametric", "kaplan"])
def test_two_sizes_are_refused_with_what_to_add(method: str) -> None:
    runs = surface_runs(30)
    # counts that differ by a head or an embedding are one size
    runs["params"] = np.where(np.arange(30) < 15, 1e8, 4e8) * (1 + 0.001 * np.arange(30))
    with pytest.raises(InputError, match=r"N takes fewer than three values.*of other params, such as 2\.5e\+07"):
        fit_law(runs, method)  # type: ignore[arg-type]
    runs = surface_runs(30)
    runs["tokens"] = np.where(np.arange(30) < 15, 1e9, 4e9)
    with pytest.raises(InputError, match=r"D takes fewer than three values.*of other tokens, such as 2\.5e\+08"):
        fit_law(runs, method)  # type: ignore[arg-type]


def test_runs_of_one_ratio_are_warned_of() -> None:
    runs = surface_runs(40)
    runs["tokens"] = 20 * runs["params"]
    messages = {f.code: f.message for f in fit_law(runs, bootstrap=0).diagnostics.findings}
    assert messages["one-ratio"].startswith("D rises with N in step (D/N 20 to 20)")
    assert "one-ratio" not in [f.code for f in fit_law(surface_runs(40), bootstrap=0).diagnostics.findings]


def test_values_close_together_count_once() -> None:
    assert apart(np.array([1.0, 2.2, 1.04, 2.0, 1.01, 2.25]), 1.05).tolist() == [0, 2, 0, 1, 0, 2]
