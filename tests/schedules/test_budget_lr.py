"""The learning rate whose clock is the budget: its shape, its clock in a plain loop, its state."""

from __future__ import annotations

import copy
import io
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import LinearLR, SequentialLR
from toys import C_OPT, Toy, loader, stopping, train

from scalestop.errors import InputError
from scalestop.planning.budget import Budget
from scalestop.schedules.budget_lr import BudgetLR, begin_branch, budget_factor

SHARES = st.floats(0, 1)


def optimizer_of(*rates, **options):
    groups = [{"params": [nn.Parameter(torch.ones(2))], "lr": rate} for rate in rates or (1.0,)]
    return torch.optim.SGD(groups, lr=1.0, **options)


def rates(optimizer):
    return [float(group["lr"]) for group in optimizer.param_groups]


def loaded(state):
    """What a checkpoint makes of a state under `weights_only`."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


# ---- the factor


@pytest.mark.parametrize(
    ("progress", "options", "expected"),
    [
        (0.0, {}, 0.01),
        (0.025, {}, 0.505),
        (0.05, {}, 1.0),
        (0.7, {}, 1.0),
        (0.7 + 0.3 * 0.25, {}, 0.5),
        (0.7 + 0.3 * 0.25, {"floor": 0.2}, 0.6),
        (0.7 + 0.3 * 0.25, {"shape": "linear"}, 0.75),
        (0.7 + 0.3 * 0.25, {"shape": "square"}, 0.9375),
        (0.7 + 0.3 * 0.25, {"shape": "cosine"}, 0.8535533905932737),
        (1.0, {"floor": 0.1}, 0.1),
        (7.0, {"floor": 0.1}, 0.1),
        (1.0, {"decay": 0.0}, 1.0),
        (-1.0, {}, 0.01),
    ],
)
def test_factor_at_points_worked_out_by_hand(progress, options, expected):
    assert budget_factor(progress, **options) == pytest.approx(expected, abs=1e-12)


@given(
    st.lists(SHARES, min_size=2, max_size=9), SHARES, SHARES, SHARES, st.sampled_from(["linear", "1-sqrt", "cosine"])
)
def test_factor_rises_then_falls_and_ends_at_its_floor(moments, warmup, decay, floor, shape):
    decay = min(decay, 1 - warmup)
    points = sorted(moments)
    values = [budget_factor(p, warmup, decay, shape, floor) for p in points]
    assert all(0 <= v <= 1 for v in values)
    rising = [v for p, v in zip(points, values, strict=True) if p < warmup]
    falling = [v for p, v in zip(points, values, strict=True) if p >= warmup]
    assert rising == sorted(rising) and falling == sorted(falling, reverse=True)
    if decay:
        assert budget_factor(1.0, warmup, decay, shape, floor) == pytest.approx(floor, abs=1e-12)


# ---- a plain loop


def test_each_group_keeps_its_own_peak():
    optimizer = optimizer_of(1.0, 0.1)
    schedule = BudgetLR(optimizer, warmup=0.1, decay=0.5, shape="linear")
    assert rates(optimizer) == pytest.approx([0.01, 0.001])
    for progress, factor in ((0.1, 1.0), (0.5, 1.0), (0.75, 0.5), (1.0, 0.0)):
        schedule.advance(progress)
        assert rates(optimizer) == pytest.approx([factor, 0.1 * factor])
        assert schedule.get_last_lr() == rates(optimizer) and schedule.factor == pytest.approx(factor)


def test_a_tensor_rate_is_filled_and_not_replaced():
    rate = torch.tensor(0.5)
    optimizer = torch.optim.Adam([nn.Parameter(torch.ones(2))], lr=rate, capturable=False, foreach=False)
    schedule = BudgetLR(optimizer, warmup=0.0, decay=0.5, shape="linear")
    held = optimizer.param_groups[0]["lr"]
    schedule.advance(0.75)
    assert optimizer.param_groups[0]["lr"] is held and held.item() == 0.25
    kept = schedule.get_last_lr()
    schedule.advance(1.0)
    assert kept == [0.25] and held.item() == 0.0
    assert loaded(schedule.state_dict())["base_lrs"] == [0.5]


def test_a_group_added_on_the_way_has_its_rate_as_its_peak():
    optimizer = optimizer_of(1.0)
    schedule = BudgetLR(optimizer, warmup=0.0, decay=0.5, shape="linear")
    schedule.advance(0.25)
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))], "lr": 0.2})
    schedule.advance(0.75)
    assert rates(optimizer) == pytest.approx([0.5, 0.1])
    again = optimizer_of(1.0, 0.2)
    other = BudgetLR(again, warmup=0.0, decay=0.5, shape="linear")
    other.load_state_dict(loaded(schedule.state_dict()))
    assert rates(again) == pytest.approx([0.5, 0.1])


def test_the_furthest_of_several_clocks_counts():
    schedule = BudgetLR(optimizer_of(), warmup=0.0)
    schedule.advance(0.2, "a")
    schedule.advance(0.6, "b")
    schedule.advance(0.3, "a")
    assert schedule.progress == 0.6


def test_without_a_clock_the_second_step_says_what_to_add():
    optimizer = optimizer_of()
    schedule = BudgetLR(optimizer)
    optimizer.step()
    with pytest.raises(InputError, match=r"Add scalestop.ComputeOptimalStopping\(budget\) to the Trainer's callbacks"):
        schedule.step()
    with pytest.raises(InputError, match=r"nobody tells .* or call advance\(progress\) after each step"):
        optimizer.step()
    schedule.advance(0.5)
    optimizer.step()
    schedule.step()
    assert rates(optimizer) == [1.0]


def test_a_tensor_rate_without_a_clock_is_an_error_too():
    optimizer = torch.optim.Adam([nn.Parameter(torch.ones(2))], lr=torch.tensor(0.3), foreach=False)
    schedule = BudgetLR(optimizer, shape="linear")
    optimizer.step()
    with pytest.raises(InputError, match="nobody tells this schedule"):
        optimizer.step()
    assert schedule.progress == 0.0


def test_an_optimizer_outlives_its_schedule():
    optimizer = optimizer_of()
    schedule = BudgetLR(optimizer)
    copy.deepcopy(optimizer).step()
    del schedule
    for _ in range(3):
        optimizer.step()


def test_after_a_warmup_of_ones_own():
    optimizer = optimizer_of()
    rise, budget = LinearLR(optimizer, 0.1, total_iters=4), BudgetLR(optimizer, warmup=0.0, decay=0.5, shape="linear")
    both = SequentialLR(optimizer, [rise, budget], [4])
    seen = []
    for step in range(12):
        seen.append(rates(optimizer)[0])
        optimizer.step()
        both.step()
        budget.advance((step + 1) / 12)
    assert seen[:4] == pytest.approx([0.1, 0.325, 0.55, 0.775])
    assert seen[4:] == pytest.approx([1, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]) and rates(optimizer) == [0.0]


def test_the_schedule_is_its_shape_at_the_clock_and_says_where_it_stands():
    optimizer = optimizer_of(0.4)
    schedule = BudgetLR(optimizer, warmup=0.2, decay=0.5, shape="square", floor=0.1)
    assert (schedule.progress, schedule.factor, schedule.is_branch) == (0.0, 0.01, False)
    for progress in (0.1, 0.2, 0.5, 0.75, 1.0, 1.5):
        schedule.advance(progress)
        factor = budget_factor(progress, 0.2, 0.5, "square", 0.1)
        assert schedule.progress == progress
        assert schedule.factor == schedule.factor_at(progress) == factor
        assert rates(optimizer) == schedule.get_lr() == [0.4 * factor]
    assert schedule.factor_at(0.75) == pytest.approx(0.1 + 0.9 * 0.75)  # halfway down: 1 - 0.5^2


def test_defaults_are_five_per_cent_up_and_thirty_per_cent_down():
    schedule = BudgetLR(optimizer_of())
    assert (schedule.warmup, schedule.decay, schedule.shape, schedule.floor) == (0.05, 0.3, "1-sqrt", 0.0)
    assert schedule.horizon is None


def test_each_call_of_step_counts_and_sets_no_rate():
    """As torch's own schedulers count: from the first, made when the schedule is."""
    optimizer = optimizer_of()
    schedule = BudgetLR(optimizer, warmup=0.0)
    schedule.advance(0.8)
    held = rates(optimizer)
    for count in (1, 2):
        optimizer.step()
        schedule.step()
        assert (schedule.last_epoch, schedule.state_dict()["last_epoch"]) == (count, count)
        assert rates(optimizer) == held
    schedule.step(7)
    assert schedule.last_epoch == 7


def test_who_sets_the_rates_without_this_schedule_needs_no_clock():
    """As a search for the best rate does, before the run begins."""
    optimizer = optimizer_of(1.0, 0.5)
    schedule = BudgetLR(optimizer)
    for step in range(4):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * 2**step
        optimizer.step()
    assert schedule.progress == 0.0


def test_a_rate_that_only_rounds_otherwise_is_this_schedules():
    optimizer = optimizer_of()
    schedule = BudgetLR(optimizer)
    optimizer.param_groups[0]["lr"] *= 1 + 1e-7  # as through a float32
    optimizer.step()
    with pytest.raises(InputError, match="nobody tells this schedule"):
        optimizer.step()
    assert schedule.progress == 0.0


def test_a_group_added_before_the_clock_begins_is_no_error():
    optimizer = optimizer_of(1.0)
    schedule = BudgetLR(optimizer, warmup=0.0)
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))], "lr": 0.2})
    optimizer.step()
    schedule.advance(0.5)
    optimizer.step()
    assert rates(optimizer) == [1.0, 0.2] == schedule.state_dict()["base_lrs"]


@pytest.mark.parametrize(
    ("options", "ends"),
    [
        ({"warmup": 0.0, "decay": 1.0, "shape": "linear"}, 0.0),
        ({"warmup": 1.0, "decay": 0.0}, 1.0),
        ({"warmup": 0.7, "decay": 0.3, "floor": 1.0}, 1.0),  # 0.7 + 0.3 is a whole in decimals
        ({"warmup": 0.05, "decay": 0.95}, 0.0),
        ({"warmup": 0.9, "decay": 0.1 + 1e-16}, 0.0),
    ],
)
def test_shares_may_be_nothing_or_all(options, ends):
    optimizer = optimizer_of()
    BudgetLR(optimizer, **options).advance(1.0)
    assert rates(optimizer) == pytest.approx([ends], abs=1e-12)


@pytest.mark.parametrize("horizon", ["1e9 FLOPs", "5000 tokens", ["1e9 FLOPs", "5000 tokens"]])
def test_a_horizon_is_flops_or_tokens_or_both(horizon):
    assert BudgetLR(optimizer_of(), horizon=horizon).horizon == Budget.parse(horizon)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warmup": -0.1}, "warmup: a share, between 0 and 1; got -0.1"),
        ({"decay": 1.5}, "decay: a share, between 0 and 1; got 1.5"),
        ({"floor": math.nan}, "floor: a share, between 0 and 1; got nan"),
        ({"floor": 1.001}, "floor: a share, between 0 and 1; got 1.001"),
        ({"warmup": 0.6, "decay": 0.401}, r"warmup and decay: together at most the whole run; got 0.6 \+ 0.401 > 1"),
        ({"warmup": 0.6, "decay": 0.5}, r"warmup and decay: together at most the whole run; got 0.6 \+ 0.5 > 1"),
        ({"shape": "sqrt"}, "shape: one of linear, 1-sqrt, cosine, square; got 'sqrt'"),
        ({"horizon": "12h"}, "horizon: an amount of FLOPs or tokens; got '12 h'"),
        ({"horizon": ["1e9 FLOPs", "5 USD"]}, "horizon: an amount of FLOPs or tokens; got"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(InputError, match=message):
        BudgetLR(optimizer_of(), **options)


def test_no_number_is_no_progress():
    schedule = BudgetLR(optimizer_of())
    with pytest.raises(InputError, match="progress: how far the run is, 0 to 1; got nan"):
        schedule.advance(math.nan)
    assert schedule.progress == 0.0


# ---- state


@given(st.lists(st.floats(0, 1.2), max_size=5))
def test_state_survives_a_fresh_object(moments):
    one, other = optimizer_of(1.0, 0.3), optimizer_of(5.0, 7.0)
    schedule, fresh = BudgetLR(one), BudgetLR(other)
    for moment in moments:
        schedule.advance(moment)
    fresh.load_state_dict(loaded(schedule.state_dict()))
    assert rates(other) == rates(one) and fresh.progress == schedule.progress
    for ahead in (0.0, 0.02, 0.5, 0.9):
        schedule.advance(ahead)
        fresh.advance(ahead)
        assert rates(other) == rates(one)


def test_a_checkpoint_with_more_groups_is_refused():
    state = BudgetLR(optimizer_of(1.0, 2.0)).state_dict()
    with pytest.raises(InputError, match="the checkpoint has rates for 2 param groups, the optimizer 1"):
        BudgetLR(optimizer_of()).load_state_dict(state)


def test_the_state_is_plain_numbers():
    schedule = BudgetLR(optimizer_of(1.0, 0.5), warmup=0.1)
    assert schedule.state_dict() == {
        "progress": 0.0,
        "warm": False,
        "decay_start": None,
        "base_lrs": [1.0, 0.5],
        "last_epoch": 0,
    }
    schedule.advance(0.4)
    schedule.decay_from_here()
    assert schedule.state_dict() == {
        "progress": 0.4,
        "warm": True,
        "decay_start": 0.4,
        "base_lrs": [1.0, 0.5],
        "last_epoch": 0,
    }


def test_a_resume_takes_the_peaks_from_the_checkpoint_and_leaves_later_groups_theirs():
    saved = BudgetLR(optimizer_of(0.8), warmup=0.0)
    saved.advance(0.5)
    optimizer = optimizer_of(0.1, 0.3)
    schedule = BudgetLR(optimizer, warmup=0.0)
    schedule.load_state_dict(saved.state_dict())
    assert rates(optimizer) == [0.8, 0.3]


@pytest.mark.parametrize("reached", [0.1, 0.2])
def test_warm_at_the_end_of_its_warmup_is_warm_for_good(reached):
    optimizer = optimizer_of()
    schedule = BudgetLR(optimizer, warmup=0.1)
    schedule.advance(reached)
    schedule.advance(0.05)
    assert rates(optimizer) == [1.0]


def test_without_a_warmup_the_first_step_has_the_peak_rate():
    optimizer = optimizer_of()
    schedule = BudgetLR(optimizer, warmup=0.0)
    assert rates(optimizer) == [1.0] and schedule.state_dict()["warm"] is True


def test_a_raised_budget_never_warms_up_again():
    optimizer = optimizer_of()
    schedule = BudgetLR(optimizer, warmup=0.1)
    schedule.advance(0.05)
    assert 0 < rates(optimizer)[0] < 1
    schedule.advance(0.2)
    resumed = BudgetLR(optimizer, warmup=0.1)
    resumed.load_state_dict(loaded(schedule.state_dict()))
    resumed.advance(0.02)  # ten times the budget
    assert rates(optimizer) == [1.0]


def test_a_branch_falls_from_where_it_begins_to_the_floor():
    optimizer = optimizer_of()
    schedule = BudgetLR(optimizer, shape="linear", floor=0.1)
    schedule.advance(0.5)
    assert begin_branch([schedule], 0.8)
    assert rates(optimizer) == [1.0] and schedule.is_branch
    schedule.advance(0.9)
    assert rates(optimizer) == pytest.approx([0.55])
    resumed = BudgetLR(optimizer, shape="linear", floor=0.1)
    resumed.load_state_dict(loaded(schedule.state_dict()))
    assert not begin_branch([resumed], 0.9)
    assert rates(optimizer) == pytest.approx([0.55])
    resumed.advance(1.0)
    assert rates(optimizer) == pytest.approx([0.1])


def test_a_branch_begins_anywhere_on_the_plateau_and_all_its_schedules_with_it():
    """From 0.95 the last twentieth brings it down: halfway through it half is left."""
    schedules = [BudgetLR(optimizer_of(rate), shape="linear") for rate in (1.0, 0.2)]
    for schedule in schedules:
        schedule.advance(0.05)
    assert begin_branch(schedules, 0.95) is True
    assert begin_branch(schedules, 0.96) is False
    for schedule, peak in zip(schedules, (1.0, 0.2), strict=True):
        assert schedule.state_dict()["decay_start"] == 0.95
        schedule.advance(0.975)
        assert rates(schedule.optimizer) == pytest.approx([peak / 2])
    schedules[0].advance(0.99)
    fresh = BudgetLR(optimizer_of())
    fresh.advance(0.5)
    with pytest.raises(InputError, match="not on its plateau"):  # one of them is no branch yet
        begin_branch([*schedules, fresh], 0.99)


def test_the_whole_run_may_be_a_warmup():
    optimizer = optimizer_of()
    schedule = BudgetLR(optimizer, warmup=1.0, decay=0.0)
    assert rates(optimizer) == [0.01]
    schedule.advance(0.5)
    assert rates(optimizer) == pytest.approx([0.505])


def test_a_decay_that_begins_in_the_warmup_falls_from_the_peak():
    schedule = BudgetLR(optimizer_of(), warmup=0.5, shape="linear")
    schedule.advance(0.2)
    schedule.decay_from_here()
    assert schedule.factor == 1.0
    schedule.advance(0.6)
    assert schedule.factor == pytest.approx(0.5)


def test_a_decay_that_begins_at_the_end_is_over():
    schedule = BudgetLR(optimizer_of(), floor=0.25)
    schedule.advance(1.5)
    schedule.decay_from_here()
    assert schedule.state_dict()["decay_start"] == 1.0


@pytest.mark.parametrize(
    ("stands", "progress", "message"),
    [
        (0.5, 0.0, "the run starts from nothing; give the trunk's checkpoint to fit, as ckpt_path"),
        (0.5, 1.0, "already seen 1 times the branch's tokens; take an earlier one"),
        (0.5, 1.2, "already seen 1.2 times the branch's tokens; take an earlier one"),
        (0.02, 0.5, "at the checkpoint the rate is 0.406 of its peak, not on its plateau"),
        (0.8, 0.5, "at the checkpoint the rate is 0.423 of its peak, not on its plateau"),
        (None, 0.5, "configure_optimizers returns no scalestop.BudgetLR"),
    ],
)
def test_a_branch_that_cannot_begin_says_why(stands, progress, message):
    schedules = []
    if stands is not None:
        schedules.append(BudgetLR(optimizer_of()))
        schedules[0].advance(stands)
    with pytest.raises(InputError, match=message):
        begin_branch(schedules, progress)


# ---- in a Trainer


class Unclocked(Toy):
    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr)
        return [optimizer], [BudgetLR(optimizer)]  # by the epoch, which never ends here


def test_a_trainer_without_the_callback_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"Add scalestop.ComputeOptimalStopping\(budget\)"):
        train([], tmp_path, Unclocked(), max_steps=5)


def test_the_clock_runs_when_lightning_steps_by_the_epoch(tmp_path):
    callback = stopping(1.05 * C_OPT)
    trainer = train(callback, tmp_path, Unclocked(), loader(2000))
    assert callback.stop_reason == "COMPUTE_OPTIMAL"
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.0
