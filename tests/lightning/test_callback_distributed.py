"""Two real processes: counts are sums over ranks of what each rank's model really saw, and all stop together."""

from __future__ import annotations

import pytest
from launching import launch, launch_nodes
from toys import C_OPT, PER_BATCH, WIDTH, WORDS, N, Recount, reference_stop, stopping, train


def recounts(result: dict) -> list[Recount]:
    return [Recount(**batch) for batch in result["batches"]]


def check(
    results: list[dict],
    limit: int,
    every: int = 1,
    per_epoch: int = 10**9,
    copies: bool = False,
    by_hand: bool = False,
) -> Recount:
    """Hold each rank's counts and stop against a recount of both ranks' batches; return the sum.

    Args:
        results: By rank.
        limit: Budget in tokens that are no padding.
        every: Batches a step.
        per_epoch: Batches an epoch, whose last window may be short.
        by_hand: Whether the training step hands out no loss.
        copies: Whether the ranks are tensor-parallel copies that saw the same batches.
    """
    first, second = (recounts(result) for result in results)
    assert len(first) == len(second)
    assert not copies or first == second
    both = first if copies else [a + b for a, b in zip(first, second, strict=True)]
    total = sum(both, Recount())
    ends = [(i % per_epoch + 1) % every == 0 or i % per_epoch == per_epoch - 1 for i in range(len(both))]
    assert reference_stop(both, ends, limit) == len(both)
    for result in results:
        usage = result["usage"]
        assert Recount(*(usage[k] for k in ("tokens", "tokens_non_padding", "tokens_in_loss", "samples"))) == total
        assert usage["flops"] == 6 * N * total.tokens
        assert usage["optimizer_steps"] == sum(ends)
        assert result["num_params"] == N  # however it is sharded
        assert result["reason"] == "TOKEN_LIMIT"
        assert result["usage"] == results[0]["usage"]
        assert result["curve"] == results[0]["curve"] and result["looks"] == results[0]["looks"]
        counted = sum(count for _, _, count in result["curve"])
        # by hand nothing is handed out, and the first rank's logged loss stands for both
        assert counted == len(both) * (1 if copies or by_hand else 2)
    return total


def case(strategy: str, data: str, limit: int = 2500, **more) -> dict:
    return {"strategy": strategy, "data": data, "budget": f"{limit} tokens", **more}


def test_two_processes(tmp_path):
    """DDP, FSDP2 and tensor parallelism; ragged and uneven batches, accumulation, two optimizers, repeats."""
    quiet = {"log_every_n_steps": 1000}
    results = launch(
        tmp_path,
        {
            "uneven": case("ddp", "uneven", trainer=quiet),
            # 45 rows on 2 ranks: the sampler repeats one, and the last batch of an epoch is short
            "sampler": case("ddp", "ragged", rows=45, trainer=quiet),
            "accumulated": case("ddp", "uneven", batches=10, trainer={"accumulate_grad_batches": 4, **quiet}),
            "manual": case("ddp", "uneven", manual=1, trainer=quiet),
            "alone": case("ddp", "uneven", saves_alone=True, patience=0.5),
            "thawed": case("ddp", "uneven", thaw=5, trainer=quiet),
            # optimal at about 4,800 tokens; rank 1 alone would stop there
            "gated": {
                **case("ddp", "plain", logs_rank=True, trainer={"log_every_n_steps": 1}),
                "budget": f"{round(1.2 * C_OPT)} FLOPs",
                "options": {"until": {"rank": "> 0"}, "tolerance": 0.3},
            },
            "jump": case("ddp", "jump", 6000, trainer={"use_distributed_sampler": False, **quiet}),
            "sharded": case("model_parallel", "uneven", trainer=quiet),
            "sharded_on": case("model_parallel", "uneven", 3500, ckpt_of="sharded"),
            "split": case("model_parallel", "ragged", tensor_parallel=2, trainer=quiet),
        },
    )
    check(results["uneven"], 2500)
    both = [a + b for a, b in zip(*map(recounts, results["thawed"]), strict=True)]
    frozen = 6 * N - 2 * WORDS * WIDTH
    price = [(frozen if step < 5 else 6 * N) * batch.tokens for step, batch in enumerate(both)]
    assert len(price) > 10 and all(result["usage"]["flops"] == sum(price) for result in results["thawed"])
    check(results["sampler"], 2500, per_epoch=6)
    check(results["accumulated"], 2500, every=4, per_epoch=5)  # each rank is given half of the ten
    check(results["manual"], 2500, by_hand=True)
    assert results["manual"][0]["global_step"] == 2 * results["manual"][0]["usage"]["optimizer_steps"]
    check(results["alone"], 2500)
    check(results["sharded"], 2500)
    check(results["split"], 2500, copies=True)

    for name in ("uneven", "sharded", "split"):
        steps = results[name][0]["usage"]["optimizer_steps"]
        assert results[name][0]["reductions"] < steps / 1.5  # not at every step; see test_watch_ranks for how few
        assert results[name][0]["reductions"] == results[name][1]["reductions"]

    # a step that no check could expect makes the stop late, by no more than is reported, and on both ranks alike
    first, second = (recounts(result) for result in results["jump"])
    late = len(first) - reference_stop([a + b for a, b in zip(first, second, strict=True)], [True] * len(first), 6000)
    assert 0 < late <= results["jump"][0]["late_by"] == results["jump"][1]["late_by"]
    assert f'"late_by": {results["jump"][0]["late_by"]}' in (tmp_path / "jump" / "scalestop.json").read_text()
    assert "steps late, as a step took over twice" in (tmp_path / "ranks.log").read_text()

    # every rank follows the first one's metric
    assert [result["reason"] for result in results["gated"]] == ["BUDGET_EXHAUSTED"] * 2
    assert results["gated"][0]["usage"] == results["gated"][1]["usage"]
    assert results["gated"][0]["looks"] == results["gated"][1]["looks"]
    assert "loss_forecast" in results["gated"][0]["looks"]

    # one rank that asks for its state alone gets an answer: an estimate that says so
    alone = results["alone"][0]["alone"]
    assert alone["exact"] is False and alone["meter"]["tokens"] > 0

    # state that a strategy restores after `on_fit_start` is taken up all the same
    before, after = results["sharded"], results["sharded_on"]
    assert after[0]["warnings"] == []
    gained = sum((sum(recounts(result), Recount()) for result in after), Recount())
    assert after[0]["usage"]["tokens"] == before[0]["usage"]["tokens"] + gained.tokens
    assert 3500 <= after[0]["usage"]["tokens_non_padding"] < 3500 + 100


def test_one_then_two_then_one_process(tmp_path):
    """A run that moves between worlds keeps its count: the state is global."""
    first = stopping("640 tokens", oversized="ignore")
    train(first, tmp_path / "first")
    middle = launch(tmp_path / "middle", {"two": case("ddp", "plain", 1600, ckpt_path=str(first.checkpoint_path))})[
        "two"
    ]
    last = stopping("2240 tokens", oversized="ignore")
    trainer = train(last, tmp_path / "last", ckpt_path=middle[0]["checkpoint"])
    gained = [sum(recounts(result), Recount()).tokens for result in middle]
    assert middle[0]["usage"]["tokens"] == middle[1]["usage"]["tokens"] == 640 + sum(gained)
    # 15 more batches of one rank, or 8 steps of two
    assert middle[0]["usage"]["tokens"] == 640 + 8 * 2 * PER_BATCH
    assert last.usage.tokens == 640 + sum(gained) + trainer.toy.seen.tokens == 2240
    assert last.usage.optimizer_steps == 10 + 8 + trainer.global_step - 18
    assert last.usage.samples == last.usage.tokens // 16


def test_ranks_that_plan_differently_are_refused_on_every_rank(tmp_path):
    """By name and by rank, before a step; nobody waits for one that has gone. What each measured itself may differ."""
    results = launch(
        tmp_path,
        {
            "budget": {**case("ddp", "plain"), "budget": ["1000 tokens", "2000 tokens"], "may_fail": True},
            "price": case("ddp", "plain", options_by_rank=[{}, {"flops_per_token": 1000}], may_fail=True),
            "rule": case("ddp", "plain", options_by_rank=[{"tolerance": 0.2}, {}], may_fail=True),
            "measured": {**case("ddp", "uneven", function_price=[500, 701]), "budget": "1e6 FLOPs"},
            "alike": case("ddp", "plain", 1000),
        },
    )
    for name, text in {
        "budget": "budget is 1000 tokens on rank 0, 2000 tokens on rank 1",
        "price": f"flops_per_token is {6 * N} on rank 0, 1000 on rank 1",
        "rule": "stop rule is StopRule(tolerance=0.2",
    }.items():
        first, second = (result["error"] for result in results[name])
        assert first == second and first.startswith("InputError: ranks plan differently") and text in first
    first, second = results["measured"]
    assert first["usage"] == second["usage"] and first["reason"] == "BUDGET_EXHAUSTED"
    seen = [[batch.tokens for batch in recounts(result)] for result in (first, second)]
    flops = [500 * one + 701 * other for one, other in zip(*seen, strict=True)]
    assert first["usage"]["flops"] == sum(flops) >= 10**6 > sum(flops[:-1])
    assert first["flops_per_token"] == second["flops_per_token"] == 601  # the plan's, on both
    assert results["alike"][0]["usage"]["tokens"] >= 1000


@pytest.mark.parametrize(
    "batches", [(6, 9), *(pytest.param(pair, marks=pytest.mark.slow) for pair in [(9, 6), (0, 3), (3, 0)])]
)
def test_data_that_runs_out_on_one_rank_first_ends_as_it_does_without_us(tmp_path, batches):
    """That rank is done; the other fails at once, as its gradients are waited for by nobody. Not at the time-out."""
    options = {"max_epochs": 1, "enable_checkpointing": False, "log_every_n_steps": 1000}
    stream = case("ddp", "stream", 10**6, batches=batches, trainer=options, may_fail=True)
    (results,) = launch(tmp_path, {"stream": stream}).values()
    short, long = results if batches[0] < batches[1] else results[::-1]
    assert short["global_step"] == min(batches)
    assert "timed out" not in long["error"].lower() and "timeout" not in long["error"].lower()
    assert "closed by peer" in long["error"] or "reset by peer" in long["error"]
    if batches[0] < batches[1]:
        assert any("ran out at different steps" in text for text in short["warnings"])


@pytest.mark.slow
def test_two_nodes_simulated_on_one_machine(tmp_path):
    results = launch_nodes(tmp_path, {"uneven": case("ddp", "uneven"), "sharded": case("model_parallel", "uneven")})
    check(results["uneven"], 2500)
    check(results["sharded"], 2500)
