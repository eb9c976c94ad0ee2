"""Batches on their way to the watch: each is added once, whoever asks first."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from counting import Clock, count

from scalestop.accounting.meter import Meter
from scalestop.accounting.tokens import TokenAccumulator
from scalestop.errors import InputError
from scalestop.lightning.feed import BatchFeed
from scalestop.lightning.steps import StepSensor
from scalestop.run.watch import RunWatch


class FakeTrainer:
    """What the feed asks of one: its steps, and whether the batch at hand has been trained on."""

    def __init__(self) -> None:
        self.global_step = 0
        self.progress = SimpleNamespace(ready=0, started=0, processed=0)
        self.fit_loop = SimpleNamespace(
            epoch_loop=SimpleNamespace(batch_progress=SimpleNamespace(current=self.progress))
        )

    def fetch(self) -> None:
        self.progress.ready += 1
        self.progress.started += 1

    def train(self, stepped: bool) -> None:
        self.progress.processed += 1
        self.global_step += stepped


def feed_of(counter=count, counts_here=True, **options):
    watch = RunWatch(Meter(600, **options), TokenAccumulator(), Clock())
    return BatchFeed(watch, StepSensor(), counter, counts_here), watch, FakeTrainer()


def test_only_a_batch_with_an_optimizer_step_asks_whether_to_look():
    feed, watch, trainer = feed_of()
    found = []
    for stepped in (False, True, False, False, True):
        trainer.fetch()
        feed.begin(10)
        trainer.train(stepped)
        found.append(feed.end(trainer))
    assert found == [None, True, None, None, True]  # nobody has looked yet, so each step is due
    assert (watch.usage.tokens, watch.usage.optimizer_steps) == (50, 2)


@pytest.mark.parametrize("stepped", [False, True])
def test_a_batch_that_a_save_has_added_is_not_added_again_and_still_asks(stepped):
    feed, watch, trainer = feed_of()
    trainer.fetch()
    feed.begin(10)
    feed.catch_up(trainer)
    assert watch.usage.tokens == 0  # not trained on yet: it will be trained on again after a resume
    trainer.train(stepped)
    feed.catch_up(trainer)
    feed.catch_up(trainer)
    assert (watch.usage.tokens, watch.usage.optimizer_steps) == (10, int(stepped))
    assert feed.end(trainer) is (True if stepped else None)
    assert watch.usage.tokens == 10


def test_a_batch_that_another_rank_counts_is_no_tokens_here_but_a_step():
    feed, watch, trainer = feed_of(counts_here=False)
    trainer.fetch()
    feed.begin("not even looked at")
    trainer.train(True)
    assert feed.end(trainer) is True
    feed.validate("nor here")
    assert (watch.usage.tokens, watch.usage.validation_tokens, watch.usage.optimizer_steps) == (0, 0, 1)


@pytest.mark.parametrize("paid", [False, True])
def test_a_validation_batch_that_cannot_be_read_matters_where_it_is_paid_for(paid):
    def refuses(batch):
        raise InputError("count_tokens: unusual")

    feed, watch, _ = feed_of(refuses, count_validation=paid)
    if paid:
        with pytest.raises(InputError, match="unusual"):
            feed.validate(10)
    else:
        feed.validate(10)
    assert watch.usage.validation_tokens == 0
