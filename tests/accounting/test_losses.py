"""Losses summed where they live, against the same numbers summed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from scalestop.accounting.losses import LossAccumulator, LossSums


class NoReads(TorchDispatchMode):
    """Raises where a value would be read."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert not func.__name__.startswith(("_local_scalar_dense", "nonzero", "is_nonzero")), func
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("count", [1, 255, 256, 600])
def test_sums_are_those_of_the_single_losses(count):
    losses = torch.linspace(2, 3, count, dtype=torch.float32)
    sums = LossAccumulator()
    for loss in losses:
        sums.add(loss)
    assert sums.read() == LossSums(
        pytest.approx(float(losses.double().sum())), pytest.approx(float((losses.double() ** 2).sum())), count, 0
    )
    assert sums.read() == LossSums(0.0, 0.0, 0, 0)


def test_losses_that_are_not_finite_are_counted_and_left_out():
    sums = LossAccumulator()
    for value in (2.0, math.nan, math.inf, 3.0):
        sums.add(torch.tensor(value))
    assert sums.read() == LossSums(5.0, 13.0, 2, 2)


def test_losses_of_several_kinds():
    sums = LossAccumulator()
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        sums.add(torch.tensor([2.0], dtype=dtype))
        sums.add(torch.tensor(3.0, dtype=dtype))
    assert sums.read() == LossSums(15.0, 39.0, 6, 0)


def test_peeking_keeps_them_and_a_resume_goes_on():
    sums, again = LossAccumulator(), LossAccumulator()
    sums.add(torch.tensor(2.0))
    again.begin_with(*sums.peek())
    for one in (sums, again):
        one.add(torch.tensor(4.0))
        assert one.read() == LossSums(6.0, 20.0, 2, 0)


def test_adding_reads_nothing():
    sums, loss = LossAccumulator(), torch.tensor(2.0)
    with NoReads():
        for _ in range(300):
            sums.add(loss)
    assert sums.read().finite == 300


def test_what_lives_on_a_device_stays_there():
    """A tensor on `meta` has no value: it could be summed there, and not be read."""
    sums = LossAccumulator()
    for _ in range(200):
        sums.add(torch.empty((), device="meta"))
    with pytest.raises((RuntimeError, NotImplementedError)):
        sums.read()
