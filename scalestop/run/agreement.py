"""What ranks have to plan alike: compared at the start, by digest, before anybody waits for a rank that has left."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

from scalestop.errors import InputError, shown

Maxima = Callable[[Sequence[int]], Sequence[int]]
"""Largest of each int over the ranks; a collective, and 64 bits are enough for each."""
Gather = Callable[[Mapping[str, str]], Sequence[Mapping[str, str]]]
"""Every rank's value, by rank; a collective."""
_MOST_VALUES, _LENGTH = 4, 200


def differing(facts: Mapping[str, str], maxima: Maxima) -> list[str]:
    """Return the names of the facts that are not the same on every rank; the same answer on each. One collective.

    Args:
        facts: The same names on every rank, in the same order.
        maxima: Takes the largest over the ranks.
    """
    digests = [int.from_bytes(hashlib.sha256(fact.encode()).digest()[:7]) for fact in facts.values()]
    largest = maxima([*digests, *(-digest for digest in digests)])
    # equal on all ranks where the largest is the smallest
    pairs = zip(largest[: len(digests)], largest[len(digests) :], strict=True)
    return [name for name, (most, least) in zip(facts, pairs, strict=True) if most != -least]


def refuse(facts: Mapping[str, str], names: Sequence[str], gather: Gather) -> None:
    """Raise on every rank, naming what differs and where.

    Args:
        facts: This rank's.
        names: Those that differ.
        gather: Gathers over the ranks.

    Raises:
        InputError: Always.
    """
    by_rank = gather({name: facts[name] for name in names})
    lines = []
    for name in names:
        ranks: dict[str, list[int]] = {}
        for rank, theirs in enumerate(by_rank):
            ranks.setdefault(theirs[name], []).append(rank)
        said = [f"{_cut(value)} on {_ranks(where)}" for value, where in ranks.items()]
        more = f" and {len(said) - _MOST_VALUES} more" if len(said) > _MOST_VALUES else ""
        lines.append(f"{name} is {', '.join(said[:_MOST_VALUES])}{more}")
    raise InputError(
        f"ranks plan differently, and would stop at different steps: {'; '.join(lines)}. Give every rank the same: the "
        f"same arguments, the same law file and the same model."
    )


def _cut(value: str) -> str:
    return shown(value, _LENGTH).strip("'\"")


def _ranks(ranks: Sequence[int]) -> str:
    """`rank 3`, or `ranks 0-4, 7`."""
    spans: list[list[int]] = []
    for rank in ranks:
        if spans and rank == spans[-1][1] + 1:
            spans[-1][1] = rank
        else:
            spans.append([rank, rank])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in spans]
    more = ", ..." if len(texts) > _MOST_VALUES else ""
    return f"{'rank' if len(ranks) == 1 else 'ranks'} {', '.join(texts[:_MOST_VALUES])}{more}"
