"""The matrix: strategy x accumulation x fixed or ragged x resume point x optimization mode.

Every cell stops a run early at its resume point, takes it up with a raised budget, and holds the final counts and the
stop step against a recount of the batches that the model really saw.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from launching import launch
from toys import ManualToy, N, Recount, ResumableLoader, Toy, loader, reference_stop, stopping, train

LIMIT = 2500
ACCUMULATION, RAGGED, RESUME, MANUAL = (1, 3), (False, True), (None, 700, 1900), (False, True)


def hold(parts: list[list[Recount]], usages: list[dict], every: int) -> None:
    """Hold the final usage against a recount of all parts of a run, and each stop against a rule asked at every step.

    Args:
        parts: What each batch held, over all ranks, by part of the run.
        usages: Usage at the end of each part.
        every: Batches a step.
    """
    batches = [batch for part in parts for batch in part]
    ends = [(i + 1) % every == 0 for i in range(len(batches))]
    total = sum(batches, Recount())
    usage = usages[-1]
    assert Recount(*(usage[k] for k in ("tokens", "tokens_non_padding", "tokens_in_loss", "samples"))) == total
    assert usage["flops"] == 6 * N * total.tokens
    assert usage["optimizer_steps"] == sum(ends)
    assert reference_stop(batches, ends, LIMIT) == len(batches)


@pytest.mark.parametrize("manual", MANUAL, ids=["automatic", "manual"])
@pytest.mark.parametrize("resume", RESUME, ids=["unbroken", "early", "late"])
@pytest.mark.parametrize("ragged", RAGGED, ids=["fixed", "ragged"])
@pytest.mark.parametrize("every", ACCUMULATION)
def test_one_process(tmp_path, every, ragged, resume, manual):
    parts, usages, path = [], [], None
    for limit in (resume, LIMIT):
        if limit is None:
            continue
        callback = stopping(f"{limit} tokens", oversized="ignore")
        trainer = train(
            callback,
            tmp_path,
            ManualToy(every) if manual else Toy(),
            loader(1000, ragged=ragged, kind=ResumableLoader),
            ckpt_path=path,
            accumulate_grad_batches=1 if manual else every,
        )
        parts.append(trainer.toy.batches)
        usages.append(vars(callback.usage))
        path = callback.checkpoint_path
    hold(parts, usages, every)
    assert trainer.global_step == usages[-1]["optimizer_steps"] * (2 if manual else 1)


def cell(strategy: str, every: int, ragged: bool, limit: int, manual: bool, ckpt_of: str | None) -> dict:
    return {
        "strategy": strategy,
        "data": "ragged" if ragged else "plain",
        "rows": 1600,
        "budget": f"{limit} tokens",
        "manual": every if manual else 0,
        "trainer": {} if manual else {"accumulate_grad_batches": every},
        "ckpt_of": ckpt_of,
    }


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "model_parallel"])
def test_two_processes(tmp_path: Path, strategy):
    cells = list(itertools.product(ACCUMULATION, RAGGED, RESUME, MANUAL))
    cases: dict[str, dict] = {}
    for number, (every, ragged, resume, manual) in enumerate(cells):
        if resume is not None:
            cases[f"{number}-first"] = cell(strategy, every, ragged, resume, manual, None)
        before = f"{number}-first" if resume is not None else None
        cases[f"{number}-last"] = cell(strategy, every, ragged, LIMIT, manual, before)
    results = launch(tmp_path, cases)
    for number, (every, _, resume, _) in enumerate(cells):
        names = [f"{number}-last"] if resume is None else [f"{number}-first", f"{number}-last"]
        parts, usages = [], []
        for name in names:
            first, second = ([Recount(**batch) for batch in rank["batches"]] for rank in results[name])
            parts.append([a + b for a, b in zip(first, second, strict=True)])
            assert results[name][0]["usage"] == results[name][1]["usage"], cells[number]
            assert results[name][0]["reason"] == results[name][1]["reason"] == "TOKEN_LIMIT"
            assert results[name][0]["num_params"] == N and results[name][0]["warnings"] == []
            usages.append(results[name][0]["usage"])
        hold(parts, usages, every)
