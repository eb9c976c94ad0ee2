"""The block a run prints before it starts."""

from dataclasses import replace

import pytest

from scalestop.laws import Finding, Provenance, get_law
from scalestop.planning.plan import make_plan
from scalestop.planning.speed import Speed


def rows(plan):
    found = {}
    for line in str(plan).splitlines():
        name, text = line.split("  ", 1)
        found.setdefault(name, []).append(text.strip())
    return {name: texts[0] if len(texts) == 1 else texts for name, texts in found.items()}


def test_the_whole_block():
    assert str(make_plan("1 PF-day", num_params=750_000_000, tokens_per_step=500_000)) == (
        "budget      8.64e19 FLOPs (1 PF-days)\n"
        "law         besiroglu (its N counts total parameters)\n"
        "chosen      auto: 8.64e19 FLOPs lies within its runs, 1.4e18 to 1.3e22 FLOPs\n"
        "optimum     N_opt 793M (90 %: 743M to 841M), D_opt 18.2B (90 %: 17.1B to 19.4B) tokens "
        "(22.9 per total param), loss 2.572 (90 %: 2.569 to 2.574)\n"
        "model       N 750M = 0.946 N_opt: right-sized\n"
        "stop        COMPUTE_OPTIMAL after step 36,327, at 18.2B tokens (500k per step)\n"
        "loss there  2.580 nats/token (90 % of runs: 2.556 to 2.611) predicted, +0.008 against the optimum"
    )


@pytest.mark.parametrize("budget", ["1e12 FLOPs", "1e18 FLOPs", "1e24 FLOPs", "1e26 FLOPs"])
def test_no_plan_by_the_laws_that_auto_takes_is_a_bare_number(budget):
    block = rows(make_plan(budget))
    assert block["optimum"].count("90 %: ") == 3
    assert "90 % of runs: " in block["loss there"]


def test_a_law_without_uncertainty_says_why_there_is_no_interval():
    block = rows(make_plan("1e20 FLOPs", "kaplan"))
    assert "90 %" not in str(make_plan("1e20 FLOPs", "kaplan"))
    assert block["law"] == (
        "kaplan (its N counts body parameters); it has no known uncertainty, so its figures carry no interval"
    )


def test_why_this_law():
    assert rows(make_plan("1e12 FLOPs"))["chosen"].startswith("auto: 1e12 FLOPs lies within its runs")
    assert "chosen" not in rows(make_plan("1e20 FLOPs", "chinchilla"))
    assert rows(make_plan("1e12 FLOPs", "besiroglu"))["chosen"] == (
        "named by the user, and obeyed; law 'auto' would take stdlib-bytes, whose runs are nearer"
    )
    advised = rows(make_plan("1e28 FLOPs"))
    assert "5.9 factors of ten away" in advised["chosen"] and "only advises" in advised["note"][1]


def test_without_a_law():
    assert str(make_plan("1e18 FLOPs", None, 10**9, 1000)) == (
        "budget  1e18 FLOPs (0.0116 PF-days)\n"
        "law     none; no law was asked for: the budget alone ends the run\n"
        "model   N 1B\n"
        "stop    BUDGET_EXHAUSTED after step 166,667, at 167M tokens (1k per step)"
    )


def test_findings_and_differences_have_their_lines():
    law = get_law("besiroglu")
    info = replace(
        law.info,
        provenance=Provenance(context=128, tokenizer="bytes"),
        findings=(Finding("trend", "warning", "Residuals drift."),),
    )
    block = rows(make_plan("1e20 FLOPs", replace(law, info=info), run=Provenance(context=512, tokenizer="gpt2")))
    assert block["findings"] == "its fit ended with 1 warning: trend"
    assert block["differs"] == [
        "tokenizer: gpt2 here, bytes behind the law; a loss per token is another quantity there",
        "context: 512 here, 128 behind the law",
    ]


def test_the_interval_says_whose_it_is():
    law = get_law("stdlib-bytes")
    said = {}
    for noise in (None, 0.01):
        known = replace(law, uncertainty=replace(law.uncertainty, noise=noise))
        plan = make_plan("3e10 FLOPs", known, 13_424, 256)
        low, high = plan.loss_interval
        off = plan.loss_at_stop - plan.loss_at_optimum
        words = f"{plan.loss_at_stop:.3f} nats/token (90 %{{}}: {low:.3f} to {high:.3f}) predicted, {off:+.3f} against"
        said[noise] = rows(plan)["loss there"], words
    text, words = said[None]
    assert text.startswith(words.format(""))
    text, words = said[0.01]
    assert text.startswith(words.format(" of runs"))


def test_oversized():
    block = rows(make_plan("1e18 FLOPs", num_params=10**9))
    assert block["stop"] == (
        "before the first step, MODEL_OVERSIZED: N is over 2 N_opt; the largest model for this budget is 161M; N 1B "
        "needs 3.52e19 FLOPs; oversized='warn' trains it all the same"
    )
    assert "loss there" not in block


def test_what_is_not_known_is_not_guessed():
    block = rows(make_plan("12h", num_params=10**8))
    assert block["optimum"] == "not known yet: time and money become FLOPs once a speed is given or measured"
    assert block["stop"] == "when a limit is reached; the step is not known yet"
    assert block["model"] == "N 100M"


def test_time_as_flops_with_the_speed_that_makes_them():
    speed = Speed(peak_flops_per_second=1e15, mfu=0.4, num_devices=8)
    block = rows(make_plan("1h", num_params=10**9, speed=speed))
    assert block["budget"] == "1 h = 1.15e19 FLOPs (0.133 PF-days)"
    assert block["speed"] == "peak 1e+15 FLOP/s x MFU 0.4 x 8 devices"


def test_a_token_dearer_than_6n():
    """What 2B tokens cost is what is paid for them, not what the law's 6N would be."""
    block = rows(make_plan("2B tokens", num_params=10**8, flops_per_token=9 * 10**8))
    assert block["budget"] == "2e9 tokens = 1.8e18 FLOPs (0.0208 PF-days)"
    assert block["cost"] == "900M FLOPs/token = 9 N (the law counts 6 N)"


def test_a_job_budget_and_every_warning():
    block = rows(make_plan("1e12 FLOPs", "kaplan-presentation", num_params=1000, job_budget="3e11 FLOPs"))
    assert block["budget"] == "1e12 FLOPs; this job: 3e11 FLOPs"
    assert ["inconsistent" in block["note"][0], "outside its runs" in block["note"][1]] == [True, True]
    assert len(block["note"]) == 2


@pytest.mark.parametrize("step", [None, 1000])
def test_no_line_is_left_blank(step):
    for line in str(make_plan("1e18 FLOPs", "deepseek", tokens_per_step=step)).splitlines():
        assert line.split("  ", 1)[1].strip()
    assert "loss" not in str(make_plan("1e18 FLOPs", "deepseek"))
