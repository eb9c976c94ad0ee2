"""The law of IsoFLOP curves: a frontier, and how the loss rises to both sides of it."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from scalestop.errors import InputError
from scalestop.laws import LawInfo, ParametricLaw
from scalestop.laws.isoflop import IsoFLOPLaw

INFO = LawInfo(name="mine", n_counts="total", source="a test")
LAW = IsoFLOPLaw(INFO, k_N=0.1, a=0.5, E=1.7, K=2700.0, gamma=0.18, kappa=0.36)


@pytest.mark.parametrize("flops", [1e16, 1e20, 1e24])
def test_the_optimum_is_the_least_loss_of_the_budget(flops):
    found = minimize_scalar(
        lambda log_n: LAW.loss(np.exp(log_n), flops / 6 / np.exp(log_n)), bounds=(0, 80), method="bounded"
    )
    best = LAW.optimal(flops)
    assert np.exp(found.x) == pytest.approx(best.num_params, rel=1e-3)
    assert 6 * best.num_params * best.num_tokens == pytest.approx(flops, rel=1e-12)
    assert LAW.loss(*best) == pytest.approx(1.7 + 2700 * flops**-0.18, rel=1e-12)
    assert LAW.optimal_tokens(best.num_params) == pytest.approx(best.num_tokens, rel=1e-9)


def test_it_is_the_parametric_law_where_the_exponents_are_alike():
    """With alpha = beta: A/N^alpha + B/D^alpha = 2·sqrt(A·B)·(C/6)^(-alpha/2)·cosh(alpha·log(N/N_opt))."""
    E, A, B, alpha = 1.8, 400.0, 900.0, 0.34
    tied = ParametricLaw(INFO, E=E, A=A, B=B, alpha=alpha, beta=alpha)
    best = tied.optimal(1e20).num_params
    law = IsoFLOPLaw(
        INFO,
        k_N=best / 1e20**0.5,
        a=0.5,
        E=E,
        K=2 * (A * B) ** 0.5 * 6 ** (alpha / 2),
        gamma=alpha / 2,
        kappa=alpha,
    )
    params, tokens = np.geomspace(1e7, 1e10, 7), np.geomspace(1e9, 1e12, 7)
    np.testing.assert_allclose(law.loss(params, tokens), tied.loss(params, tokens), rtol=1e-12)
    assert law.loss(params[:, None], tokens).shape == (7, 7)


@pytest.mark.parametrize("change", [{"gamma": -0.1}, {"kappa": 0.0}, {"E": -1.0}, {"K": np.inf}])
def test_constants_that_make_no_law_are_refused(change):
    constants = {"k_N": 0.1, "a": 0.5, "E": 1.7, "K": 2700.0, "gamma": 0.18, "kappa": 0.36}
    with pytest.raises(InputError, match=next(iter(change))):
        IsoFLOPLaw(INFO, **{**constants, **change})
