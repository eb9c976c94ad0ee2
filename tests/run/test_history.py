"""What a run remembers of itself, over a checkpoint that holds plain data alone."""

from __future__ import annotations

import io

import pytest
import torch

from scalestop.accounting.losses import LossAccumulator, LossSums
from scalestop.errors import InputError
from scalestop.run.curve_point import window
from scalestop.run.history import Foretold, History


def lived() -> History:
    history = History(LossAccumulator())
    for step in range(1, 21):
        point = window([3.0, 2.0], step=16 * step, tokens=step * 100, flops=step, rate=0.1)
        history.curve.add(point)
        history.spikes.see(point)
    history.curve.add_validation(320, 2_000, {"val_loss": 2.0})
    history.losses.add(torch.tensor(1.5))
    history.repeats.see([3, 5, 3])
    history.band_beyond = 2
    history.course.in_a_row, history.marginal_below = 1, 1
    history.foretell(Foretold(0.21, 2.0, 1.9, 2.1))
    return history


def test_a_resume_joins_on():
    file, first, again = io.BytesIO(), lived(), History(LossAccumulator())
    torch.save(first.state_dict(), file)
    file.seek(0)
    again.load_state_dict(torch.load(file, weights_only=True), step=320)
    assert again.state_dict() == first.state_dict()
    assert again.losses.read() == LossSums(1.5, 2.25, 1, 0)


def test_a_resume_from_before_drops_what_came_after():
    again = History(LossAccumulator())
    again.load_state_dict(lived().state_dict(), step=160)
    assert again.curve.points[-1].step == 160 and not again.curve.validations


@pytest.mark.parametrize("change", [{"curve": 3}, {"foretold": [[1.0]]}, {"open": []}, {"course": None}])
def test_what_is_none_is_named(change):
    with pytest.raises(InputError, match="cannot be read"):
        History(LossAccumulator()).load_state_dict({**lived().state_dict(), **change}, step=320)


def test_the_first_forecasts_at_a_fifth_and_at_half_are_scored():
    history = History()
    for share in (0.1, 0.21, 0.3, 0.55, 0.9):
        history.foretell(Foretold(share, 2.0, 1.9, 2.1))
    assert [one.share for one in history.foretold] == [0.21, 0.55]
    assert history.foretold[0].score(2.05) == "2.000 (1.900 to 2.100) at 21% of the run, held"
    assert history.foretold[0].score(2.2) == "2.000 (1.900 to 2.100) at 21% of the run, MISSED"
    history.head_for(1e6)
    history.head_for(1.01e6)  # the plan was held against the first steps
    assert len(history.foretold) == 2
    history.head_for(2e6)  # a raised budget: what was foretold is of an end that is none any more
    assert not history.foretold
    late = History()
    late.foretell(Foretold(0.6, 2.0, 1.9, 2.1))
    late.foretell(Foretold(0.7, 2.0, 1.9, 2.1))
    assert [one.share for one in late.foretold] == [0.6]
