"""Bootstrap draws: their shape, their columns, their packing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scalestop.errors import InputError
from scalestop.laws import Uncertainty

NAMES = ("E", "A", "B")


def make(draws, **changes):
    given_values = {"names": NAMES, "method": "parametric", "num_runs": 12, "data_hash": "ff", **changes}
    return Uncertainty(draws, **given_values)


@given(arrays(np.float64, st.tuples(st.integers(1, 40), st.just(3)), elements=st.floats(1e-6, 1e12)))
def test_packing_keeps_float32_precision_and_the_order_of_draws(draws):
    again = Uncertainty.from_dict(make(draws).to_dict())
    assert np.allclose(again.draws, draws, rtol=2**-23, atol=0)
    assert again.names == NAMES
    assert np.array_equal(again.column("A"), again.draws[:, 1])


def test_the_dictionary_is_small():
    """1,000 draws of 5 constants in some 25 kB."""
    rng = np.random.default_rng(0)
    data = make(rng.lognormal(size=(1000, 5)), names=("E", "A", "B", "alpha", "beta")).to_dict()
    assert len(data["draws_f4_columns_zlib_base64"]) < 27_000


@pytest.mark.parametrize("draws", [np.ones(3), np.ones((4, 2)), np.ones((0, 3)), np.ones((2, 3, 1))])
def test_shape(draws):
    with pytest.raises(InputError) as error:
        make(draws)
    assert str(error.value) == f"draws: expected shape (draws, 3); got {draws.shape}"


def test_fewer_draws_than_stated_are_noticed():
    data = {**make(np.ones((4, 3))).to_dict(), "num_draws": 5}
    with pytest.raises(InputError, match=r"^law.json: the packed draws cannot be read: "):
        Uncertainty.from_dict(data, where="law.json")


def test_what_widens_an_interval_is_kept_and_old_files_have_none_of_it():
    more = {"noise": 0.004, "drift_below": 0.01, "sides": 0.2, "inflation": 1.4, "degrees": 12.5, "drift_params": 0.1}
    data = make(np.ones((4, 3)), **more).to_dict()
    again = Uncertainty.from_dict(data)
    assert {name: getattr(again, name) for name in more} == more
    assert again.knows_scatter and again.scatter_sd == 0.004
    old = Uncertainty.from_dict({name: value for name, value in data.items() if name not in more})
    assert (old.noise, old.drift_below, old.sides, old.inflation, old.degrees) == (None, None, 0.0, 1.0, None)
    assert not old.knows_scatter


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("sides", -1, "sides: a finite number, at least 0; got -1"),
        ("inflation", None, "inflation: a finite number, at least 0; got None"),
        ("noise", float("nan"), "noise: a finite number, at least 0; got nan"),
        ("degrees", True, "degrees: a finite number, at least 0; got True"),
        ("degrees", 2.0, "degrees: more than 3 degrees of freedom; got 2.0"),
    ],
)
def test_what_is_no_width_is_refused(field, value, message):
    with pytest.raises(InputError) as error:
        make(np.ones((4, 3)), **{field: value})
    assert str(error.value) == message
