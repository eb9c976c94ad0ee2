from __future__ import annotations

import numpy as np
import pytest

from scalestop.errors import InputError
from scalestop.fitting import fit_law
from scalestop.laws import get_law

TRUTH = get_law("muennighoff")


def runs(noise: float, count: int = 180, most_epochs: float = 100.0, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    params = 10 ** rng.uniform(7, 9.9, count)
    unique = 10 ** rng.uniform(8, 11, count)
    tokens = unique * np.maximum(1, most_epochs ** rng.uniform(-0.3, 1, count))
    loss = np.asarray(TRUTH.loss(params, tokens, unique)) * np.exp(noise * rng.normal(size=count))
    return {"params": params, "tokens": tokens, "unique_tokens": unique, "loss": loss}


def test_the_published_law_is_found_again_from_its_own_losses() -> None:
    fit = fit_law(runs(0.0), "repeated", bootstrap=20)
    for name, value in fit.law.constants.items():
        if name != "unique_tokens":
            assert value == pytest.approx(TRUTH.constants[name], rel=1e-3), name


def test_noisy_runs_hold_the_truth_within_their_intervals() -> None:
    fit = fit_law(runs(0.005), "repeated", tied=True, bootstrap=200, level=0.99)
    for name in ("R_D", "R_N", "alpha", "E"):
        assert TRUTH.constants[name] in fit.intervals[name]
    assert fit.law.constants["alpha"] == fit.law.constants["beta"]


def test_the_fitted_law_knows_a_corpus() -> None:
    law = fit_law(runs(0.002), "repeated", tied=True, bootstrap=20).law
    ours, theirs = law.with_unique_tokens(25e9), TRUTH.with_unique_tokens(25e9)
    assert ours.loss(6.34e9, 242e9) == pytest.approx(theirs.loss(6.34e9, 242e9), rel=0.005)
    assert ours.optimal(1e22).num_params == pytest.approx(theirs.optimal(1e22).num_params, rel=0.1)


def test_predictions_count_the_epochs() -> None:
    fit = fit_law(runs(0.002), "repeated", tied=True, bootstrap=50)
    fresh, stale = fit.predict(1e9, 1e11), fit.predict(1e9, 1e11, unique_tokens=2e9)
    assert stale.loss.estimate > fresh.loss.estimate + 0.05
    assert stale.loss.estimate == pytest.approx(TRUTH.loss(1e9, 1e11, 2e9), rel=0.005)


def test_half_lives_that_the_runs_do_not_reach_are_named() -> None:
    fit = fit_law(runs(0.005, most_epochs=3.0), "repeated", tied=True, bootstrap=50)
    assert any(f.code == "R_D-undetermined" and "add runs of more" in f.message for f in fit.diagnostics.findings)


def test_runs_of_one_epoch_are_refused_and_of_many_are_named_by_the_other_method() -> None:
    with pytest.raises(InputError, match=r"no run saw its tokens 1\.5 times or more.*or use method='parametric'"):
        fit_law(runs(0.0, most_epochs=1.2), "repeated")
    fit = fit_law(runs(0.005), "parametric", bootstrap=20)
    message = next(f.message for f in fit.diagnostics.findings if f.code == "repeated-tokens")
    assert "counts a repeated token as new. Use method='repeated'" in message
