from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fitting_data import ROOT, data_folder, surface_runs

from scalestop.errors import InputError
from scalestop.fitting import fit_law
from scalestop.fitting.plausible import unit_findings
from scalestop.fitting.tables.read import read_runs

TINY = ROOT / "examples" / "stdlib_ladder_runs.csv"


def found(runs: object) -> dict[str, str]:
    return {finding.code: finding.message for finding in unit_findings(read_runs(runs))}


def columns(path: Path) -> dict[str, np.ndarray]:
    table = read_runs(path)
    return {"params": table.params, "tokens": table.tokens, "loss": table.loss}


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"params": 1e-6}, "params-unit", "look as if given in millions"),
        ({"tokens": 1e-3}, "tokens-unit", "steps, thousands or millions"),
        ({"tokens": 1e-6}, "tokens-unit", "steps, thousands or millions"),
        ({"tokens": 1e-9}, "tokens-unit", "millions or billions"),
        ({"tokens": 1 / 2**19}, "tokens-unit", "Give the tokens trained on (steps times tokens a step)"),
        ({"params": 1e-6, "tokens": 1e-6}, "params-unit", "look as if given in millions or billions"),
    ],
)
def test_counts_in_other_units_are_named(change: dict[str, float], code: str, words: str) -> None:
    runs = surface_runs(60)
    runs |= {name: runs[name] * factor for name, factor in change.items()}
    assert words in found(runs)[code]
    (finding,) = [f for f in fit_law(runs, bootstrap=0).diagnostics.findings if f.code == code]
    assert finding.severity == "warning"


def test_steps_of_tiny_runs_are_named_too() -> None:
    runs = columns(TINY)
    assert list(found({**runs, "tokens": runs["tokens"] / 256})) == ["tokens-unit"]


def test_a_perplexity_is_named() -> None:
    large = surface_runs(60)
    message = found({**large, "loss": np.exp(large["loss"])})["loss-unit"]
    low, high = large["loss"].min(), large["loss"].max()
    assert f"it looks like a perplexity. Give its logarithm ({low:.3g} to {high:.3g}), nats per token." in message
    small = surface_runs(60, constants=(1.8, 480.0, 2100.0, 0.25, 0.3))
    assert "a uniform guess over 262,144 tokens" in found({**small, "loss": np.exp(small["loss"])})["loss-unit"]


@pytest.mark.parametrize(
    ("unit", "words"),
    [(8.64e19, "PF-days"), (1e15, "PFLOPs"), (1e18, "EFLOPs"), (1e-6, "params or tokens look as if given in millions")],
)
def test_compute_in_other_units_is_named(unit: float, words: str) -> None:
    runs = surface_runs(60)
    assert words in found({**runs, "flops": 6 * runs["params"] * runs["tokens"] / unit})["flops-unit"]
    # attention and experts move 6·N·D by less
    for factor in (0.04, 3.0):
        assert found({**runs, "flops": 6 * runs["params"] * runs["tokens"] * factor}) == {}


@pytest.mark.parametrize("name", ["params", "tokens"])
def test_less_than_one_of_anything_is_refused(name: str) -> None:
    runs = surface_runs(20)
    runs[name] = runs[name] / 1e12
    with pytest.raises(InputError, match=rf"{name}: [ND] = .* is no count \(records, row \d+\); write {name} out"):
        fit_law(runs, bootstrap=0)


def test_real_tables_give_no_false_alarm() -> None:
    assert found(TINY) == {}
    ordinary = ("chinchilla_svg", "gadre_testbed", "runs_kyo", "runs_ml_scalefit", "runs_misfitting", "runs_porian2")
    for name in (*ordinary, "runs_porian4", "sweep_steplaw_dense"):
        assert found(data_folder() / f"{name}.csv") == {}, name


def test_the_smallest_and_the_largest_models_give_no_false_alarm() -> None:
    rng = np.random.default_rng(0)
    for sizes, ratios, losses in (
        ((4e3, 1e5), (10, 1000), (1.0, 3.2)),  # bytes, on two cores
        ((768, 1e6), (20, 3000), (3.0, 7.0)),  # Kaplan et al. 2020's smallest
        ((1e9, 1e12), (5, 2000), (1.5, 2.6)),  # the largest of 2026
        ((1e8, 2e9), (1000, 6e4), (2.0, 3.0)),  # small and long trained
    ):
        params = np.exp(rng.uniform(*np.log(sizes), 40))
        tokens = params * np.exp(rng.uniform(*np.log(ratios), 40))
        assert found({"params": params, "tokens": np.maximum(tokens, 1e5), "loss": rng.uniform(*losses, 40)}) == {}
