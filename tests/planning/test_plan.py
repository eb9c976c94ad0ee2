"""Plans against the rule itself: a run taken step by step through `decide` ends where its plan said."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalestop.accounting.meter import Usage
from scalestop.errors import InputError
from scalestop.laws import Finding, LawInfo, ParametricLaw, Provenance, Uncertainty, get_law
from scalestop.planning.budget import Budget
from scalestop.planning.choice import resolve_law
from scalestop.planning.plan import budget_limits, make_plan
from scalestop.planning.rule import Limit, StopReason, StopRule, Verdict
from scalestop.planning.speed import Speed
from scalestop.run.stopping import decide

LAW = get_law("besiroglu")
N_OPT, D_OPT = LAW.optimal(1e18)
BARE = replace(LAW, uncertainty=None)
"""The same without intervals, which no stop depends on and which take most of a plan's time."""


def usage_after(steps, plan, rate=None, devices=1):
    tokens = steps * plan.tokens_per_step
    flops = tokens * plan.flops_per_token
    seconds = 0.0 if rate is None else flops / (rate * devices)
    return Usage(tokens, tokens, tokens, flops, steps, steps, seconds, seconds * devices)


def simulate(plan, limit=3000, rate=None, devices=1):
    """The slow reference: step after step, asking the rule each time."""
    one = usage_after(1, plan, rate, devices)
    for steps in range(limit):
        decision = decide(plan, usage_after(steps, plan, rate, devices), largest_step=one if steps else None)
        if decision.stop:
            return steps, decision.reason
    raise AssertionError("the run went on")


@st.composite
def runs(draw):
    """A budget, a model from a hundredth to some times the optimum, and a step that fits in some hundred times."""
    flops = draw(st.floats(1e12, 1e24))
    n_opt = LAW.optimal(flops).num_params
    num_params = max(1, round(n_opt * draw(st.floats(0.01, 3) | st.floats(0.85, 1.15))))
    steps = draw(st.integers(1, 300))
    per_token = draw(st.none() | st.integers(math.ceil(3 * num_params), 12 * num_params))
    affordable = flops / (per_token or 6 * num_params)
    kind = draw(st.sampled_from(["flops", "tokens", "both"]))
    tokens = max(1, round(affordable * draw(st.floats(0.5, 2))))
    budget = {
        "flops": f"{round(flops)} FLOPs",
        "tokens": f"{tokens} tokens",
        "both": f"{round(flops)} FLOPs or {tokens} tokens",
    }[kind]
    rule = StopRule(
        tolerance=draw(st.sampled_from([0.0, 0.1, 0.5])),
        oversized=draw(st.sampled_from(["stop", "warn", "ignore"])),
        undersized=draw(st.sampled_from(["continue", "stop"])),
        overshoot=draw(st.sampled_from(["allow", "never"])),
    )
    job = draw(st.none() | st.builds(lambda x: f"{max(1, round(flops * x))} FLOPs", st.floats(0.2, 2)))
    choice = resolve_law("auto", budget, num_params, flops_per_token=per_token)
    return {
        "budget": budget,
        "law": replace(choice, law=replace(choice.law, uncertainty=None)),
        "num_params": num_params,
        "tokens_per_step": max(1, math.ceil(affordable / steps)),
        "rule": rule,
        "flops_per_token": per_token,
        "job_budget": job,
    }


@settings(max_examples=200)
@given(runs())
def test_a_run_stops_where_its_plan_says(run):
    plan = make_plan(**run)
    steps, reason = simulate(plan)
    assert (plan.stop_step, plan.stop_reason) == (steps, reason)
    assert plan.stop_tokens == steps * run["tokens_per_step"]
    if run["rule"].overshoot == "never" and steps > 1:
        used = usage_after(steps, plan)
        assert all(getattr(used, limit.counter) <= limit.amount for limit in plan.limits if limit.hard)


@settings(max_examples=100)
@given(
    hours=st.floats(0.1, 100),
    steps=st.integers(1, 200),
    size=st.floats(0.3, 1.8),
    devices=st.sampled_from([1, 2, 8]),
    unit=st.sampled_from(["h", "GPU-hours", "USD"]),
    overshoot=st.sampled_from(["allow", "never"]),
)
def test_a_run_limited_in_time_or_money(hours, steps, size, devices, unit, overshoot):
    speed = Speed(measured_flops_per_second=1e12, num_devices=devices, usd_per_device_hour=2.0)
    compute = hours * 3600 * 1e12 * {"h": devices, "GPU-hours": 1, "USD": 0.5}[unit]
    num_params = round(LAW.optimal(compute).num_params * size)
    # half a step past a whole number, so that no tie hangs on a float's last digit
    per_step = max(1, round(compute / (6 * num_params) / (steps + 0.5)))
    plan = make_plan(f"{hours!r} {unit}", BARE, num_params, per_step, speed=speed, rule=StopRule(overshoot=overshoot))
    assert plan.allocation.flops == pytest.approx(compute, rel=1e-9)
    assert (plan.stop_step, plan.stop_reason) == simulate(plan, rate=1e12, devices=devices)
    if plan.verdict is Verdict.OVERSIZED:
        assert (
            plan.stop_reason
            is {
                "h": StopReason.TIME_LIMIT,
                "GPU-hours": StopReason.DEVICE_TIME_LIMIT,
                "USD": StopReason.COST_LIMIT,
            }[unit]
        )


def test_money_is_device_time_at_its_price():
    """10 USD at 2 USD an hour are 5 device-hours, however many devices share them."""
    speed = Speed(measured_flops_per_second=1e12, num_devices=4, usd_per_device_hour=2.0)
    plan = make_plan("10 USD", LAW, 10**9, 1000, speed=speed, rule=StopRule(oversized="ignore"))
    assert [(limit.counter, limit.amount, limit.text) for limit in plan.limits] == [
        ("device_seconds", 18_000.0, "10 USD")
    ]
    assert plan.stop_tokens * 6e9 == pytest.approx(18_000 * 1e12, rel=1e-3)
    assert plan.stop_reason is StopReason.COST_LIMIT


@given(flops=st.floats(1e15, 1e22), size=st.floats(0.01, 5), tolerance=st.floats(0, 0.5))
def test_verdict(flops, size, tolerance):
    n_opt = LAW.optimal(float(round(flops))).num_params
    plan = make_plan(flops, LAW, max(1, round(size * n_opt)), rule=StopRule(tolerance=tolerance))
    ratio = plan.num_params / n_opt
    assert plan.size_ratio == pytest.approx(ratio, rel=1e-12)
    if abs(ratio - 1) < tolerance - 1e-9:
        assert plan.verdict is Verdict.RIGHT_SIZED
    elif ratio > 1 + tolerance + 1e-9:
        assert plan.verdict is Verdict.OVERSIZED
    elif ratio < 1 - tolerance - 1e-9:
        assert plan.verdict is Verdict.UNDERSIZED
    assert plan.too_large == (ratio > 2)


def test_right_sized_stops_at_the_optimum():
    plan = make_plan("1e18 FLOPs", LAW, round(0.99 * N_OPT), 1000)
    assert plan.verdict is Verdict.RIGHT_SIZED
    assert plan.target_tokens == math.ceil(D_OPT)
    assert plan.stop_reason is StopReason.COMPUTE_OPTIMAL
    assert plan.stop_step == math.ceil(D_OPT / 1000)
    assert plan.loss_at_stop == pytest.approx(LAW.loss(plan.num_params, plan.stop_tokens), rel=1e-12)
    assert plan.loss_at_optimum == pytest.approx(LAW.loss(N_OPT, D_OPT), rel=1e-12)


def test_at_a_tie_a_right_sized_run_is_compute_optimal():
    """One step of a whole budget: both limits are met after it. So it is where the FLOPs end a little before D_opt."""
    plan = make_plan("1e18 FLOPs", LAW, round(N_OPT), math.ceil(1.01 * D_OPT))
    assert plan.stop_step == 1
    assert plan.stop_reason is StopReason.COMPUTE_OPTIMAL
    for size in (0.95, 1.09):
        near = make_plan("1e18 FLOPs", LAW, round(size * N_OPT), 1000)
        assert near.stop_reason is StopReason.COMPUTE_OPTIMAL
    assert near.stop_tokens < 0.93 * near.target_tokens


def test_oversized_costs_nothing():
    plan = make_plan("1e18 FLOPs", LAW, round(2.01 * N_OPT), 1000)
    assert (plan.stop_step, plan.stop_tokens, plan.stop_reason) == (0, 0, StopReason.MODEL_OVERSIZED)
    assert plan.loss_at_stop is None
    ignored = make_plan("1e18 FLOPs", LAW, round(2.01 * N_OPT), 1000, rule=StopRule(oversized="ignore"))
    assert ignored.stop_reason is StopReason.BUDGET_EXHAUSTED
    # beyond the tolerance but not over twice: trains on, to the end of the budget
    assert make_plan("1e18 FLOPs", LAW, round(1.9 * N_OPT), 1000).stop_reason is StopReason.BUDGET_EXHAUSTED


def test_undersized_goes_on_or_stops_at_its_own_optimum():
    num_params = round(N_OPT / 4)
    to_the_letter = make_plan("1e18 FLOPs", LAW, num_params, 1000)
    assert (to_the_letter.verdict, to_the_letter.target_tokens) == (Verdict.UNDERSIZED, None)
    assert to_the_letter.stop_reason is StopReason.BUDGET_EXHAUSTED
    own = make_plan("1e18 FLOPs", LAW, num_params, 1000, rule=StopRule(undersized="stop"))
    assert own.stop_reason is StopReason.COMPUTE_OPTIMAL
    assert own.target_tokens == math.ceil(LAW.optimal_tokens(num_params))


def test_without_a_size_the_right_one_is_planned():
    plan = make_plan("1e18 FLOPs")
    assert plan.num_params == round(N_OPT)
    assert plan.verdict is Verdict.RIGHT_SIZED
    assert plan.stop_step is None and plan.tokens_per_step is None
    assert plan.stop_tokens == pytest.approx(D_OPT, rel=1e-6)
    by_tokens = make_plan("2B tokens")
    assert by_tokens.allocation.num_tokens == pytest.approx(2e9, rel=1e-6)
    by_time = make_plan("1h", speed=Speed(measured_flops_per_second=1e15))
    assert by_time.num_params == round(LAW.optimal(3.6e18).num_params)


def test_dearer_tokens_make_the_optimum_smaller():
    """At 12 N a token the budget buys half the tokens; the law is asked about what is bought."""
    num_params = round(LAW.optimal(5e17).num_params)
    plan = make_plan("1e18 FLOPs", LAW, num_params, 1000, flops_per_token=12 * num_params)
    assert plan.allocation.flops == 5 * 10**17
    assert plan.verdict is Verdict.RIGHT_SIZED
    assert plan.stop_tokens * 12 * num_params == pytest.approx(1e18, rel=1e-3)
    assert plan.flops_limit == 10**18


def test_a_job_budget_limits_the_job_and_not_the_plan():
    plan = make_plan("2B tokens", LAW, 10**7, 1000, job_budget="1e15 FLOPs")
    assert plan.allocation == make_plan("2B tokens", LAW, 10**7).allocation
    assert plan.flops_limit is None
    assert plan.stop_reason is StopReason.BUDGET_EXHAUSTED
    assert [(limit.scope, limit.counter) for limit in plan.limits[:2]] == [
        ("lifetime", "tokens_non_padding"),
        ("job", "flops"),
    ]


def test_time_without_a_speed_waits_for_a_measurement():
    plan = make_plan("12h", LAW, 10**8, 1000)
    assert plan.allocation is plan.verdict is plan.size_ratio is plan.loss_at_optimum is None
    assert (plan.stop_step, plan.stop_reason) == (None, StopReason.NOT_STOPPED)
    assert [limit.amount for limit in plan.limits] == [43_200.0]
    assert make_plan("12h", LAW, 10**8, rule=StopRule(undersized="stop")).limits == plan.limits


def fitted_law(scatter=()):
    rng = np.random.default_rng(2)
    constants = {"E": 1.8, "A": 480.0, "B": 2085.0, "alpha": 0.348, "beta": 0.366}
    draws = np.array(list(constants.values())) * np.exp(rng.normal(0, 0.02, (100, 5)))
    uncertainty = Uncertainty(
        draws, names=tuple(constants), method="parametric", num_runs=9, data_hash="", scatter=scatter
    )
    return ParametricLaw(LawInfo("fitted", "total", "a test"), uncertainty, **constants)


@pytest.mark.parametrize("undersized", [False, True])
def test_stop_at_an_end_of_the_interval(undersized):
    law = fitted_law()
    n_opt, d_opt = law.optimal(1e18)
    num_params = round(n_opt * (0.5 if undersized else 1))
    draws = law.drawn().optimal_tokens(float(num_params)) if undersized else law.drawn().optimal(1e18).num_tokens
    targets = {}
    for stop_at in ("earliest", "median", "latest"):
        rule = StopRule(stop_at=stop_at, undersized="stop")
        plan = make_plan("1e18 FLOPs", law, num_params, 1000, rule=rule)
        targets[stop_at] = plan.target_tokens
        assert plan.target_interval == pytest.approx(tuple(np.percentile(draws, [5, 95])))
        assert plan.loss_interval[0] < plan.loss_at_stop < plan.loss_interval[1] or stop_at != "median"
    low, high = np.percentile(draws, [5, 95])
    middle = law.optimal_tokens(num_params) if undersized else d_opt
    assert targets == {"earliest": math.ceil(low), "median": math.ceil(middle), "latest": math.ceil(high)}


def test_the_loss_interval_is_of_one_run_where_the_law_knows_how_runs_scatter():
    scatter = np.random.default_rng(3).normal(0, 0.05, 30)
    alone, run = (make_plan("1e18 FLOPs", fitted_law(given), tokens_per_step=1000) for given in ((), scatter))
    losses = fitted_law().drawn().loss(float(run.num_params), float(run.stop_tokens))
    assert not alone.loss_interval_of_run and run.loss_interval_of_run
    assert alone.loss_interval == pytest.approx(tuple(np.percentile(losses, [5, 95])), rel=1e-12)
    each = np.outer(losses, np.exp(scatter))
    assert run.loss_interval == pytest.approx(tuple(np.percentile(each, [5, 95])), rel=1e-12)
    # the optimum is the law's: no scatter of runs moves it
    assert alone.allocation == run.allocation


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_params": 0}, "num_params: must be a positive whole number; got 0"),
        ({"num_params": 1.5}, "num_params: must be a positive whole number; got 1.5"),
        (
            {"num_params": "7Z"},
            "num_params: cannot read '7Z' as a count. Write for example '1300000000', '1.3e9', '1.3B'.",
        ),
        ({"num_params": float("nan")}, "num_params: must be a positive whole number; got nan"),
        ({"tokens_per_step": -1}, "tokens_per_step: must be a positive whole number; got -1"),
        ({"tokens_per_step": True}, "tokens_per_step: must be a positive whole number; got True"),
        (
            {"num_params": 5, "flops_per_token": float("inf")},
            "flops_per_token: must be a positive whole number; got inf",
        ),
        (
            {"flops_per_token": 60},
            "flops_per_token: 60 is the cost of a model whose num_params is not given; give both, or neither to plan "
            "the right-sized model at 6·N",
        ),
        (
            {"budget": "500 USD", "num_params": 10**8},
            "usd_per_device_hour: a budget of 500 USD needs a price; give what one device-hour costs",
        ),
        (
            {"law": "kaplan", "rule": StopRule(stop_at="latest")},
            "stop_at: 'latest' needs a law with an uncertainty, and 'kaplan' carries none; fit one with "
            "scalestop.fit_law, or use stop_at='median'",
        ),
        (
            {"law": None},
            "law: a plan without num_params needs a law; name one (see `scalestop laws list`), or use 'auto'",
        ),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(InputError) as error:
        make_plan(**{"budget": "1e18 FLOPs", **arguments})
    assert str(error.value) == message


@pytest.mark.parametrize("num_params", [np.int64(10**7), np.float64(1e7), 1e7])
def test_whole_numbers_of_every_make(num_params):
    plan = make_plan("1e18 FLOPs", LAW, num_params)
    assert plan.num_params == 10**7
    assert type(plan.num_params) is int


def test_a_size_outside_the_range_is_said_even_if_the_optimum_is_inside():
    plan = make_plan("1e20 FLOPs", LAW, 10**6)
    assert plan.warnings == (
        "law besiroglu, outside its runs: N is 1.8 factors of ten below 57.3M to 16.2B parameters",
    )
    taught = make_plan("1 PF-day", "kaplan-presentation", 10**12)
    assert [("inconsistent" in line, "N is 2.8" in line) for line in taught.warnings] == [(True, False), (False, True)]


# ---- which law, and what it may do


def test_by_default_the_nearest_law_plans():
    small, large = make_plan("1e12 FLOPs"), make_plan("1e21 FLOPs")
    assert (small.law, large.law) == ("stdlib-bytes", "besiroglu")
    assert small.law_chosen == large.law_chosen == "auto"
    assert small.law_reason == "1e12 FLOPs lies within its runs, 3e10 to 1e12 FLOPs"
    assert small.target_tokens == math.ceil(get_law("stdlib-bytes").optimal(1e12).num_tokens)


def test_a_toy_is_no_longer_ended_by_a_law_of_large_models():
    """33k parameters on 1e13 FLOPs: besiroglu's loss there is 20 nats, and stdlib-bytes' 1.2."""
    plan = make_plan("1e13 FLOPs", num_params=33_000, tokens_per_step=1000)
    assert (plan.law, plan.stop_step > 0) == ("stdlib-bytes", True)
    assert plan.loss_at_stop < 2


@given(size=st.floats(0.01, 100), undersized=st.sampled_from(["continue", "stop"]))
def test_a_law_that_only_advises_ends_no_run(size, undersized):
    """1e28 FLOPs lie 5.9 factors of ten above every built-in law's runs."""
    best = LAW.optimal(1e28).num_params
    plan = make_plan("1e28 FLOPs", "auto", round(size * best), 10**9, rule=StopRule(undersized=undersized))
    assert plan.advisory and not plan.too_large
    assert [limit.reason for limit in plan.limits] == [StopReason.BUDGET_EXHAUSTED]
    assert plan.stop_reason is StopReason.BUDGET_EXHAUSTED
    assert (
        plan.target_tokens is plan.target_interval is plan.largest_params is plan.refusal is plan.flops_needed is None
    )
    # what it advises is there all the same
    assert plan.allocation.num_params == pytest.approx(best)
    assert plan.size_ratio == pytest.approx(size, rel=1e-9)
    assert plan.warnings[-1] == (
        "law besiroglu only advises, over 3 factors of ten from its runs: the budget alone ends the run. For a law of "
        "your own: scalestop ladder --target '1e28 FLOPs' (or name a law, which is then obeyed)"
    )


def test_a_law_that_is_named_is_obeyed_to_the_letter():
    n_opt, d_opt = LAW.optimal(1e28)
    named = make_plan("1e28 FLOPs", "besiroglu", round(n_opt), 10**9)
    assert (named.advisory, named.target_tokens) == (False, math.ceil(d_opt))
    assert [line for line in named.warnings if "outside its runs: C is 5.9 factors of ten above" in line]
    assert len(named.warnings) == 1
    assert make_plan("1e12 FLOPs", "besiroglu", 33_000 * 100).stop_reason is StopReason.MODEL_OVERSIZED


def test_without_a_law_the_budget_alone_counts():
    plan = make_plan("1e18 FLOPs or 12h", None, 10**9, 1000)
    assert (plan.law, plan.law_chosen, plan.allocation, plan.warnings) == ("none", "none", None, ())
    assert [limit.reason for limit in plan.limits] == [StopReason.BUDGET_EXHAUSTED, StopReason.TIME_LIMIT]
    assert (plan.stop_reason, plan.stop_step) == (StopReason.BUDGET_EXHAUSTED, math.ceil(1e18 / 6e9 / 1000))
    assert plan.size_ratio is plan.verdict is plan.loss_at_stop is plan.loss_at_optimum is None
    assert not plan.too_large
    usage = usage_after(plan.stop_step, plan)
    assert decide(plan, Usage()).reason is StopReason.NOT_STOPPED
    assert decide(plan, usage).reason is StopReason.BUDGET_EXHAUSTED


def test_a_choice_already_made_is_kept():
    choice = resolve_law("auto", "1e12 FLOPs")
    assert make_plan("1e21 FLOPs", choice, 10**6).law == "stdlib-bytes"


@given(
    flops=st.floats(1e18, 1e22),
    size=st.floats(2.01, 1e4),
    per_token=st.none() | st.floats(3, 20),
    factor=st.sampled_from([1.5, 2.0, 10.0]),
)
def test_a_refusal_names_the_size_that_fits_and_the_budget_that_is_needed(flops, size, per_token, factor):
    """Both are held to: given back, the size and the budget just pass, and a hair beyond does not."""
    rule = StopRule(oversize_factor=factor)

    def plan(budget, num_params):
        cost = None if per_token is None else max(1, round(per_token * num_params))
        return make_plan(round(budget), BARE, num_params, 1000, rule=rule, flops_per_token=cost)

    refused = plan(flops, round(size * factor / 2 * LAW.optimal(flops * 20).num_params))
    assert refused.stop_reason is StopReason.MODEL_OVERSIZED
    needed = refused.flops_needed
    assert not plan(needed, refused.num_params).too_large
    assert plan(needed * 0.9999, refused.num_params).too_large
    if per_token is None:
        assert not plan(flops, refused.largest_params).too_large
        assert plan(flops, math.ceil(refused.largest_params * 1.0001) + 1).too_large
    assert refused.refusal.endswith("; oversized='warn' trains it all the same")


def test_the_refusal_in_words():
    plan = make_plan("1e18 FLOPs", LAW, 10**9)
    assert plan.largest_params == math.floor(2 * N_OPT)
    assert plan.refusal == (
        "the largest model for this budget is 161M; N 1B needs 3.52e19 FLOPs; oversized='warn' trains it all the same"
    )
    warned = make_plan("1e18 FLOPs", LAW, 10**9, rule=StopRule(oversized="warn"))
    assert warned.refusal == plan.refusal and warned.stop_reason is StopReason.BUDGET_EXHAUSTED
    assert make_plan("1e18 FLOPs", LAW, round(N_OPT)).refusal is None


def test_an_oversize_by_a_bisection_gives_the_closed_form():
    """N_opt grows as C^a, so N over 2 N_opt by a factor f needs f^(1/a) times the budget."""
    plan = make_plan("1e18 FLOPs", LAW, round(6 * N_OPT))
    assert plan.flops_needed == pytest.approx(1e18 * 3 ** (1 / LAW.a), rel=1e-6)


def law_with(**info):
    return ParametricLaw(replace(LAW.info, **info), LAW.uncertainty, **LAW.constants)


def test_findings_and_differences_of_the_law_come_with_the_plan():
    law = law_with(
        provenance=Provenance(vocab_size=256, context=128),
        findings=(Finding("E-undetermined", "warning", "E is not determined."), Finding("held-out", "note", "1 run.")),
    )
    plan = make_plan("1e20 FLOPs", law, run=Provenance(vocab_size=50257, context=128))
    assert plan.findings.startswith("its fit ended with 1 warning: E-undetermined; its constants are not determined")
    assert plan.differences == (
        "vocabulary: 50,257 here, 256 behind the law; a loss per token is another quantity there",
    )
    silent = make_plan("1e20 FLOPs", law)
    assert silent.differences == () and make_plan("1e20 FLOPs").findings is None


# ---- worked out by hand

ROUND = ParametricLaw(LawInfo("round", "total", "made up"), E=1.0, A=50.0, B=200.0, alpha=0.5, beta=0.5)
"""N_opt = sqrt(C/6) / 4 and D_opt = 4 sqrt(C/6): at 9.6e7 FLOPs, 1,000 parameters and 16,000 tokens; at 1.008e8,
1,024.7 and 16,395.1."""


def test_a_right_sized_run_by_hand():
    """In steps of 1,000 the optimum is met after 17, and so is the end of the FLOPs: compute-optimal."""
    plan = make_plan("100.8M FLOPs", ROUND, 1000, 1000)
    assert (plan.num_params, plan.flops_per_token, plan.tokens_per_step) == (1000, 6000, 1000)
    assert (plan.law, plan.n_counts, plan.target_interval, plan.loss_interval) == ("round", "total", None, None)
    assert plan.limits == (
        Limit(StopReason.BUDGET_EXHAUSTED, "flops", 100_800_000, "lifetime", "1.008e8 FLOPs"),
        Limit(StopReason.COMPUTE_OPTIMAL, "tokens_non_padding", 16_396, "lifetime", "16396 tokens"),
    )
    assert (plan.stop_step, plan.stop_tokens, plan.stop_reason) == (17, 17_000, StopReason.COMPUTE_OPTIMAL)
    assert plan.loss_at_stop == pytest.approx(1 + 50 / 1000**0.5 + 200 / 17_000**0.5)
    assert plan.loss_at_optimum == pytest.approx(1 + 50 / 1024.695**0.5 + 200 / 16_395.12**0.5)
    assert not plan.loss_interval_of_run


@pytest.mark.parametrize(
    ("budget", "overshoot", "step"),
    [
        ("1000 tokens", "allow", 4),
        ("1000 tokens", "never", 3),
        ("900 tokens", "allow", 3),
        ("900 tokens", "never", 3),
        ("200 tokens", "never", 1),  # the first step is always taken
        ("6000000 FLOPs", "allow", 4),
        ("6000000 FLOPs", "never", 3),
        ("1 s", "allow", 4),
        ("1 s", "never", 3),
        ("2 GPU-seconds", "allow", 4),
        ("2 GPU-seconds", "never", 3),
        ("1 USD", "allow", 4),
        ("1 USD", "never", 3),
        ("1000 tokens or 2400000 FLOPs", "allow", 2),
        ("400 tokens or 6000000 FLOPs", "allow", 2),
    ],
)
def test_steps_of_300_tokens_to_a_thousand(budget, overshoot, step):
    """A thousand tokens of 1,000 parameters are 6e6 FLOPs: 1 s of two devices at 3e6 FLOP/s, or 2 s of one."""
    speed = Speed(measured_flops_per_second=3e6, num_devices=2, usd_per_device_hour=1800.0)
    rule = StopRule(oversized="ignore", overshoot=overshoot)
    plan = make_plan(budget, ROUND, 1000, 300, rule=rule, speed=speed)
    assert (plan.stop_step, plan.stop_tokens) == (step, 300 * step)


def test_the_optimum_needs_no_margin():
    """Its 16,396 tokens lie between steps 54 and 55 of 300, of which `never` takes the 55th: nothing is spent by it."""
    plan = make_plan(100.8e6, ROUND, 1000, 300, rule=StopRule(overshoot="never"))
    assert (plan.stop_step, plan.stop_reason) == (55, StopReason.COMPUTE_OPTIMAL)


@pytest.mark.parametrize(
    ("budget", "flops"),
    [
        ("96M FLOPs", 96_000_000),
        ("16000 tokens", 96_000_000),  # of 6,000 FLOPs each
        ("16 s", 96_000_000),  # on two devices of 3e6 FLOP/s
        ("32 GPU-seconds", 96_000_000),
        ("16 USD", 96_000_000),
        ("96M FLOPs or 17000 tokens or 17 s", 96_000_000),
        ("97M FLOPs or 16000 tokens or 17 s", 96_000_000),
        ("97M FLOPs or 17000 tokens or 16 s", 96_000_000),
    ],
)
def test_the_tightest_limit_is_what_the_law_divides(budget, flops):
    speed = Speed(measured_flops_per_second=3e6, num_devices=2, usd_per_device_hour=1800.0)
    assert make_plan(budget, ROUND, 1000, speed=speed).allocation.flops == flops
    assert make_plan(budget, ROUND, speed=speed).num_params == 1000


def test_compute_is_exact_where_a_float_is_not():
    exact = 2**60 + 1
    plan = make_plan(f"{exact} FLOPs", ROUND, 10**8)
    assert plan.allocation.flops == plan.flops_limit == exact
    assert type(plan.limits[0].amount) is int


def test_dearer_tokens_by_hand():
    """At 12,000 FLOPs a token, 2.016e8 FLOPs buy what 1.008e8 do at 6 N: 16,800 tokens, of which 16,396 are optimal."""
    plan = make_plan("201.6M FLOPs", ROUND, 1000, 100, flops_per_token=12_000)
    assert (plan.flops_per_token, plan.allocation.flops) == (12_000, 100_800_000)
    assert (plan.stop_step, plan.target_tokens, plan.flops_limit) == (164, 16_396, 201_600_000)
    by_tokens = make_plan("16000 tokens", ROUND, 1000, flops_per_token=12_000)
    assert by_tokens.allocation.flops == 96_000_000


def test_a_run_has_at_least_one_parameter_one_token_and_one_flop():
    tiny = make_plan("1 FLOPs", ROUND, rule=StopRule(oversized="ignore"))
    assert (tiny.num_params, tiny.flops_per_token, tiny.stop_tokens) == (1, 6, 1)
    # a millionth of a FLOP in the law's currency, 6 of which are a token
    dear = make_plan("1 FLOPs", ROUND, 1, flops_per_token=6 * 10**6, rule=StopRule(oversized="ignore"))
    assert dear.allocation.flops == 1
    # its own optimum is 0.2 tokens
    law = ParametricLaw(LawInfo("dense", "total", "made up"), E=1.0, A=50.0, B=2.0, alpha=0.5, beta=0.5)
    assert law.optimal_tokens(100) == pytest.approx(0.16)
    own = make_plan("1e9 FLOPs", law, 100, rule=StopRule(undersized="stop"))
    assert (own.target_tokens, own.stop_tokens) == (1, 1)
    assert own.loss_at_stop == pytest.approx(law.loss(100, 1))


def test_limits_of_every_kind():
    """100 USD at 2.50 USD an hour are 40 device-hours."""
    budget = Budget.parse(["1e9 FLOPs", "5000 tokens", "2 GPU-hours", "90 s", "100 USD"])
    limits = budget_limits(budget, Speed(usd_per_device_hour=2.5))
    assert {(limit.reason, limit.counter, limit.amount, type(limit.amount)) for limit in limits} == {
        (StopReason.BUDGET_EXHAUSTED, "flops", 10**9, int),
        (StopReason.TOKEN_LIMIT, "tokens_non_padding", 5000, int),
        (StopReason.DEVICE_TIME_LIMIT, "device_seconds", 7200.0, float),
        (StopReason.TIME_LIMIT, "seconds", 90.0, float),
        (StopReason.COST_LIMIT, "device_seconds", 144_000.0, float),
    }
    assert {limit.scope for limit in limits} == {"lifetime"}
    assert {limit.scope for limit in budget_limits(budget, Speed(usd_per_device_hour=2.5), "job")} == {"job"}


def test_a_price_is_what_a_budget_in_money_lacks():
    for speed in (None, Speed(measured_flops_per_second=1e12)):
        with pytest.raises(InputError, match="a budget of 6 USD needs a price"):
            budget_limits(Budget.parse("6 USD"), speed)


def test_an_oversized_model_has_no_point_to_stop_at():
    """1,900 parameters for an optimum of 1,000: trains to the end of its FLOPs, 8,421 tokens."""
    plan = make_plan("96M FLOPs", ROUND, 1900, 1)
    assert (plan.verdict, plan.target_tokens, plan.target_interval) == (Verdict.OVERSIZED, None, None)
    assert (plan.stop_tokens, plan.stop_reason) == (8422, StopReason.BUDGET_EXHAUSTED)
    for oversized in ("warn", "ignore"):
        large = make_plan("96M FLOPs", ROUND, 2001, 1, rule=StopRule(oversized=oversized))
        assert (large.stop_tokens, large.loss_at_stop is None) == (7997, False)


def test_a_law_without_a_loss_forecasts_none():
    plan = make_plan("1e20 FLOPs", "chinchilla-1", tokens_per_step=10**6)
    assert plan.stop_step > 0 and plan.stop_reason is not StopReason.NOT_STOPPED
    assert plan.loss_at_stop is plan.loss_interval is None and not plan.loss_interval_of_run


def test_without_a_step_no_step_is_named():
    plan = make_plan("16000 tokens", ROUND, 1000)
    assert (plan.stop_step, plan.stop_tokens) == (None, 16_000)


def test_the_right_size_cannot_be_told_from_time_alone():
    with pytest.raises(InputError, match="12 h"):
        make_plan("12h", ROUND)
