"""The valley, the frontier, and laws side by side."""

import numpy as np
import pytest

from scalestop import get_law
from scalestop.errors import InputError
from scalestop.planning.advice.frontier import flops_for_loss, frontier_loss, interval_of_flops, is_minimum
from scalestop.planning.advice.valleys import side_by_side, valley


def test_the_valley_is_the_law_along_the_budget():
    law = get_law("besiroglu")
    found = valley(law, 8.64e19, (0.5, 1, 2))
    for row in found.rows:
        assert 6 * row.spot.num_params * row.spot.num_tokens == pytest.approx(8.64e19)
        assert row.spot.loss == law.loss(row.spot.num_params, row.spot.num_tokens)
    half, best, double = found.rows
    assert best.over == pytest.approx(0, abs=1e-9) and best.wasted == pytest.approx(0, abs=1e-6)
    assert half.over > 0.02 and double.over > 0.02
    # by brute force: the least budget any of whose splits has the loss of half the size
    budgets = np.geomspace(4e19, 8.64e19, 400)
    sizes = np.geomspace(1e8, 4e9, 3000)
    least = np.array([np.min(law.loss(sizes, c / (6 * sizes))) for c in budgets])
    enough = budgets[np.argmax(least <= half.spot.loss)]
    assert half.wasted == pytest.approx(1 - enough / 8.64e19, abs=0.003)
    assert "0.5 N_opt" in str(found) and "inside the runs" in str(found)


def test_kaplans_valley_wastes_nothing_that_can_be_told():
    law = get_law("kaplan")
    assert not is_minimum(law, 1e20) and is_minimum(get_law("besiroglu"), 1e20)
    assert all(row.wasted is None for row in valley(law, 1e20).rows)


def test_a_law_without_loss_has_no_valley():
    with pytest.raises(InputError, match="law: a valley needs a loss, and 'deepseek' only allocates"):
        valley(get_law("deepseek"), 1e20)


@pytest.mark.parametrize("name", ["besiroglu", "chinchilla", "kaplan", "stdlib-bytes", "muennighoff"])
def test_the_frontier_there_and_back(name):
    law = get_law(name)
    assert flops_for_loss(law, frontier_loss(law, 3e20)) == pytest.approx(3e20, rel=1e-6)


def test_what_no_compute_reaches():
    assert flops_for_loss(get_law("besiroglu"), 1.8) is None
    assert interval_of_flops(get_law("besiroglu"), 1.8) is None
    assert interval_of_flops(get_law("kaplan"), 2.5) is None


def test_the_interval_of_compute_is_where_the_losss_interval_meets_the_target():
    law = get_law("besiroglu")
    drawn = law.drawn()
    low, high = interval_of_flops(law, 2.5)
    assert low < flops_for_loss(law, 2.5) < high
    for flops, share in ((low, 0.05), (high, 0.95)):
        best = law.optimal(flops)
        losses = drawn.loss(best.num_params, best.num_tokens)
        assert np.quantile(losses, share) == pytest.approx(2.5, abs=2e-4)


def test_several_laws_and_why_they_differ():
    found = side_by_side([get_law("besiroglu"), get_law("kaplan")], 5.76e23)
    by_name = {row.basis.law: row for row in found.rows}
    assert by_name["besiroglu"].best.num_params == pytest.approx(7.235e10, rel=1e-3)
    assert by_name["kaplan"].best.num_params == pytest.approx(8.04e11, rel=1e-2)
    assert by_name["kaplan"].exponent == pytest.approx(0.73)
    why = " ".join(found.why)
    assert "11-fold" in why and "body leaves embeddings" in why and "C^0.51 by besiroglu and C^0.73 by kaplan" in why
    assert "2.7" in str(found) and by_name["kaplan"].basis.has_interval is False
    assert found.to_dict()["why"] == list(found.why)


def test_one_law_differs_from_nothing():
    assert side_by_side([get_law("besiroglu")], 1e20).why == ()
    with pytest.raises(InputError, match="laws: name at least one law"):
        side_by_side([], 1e20)


def test_two_fits_of_the_same_runs():
    found = side_by_side([get_law("chinchilla-1"), get_law("chinchilla-2")], 1e21)
    assert "the same runs: it is the fit that differs" in " ".join(found.why)
