"""Ranks that plan differently: found with one collective, named with one more."""

from __future__ import annotations

import pytest

from scalestop.errors import InputError
from scalestop.run.agreement import differing, refuse


def compared(by_rank: list[dict[str, str]]) -> list[list[str]]:
    """What each rank finds, with the largest over ranks as a process group would give it."""
    sent: list[list[int]] = []
    for facts in by_rank:
        differing(facts, lambda values: sent.append(list(values)) or values)
    largest = [max(column) for column in zip(*sent, strict=True)]
    assert all(-(2**63) < value < 2**63 for values in sent for value in values)
    return [differing(facts, lambda values: largest) for facts in by_rank]


def test_the_same_everywhere_differs_nowhere():
    facts = {"budget": "1e9 FLOPs", "law": "toy (abc)", "nothing": ""}
    assert compared([facts] * 5) == [[]] * 5


@pytest.mark.parametrize("odd", [0, 1, 4])
def test_every_rank_finds_what_differs_whichever_is_the_odd_one(odd):
    facts = {"budget": "1e9 FLOPs", "law": "toy (abc)", "N": "272"}
    by_rank = [{**facts, "law": "toy (abd)", "N": str(rank)} if rank == odd else facts for rank in range(5)]
    assert compared(by_rank) == [["law", "N"]] * 5


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (["1", "2"], "budget is 1 on rank 0, 2 on rank 1."),
        (["1"] * 3 + ["2"] + ["1"] * 12, "budget is 1 on ranks 0-2, 4-15, 2 on rank 3."),
        ([str(rank) for rank in range(100)], "0 on rank 0, 1 on rank 1, 2 on rank 2, 3 on rank 3 and 96 more."),
        (["1", "2"] * 8, "budget is 1 on ranks 0, 2, 4, 6, ..., 2 on ranks 1, 3, 5, 7, ...."),
    ],
)
def test_the_error_names_what_differs_on_which_rank(values, text):
    with pytest.raises(InputError, match=r"^ranks plan differently") as raised:
        refuse({"budget": values[0], "law": "toy"}, ["budget"], lambda mine: [{"budget": value} for value in values])
    assert text in str(raised.value) and "law is" not in str(raised.value)
