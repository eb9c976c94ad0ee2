from __future__ import annotations

import numpy as np
import pytest
from fitting_data import backtest_published as backtest
from fitting_data import fit_published as fit_law
from fitting_data import isoflop_runs, surface_runs

from scalestop.errors import InputError
from scalestop.fitting import read_runs
from scalestop.laws import LawInfo, ParametricLaw

TRUTH = ParametricLaw(LawInfo("truth", "total", "made up"), E=1.8, A=480.0, B=2100.0, alpha=0.35, beta=0.37)


@pytest.fixture(scope="module")
def rolling():
    return backtest(surface_runs(80, noise=0.003, seed=1), bootstrap=100)


def test_every_prediction_is_of_a_dearer_run_by_the_law_of_cheaper_ones(rolling) -> None:
    runs = surface_runs(80, noise=0.003, seed=1)
    flops = 6 * runs["params"] * runs["tokens"]
    assert len(rolling.cuts) == 4
    assert list(rolling.cuts) == sorted(rolling.cuts)
    for prediction in rolling.predictions:
        assert prediction.factor > 1
        cut = prediction.flops / prediction.factor
        assert min(abs(c / cut - 1) for c in rolling.cuts) < 1e-9
    cut = rolling.cuts[1]
    seen = flops <= cut * (1 + 1e-9)
    law = fit_law({name: column[seen] for name, column in runs.items()}, bootstrap=20).law
    mine = [p for p in rolling.predictions if p.flops / p.factor == pytest.approx(cut)]
    assert len(mine) == np.sum(~seen)
    for prediction in mine:
        row = int(prediction.run.split()[-1])
        assert prediction.measured == runs["loss"][row]
        assert prediction.predicted == pytest.approx(law.loss(runs["params"][row], runs["tokens"][row]), rel=1e-6)


def test_errors_are_those_of_the_noise_and_intervals_hold(rolling) -> None:
    assert rolling.mean_abs_relative < 0.01
    assert 0.8 <= rolling.coverage <= 1.0
    assert sum(part.count for part in rolling.by_factor()) == len(rolling.predictions)


def test_groups_sum_up_their_predictions(rolling) -> None:
    part = rolling.by_factor()[0]
    group = [p for p in rolling.predictions if part.low < p.factor <= part.high]
    assert part.count == len(group)
    assert part.mean_abs_error == pytest.approx(np.mean([abs(p.predicted - p.measured) for p in group]))
    assert part.worst_relative == pytest.approx(max(abs(p.predicted / p.measured - 1) for p in group))
    assert part.coverage == np.mean([p.interval[0] <= p.measured <= p.interval[1] for p in group])
    assert str(rolling).splitlines()[1].startswith("x1 to x2")


def test_held_out_runs_are_the_ones_predicted() -> None:
    runs = surface_runs(60, seed=2)
    held = 6 * runs["params"] * runs["tokens"] > 1e21
    found = backtest({**runs, "held_out": held}, bootstrap=50)
    assert len(found.predictions) == held.sum()
    assert {p.measured for p in found.predictions} == set(runs["loss"][held])
    same = backtest(runs, train=~held, bootstrap=50)
    assert [p.predicted for p in same.predictions] == pytest.approx([p.predicted for p in found.predictions], rel=1e-9)


def test_weights_columns_and_options_reach_every_fit() -> None:
    runs = surface_runs(60, noise=0.01, seed=2)
    compute = 6 * runs["params"] * runs["tokens"]
    fitted = compute < np.quantile(compute, 0.7)
    weights = np.random.default_rng(0).integers(1, 9, 60).astype(float)
    options = {"irreducible": 1.7, "seed": 5, "bootstrap": 50}
    named = {"N": runs["params"], "seen": runs["tokens"], "loss": runs["loss"]}
    found = backtest(named, train=fitted, columns="tokens=seen", weights=weights, **options)
    law = fit_law(read_runs(runs).take(np.flatnonzero(fitted)), weights=weights[fitted], **options)
    for prediction, row in zip(found.predictions, np.flatnonzero(~fitted), strict=True):
        expected = law.predict(runs["params"][row], runs["tokens"][row])
        assert prediction.predicted == pytest.approx(expected.loss.estimate, rel=1e-9)
        assert prediction.interval == pytest.approx(expected.new_run, rel=1e-9)
    other = backtest(runs, train=fitted, **options)
    assert other.predictions[0].predicted != pytest.approx(found.predictions[0].predicted, rel=1e-6)


def test_only_the_best_of_a_sweep_is_fitted_and_predicted() -> None:
    runs = surface_runs(40, noise=0.002, seed=4)
    rows = [
        dict(params=n, tokens=d, loss=loss * worse, lr=lr)
        for n, d, loss in zip(*runs.values(), strict=True)
        for lr, worse in ((1e-3, 1.0), (3e-3, 1.2))
    ]
    found, single = backtest(rows, best_of="lr", bootstrap=50), backtest(runs, bootstrap=50)
    assert [p.measured for p in found.predictions] == [p.measured for p in single.predictions]
    predicted = [[p.predicted for p in part.predictions] for part in (found, single)]
    assert predicted[0] == pytest.approx(predicted[1], rel=1e-6)
    compute = np.array([6 * row["params"] * row["tokens"] for row in rows])
    split = backtest(rows, best_of="lr", train=compute < np.median(compute), bootstrap=50)
    assert len(split.predictions) == 20


def test_isoflop_laws_are_tested_too() -> None:
    """Five budgets foretell the loss of the next three, x20 in compute; three give no law of the loss."""
    rows = isoflop_runs(np.geomspace(1e18, 1e21, 8), count=7, noise=0.002)
    found = backtest(rows, "isoflop", bootstrap=100)
    assert len(found.cuts) >= 2
    assert all("give no law of the loss" in line or "two budgets" in line for line in found.skipped)
    assert found.mean_abs_relative < 0.01
    assert found.coverage > 0.8


def test_what_cannot_be_tested_is_refused() -> None:
    with pytest.raises(
        InputError, match="method: 'envelope' allocates but predicts no loss; use 'valley', 'parametric'"
    ):
        backtest(surface_runs(40), "envelope")
    with pytest.raises(InputError, match="bootstrap: a backtest counts how often intervals held, and 0 refits make"):
        backtest(surface_runs(40), bootstrap=0)
    with pytest.raises(InputError, match="a backtest needs at least 10 runs, to fit some and hold some back; got 9"):
        backtest(surface_runs(9))
    with pytest.raises(InputError, match="train: some runs must be fitted and some held back; got all of one kind"):
        backtest(surface_runs(20), train=np.ones(20, dtype=bool))
    with pytest.raises(InputError, match=r"train: expected 20 booleans, one a usable run; got int64 \(20,\)"):
        backtest(surface_runs(20), train=np.ones(20, dtype=int))


@pytest.mark.parametrize("which", ["five runs", "all small runs"])
def test_gadres_small_runs_foretell_the_large_ones_to_the_published_error(
    gadre: dict[str, np.ndarray], which: str
) -> None:
    """Gadre et al. 2024: five small RedPajama runs predict 1.4B at D/N 640 to 0.71 % and 6.9B at 20 to 0.73 %."""
    chosen = gadre["train_set"] == "rpj"
    runs = {name: column[chosen] for name, column in gadre.items()}
    ratio, millions = np.round(runs["token_multiplier"]), np.round(runs["n_params"] / 1e6)
    small = millions <= 412
    fitted = small if which == "all small runs" else (small & (ratio == 20)) | ((millions == 11) & (ratio == 320))
    used = fitted | ~small
    table = {"params": runs["n_params"][used], "tokens": runs["n_tokens"][used], "loss": runs["loss"][used]}
    # the paper's law ties alpha = beta
    found = backtest({**table, "run": runs["name"][used]}, train=fitted[used], tied=True, bootstrap=100)
    error = {p.run: abs(p.relative_error) for p in found.predictions}
    assert error["rpj-open_lm_1b-32.0"] <= 0.0071
    assert error["rpj-open_lm_7b-1.0"] <= 0.0073
    assert found.coverage == 1.0
