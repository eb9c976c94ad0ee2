"""The marginal unit, by the envelope theorem."""

from __future__ import annotations

import pytest

from scalestop import get_law
from scalestop.run.marginal import frontier_slope, law_slope, marginal_return


@pytest.mark.parametrize("name", ["besiroglu", "chinchilla", "stdlib-bytes"])
@pytest.mark.parametrize("flops", [1e12, 1e18, 5.76e23])
def test_envelope(name, flops):
    law = get_law(name)
    best = law.optimal(flops)
    assert law_slope(law, best.num_params, best.num_tokens) == pytest.approx(frontier_slope(law, flops), rel=1e-9)
    per_token = 6 * best.num_params
    got = marginal_return(law_slope(law, best.num_params, best.num_tokens) * per_token, 0.0, per_token, flops, law)
    assert got.ratio == pytest.approx(1, abs=1e-6)
    assert got.low <= 1 <= got.high or got.low == pytest.approx(1)


def test_a_small_model_past_its_optimum_returns_less():
    law = get_law("besiroglu")
    best = law.optimal(1e20)
    size, tokens = best.num_params / 4, best.num_tokens * 4
    slope = law_slope(law, size, tokens) * 6 * size
    assert marginal_return(slope, 0.0, 6 * size, 1e20, law).ratio < 0.7
