"""The valley fit: a known law, what must not change it, what it says against itself, and what it costs."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from fitting_data import isoflop_runs, surface_runs

from scalestop.errors import InputError
from scalestop.fitting import LawFit, fit_law
from scalestop.fitting.methods.valley_draws import apportion
from scalestop.fitting.methods.valley_evidence import MOST_FLOORLESS
from scalestop.fitting.methods.valley_hypotheses import HYPOTHESES, NO_FLOOR
from scalestop.fitting.solve import robust
from scalestop.laws import CoupledLaw, LawInfo, ParametricLaw, get_law
from scalestop.laws.intervals import interval_of_loss, interval_of_optimum, interval_of_run
from scalestop.planning.allocation import allocate
from scalestop.planning.plan import make_plan

TRUTH = ParametricLaw(LawInfo("truth", "total", "made up"), E=1.8, A=480.0, B=2100.0, alpha=0.35, beta=0.37)
FAR = (2e10, 4e11)
"""Twenty times the dearest run."""


@pytest.fixture(scope="module")
def runs() -> dict[str, np.ndarray]:
    return surface_runs(80)


@pytest.fixture(scope="module")
def fit(runs: dict[str, np.ndarray]) -> LawFit:
    return fit_law(runs, bootstrap=200)


def forecast(fit: LawFit) -> np.ndarray:
    found = fit.predict(*FAR)
    best = fit.optimum(1e23).num_params
    return np.log([found.loss.estimate, *found.new_run, found.loss.low, best.estimate, best.low, best.high])


def codes(runs: Any, **options: Any) -> dict[str, str]:
    found = fit_law(runs, bootstrap=0, **options).diagnostics.findings
    return {finding.code: finding.message for finding in found}


def test_it_is_the_default_and_foretells_a_known_law(fit: LawFit) -> None:
    assert fit.method == "valley"
    assert type(fit.law) is CoupledLaw
    assert list(fit.intervals) == ["E", "A", "B", "alpha", "beta", "g", "gamma", "a", "b"]
    found = fit.predict(*FAR)
    truth = float(TRUTH.loss(*FAR))
    assert found.loss.estimate == pytest.approx(truth, rel=0.01)
    assert found.new_run[0] < found.loss.low < truth < found.loss.high < found.new_run[1]
    assert TRUTH.optimal(1e21).num_params in fit.optimum(1e21).num_params
    assert TRUTH.a in fit.intervals["a"]


@pytest.mark.parametrize(("noise", "most"), [(0.0, 0.004), (0.005, 0.006)])
def test_along_the_frontier_of_its_runs_it_is_right_to_a_few_thousandths(noise: float, most: float) -> None:
    found = fit_law(surface_runs(150, noise=noise, seed=4), bootstrap=0).law
    flops = np.geomspace(1e19, 5e21, 9)
    at = TRUTH.optimal(flops)
    assert np.abs(np.log(found.loss(*at) / TRUTH.loss(*at))).max() < most


def test_one_interval_for_one_thing_everywhere(fit: LawFit, tmp_path: Any) -> None:
    law = get_law(fit.law.save(tmp_path / "law.json"))
    ours, theirs = fit.optimum(1e21), allocate(int(1e21), law)
    for mine, other in (
        ((ours.num_params.low, ours.num_params.high), theirs.params_interval),
        ((ours.num_tokens.low, ours.num_tokens.high), theirs.tokens_interval),
        ((ours.loss.low, ours.loss.high), theirs.loss_interval),
    ):
        # the file keeps float32 draws
        assert other == pytest.approx(mine, rel=1e-5)
    plan = make_plan("1e22 FLOPs", law, tokens_per_step=10**6)
    assert plan.loss_interval_of_run
    assert plan.loss_interval == pytest.approx(fit.predict(plan.num_params, plan.stop_tokens).new_run, rel=1e-5)
    found = fit.predict(*FAR)
    assert interval_of_run(fit.law, *FAR) == found.new_run
    assert interval_of_loss(fit.law, *FAR) == (found.loss.low, found.loss.high)
    assert interval_of_optimum(fit.law, 1e21).num_params == (ours.num_params.low, ours.num_params.high)
    several = fit.predict(np.array([[1e9], [FAR[0]]]), np.array([1e10, FAR[1]]))
    assert several.new_run[1].shape == (2, 2)
    assert several.new_run[1][1, 1] == pytest.approx(found.new_run[1], rel=1e-12)


def test_a_row_written_thrice_is_one_run(runs: dict[str, np.ndarray], fit: LawFit) -> None:
    names = {"run": np.array([f"{i}" for i in range(240)])}
    thrice = fit_law({**{name: np.tile(column, 3) for name, column in runs.items()}, **names}, bootstrap=200)
    width, before = (np.diff(forecast(f)[1:3])[0] for f in (thrice, fit))
    assert width > 0.97 * before
    assert forecast(thrice)[0] == pytest.approx(forecast(fit)[0], abs=0.003)


def test_neither_units_nor_order_matter(runs: dict[str, np.ndarray], fit: LawFit) -> None:
    turned = fit_law({name: column[::-1] for name, column in runs.items()}, bootstrap=200)
    np.testing.assert_allclose(forecast(turned), forecast(fit), atol=1e-9)
    heavier = fit_law({**runs, "weight": np.full(80, 7.0)}, bootstrap=200)
    np.testing.assert_allclose(forecast(heavier), forecast(fit), atol=1e-9)
    bits = fit_law({**runs, "loss": runs["loss"] / np.log(2)}, bootstrap=200)
    shift = np.array([1, 1, 1, 1, 0, 0, 0]) * np.log(np.log(2))
    np.testing.assert_allclose(forecast(bits) + shift, forecast(fit), atol=1e-6)
    # N counted otherwise by a factor: the optimum moves by it, and the loss there does not
    eight = fit_law({**runs, "params": 8 * runs["params"]}, bootstrap=200)
    loss, moved = (f.predict(k * FAR[0], FAR[1]).new_run for f, k in ((fit, 1), (eight, 8)))
    assert moved == pytest.approx(loss, rel=1e-5)


def test_the_seed_decides_and_a_part_of_the_draws_is_a_fair_sample(fit: LawFit, runs: dict[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(fit_law(runs, bootstrap=200).raw.draws, fit.raw.draws)
    assert not np.array_equal(fit_law(runs, bootstrap=200, seed=1).raw.draws, fit.raw.draws)
    many = np.log(fit_law(runs, bootstrap=2000).raw.draws[:, 0])
    halves = many[:1000].std(), many[1000:].std()
    assert halves[0] == pytest.approx(halves[1], rel=0.15)


@pytest.mark.parametrize("draws", [20, 999, 1000])
def test_draws_are_apportioned_to_the_last_one(draws: int) -> None:
    share = np.array([0.5, 0.3, 0.15, 0.05])
    counts = apportion(share, draws)
    assert counts.sum() == draws
    assert np.abs(counts - share * draws).max() < 1


def test_far_runs_hardly_count(runs: dict[str, np.ndarray], fit: LawFit) -> None:
    """Runs a fifth above the frontier, of whatever loss, leave the forecast where it is."""
    flops = np.geomspace(1e19, 1e21, 10)
    params = 0.02 * TRUTH.optimal(flops).num_params
    far = {"params": params, "tokens": flops / 6 / params}
    found = []
    for off in (1.0, 1.1):
        loss = off * TRUTH.loss(far["params"], far["tokens"])
        more = {name: np.append(column, {**far, "loss": loss}[name]) for name, column in runs.items()}
        again = fit_law(more, bootstrap=200)
        assert again.raw.detail.weight[80:].max() < 0.05
        assert "far-from-valley" in {f.code for f in again.diagnostics.findings}
        found.append(forecast(again)[0])
    assert found == pytest.approx([forecast(fit)[0]] * 2, abs=0.003)


def test_a_floor_that_is_given_is_kept(runs: dict[str, np.ndarray]) -> None:
    held = fit_law(runs, bootstrap=100, irreducible=1.8)
    assert held.law.E == 1.8
    assert np.all(held.raw.draws[:, 0] == 1.8)
    assert held.law.info.notes == ("E was held at 1.8.",)
    free = fit_law(runs, bootstrap=100)
    assert np.diff(held.predict(2e11, 4e12).new_run)[0] < 0.7 * np.diff(free.predict(2e11, 4e12).new_run)[0]
    none = fit_law(runs, bootstrap=100, irreducible=0.0)
    assert none.law.E == 0.0
    assert none.predict(2e11, 4e12).loss.estimate < free.predict(2e11, 4e12).loss.estimate
    with pytest.raises(InputError, match="irreducible: E = 9 is not below the least loss measured"):
        fit_law(runs, irreducible=9.0)


@pytest.mark.parametrize("option", [{"tied": True}, {"fitted_scale": True}, {"delta": 0.01}])
def test_options_of_the_published_estimators_are_refused(runs: dict[str, np.ndarray], option: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(option))}: method 'valley' has no such option"):
        fit_law(runs, **option)


def test_runs_that_cannot_determine_a_law_are_refused() -> None:
    with pytest.raises(InputError, match="a law of N and D needs at least 6 runs; got 5"):
        fit_law(surface_runs(5))
    with pytest.raises(InputError, match="runs spend about one budget"):
        fit_law(isoflop_runs(np.array([1e19])))


def test_sound_runs_give_nothing_to_warn_of(fit: LawFit) -> None:
    assert [f.code for f in fit.law.info.findings if f.severity == "warning"] == []
    assert fit.law.info.findings == fit.diagnostics.findings


def test_an_optimum_that_no_run_speaks_of_breaks_the_law() -> None:
    runs = surface_runs(40)
    params = np.geomspace(1e8, 5e9, 40)
    tokens = 20 * params
    loss = np.asarray(TRUTH.loss(params, tokens)) * runs["loss"] / TRUTH.loss(runs["params"], runs["tokens"])
    fit = fit_law({"params": params, "tokens": tokens, "loss": loss}, bootstrap=50)
    assert "optimum-undetermined" in {f.code for f in fit.law.info.broken}
    # and yet it forecasts along that line
    found = fit.predict(2e10, 4e11).new_run
    assert found[0] < TRUTH.loss(2e10, 4e11) < found[1]


def test_a_broken_run_is_named_and_does_not_carry_the_forecast(runs: dict[str, np.ndarray], fit: LawFit) -> None:
    row = int(np.argsort(runs["params"] * runs["tokens"])[60])
    low = {**runs, "loss": np.where(np.arange(80) == row, 0.6 * runs["loss"], runs["loss"])}
    assert f"records, row {row}: " in codes(low)["broken-runs"]
    assert abs(forecast(fit_law(low, bootstrap=50))[0] - forecast(fit)[0]) < 0.01


def test_few_runs_say_that_the_priors_speak() -> None:
    found = codes(surface_runs(9, seed=3))
    assert "no rolling forecast" in found["few-forecasts"]
    assert "few-forecasts" not in codes(surface_runs(80))


def test_a_point_fit_has_no_intervals(runs: dict[str, np.ndarray], fit: LawFit) -> None:
    point = fit_law(runs, bootstrap=0)
    assert point.law.uncertainty is None
    assert point.law.constants == fit.law.constants
    assert np.isnan(point.predict(*FAR).new_run[0])


def test_a_floor_is_not_talked_away(runs: dict[str, np.ndarray]) -> None:
    """Small models' losses fall fastest in the middle of a table: seen from there they look like a power with no floor.

    A bend of log loss over log compute that straightens again stands in for them.
    """
    flops, size = np.repeat(np.geomspace(1e9, 1e13, 13), 5), np.tile(np.exp([-0.8, -0.4, 0.0, 0.4, 0.8]), 13)
    params = 2e4 * (flops / 1e11) ** 0.5 * size
    x = np.log(flops / 1e9)
    loss = 3.0 * np.exp(-0.07 * x + 0.02 * np.log(size) ** 2) * np.exp(np.random.default_rng(0).normal(0, 0.004, 65))
    table = {"params": params, "tokens": flops / 6 / params, "loss": loss}
    fit = fit_law(table, bootstrap=300)
    evidence = fit.raw.detail.evidence
    floorless = sum(s for s, h in zip(evidence.share, HYPOTHESES, strict=True) if h.prior is NO_FLOOR)
    assert evidence.floorless > 0.99
    assert floorless == pytest.approx(MOST_FLOORLESS)
    (told,) = [f for f in fit.diagnostics.findings if f.code == "no-floor"]
    assert "99%" in told.message or "100%" in told.message
    # the interval holds both a loss that goes on so and one that a floor of two thirds bends
    low, high = np.log(fit.predict(2e6, 1e15 / 6 / 2e6).new_run)
    straight = np.log(3.0) - 0.07 * np.log(1e15 / 1e9)
    assert low < straight < high
    assert high - straight > 0.05
    # who says that there is none is obeyed
    told_so = fit_law(table, bootstrap=50, irreducible=0.0)
    assert float(told_so.law.loss(2e6, 1e15 / 6 / 2e6)) == pytest.approx(np.exp(straight), rel=0.02)
    assert fit_law(runs, bootstrap=0).raw.detail.evidence.floorless < MOST_FLOORLESS


def test_an_interval_widens_more_downwards_than_upwards(fit: LawFit) -> None:
    sure = fit.law.uncertainty
    assert sure.drift_below == pytest.approx(10 * sure.drift)
    assert sure.noise == pytest.approx(0.005, rel=0.4)


class _Work:
    """Counts runs times problems at which the surface is evaluated."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done, self.most = 0, 0
        evaluate = robust.log_loss_and_slopes

        def counted(theta: np.ndarray, x: np.ndarray, y: np.ndarray) -> Any:
            found = evaluate(theta, x, y)
            self.done += found[0].size
            self.most = max(self.most, found[0].size)
            return found

        monkeypatch.setattr(robust, "log_loss_and_slopes", counted)


def test_a_thousand_refits_cost_a_few_evaluations_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """240 runs: 56 hypotheses at all horizons, then draws that are at their minimum after a step or two."""
    work = _Work(monkeypatch)
    fit_law(surface_runs(240), bootstrap=1000)
    assert work.done < 240 * (1000 * 6 + 56 * 120)
    assert work.most < 150_000


@pytest.mark.slow
def test_ten_thousand_rows_fit_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaving out each of R rows would take R x R numbers; a chunk of refits is bounded, whatever the table."""
    work = _Work(monkeypatch)
    rows = surface_runs(10_000)
    tracemalloc.start()
    try:
        fit_law(rows, bootstrap=100)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 400 * 2**20
    assert work.most < 1_000_000
