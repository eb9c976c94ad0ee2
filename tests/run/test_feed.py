"""Batches on their way to the watch: each is added once, whoever asks first."""

from __future__ import annotations

import pytest
from counting import Clock, count

from scalestop.accounting.meter import Meter
from scalestop.accounting.tokens import TokenAccumulator
from scalestop.errors import InputError
from scalestop.run.feed import BatchFeed
from scalestop.run.steps import StepSensor
from scalestop.run.watch import RunWatch


class Steps:
    """A steps's own count of steps, which the sensor asks where there is no optimizer to watch."""

    def __init__(self) -> None:
        self.count = 0

    def train(self, stepped: bool) -> None:
        self.count += stepped


def feed_of(counter=count, counts_here=True, **options):
    watch = RunWatch(Meter(600, **options), TokenAccumulator(), Clock())
    steps, sensor = Steps(), StepSensor()
    sensor.attach([], lambda: steps.count)
    return BatchFeed(watch, sensor, counter, counts_here), watch, steps


def test_only_a_batch_with_an_optimizer_step_asks_whether_to_look():
    feed, watch, steps = feed_of()
    found = []
    for stepped in (False, True, False, False, True):
        feed.take(10)
        steps.train(stepped)
        found.append(feed.add_trained())
    assert found == [None, True, None, None, True]  # nobody has looked yet, so each step is due
    assert (watch.usage.tokens, watch.usage.optimizer_steps) == (50, 2)


@pytest.mark.parametrize("stepped", [False, True])
def test_a_batch_that_a_save_has_added_is_not_added_again_and_still_asks(stepped):
    feed, watch, steps = feed_of()
    feed.take(10)
    assert watch.usage.tokens == 0  # not trained on yet: it will be trained on again after a resume
    steps.train(stepped)
    feed.catch_up()
    feed.catch_up()
    assert (watch.usage.tokens, watch.usage.optimizer_steps) == (10, int(stepped))
    assert feed.add_trained() is (True if stepped else None)
    assert watch.usage.tokens == 10


def test_a_batch_that_another_rank_counts_is_no_tokens_here_but_a_step():
    feed, watch, steps = feed_of(counts_here=False)
    feed.take("not even looked at")
    steps.train(True)
    assert feed.add_trained() is True
    feed.add_validation("nor here")
    assert (watch.usage.tokens, watch.usage.validation_tokens, watch.usage.optimizer_steps) == (0, 0, 1)


@pytest.mark.parametrize("paid", [False, True])
def test_a_validation_batch_that_cannot_be_read_matters_where_it_is_paid_for(paid):
    def refuses(batch):
        raise InputError("count_tokens: unusual")

    feed, watch, _ = feed_of(refuses, count_validation=paid)
    if paid:
        with pytest.raises(InputError, match="unusual"):
            feed.add_validation(10)
    else:
        feed.add_validation(10)
    assert watch.usage.validation_tokens == 0
