"""The published laws' draws: the paper's standard errors, and the public runs where they are at hand."""

import importlib.util
import json
import math
from importlib import resources
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from fitting_data import data_folder

from scalestop.laws import get_law, list_laws
from scalestop.laws.intervals import interval_of_optimum, interval_of_run
from scalestop.laws.published_draws import HOFFMANN_RUNS, deviations, exponent_uncertainty

FILE = resources.files("scalestop.laws").joinpath("data", HOFFMANN_RUNS)
# Besiroglu et al. 2024, table 1
STANDARD_ERRORS = {"E": 0.02566, "A": 124.522, "B": 1293.284, "alpha": 0.01540, "beta": 0.02060}


@pytest.mark.parametrize("name", STANDARD_ERRORS)
def test_besiroglus_draws_have_the_published_standard_errors(name):
    """Of 1,000 of the 4,000 draws, so to a few percent."""
    law = get_law("besiroglu")
    assert np.std(law.uncertainty.column(name), ddof=1) == pytest.approx(STANDARD_ERRORS[name], rel=0.05)
    low, high = law.uncertainty.intervals[name]
    assert low < law.constants[name] < high


def test_their_correlations_make_the_exponent_surer_than_alpha_and_beta_are():
    """The published standard error of a is .020 (Besiroglu et al. 2024, section 3)."""
    law = get_law("besiroglu")
    alpha, beta = law.uncertainty.column("alpha"), law.uncertainty.column("beta")
    assert np.std(beta / (alpha + beta)) == pytest.approx(0.020, rel=0.05)


@pytest.mark.parametrize("name", ["besiroglu", "chinchilla"])
def test_a_plan_of_any_size_has_its_intervals(name):
    law = get_law(name)
    half_widths = []
    for flops in (1e20, 1e22, 1e24, 1e26):
        best = law.optimal(flops)
        found = interval_of_optimum(law, flops)
        run = interval_of_run(law, *best)
        for interval, value in ((found.num_params, best.num_params), (found.num_tokens, best.num_tokens)):
            assert interval[0] < value < interval[1]
        assert run[0] < found.loss[0] < law.loss(*best) < found.loss[1] < run[1] or flops >= 1e24
        half_widths.append((run[1] - run[0]) / 2 / law.loss(*best))
    # a run near the runs scatters by some 1 %; far beyond them the form's own error takes over
    assert 0.008 < half_widths[0] < 0.02
    assert half_widths == sorted(half_widths)
    assert half_widths[2] > 0.04


def test_chinchillas_runs_lie_higher_than_it_says():
    """Its early-stopped fit leaves the public runs 0.3 % above it in the mean; its scatter keeps that."""
    assert 0.002 < np.mean(get_law("chinchilla").uncertainty.scatter) < 0.004
    assert abs(np.mean(get_law("besiroglu").uncertainty.scatter)) < 0.001


@pytest.mark.parametrize(("name", "low", "high"), [("chinchilla-1", 0.488, 0.502), ("chinchilla-2", 0.462, 0.534)])
def test_the_exponents_of_approaches_1_and_2_have_the_printed_80_percent_interval(name, low, high):
    """Hoffmann et al. 2022, table 2."""
    law = get_law(name)
    assert np.quantile(law.uncertainty.column("a"), [0.1, 0.9]) == pytest.approx([low, high], abs=3e-4)
    assert np.median(law.uncertainty.column("a")) == pytest.approx(law.a, abs=1e-4)
    pivot = math.sqrt(6e18 * 3e21)
    assert law.drawn().optimal(pivot).num_params == pytest.approx(np.full(400, law.optimal(pivot).num_params), rel=1e-9)


def test_an_exponents_interval_of_another_level_is_put_where_the_paper_has_it():
    found = exponent_uncertainty(0.1, 0.5, (0.4, 0.55), 0.95, 1e20, 7, "a table")
    assert np.quantile(found.column("a"), [0.025, 0.975]) == pytest.approx([0.4, 0.55], abs=2e-3)
    expected = 0.5 + NormalDist().inv_cdf(0.95) / NormalDist().inv_cdf(0.975) * 0.05
    assert found.intervals["a"][1] == pytest.approx(expected, abs=1e-3)
    assert (found.num_runs, found.source) == (7, "a table")


def test_a_law_without_an_uncertainty_says_so():
    bare = [name for name in list_laws() if get_law(name).uncertainty is None]
    assert bare == ["kaplan", "kaplan-presentation", "muennighoff", "deepseek"]
    for name in bare:
        assert "No uncertainty is published" in get_law(name).info.notes[-1]


def test_the_file_says_where_it_comes_from_and_holds_no_points():
    data = json.loads(FILE.read_text(encoding="utf-8"))
    assert set(data) == {
        *("schema", "source", "names", "num_draws", "deviations_f4_columns_zlib_base64", "num_runs", "data_hash"),
        *("drift", "drift_params", "scatter"),
    }
    assert "tests/published_draws.py" in data["source"] and "arXiv" in data["source"]
    assert deviations(data).shape == (1000, 5)
    assert {len(row) for row in data["scatter"].values()} == {60}


def test_the_public_runs_give_the_file_again():
    path = data_folder() / "chinchilla_svg.csv"
    place = Path(__file__).parents[1] / "published_draws.py"
    spec = importlib.util.spec_from_file_location("published_draws", place)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    again, kept = script.derived(path), json.loads(FILE.read_text(encoding="utf-8"))
    # the solver's last digits may differ between machines
    for law, row in kept["scatter"].items():
        assert again["scatter"].pop(law) == pytest.approx(row, abs=1e-5)
    for name in ("drift", "drift_params"):
        assert again.pop(name) == pytest.approx(kept.pop(name), rel=0.01)
    assert deviations(again) == pytest.approx(deviations(kept), abs=1e-4)
    packed = "deviations_f4_columns_zlib_base64", "scatter"
    assert {k: v for k, v in again.items() if k not in packed} == {k: v for k, v in kept.items() if k not in packed}
