"""`training_step(dataloader_iter)`: every batch that a step takes is counted once, however many it takes."""

from __future__ import annotations

import pytest
from toys import Toy, assert_counts, loader, stopping, train

from scalestop.errors import InputError


class Fetches(Toy):
    """Takes some batches a step; what it was given is counted where it is used."""

    def __init__(self, takes=lambda step: 1) -> None:
        super().__init__()
        self.takes = takes

    def training_step(self, dataloader_iter):
        losses = []
        for _ in range(self.takes(self.global_step)):
            try:
                batch, _, _ = next(dataloader_iter)
            except StopIteration:
                break
            if batch is not None:
                self.take_in(batch)
                losses.append(self.loss(batch))
        return sum(losses) if losses else None


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("takes", [lambda step: 1, lambda step: 3, lambda step: step % 3 + 1], ids=["1", "3", "1-3"])
def test_each_batch_that_a_step_takes_counts(tmp_path, capsys, takes, ragged):
    callback, module = stopping("2000 tokens", oversized="ignore"), Fetches(takes)
    train(callback, tmp_path, module, loader(100, ragged=ragged))
    assert_counts(callback.usage, module.seen)
    assert module.seen.non_padding >= 2000
    assert "stop" in capsys.readouterr().out.split("TOKEN_LIMIT: ")[0]  # the plan is stated in time


def test_loaders_that_are_new_in_each_epoch(tmp_path):
    callback, module = stopping("2000 tokens", oversized="ignore"), Fetches(lambda step: 2)
    train(callback, tmp_path, module, loader(24), reload_dataloaders_every_n_epochs=1)
    assert_counts(callback.usage, module.seen)


def test_two_callbacks_see_the_same(tmp_path):
    one = stopping("2000 tokens", oversized="ignore", record=False, save_checkpoint=False)
    two = stopping("9000 tokens", oversized="ignore", record=False, save_checkpoint=False, name="b")
    module = Fetches(lambda step: 2)
    train([one, two], tmp_path, module, loader(100))
    assert_counts(one.usage, module.seen)
    assert_counts(two.usage, module.seen)


def test_a_loader_that_yields_nothing_now_and_then(tmp_path):
    batches = [batch if i % 3 else None for i, batch in enumerate(loader(60))]
    callback, module = stopping("1000 tokens", oversized="ignore"), Fetches()
    train(callback, tmp_path, module, FromList(batches))
    assert_counts(callback.usage, module.seen)


class FromList:
    """A loader of what it was given."""

    def __init__(self, batches) -> None:
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def test_a_batch_that_cannot_be_read_is_an_error_that_says_so(tmp_path):
    with pytest.raises(InputError, match="count_tokens"):
        train(stopping("1000 tokens", oversized="ignore"), tmp_path, Fetches(), FromList([{"strange": 1}] * 4))
