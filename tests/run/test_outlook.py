"""Where a run is heading: seen from curves whose end is known, and told without a trainer."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from curve_toys import STEP_TOKENS, made_up, some_pilots, wsd

from scalestop.accounting.meter import Usage
from scalestop.fitting.curve_fit import fit_curve_law
from scalestop.laws import ParametricLaw, Uncertainty
from scalestop.laws.base import LawInfo
from scalestop.laws.curves.band import BandCheck
from scalestop.laws.curves.family import CurveFamily
from scalestop.laws.curves.follow import Forecast
from scalestop.planning.rule import StopReason
from scalestop.run.aims import Reactions
from scalestop.run.alarms import OffCourse
from scalestop.run.curve import Curve
from scalestop.run.curve_point import CurvePoint, window
from scalestop.run.final_loss import LossNames
from scalestop.run.history import Foretold, History
from scalestop.run.marginal import MarginalReturn
from scalestop.run.outlook import Alarm, Outlook, Sight, alarms, final_gap, scored

SIZE, STEPS = 3e6, 10_000
ANY = LossNames()


@pytest.fixture(scope="module")
def family() -> CurveFamily:
    return CurveFamily(fit_curve_law(some_pilots()))


def law_of(family: CurveFamily | None, end: float) -> ParametricLaw:
    """A law whose runs of any size end at one loss, with a scatter of 1 %."""
    draws = np.tile([end - 0.02, 0.02, 0.02, 0.35, 0.35], (100, 1))
    names = ("E", "A", "B", "alpha", "beta")
    uncertainty = Uncertainty(draws, names, "made up", 41, "none", scatter=0.01 * np.linspace(-2, 2, 41))
    info = LawInfo("flat", "total", "made up")
    return ParametricLaw(info, uncertainty, E=end - 0.02, A=0.02, B=0.02, alpha=0.35, beta=0.35, curves=family)


def seen_to(share: float, shift: float = 0.0, validated: float | None = None) -> tuple[History, object, Usage, float]:
    """A run's history up to a share of its way, its plan and what it used; and its end."""
    run = made_up(wsd, SIZE, STEPS, 11)
    history = History(curve=Curve(1))
    for k, (tokens, loss) in enumerate(zip(run.tokens, run.loss + shift, strict=True), 1):
        if tokens <= share * run.path.tokens[-1]:
            step = round(tokens / STEP_TOKENS)
            rate = float(np.interp(tokens, run.path.tokens, run.path.rate))
            history.curve.add(CurvePoint(step, int(tokens), 6 * int(SIZE) * int(tokens), float(loss), 4e-6, 2, rate))
            if validated is not None and k % 10 == 0:
                history.curve.add_validation(step, int(tokens), {"val_loss": float(loss) + validated})
    last = history.curve.points[-1]
    return history, run.path, Usage(tokens_non_padding=last.tokens, flops=last.flops), float(run.loss[-1]) + shift


@pytest.mark.parametrize("share", [0.21, 0.5, 0.95])
def test_the_end_is_forecast_and_kept_for_its_score(family, share):
    history, planned, used, end = seen_to(share)
    sight = Outlook(law_of(family, end), int(SIZE), True, ANY).see(history, planned, used)
    # the end is a single noisy point, with a standard deviation of 0.002
    assert abs(sight.forecast.loss - end) < 0.02
    assert sight.forecast.low - 0.005 < end < sight.forecast.high + 0.005
    assert [one.share for one in history.foretold] == [pytest.approx(share, abs=0.01)]
    metrics = sight.metrics()
    assert metrics["loss_forecast_low"] < metrics["loss_forecast"] < metrics["loss_forecast_high"]
    assert ("loss_if_decayed_now" in metrics) == (share < 0.8)  # then its own decay is under way


def test_a_forecast_is_of_the_validation_loss_where_there_is_one(family):
    history, planned, used, end = seen_to(0.5, validated=0.3)
    sight = Outlook(law_of(family, end + 0.3), int(SIZE), True, ANY).see(history, planned, used)
    assert sight.forecast.loss == pytest.approx(end + 0.3, abs=0.02)


def test_few_gaps_between_training_and_validation_are_trusted_less(family):
    history, planned, _, end = seen_to(0.5, validated=0.3)
    outlook = Outlook(law_of(family, end + 0.3), int(SIZE), True, ANY)
    followed = outlook._follow(history.curve, history.curve.path(planned))
    widths = {}
    for count in (2, 5):
        few = replace(history.curve, validations=history.curve.validations[-count:])
        gaps = [
            one.metrics["val_loss"] - float(followed.expected(np.array([one.tokens]))[0]) for one in few.validations
        ]
        gap, width = final_gap(few, ANY, followed)
        assert gap == pytest.approx(np.mean(gaps))
        widths[count] = width / np.std(gaps, ddof=1)
    # Student's t of one and of four degrees over the normal, 95 %: standard tables
    assert widths == {2: pytest.approx(6.314 / 1.645, rel=1e-3), 5: pytest.approx(2.132 / 1.645, rel=1e-3)}


def test_too_early_nothing_is_said(family):
    history, planned, used, end = seen_to(0.05)
    sight = Outlook(law_of(family, end), int(SIZE), True, ANY).see(history, planned, used)
    assert sight.metrics() == {} and not history.foretold


def test_off_course_is_called_at_the_second_look_and_healthy_runs_are_not(family):
    history, planned, used, end = seen_to(0.3, shift=0.5)
    outlook = Outlook(law_of(family, end - 0.5), int(SIZE), True, ANY)
    assert not outlook.see(history, planned, used).course.off
    second = outlook.see(history, planned, used)
    assert second.course.off
    (alarm,) = alarms(Reactions("stop"), second, history)
    assert alarm.reason is StopReason.OFF_COURSE and "off course at 30% of the run: forecast " in alarm.message
    healthy, planned, used, end = seen_to(0.3)
    outlook = Outlook(law_of(family, end), int(SIZE), True, ANY)
    assert not any(outlook.see(healthy, planned, used).course.off for _ in range(3))


def test_too_early_no_forecast_is_held_against_the_law(family):
    history, planned, used, end = seen_to(0.15, shift=0.5)
    outlook = Outlook(law_of(family, end - 0.5), int(SIZE), True, ANY)
    sights = [outlook.see(history, planned, used) for _ in range(3)]
    assert sights[-1].forecast is not None and not any(sight.course for sight in sights)


def test_a_law_of_other_data_is_no_judge(family):
    history, planned, used, end = seen_to(0.5, shift=1.0)
    sight = Outlook(law_of(family, end - 1.0), int(SIZE), False, ANY).see(history, planned, used)
    assert sight.course is None and sight.band is None and sight.forecast is not None


def test_without_a_law_the_run_alone_is_followed():
    history, planned, used, end = seen_to(0.5)
    sight = Outlook(None, int(SIZE), False, ANY).see(history, planned, used)
    assert sight.forecast.low < end < sight.forecast.high
    assert sight.marginal is None and sight.course is None


# ---- what is told, and what ends the run

FORECAST = Forecast(3.0, 2.9, 3.1, 0.06, 1e6, 0.3)
OFF = Sight(0.3, FORECAST, course=OffCourse(True, 0.2, "far above"))
BELOW = Sight(0.3, FORECAST, FORECAST, MarginalReturn(0.6, 0.5, 0.7, 1e-12, 2e-12))


@pytest.mark.parametrize(
    ("reactions", "reason"),
    [(Reactions(), [None]), (Reactions("stop"), [StopReason.OFF_COURSE]), (Reactions("ignore"), [])],
)
def test_off_course(reactions, reason):
    assert [alarm.reason for alarm in alarms(reactions, OFF, History())] == reason


def test_a_band_that_is_left_is_told_and_ends_nothing():
    sight, lasting = Sight(0.1, band=BandCheck(True, 0.05, 1.5, 0.2, 9, "left the band")), History(band_beyond=4)
    assert alarms(Reactions("stop", "stop"), sight, lasting) == [Alarm("band", "left the band")]
    assert alarms(Reactions("ignore"), sight, lasting) == []
    assert alarms(Reactions("stop", "stop"), sight, History(band_beyond=3)) == []


@pytest.mark.parametrize(("looks", "count"), [(1, 0), (2, 1)])
def test_marginal_return_ends_a_run_after_two_looks_if_asked(looks, count):
    found = alarms(Reactions(stop_when="marginal"), BELOW, History(marginal_below=looks))
    assert [alarm.reason for alarm in found] == [StopReason.MARGINAL_RETURN] * count
    assert alarms(Reactions(), BELOW, History(marginal_below=looks)) == []
    assert all("brings 0.60 (0.50 to 0.70, 90%)" in alarm.message and "decay_to" in alarm.message for alarm in found)


def lived(*losses: float, per_point: int = 1) -> History:
    history = History(curve=Curve(1))
    for step, loss in enumerate(losses, 1):
        point = window([loss] * per_point, step=step, tokens=step * 10, flops=step)
        history.curve.add(point)
        history.spikes.see(point)
    return history


@pytest.mark.parametrize(
    ("losses", "per_point", "told"),
    [
        ([2.0, math.nan], 1, False),  # one step that a gradient scaler skips
        ([2.0, math.nan, math.nan], 1, True),
        ([2.0, math.nan], 8, True),
        ([2.0, math.nan, math.nan, 2.0], 1, False),  # back again
    ],
)
def test_losses_that_are_not_finite(losses, per_point, told):
    history = lived(*losses, per_point=per_point)
    assert [alarm.reason for alarm in alarms(Reactions(), None, history)] == [None] * told
    assert [alarm.reason for alarm in alarms(Reactions(on_nonfinite="stop"), None, history)] == (
        [StopReason.DIVERGED] * told
    )
    assert alarms(Reactions(on_nonfinite="ignore"), None, history) == []


def test_a_jump_that_does_not_come_back():
    history = lived(*[2.0, 2.02] * 20, *[4.0] * 8)
    (alarm,) = alarms(Reactions(on_nonfinite="stop"), None, history)
    assert alarm.reason is StopReason.DIVERGED and "does not come back, by step 48" in alarm.message
    assert alarms(Reactions(), None, lived(*[2.0, 2.02] * 20, *[4.0] * 3, 2.0)) == []


def test_the_closing_line_scores_a_run_that_came_to_its_end():
    history = replace(lived(2.0, math.nan, 2.0), foretold=[Foretold(0.2, 2.0, 1.9, 2.1)])
    assert scored(history, 2.05) == [
        "forecast 2.000 (1.900 to 2.100) at 20% of the run, held",
        "losses that were not finite: 1",
    ]
    assert scored(history, 2.05, share=0.5) == ["losses that were not finite: 1"]
    assert scored(History(), None) == []
