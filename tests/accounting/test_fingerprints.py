"""Fingerprints of rows: equal for equal rows, different for others, and nothing is read or drawn for them."""

from __future__ import annotations

import pytest
import torch

from scalestop.accounting.fingerprints import RowPrints, ids_of

ROWS = torch.randint(0, 50, (500, 1, 32), generator=torch.Generator().manual_seed(0))


def prints(*batches) -> list[int]:
    found = RowPrints()
    for batch in batches:
        found.see(batch)
    return found.read()


def test_rows_that_are_the_same_and_no_others():
    first = prints(*ROWS[:256])
    assert len(set(first)) == 256 and all(0 <= value < 2**63 for value in first)
    assert prints(*ROWS[:100]) == first[:100]
    assert sum(value % 2 for value in first) in range(96, 160)  # the low bits are mixed


def test_later_only_every_sixteenth_batch_is_looked_at():
    assert prints(*ROWS)[256:] == [prints(row)[0] for row in ROWS[271::16]]


@pytest.mark.parametrize(
    "batch",
    [{"input_ids": ROWS[0]}, (ROWS[0], ROWS[1]), [ROWS[0]], ROWS[0].int(), torch.nn.functional.pad(ROWS[0], (0, 9))],
)
def test_whatever_the_structure_the_type_and_the_padding(batch):
    assert prints(batch) == prints(ROWS[0])


@pytest.mark.parametrize(
    "batch",
    [None, "text", {}, {"x": torch.ones(2, 32)}, torch.ones(3, dtype=torch.long), torch.ones(2, 4, dtype=torch.long)],
)
def test_what_shows_no_ids_is_left_alone(batch):
    assert ids_of(batch) is None and prints(batch) == []


def test_no_random_number_of_the_run_is_taken():
    before = torch.get_rng_state()
    prints(ROWS[0])
    assert torch.equal(torch.get_rng_state(), before)


def test_a_device_is_not_waited_for():
    found = RowPrints()
    found.see(torch.ones(2, 32, dtype=torch.long, device="meta"))  # holds no value that could be read
    with pytest.raises((RuntimeError, NotImplementedError)):
        found.read()
