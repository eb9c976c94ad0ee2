"""Which runs a ladder proposes."""

import itertools
import math

import pytest
from ladder_toys import PRIOR, Own, micro, path_of

from scalestop import count_params
from scalestop.errors import InputError
from scalestop.lab.tiny_gpt import default_lr
from scalestop.ladder.build import build_data, build_model
from scalestop.ladder.plan import pilot_budgets, plan_ladder


def full(tmp_path, **changes):
    defaults = {"target": "1e12 FLOPs", "budgets": None, "num_sizes": 5, "spread": 3.0, "context": 128, "steps": None}
    return micro(tmp_path, **{**defaults, **changes})


def test_the_pilots_spend_their_share_and_no_more(tmp_path):
    for share, seeds in ((0.1, [1]), (0.15, [3, 2, 1])):
        plan = plan_ladder(full(tmp_path, share=share, seeds=seeds))
        assert plan.share == pytest.approx(share, rel=0.01)
        assert len(plan.pilots) == 5 * sum((seeds + [1] * 4)[:4])


def test_each_rung_spends_its_budget_to_half_a_step(tmp_path):
    for rung in plan_ladder(full(tmp_path)).rungs:
        assert rung.num_tokens == rung.steps * rung.tokens_per_step
        assert abs(rung.flops - rung.budget) <= 0.5 * 6 * rung.num_params * rung.tokens_per_step
        assert rung.new_flops == rung.flops


def test_the_rung_is_the_model_that_is_built(tmp_path):
    settings = full(tmp_path)
    plan = plan_ladder(settings)
    for rung in {rung.num_params: rung for rung in plan.rungs}.values():
        model = build_model(settings, rung.model_args)
        assert count_params(model).total == rung.num_params
        assert model.lr == rung.lr == default_lr(rung.width, rung.tokens_per_step)
        assert model.dims.width % (2 * model.dims.num_heads) == 0
        data = build_data(settings, rung.data_args)
        assert data.tokens_per_batch == rung.tokens_per_step and data.seed == rung.seed


def test_sizes_lie_on_both_sides_of_each_optimum_and_are_the_nearest_of_the_grid(tmp_path):
    plan = plan_ladder(full(tmp_path))
    every = {rung.num_params for rung in plan.rungs}
    for budget in {rung.budget for rung in plan.rungs}:
        optimum = float(PRIOR.optimal(float(budget)).num_params)
        here = {rung.num_params for rung in plan.rungs if rung.budget == budget}
        assert min(here) < optimum < max(here)
        farthest = max(abs(math.log(n / optimum)) for n in here)
        assert all(abs(math.log(n / optimum)) >= farthest for n in every - here)


def test_batches_grow_with_the_tokens_or_keep_the_steps(tmp_path):
    grown = plan_ladder(full(tmp_path, target="1e14 FLOPs")).rungs
    ordered = sorted(grown, key=lambda rung: rung.num_tokens)
    assert [r.batch_size for r in ordered] == sorted(r.batch_size for r in ordered)
    assert ordered[0].batch_size < ordered[-1].batch_size
    kept = plan_ladder(full(tmp_path, target="1e14 FLOPs", steps=500)).rungs
    assert all(450 <= rung.steps <= 550 for rung in kept)


def test_budgets_are_a_geometric_row_and_may_be_in_tokens(tmp_path):
    found = pilot_budgets(full(tmp_path, num_budgets=3, budget_ratio=4.0))
    assert [b / a for a, b in itertools.pairwise(found)] == pytest.approx([4.0, 4.0], rel=1e-6)
    in_tokens = pilot_budgets(full(tmp_path, budgets=["100k tokens"]))[0]
    assert float(PRIOR.optimal(float(in_tokens)).num_tokens) == pytest.approx(1e5, rel=1e-6)


def test_the_valley_reaches_far_up_both_sides_where_no_pilot_lies(tmp_path):
    plan = plan_ladder(full(tmp_path, target="1e13 FLOPs", budgets=["3e11", "1e12"], valley="1e12 FLOPs", seeds=[2]))
    optimum = float(PRIOR.optimal(1e12).num_params)
    here = [rung for rung in plan.rungs if rung.budget == 10**12 and rung.kind in ("run", "valley")]
    sizes = sorted({rung.num_params for rung in here})
    assert sizes[0] == pytest.approx(optimum / 8, rel=0.25) and sizes[-1] == pytest.approx(8 * optimum, rel=0.25)
    assert all(b / a < 2.2 for a, b in itertools.pairwise(sizes))
    assert plan.valley and not plan.held_out
    assert all(rung.held_out and rung.seed == 0 and rung.flops == pytest.approx(1e12, rel=0.01) for rung in plan.valley)
    assert not {rung.num_params for rung in plan.valley} & {r.num_params for r in plan.pilots if r.budget == 10**12}
    without = plan_ladder(full(tmp_path, target="1e13 FLOPs", budgets=["3e11", "1e12"], seeds=[2]))
    assert (plan.pilots, plan.flops) == (without.pilots, without.flops)


def test_cheap_runs_may_be_kept_from_the_fit(tmp_path):
    budgets = ["1e10", "3e10", "1e11", "3e11"]
    grid = {"budgets": budgets, "seeds": [3, 2, 1], "held_out": ["1e12"], "trunk": False}
    every, some = (plan_ladder(full(tmp_path, **grid, fit_from=start)) for start in (None, "1e11 FLOPs"))
    below = [rung for rung in some.rungs if rung.kind == "below"]
    assert {rung.budget for rung in below} == {10**10, 3 * 10**10} and len(below) == 25
    assert all(rung.held_out and not rung.is_pilot for rung in below)
    assert {rung.budget for rung in some.pilots} == {10**11, 3 * 10**11} and len(some.held_out) == 1
    # the same runs, trained alike, whatever the fit sees of them
    known = {rung.name: rung for rung in every.rungs}
    assert all(rung.same_as(known[rung.name]) and known[rung.name].same_as(rung) for rung in below)
    trunks = plan_ladder(full(tmp_path, **{**grid, "trunk": True}, fit_from="1e11 FLOPs"))
    assert [rung for rung in trunks.rungs if rung.kind == "below"] == below


def test_the_rate_is_checked_at_the_cheapest_budget_of_the_fit(tmp_path):
    grid = {"budgets": ["1e10", "1e11"], "lr_factors": [2.0]}
    plan = plan_ladder(full(tmp_path, **grid, fit_from="1e11"))
    assert {rung.budget for rung in plan.rungs if rung.kind == "sweep"} == {10**11}


def test_held_out_runs_are_right_sized_and_no_pilots(tmp_path):
    plan = plan_ladder(full(tmp_path, held_out=["3e11 FLOPs"]))
    (rung,) = plan.held_out
    assert rung.flops == pytest.approx(3e11, rel=0.01) and rung not in plan.pilots
    assert rung.num_params == pytest.approx(float(PRIOR.optimal(3e11).num_params), rel=0.25)
    assert plan.share == pytest.approx(0.15, rel=0.01)


def test_a_trunk_pays_once_for_what_its_branches_share(tmp_path):
    settings = full(tmp_path, trunk=True, decay=0.25, warmup=0.1, seeds=[1])
    plan = plan_ladder(settings)
    trunks = [rung for rung in plan.rungs if rung.kind == "trunk"]
    assert trunks
    for trunk in trunks:
        branches = [rung for rung in plan.rungs if rung.trunk == trunk.name]
        assert len(branches) > 1
        assert trunk.num_tokens == max(branch.start_tokens for branch in branches)
        assert set(trunk.points) == {branch.start_tokens for branch in branches}
        # the rate has risen before the first branch leaves, and stays up to the end
        assert trunk.model_args["warmup"] * trunk.num_tokens < min(trunk.points)
        assert trunk.model_args["decay"] == 0
        for branch in branches:
            assert branch.start_tokens / branch.num_tokens == pytest.approx(0.75, abs=0.05)
            assert branch.new_flops == 6 * branch.num_params * (branch.num_tokens - branch.start_tokens)
            assert branch.batch_size == trunk.batch_size
    alone = [rung for rung in plan.rungs if rung.kind == "run"]
    assert plan.flops == sum(r.flops for r in trunks + alone) + sum(
        r.new_flops for r in plan.rungs if r.kind == "branch"
    )
    assert plan.flops < 0.9 * plan.independent_flops


def test_a_model_of_ones_own_is_counted_as_it_is(tmp_path):
    arguments = {"d_model": "width", "rate": "lr", "rise": "warmup", "fall": "decay"}
    settings = micro(tmp_path, model=path_of(Own), model_args=arguments, budgets=["4e8", "8e8"])
    plan = plan_ladder(settings)
    for rung in plan.rungs:
        assert set(rung.model_args) == set(arguments)
        model = build_model(settings, rung.model_args)
        assert rung.num_params == sum(weight.numel() for weight in model.parameters())
        assert model.hparams.rate == rung.lr
        assert rung.flops == pytest.approx(rung.budget, rel=0.05)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"share": 0}, ("share", "0")),
        ({"spread": 1.0}, ("spread", "1.0")),
        ({"seeds": [2, 0]}, ("seeds", "[2, 0]")),
        ({"steps": 0}, ("steps", "0")),
        ({"warmup": 0.6}, ("warmup", "0.6")),
        ({"budgets": []}, ("budgets",)),
        ({"budgets": ["1e6"]}, ("budgets: 1e6 FLOPs, the cheapest budget", "steps", "give a budget of at least")),
        ({"budgets": None, "target": "2e7"}, ("target: ", "steps", "give a target of at least")),
        ({"budgets": ["1e8", "1.001e8"]}, ("budgets", "twice")),
        ({"model": {"path": "x"}}, ("model", "class_path")),
        ({"model": {"class_path": "no.such.Model"}}, ("model.class_path", "no.such.Model")),
        ({"model": path_of(Own)}, ("model_args", "width")),
        ({"model": path_of(Own), "model_args": {"d_model": "breadth"}}, ("model_args", "breadth", "width")),
        (
            {"model": {**path_of(Own), "init_args": {"d_model": 8}}, "model_args": {"d_model": "width"}},
            ("model.init_args", "d_model"),
        ),
        ({"data_args": {"seed": "seed"}}, ("data_args", "batch size")),
        ({"data": {"class_path": "scalestop.lab.data.TextData", "init_args": {"context": 8}}}, ("data", "context")),
        ({"law": "deepseek"}, ("law", "deepseek")),
        ({"fit_from": "1e15"}, ("fit_from", "1e15")),
        ({"fit_from": True}, ("fit_from", "an amount")),
        ({"model": path_of(Own), "model_args": {"d_model": "width"}, "trunk": True}, ("trunk", "warmup")),
    ],
)
def test_what_cannot_be_planned_is_told_by_name(tmp_path, changes, words):
    with pytest.raises(InputError) as error:
        plan_ladder(micro(tmp_path, **changes))
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"seeds": [10**18]}, "seeds: how many runs"),
        ({"spread": 1 + 1e-15, "num_sizes": 3}, "sizes or runs, over 2,000"),
        ({"lr_power": 10**12}, "beyond all numbers"),
        ({"valley": "2e8", "spread": 1 + 1e-9}, "sizes or runs, over 2,000"),
        ({"num_sizes": 1000, "seeds": [1000], "budgets": ["1e8"] * 20}, "sizes or runs, over 2,000"),
        ({"budgets": ["1e200"], "target": "1e201"}, "num_params is .*; this architecture ends at 1e"),
        ({"bootstrap": 10**9}, "bootstrap: at most"),
        ({"lr_power": 1e9}, "beyond all numbers"),
        ({"budgets": None, "budget_ratio": 1e299, "num_budgets": 50}, "beyond all numbers"),
    ],
)
def test_settings_that_ask_for_more_than_anybody_trains_are_refused_at_once(tmp_path, changes, text):
    with pytest.raises(InputError, match=text):
        plan_ladder(micro(tmp_path, **changes))
