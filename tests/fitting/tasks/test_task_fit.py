"""A fitted task: forecasts against a simulation by hand, where a value is reached, and its file."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar
from task_data import task_table, true_loss, true_metric

from scalestop.errors import InputError
from scalestop.fitting.tasks import TaskFit, fit_task


@pytest.fixture(scope="module")
def fit():
    return fit_task(task_table(checkpoints=12), "acc", bpb="bpb")


def test_distance_is_the_log_of_the_extrapolation_factor(fit):
    """Runs: N 1e8 to 1.6e9, D 1e9 to 3.2e11, C 6e17 to 3.072e21."""
    n = np.array([1.6e9, 1.6e9 * np.e, 4e8, 5e7, 1.6e9, 1e8])
    d = np.array([3.2e11, 3.2e11 * np.e, 1e10, 1e10, 1e9, 3.2e11])
    # in the box; e in both; inside; half the least size; corners of the box at less than the dearest compute
    np.testing.assert_allclose(fit.distance(n, d), [0, 2, 0, np.log(2), 0, 0], atol=1e-9)


def test_the_interval_is_both_steps_and_the_noise(fit):
    """At the runs the forms err by nothing: scatter of loss through the slope, of the curve, and noise add up."""
    n, d = 8e8, 1.6e10
    losses, values = fit.draws(np.array([n]), np.array([d]))
    found = fit.predict(n, d, level=0.6826894921)
    slope = (fit.step_two.metric(losses.mean() * 1.001) - fit.step_two.metric(losses.mean())) / 0.001
    own = np.sqrt((slope * fit.step_one.scatter) ** 2 + fit.step_two.scatter**2 + fit.noise**2)
    assert (found.interval[1] - found.interval[0]) / 2 >= own * 0.9
    assert (found.interval[1] - found.interval[0]) / 2 == pytest.approx(np.hypot(values.std(), fit.noise), rel=0.1)
    assert found.warnings == ()
    assert found.answer_loss == pytest.approx(true_loss(n, d), rel=0.01)


def test_warnings_say_how_far_out(fit):
    found = fit.predict(1.6e10, 1e8)
    assert found.warnings[0] == "N = 1.6e+10 is x10 above the fitted 1e+08 to 1.6e+09"
    assert found.warnings[1] == "D = 1e+08 is x10 below the fitted 1e+09 to 3.2e+11"


def test_it_says_at_what_compute_a_value_is_reached(fit):
    """Against the known law, its least compute found by brute force."""

    def best(log_c):
        c = np.exp(log_c)
        least = minimize_scalar(lambda x: true_loss(np.exp(x), c / (6 * np.exp(x))), bounds=(15, 28), method="bounded")
        return true_metric(least.fun)

    truth = np.exp(brentq(lambda x: best(x) - 0.66, np.log(1e18), np.log(1e25)))
    found = fit.reach(0.66)
    assert found.flops == pytest.approx(truth, rel=0.35)
    assert found.interval[0] < truth < found.interval[1]
    assert 6 * found.num_params * found.num_tokens == pytest.approx(found.flops)
    assert str(found).startswith("0.66 at ")
    # a ratio or a size that is given can only cost more
    assert fit.reach(0.66, num_params=4 * found.num_params).flops > found.flops
    given = fit.reach(0.4, num_params=8e8)
    assert given.num_params == 8e8 and given.flops >= fit.reach(0.4).flops * 0.95


def test_reach_and_predict_agree(fit):
    found = fit.reach(0.7)
    assert fit.predict(found.num_params, found.num_tokens).estimate == pytest.approx(0.7, abs=0.01)


def test_what_is_never_reached_is_said(fit):
    found = fit.reach(0.97)
    assert found.flops is None and found.interval[1] is None and found.never > 0.5
    assert "0.97 is not reached: " in str(found)


def test_what_the_cheapest_run_has_already_is_said(fit):
    found = fit.reach(0.2)
    assert found.already and found.flops == pytest.approx(fit.flops[0])
    assert "or below" in str(found)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda fit: fit.reach(40), "value: a share between 0 and 1, such as 0.6; got 40"),
        (lambda fit: fit.predict(0, 1e9), "num_params: must be positive and finite; got 0"),
        (lambda fit: fit.predict(1e9, float("nan")), "num_tokens: must be positive and finite; got nan"),
        (lambda fit: fit.first_tokens(0.5, 1e9, "<="), "acc: it rises with training"),
    ],
)
def test_unusable_questions_are_refused(fit, call, message):
    with pytest.raises(InputError, match=message):
        call(fit)


def test_it_survives_its_file(fit, tmp_path):
    again = TaskFit.load(fit.save(tmp_path / "deep" / "task.json"))
    one, two = fit.predict(1e10, 1e12), again.predict(1e10, 1e12)
    assert two.estimate == pytest.approx(one.estimate, abs=1e-5)
    assert two.interval == pytest.approx(one.interval, abs=1e-5)
    assert str(again) == str(fit) and again.data_hash == fit.data_hash


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "scalestop.law/1"}, "x: schema: expected 'scalestop.task/1', got 'scalestop.law/1'"),
        ({"noise": ...}, "x: cannot be read: .*noise"),
        ({"flops": None}, "x: cannot be read"),
        ({"step_two": {}}, "x: missing field 'best'"),
    ],
)
def test_what_is_no_task_is_refused(fit, change, message):
    data = {**json.loads(json.dumps(fit.to_dict())), **change}
    data = {name: value for name, value in data.items() if value is not ...}
    with pytest.raises(InputError, match=message):
        TaskFit.from_dict(data, where="x")
