"""What every law has in common: its range, its draws, its file."""

import json
from dataclasses import replace

import numpy as np
import pytest

from scalestop.errors import InputError
from scalestop.laws import (
    DataConstrainedLaw,
    Finding,
    KaplanLaw,
    LawInfo,
    ParametricLaw,
    PowerLawAllocation,
    Provenance,
    ScalingLaw,
    Uncertainty,
    ValidRange,
    get_law,
    list_laws,
)
from scalestop.laws.base import law_from_dict
from scalestop.laws.intervals import interval_of_run
from scalestop.laws.isoflop import IsoFLOPLaw
from scalestop.laws.registry import KINDS

INFO = LawInfo(
    name="mine",
    n_counts="body",
    source="runs 1-9",
    fitted_on="a test",
    valid=ValidRange(num_params=(1e4, 1e6), flops=(1e10, 1e12)),
    notes=("one", "two – ü"),
)
PARAMETRIC = {"E": 1.5, "A": 400.0, "B": 900.0, "alpha": 0.35, "beta": 0.3}
KINDS_KNOWN = "coupled, data_constrained, isoflop, kaplan, parametric, power"
CASES = [
    (ParametricLaw, PARAMETRIC, {}),
    (DataConstrainedLaw, {**PARAMETRIC, "R_D": 15.0, "R_N": 5.0}, {"unique_tokens": 1e9}),
    (PowerLawAllocation, {"k_N": 0.1, "a": 0.5}, {}),
    (IsoFLOPLaw, {"k_N": 0.1, "a": 0.5, "E": 1.7, "K": 2700.0, "gamma": 0.18, "kappa": 0.36}, {}),
    (PowerLawAllocation, {"k_N": 0.1, "a": 0.48, "k_D": 1.6, "b": 0.52}, {}),
    (KaplanLaw, {"alpha_N": 0.08, "alpha_D": 0.1, "N_c": 6e13, "D_c": 2e13, "k_N": 1.3e9, "a": 0.73}, {}),
]


def drawn_law(cls, constants, fixed, draws=7):
    rng = np.random.default_rng(0)
    values = np.array(list(constants.values())) * np.exp(rng.normal(0, 0.05, (draws, len(constants))))
    uncertainty = Uncertainty(
        draws=values,
        names=tuple(constants),
        method="parametric",
        num_runs=9,
        data_hash="ab12",
        intervals={"E": (1.4, 1.6)},
        scatter=np.array([-0.01234567891, 0.0, 0.02]),
    )
    return cls(info=INFO, uncertainty=uncertainty, **constants, **fixed)


@pytest.mark.parametrize(("cls", "constants", "fixed"), CASES)
def test_drawn_answers_once_per_draw(cls, constants, fixed):
    law = drawn_law(cls, constants, fixed)
    drawn = law.drawn()
    one_each = [
        cls(info=INFO, **dict(zip(constants, map(float, row), strict=True)), **fixed) for row in law.uncertainty.draws
    ]
    for flops in (1e18, 1e23):
        optima = drawn.optimal(flops)
        assert optima.num_params == pytest.approx([one.optimal(flops).num_params for one in one_each], rel=1e-10)
        assert optima.num_tokens == pytest.approx([one.optimal(flops).num_tokens for one in one_each], rel=1e-10)
    assert drawn.optimal_tokens(1e10) == pytest.approx([one.optimal_tokens(1e10) for one in one_each], rel=1e-10)
    if law.has_loss:
        assert drawn.loss(1e9, 1e10) == pytest.approx([one.loss(1e9, 1e10) for one in one_each], rel=1e-12)
        grid = drawn.loss(np.array([[1e8], [1e9]]), 1e10)
        assert grid.shape == (2, 7)
        assert grid[1] == pytest.approx([one.loss(1e9, 1e10) for one in one_each], rel=1e-12)


@pytest.mark.parametrize("name", sorted(list_laws()))
def test_file_round_trip_of_every_built_in_law(name, tmp_path):
    law = get_law(name)
    again = get_law(law.save(tmp_path / "deep" / "law.json"))
    assert again == law
    assert type(again) is type(law)
    assert law_from_dict(law.to_dict(), KINDS) == law


@pytest.mark.parametrize(("cls", "constants", "fixed"), CASES)
def test_file_round_trip_with_draws(cls, constants, fixed, tmp_path):
    law = drawn_law(cls, constants, fixed)
    again = get_law(law.save(tmp_path / "law.json"))
    assert again == law
    assert again.info.notes == ("one", "two – ü")
    # draws are packed as float32, 24 bits of mantissa
    assert again.uncertainty.draws == pytest.approx(law.uncertainty.draws, rel=2**-23)
    assert again.uncertainty.draws.dtype == np.float64
    assert again.uncertainty.intervals == {"E": (1.4, 1.6)}
    assert again.uncertainty.scatter.tolist() == [-0.0123457, 0.0, 0.02]
    assert again.drawn().optimal(1e20).num_params == pytest.approx(law.drawn().optimal(1e20).num_params, rel=1e-4)


def saved(**changes):
    data = drawn_law(*CASES[0]).to_dict()
    for path, value in changes.items():
        target = data
        *parents, last = path.split("__")
        for key in parents:
            target = target[key]
        if value is KeyError:
            del target[last]
        else:
            target[last] = value
    return json.loads(json.dumps(data))


KNOWN = "constants, findings, fitted_on, kind, n_counts, name, notes, provenance, schema, source, uncertainty, valid"
BEFORE = "constants, fitted_on, kind, n_counts, name, notes, schema, source, uncertainty, valid"
UNCERTAIN = (
    "data_hash, degrees, draws_f4_columns_zlib_base64, drift, drift_below, drift_params, inflation, intervals, method, "
    "names, noise, num_draws, num_runs, scatter, sides, source"
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"schema": "scalestop.law/3"},
            "x.json: schema: expected 'scalestop.law/1' or 'scalestop.law/2', got 'scalestop.law/3'",
        ),
        ({"schema": KeyError}, "x.json: schema: expected 'scalestop.law/1' or 'scalestop.law/2', got None"),
        (
            {"schema": "scalestop.law/1"},
            f"x.json: unknown field(s) findings, provenance; known are {BEFORE}",
        ),
        ({"provenance": [1]}, "x.json: provenance: expected a JSON object; got list"),
        ({"provenance": {"context": 0}}, "x.json: provenance: context: a positive whole number; got 0"),
        ({"findings": {}}, "x.json: findings: a list of findings; got {}"),
        ({"kind": "cubic"}, "x.json: kind: 'cubic' is not one of " + KINDS_KNOWN),
        ({"kind": ["power"]}, "x.json: kind: ['power'] is not one of " + KINDS_KNOWN),
        ({"notes": KeyError, "source": KeyError}, "x.json: missing field(s) notes, source"),
        ({"colour": 1, "zeal": 2}, f"x.json: unknown field(s) colour, zeal; known are {KNOWN}"),
        ({"constants__beta": KeyError}, "x.json: constants: missing field(s) beta"),
        (
            {"constants__gamma": 1},
            "x.json: constants: unknown field(s) gamma; known are A, B, E, alpha, beta",
        ),
        ({"constants": [1, 2]}, "x.json: constants: expected a JSON object; got list"),
        ({"constants__A": "400"}, "x.json: constants: A must be a number; got '400'"),
        ({"constants__A": True}, "x.json: constants: A must be a number; got True"),
        ({"constants__A": None}, "x.json: A: must be positive and finite; got None"),
        ({"constants__E": None}, "x.json: E: must be finite and not negative; got None"),
        ({"constants__alpha": -1}, "x.json: alpha: must be positive and finite; got -1"),
        ({"n_counts": "all"}, "x.json: n_counts: a law's N counts 'total' or 'body' parameters; got 'all'"),
        ({"name": 5}, "x.json: name: a law's name is text; got 5"),
        ({"notes": "a note"}, "x.json: notes: a list of texts; got 'a note'"),
        ({"valid__flops": KeyError}, "x.json: valid: missing field(s) flops"),
        (
            {"valid__flops": [2, 1]},
            "x.json: flops: a range is (smallest, largest), both positive and finite; got [2, 1]",
        ),
        ({"valid__flops": 5}, "x.json: flops: a range is (smallest, largest), both positive and finite; got 5"),
        (
            {"valid__flops": ["a", 1]},
            "x.json: flops: a range is (smallest, largest), both positive and finite; got ['a', 1]",
        ),
        ({"uncertainty": [1]}, "x.json: uncertainty: expected a JSON object; got list"),
        ({"uncertainty__method": KeyError}, "x.json: uncertainty: missing field(s) method"),
        ({"uncertainty__scatter": 5}, "x.json: uncertainty: scatter: a list of finite numbers; got 5"),
        ({"uncertainty__drift": -1}, "x.json: uncertainty: drift: a finite number, at least 0; got -1"),
        ({"uncertainty__scatter": ["a"]}, "x.json: uncertainty: scatter: a list of finite numbers; got ['a']"),
        (
            {"uncertainty__scatter": [float("nan")]},
            "x.json: uncertainty: scatter: a list of finite numbers; got [nan]",
        ),
        ({"uncertainty__more": 1}, f"x.json: uncertainty: unknown field(s) more; known are {UNCERTAIN}"),
    ],
)
def test_a_wrong_file_is_refused_by_field(changes, message):
    with pytest.raises(InputError) as error:
        law_from_dict(saved(**changes), KINDS, where="x.json")
    assert str(error.value) == message


@pytest.mark.parametrize("damage", ["!!!", "", "eJw=", 5])
def test_damaged_draws_are_refused(damage):
    with pytest.raises(InputError, match=r"^x.json: uncertainty: the packed draws cannot be read: "):
        law_from_dict(saved(uncertainty__draws_f4_columns_zlib_base64=damage), KINDS, where="x.json")


@pytest.mark.parametrize("schema", ["scalestop.law/1", "scalestop.law/2"])
def test_files_of_earlier_versions_are_read(schema):
    later = {"uncertainty__drift": KeyError, "uncertainty__drift_params": KeyError, "uncertainty__source": KeyError}
    first = {"schema": schema, "provenance": KeyError, "findings": KeyError} if schema.endswith("/1") else {}
    law = law_from_dict(saved(uncertainty__scatter=KeyError, **later, **first), KINDS)
    assert law == drawn_law(*CASES[0])
    assert not law.uncertainty.knows_scatter
    assert (law.uncertainty.drift, law.uncertainty.drift_params, law.uncertainty.source) == (0, 0, "")
    assert law.info.provenance is None and law.info.findings == ()


def test_provenance_and_findings_are_saved_with_the_law(tmp_path):
    info = replace(
        INFO,
        provenance=Provenance(text="a corpus", vocab_size=256),
        findings=(Finding("alpha-at-bound", "warning", "It ran into 10."), Finding("held-out", "note", "2 runs.")),
    )
    law = ParametricLaw(info, **PARAMETRIC)
    again = get_law(law.save(tmp_path / "law.json"))
    assert again == law
    assert again.info.provenance == info.provenance
    assert [finding.code for finding in again.info.broken] == ["alpha-at-bound"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"provenance": {"text": "a"}}, "provenance: a Provenance, or None"),
        ({"findings": ("a",)}, "findings: a list of"),
    ],
)
def test_what_is_no_provenance_or_finding_is_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        replace(INFO, **wrong)


def test_a_new_run_scatters_around_each_draw_as_the_fitted_ones_do():
    law = drawn_law(*CASES[0], draws=11)
    losses = law.drawn().loss(1e9, 1e10)
    each = sorted(loss * np.exp(off) for loss in losses for off in law.uncertainty.scatter)
    for level, tails in ((0.5, [25, 75]), (0.9, [5, 95])):
        found = interval_of_run(law, 1e9, 1e10, level)
        assert found == pytest.approx(tuple(np.percentile(each, tails)), rel=1e-12)
    alone = replace(law, uncertainty=replace(law.uncertainty, scatter=np.empty(0)))
    assert interval_of_run(alone, 1e9, 1e10) == pytest.approx(tuple(np.percentile(losses, [5, 95])), rel=1e-12)


def test_scatter_is_a_row_of_finite_numbers():
    for wrong in ([np.nan], [[0.1]], 0.1):
        with pytest.raises(InputError, match=r"^scatter: expected finite numbers in one row"):
            Uncertainty(np.ones((2, 1)), names=("E",), method="m", num_runs=1, data_hash="", scatter=wrong)


def test_a_list_is_no_law():
    with pytest.raises(InputError, match=r"^law: a law is a JSON object; got list$"):
        law_from_dict([], KINDS)


def test_a_law_of_arrays_is_not_saved(tmp_path):
    with pytest.raises(InputError, match="E, A, B, alpha, beta are arrays; save the law that carries the draws"):
        drawn_law(*CASES[0]).drawn().save(tmp_path / "law.json")
    assert not (tmp_path / "law.json").exists()


def test_numpy_constants_are_saved_as_numbers(tmp_path):
    law = ParametricLaw(INFO, **{name: np.float32(value) for name, value in PARAMETRIC.items()})
    assert pytest.approx(400.0) == get_law(law.save(tmp_path / "law.json")).A


def test_no_draws():
    with pytest.raises(InputError, match=r"law 'kaplan' carries no draws of its constants; fit one with scalestop.fit"):
        get_law("kaplan").drawn()


def test_a_digest_is_of_what_a_law_answers(tmp_path):
    law = drawn_law(*CASES[0])
    same = replace(law, uncertainty=None, info=replace(INFO, name="other", notes=(), provenance=Provenance(context=1)))
    assert same.digest == law.digest == get_law(law.save(tmp_path / "law.json")).digest
    others = [replace(law, beta=0.31), replace(law, info=replace(INFO, n_counts="total")), drawn_law(*CASES[2])]
    assert len({law.digest, *(other.digest for other in others)}) == 4


def test_draws_of_what_the_law_has_not():
    uncertainty = Uncertainty(np.ones((2, 1)), names=("gamma",), method="m", num_runs=1, data_hash="")
    law = ParametricLaw(INFO, uncertainty, **PARAMETRIC)
    with pytest.raises(InputError, match="law 'mine': its draws name gamma, which are no constants of it"):
        law.drawn()


def test_at_1e12_flops_the_published_constants_are_far_outside_and_absurd():
    """21 nats, where a uniform guess over bytes is 5.5."""
    law = get_law("besiroglu")
    assert law.loss(*law.optimal(1e12)) == pytest.approx(21.5, abs=0.1)
    assert any("6.1 factors of ten below" in line for line in law.info.valid.outside(flops=1e12))


def test_every_kind_is_final_and_states_its_formula():
    """Only abstract methods are overridden, but for `loss`, whose absence is an answer."""
    for cls in KINDS.values():
        assert cls.__mro__[1] is ScalingLaw
        assert cls.formula().startswith(("L(N, D", "N_opt ="))
    assert {kind: cls.kind for kind, cls in KINDS.items()} == {kind: kind for kind in KINDS}
