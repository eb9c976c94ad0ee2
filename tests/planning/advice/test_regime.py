"""Regimes, waste and comparisons, against numbers worked by hand."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalestop import ParametricLaw, Speed, get_law
from scalestop.errors import InputError
from scalestop.laws import LawInfo
from scalestop.planning.advice.regime import Regime, appraise, compare, parse_run

# Hoffmann et al. 2022, eq. 10, as printed
PRINTED = ParametricLaw(LawInfo("printed", "total", "eq. 10"), E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
GOPHER, CHINCHILLA, GPT_3 = (280e9, 300e9), (70e9, 1.4e12), (175e9, 300e9)
LLAMA_13B, LLAMA_3_8B = (13e9, 1e12), (8.03e9, 15e12)


def test_gopher_and_chinchilla_by_the_printed_approach_3():
    found = compare(PRINTED, [GOPHER, CHINCHILLA])
    gopher, chinchilla = found.runs
    assert gopher.spot.loss == pytest.approx(1.993, abs=5e-4)
    assert chinchilla.spot.loss == pytest.approx(1.937, abs=5e-4)
    assert found.best == 1 and found.dearest == 1
    assert gopher.spot.flops == pytest.approx(5.04e23) and chinchilla.spot.flops == pytest.approx(5.88e23)
    assert gopher.regime is Regime.DATA
    assert found.sure is None and "does not state the range of its runs" in str(found)


def test_gopher_by_hand():
    """G = (alpha A / beta B)^(1/(alpha+beta)); D with which 280B is optimal solves alpha A/N^alpha = beta B/D^beta."""
    gopher = appraise(PRINTED, *GOPHER)
    g = (0.34 * 406.4 / (0.28 * 410.7)) ** (1 / 0.62)
    assert gopher.best.num_params == pytest.approx(g * (5.04e23 / 6) ** (0.28 / 0.62))
    assert gopher.size_ratio == pytest.approx(280e9 / (g * (8.4e22) ** (0.28 / 0.62)))
    own = (0.28 * 410.7 / (0.34 * 406.4) * 280e9**0.34) ** (1 / 0.28)
    assert gopher.own_tokens == pytest.approx(own) and gopher.trained == pytest.approx(3e11 / own)
    assert gopher.size_term == pytest.approx(406.4 / 280e9**0.34)
    assert gopher.data_term == pytest.approx(410.7 / 3e11**0.28)
    assert gopher.tokens_return == pytest.approx(gopher.data_term * (1 - 2**-0.28))
    assert gopher.params_return == pytest.approx(gopher.size_term * (1 - 2**-0.34))


@pytest.mark.parametrize(
    ("run", "regime", "loss", "size_ratio", "trained", "wasted"),
    # worked apart from the package: L = E + A/N^alpha + B/D^beta; N_opt and the tokens of a size from the closed form;
    # the frontier is E + K/C^gamma with gamma = alpha·beta/(alpha+beta), which gives the compute of the same loss
    [
        (GOPHER, Regime.DATA, 1.9991, 4.144, 0.06246, 0.5024),
        (CHINCHILLA, Regime.COMPUTE, 1.9734, 0.9573, 1.0888, 0.0007),
        (GPT_3, Regime.DATA, 2.0080, 3.2957, 0.0976, 0.3912),
        (LLAMA_13B, Regime.PARAMETERS, 2.0481, 0.5008, 3.854, 0.1549),
        (LLAMA_3_8B, Regime.PARAMETERS, 2.0214, 0.0988, 91.40, 0.8185),
    ],
)
def test_known_models_by_the_corrected_law(run, regime, loss, size_ratio, trained, wasted):
    n, d = run
    found = appraise(get_law("besiroglu"), n, d)
    assert found.regime is regime
    assert found.spot.loss == pytest.approx(1.81686 + 482.00572 / n**0.34781 + 2085.4342 / d**0.36585)
    assert found.spot.loss == pytest.approx(loss, abs=6e-5)
    assert found.size_ratio == pytest.approx(size_ratio, rel=5e-4)
    assert found.trained == pytest.approx(trained, rel=5e-4)
    assert found.wasted == pytest.approx(wasted, abs=1e-4)


@settings(max_examples=30, deadline=None)
@given(n=st.floats(1e8, 1e12), d=st.floats(1e9, 1e13))
def test_the_regime_is_what_buys_most(n, d):
    found = appraise(get_law("besiroglu"), n, d)
    if found.regime is Regime.PARAMETERS:
        assert found.params_return > found.tokens_return and found.size_ratio < 1
    if found.regime is Regime.DATA:
        assert found.tokens_return > found.params_return and found.size_ratio > 1
    assert 0 <= found.wasted < 1
    assert (found.wasted < 0.05) == (found.regime is Regime.COMPUTE)


def test_the_waste_against_every_split():
    law = get_law("besiroglu")
    found = appraise(law, *GPT_3)
    sizes = np.geomspace(1e9, 1e13, 20_000)
    for factor, reaches in ((1.001, True), (0.999, False)):
        flops = found.enough * factor
        assert bool(np.min(law.loss(sizes, flops / (6 * sizes))) <= found.spot.loss) is reaches


def test_a_law_that_only_allocates_still_says_the_regime():
    found = appraise(get_law("deepseek"), 1e9, 1e9)
    assert found.regime is Regime.DATA and found.spot.loss is None and found.wasted is None
    assert "loss" not in str(found).splitlines()[0]
    assert appraise(get_law("kaplan"), 1e9, 1e10).wasted is None


def test_what_it_costs_and_how_sure_it_is():
    found = compare(get_law("besiroglu"), [GOPHER, CHINCHILLA], Speed(989e12, 0.4, 1024, 2.0))
    hours = 5.04e23 / (989e12 * 0.4) / 3600
    assert found.bills[0].device_hours == pytest.approx(hours)
    assert found.bills[0].usd == pytest.approx(2 * hours)
    assert found.bills[0].seconds == pytest.approx(hours * 3600 / 1024)
    losses = [get_law("besiroglu").drawn().loss(*run) for run in (GOPHER, CHINCHILLA)]
    assert found.sure == pytest.approx(np.mean(losses[1] < losses[0]))
    text = str(found)
    assert "354k device-hours" in text and "rather" in text and "factors of ten above" in text
    data = json.loads(json.dumps(found.to_dict()))
    assert data["runs"][0]["spot"]["num_params"] == 280e9 and data["best"] == 1
    assert data["runs"][0]["size_ratio"] == found.runs[0].size_ratio


@pytest.mark.parametrize(
    ("text", "run"),
    [
        ("70Bx1.4T", (70e9, 1.4e12)),
        (" 7e9 x 140B ", (7e9, 1.4e11)),
        ("124M*2.5B", (124e6, 2.5e9)),
        ("1kx1M", (1e3, 1e6)),
    ],
)
def test_runs_are_read(text, run):
    assert parse_run(text) == run


@pytest.mark.parametrize(
    "text", ["70B", "70Bx", "x1T", "70Bx1.4Tx2", "70Bx-1T", "70Bx0", "manyx1T", "70B x 1 hour", ""]
)
def test_what_is_no_run_is_refused(text):
    with pytest.raises(InputError, match=r"run: .*Write for example '70Bx1.4T'"):
        parse_run(text)


def test_one_run_is_no_comparison():
    with pytest.raises(InputError, match="runs: give at least two to compare; got 1"):
        compare(PRINTED, [GOPHER])
    with pytest.raises(InputError, match="num_tokens: must be positive"):
        appraise(PRINTED, 1e9, 0)
