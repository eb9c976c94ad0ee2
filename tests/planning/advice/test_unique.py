"""The data wall: Muennighoff's numbers, and the best size against every size."""

import json
import math

import numpy as np
import pytest

from scalestop import DataConstrainedLaw, get_law
from scalestop.errors import InputError
from scalestop.planning.advice.unique import data_wall, repeating

LAW = get_law("muennighoff")


def test_the_papers_runs():
    """Muennighoff et al. 2023: 8.67B on 178B against 6.34B on 242B tokens, 25B of them unique."""
    walled = repeating(LAW, 25e9)
    assert walled.loss(6.34e9, 242e9) == pytest.approx(2.2256440889984477)
    assert walled.loss(8.67e9, 178e9) == pytest.approx(2.2269634075087867)
    found = data_wall(LAW, 9.3e21, 25e9)
    # the law's own optima of that budget lie beside the two: the smaller model, more epochs
    assert found.best.num_params == pytest.approx(6.34e9, rel=0.1)
    assert found.free.num_params == pytest.approx(8.67e9, rel=0.05)
    assert found.best.loss < found.free_repeated.loss


def test_epochs_and_their_worth_by_hand():
    found = data_wall(LAW, 1e22, 25e9)
    four = next(row for row in found.table if row.epochs == 4)
    assert four.worth == pytest.approx(25e9 * (1 + 15.387756 * (1 - math.exp(-3 / 15.387756))))
    assert four.last == pytest.approx(math.exp(-3 / 15.387756))
    assert four.worth / four.tokens == pytest.approx(0.93, abs=0.005)  # four epochs cost almost nothing
    assert found.most_worth == pytest.approx(25e9 * 16.387756)
    assert found.half_worth == pytest.approx(1 + 15.387756 * math.log(2))
    assert found.epochs == pytest.approx(found.best.num_tokens / 25e9)
    assert 25e9 < found.worth < found.best.num_tokens
    assert not found.grafted


@pytest.mark.parametrize("name", ["muennighoff", "besiroglu"])
@pytest.mark.parametrize("unique", [1e9, 25e9])
def test_the_best_size_against_every_size(name, unique):
    found = data_wall(get_law(name), 1e22, unique)
    walled = repeating(get_law(name), unique)
    sizes = np.geomspace(1e8, 1e12, 200_000)
    losses = walled.loss(sizes, 1e22 / (6 * sizes))
    assert found.best.loss <= losses.min() * (1 + 1e-9)
    assert found.best.num_params == pytest.approx(sizes[np.argmin(losses)], rel=2e-3)


def test_while_the_data_last_nothing_changes():
    found = data_wall(get_law("besiroglu"), 1e20, 1e12)
    best = get_law("besiroglu").optimal(1e20)
    assert found.best.num_params == pytest.approx(best.num_params)
    assert found.best == found.free and found.price == 0 and found.warning is None
    assert "same size" not in str(found)


def test_a_warning_says_when_to_get_more_data():
    assert "up to 4 cost almost nothing" in data_wall(LAW, 1e22, 25e9).warning
    assert "get more data" in data_wall(LAW, 1e22, 1e8).warning


def test_another_law_borrows_the_worth_of_repetition_and_says_so():
    law = get_law("besiroglu")
    walled = repeating(law, 25e9)
    assert isinstance(walled, DataConstrainedLaw)
    assert (walled.R_D, walled.R_N) == (LAW.R_D, LAW.R_N)
    assert walled.loss(5e8, 2e10) == pytest.approx(law.loss(5e8, 2e10))
    assert any("never repeated" in note for note in walled.info.notes)
    found = data_wall(law, 1e22, 25e9)
    assert found.grafted and "R_D* and R_N* are those of muennighoff" in str(found)
    low, high = found.best.loss_interval
    assert low < found.best.loss < high
    data = json.loads(json.dumps(found.to_dict()))
    assert data["epochs"] == found.epochs and data["warning"] == found.warning and data["basis"]["law"] == "besiroglu"


def test_a_form_without_such_a_term_is_refused():
    with pytest.raises(InputError, match="unique_tokens: law 'kaplan' says nothing of repeated tokens"):
        data_wall(get_law("kaplan"), 1e20, 1e9)
    with pytest.raises(InputError, match="unique_tokens: must be positive"):
        data_wall(LAW, 1e20, 0)
