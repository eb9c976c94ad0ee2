from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar
from scipy.special import huber

from scalestop.errors import InputError
from scalestop.fitting import fit_law
from scalestop.fitting.methods.kaplan import KaplanProblem
from scalestop.laws import get_law
from scalestop.laws.kaplan import kaplan_loss

TRUTH = get_law("kaplan")


def runs(noise: float, count: int = 60, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    params = 10 ** rng.uniform(4, 9, count)
    tokens = params * 10 ** rng.uniform(0.5, 2.5, count)
    loss = np.asarray(TRUTH.loss(params, tokens)) * np.exp(noise * rng.normal(size=count))
    return {"params": params, "tokens": tokens, "loss": loss}


def test_the_published_law_is_found_again_from_its_own_losses() -> None:
    fit = fit_law(runs(0.0), "kaplan", bootstrap=20)
    found = [fit.law.constants[name] for name in ("alpha_N", "alpha_D", "N_c", "D_c")]
    np.testing.assert_allclose(found, [0.076, 0.103, 6.4e13, 1.8e13], rtol=1e-5)


def test_noisy_runs_hold_the_truth_within_their_intervals() -> None:
    fit = fit_law(runs(0.01), "kaplan", bootstrap=500, level=0.99)
    for name in ("alpha_N", "alpha_D", "N_c", "D_c"):
        assert TRUTH.constants[name] in fit.intervals[name]


def test_scipy_finds_nothing_lower() -> None:
    data = runs(0.01, seed=1)

    def objective(x: np.ndarray) -> float:
        predicted = kaplan_loss(data["params"], data["tokens"], *np.exp(x))
        return 1e6 * float(huber(1e-3, np.log(predicted / data["loss"])).sum())

    rng = np.random.default_rng(0)
    truth = np.log([0.076, 0.103, 6.4e13, 1.8e13])
    options = {"maxiter": 20_000, "maxfev": 20_000, "xatol": 1e-10, "fatol": 1e-10}
    starts = [truth + rng.normal(size=4) * [0.3, 0.3, 3, 3] for _ in range(6)]
    best = min(minimize(objective, x, method="Nelder-Mead", options=options).fun for x in starts) / 1e6
    ours = KaplanProblem(**data).fit().value[0]
    assert best * 0.99 < ours <= best * (1 + 1e-9)


def test_derivatives_are_the_differences_of_the_value() -> None:
    problem = KaplanProblem(**runs(0.01))
    theta = problem.to_free(np.array([[0.08, 0.1, 6e13, 2e13], [0.06, 0.12, 1e13, 4e13]]))
    weights = np.random.default_rng(0).uniform(0.5, 2, 60)
    _, gradient, hessian = problem.evaluate(theta, weights, 10.0)
    for i, move in enumerate(1e-5 * np.eye(4)):
        up, down = problem.evaluate(theta + move, weights, 10.0), problem.evaluate(theta - move, weights, 10.0)
        np.testing.assert_allclose(gradient[:, i], (up[0] - down[0]) / 2e-5, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(hessian[:, :, i], (up[1] - down[1]) / 2e-5, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("budget", [1e15, 1e20, 1e24])
def test_the_allocation_is_the_minimum_of_the_joint_loss(budget: float) -> None:
    law = fit_law(runs(0.01), "kaplan", bootstrap=20).law
    found = minimize_scalar(lambda x: law.loss(np.exp(x), budget / (6 * np.exp(x))), bounds=(5, 40), method="bounded")
    assert law.optimal(budget).num_params == pytest.approx(np.exp(found.x), rel=1e-3)


def test_a_law_with_a_floor_bends_the_residuals_and_is_told(chinchilla: dict[str, np.ndarray]) -> None:
    fit = fit_law(chinchilla, "kaplan", bootstrap=50)
    assert any(f.code == "trend" and "bend with compute" in f.message for f in fit.diagnostics.findings)


def test_four_runs_are_too_few() -> None:
    with pytest.raises(InputError, match="four constants need at least 5 runs; got 4"):
        fit_law(runs(0.0, count=4), "kaplan")
