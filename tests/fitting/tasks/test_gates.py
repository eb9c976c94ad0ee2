"""When a gate should open: by the tokens at which every condition holds, or never."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import brentq
from task_data import task_table, true_loss, true_metric

from scalestop.errors import InputError
from scalestop.fitting.tasks import fit_task, when_open
from scalestop.laws import get_law
from scalestop.run.gate import Gate

N = 8e8


@pytest.fixture(scope="module")
def fit():
    return fit_task(task_table(checkpoints=12), "acc", bpb="bpb")


def conditions(**until):
    return Gate.parse(until).conditions


def test_it_opens_where_the_metric_reaches_its_bound(fit):
    truth = brentq(lambda d: true_metric(true_loss(N, d)) - 0.4, 1e8, 1e14)
    found = when_open(conditions(acc=">= 0.4"), {"acc": fit}, N)
    assert found.tokens == pytest.approx(truth, rel=0.25)
    assert found.interval[0] < truth < found.interval[1] and found.never < 0.05
    assert found.tokens is not None and truth / 2 < found.tokens <= truth * 2
    assert str(found).startswith("should open at ")


def test_what_a_size_cannot_reach_never_opens(fit):
    """At 1e8 parameters the known law ends, with endless tokens, at a metric of .53."""
    best = true_metric(true_loss(1e8, 1e30))
    found = when_open(conditions(acc=f">= {best + 0.1:.2f}"), {"acc": fit}, 1e8)
    assert found.tokens is None and found.never > 0.5
    assert "should not open at this size" in str(found)


def test_all_conditions_must_hold(fit):
    law = get_law("stdlib-bytes")
    bare = replace(law, uncertainty=None)
    size = 50_000
    # a law without draws gives one crossing, worked out by bisection
    truth = brentq(lambda d: float(bare.loss(float(size), d)) - 1.6, 1e5, 1e9)
    alone = when_open(conditions(loss="<= 1.6"), {"loss": bare}, size)
    assert alone.tokens == pytest.approx(truth, rel=0.07) and alone.never == 0
    spread = when_open(conditions(loss="<= 1.6"), {"loss": law}, size)
    assert spread.interval[0] < spread.tokens < spread.interval[1]
    one = when_open(conditions(acc=">= 0.5"), {"acc": fit}, N)
    assert one.tokens is not None
    both = when_open(conditions(acc=">= 0.5", loss=">= 0.45"), {"acc": fit, "loss": fit}, N)
    assert both.tokens >= one.tokens


def test_a_metric_that_is_not_predictable_says_so():
    table = task_table()
    table["acc"] = list(np.random.default_rng(0).uniform(0.3, 0.6, len(table["acc"])))
    found = when_open(conditions(acc=">= 0.4"), {"acc": fit_task(table, "acc", bpb="bpb")}, N)
    assert found.doubts[0].startswith("acc is not predictable: ") and "does not follow bpb" in found.doubts[0]
    assert found.doubts[0] in str(found)


@pytest.mark.parametrize(
    ("until", "size", "message"),
    [
        ({}, N, "until: the gate has no conditions"),
        ({"f1": ">= 0.4"}, N, "until: nothing foretells f1; there are forecasts for: acc, law, loss"),
        ({"acc": "<= 0.4"}, N, "acc: it rises with training, so a gate <= 0.4 is no end to wait for"),
        ({"loss": ">= 2"}, N, "loss: a loss falls with training, so a gate >= 2 is no end to wait for"),
        ({"law": "<= 2"}, N, "law: law 'chinchilla-1' predicts no loss"),
        ({"acc": ">= 0.4"}, -1, "num_params: must be positive and finite; got -1"),
    ],
)
def test_gates_that_cannot_be_foretold_are_refused(fit, until, size, message):
    known = {"acc": fit, "loss": get_law("stdlib-bytes"), "law": get_law("chinchilla-1")}
    with pytest.raises(InputError, match=message):
        when_open(conditions(**until), known, size)
