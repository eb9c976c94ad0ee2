"""A fit's findings: which of them break a law, and the line that plans print."""

import pytest

from scalestop.errors import InputError
from scalestop.laws.findings import Finding, describe_findings, findings_from_list

HELD = Finding("held-out", "note", "2 runs are held out.")
TREND = Finding("trend", "warning", "Residuals drift.")
LOOSE = Finding("E-undetermined", "warning", "E is not determined.")


@pytest.mark.parametrize(
    ("code", "breaks"),
    [
        ("E-undetermined", True),
        ("alpha-at-bound", True),
        ("not-converged", True),
        ("trend", False),
        ("undetermined-E", False),
    ],
)
def test_what_breaks_a_law(code, breaks):
    assert Finding(code, "warning", "Text.").breaks is breaks


def test_one_line_of_the_warnings():
    assert describe_findings([HELD]) is describe_findings([]) is None
    assert describe_findings([HELD, TREND]) == "its fit ended with 1 warning: trend"
    assert describe_findings([TREND, LOOSE, LOOSE]) == (
        "its fit ended with 3 warnings: E-undetermined, trend; its constants are not determined by its runs, so do not "
        "train a large run by it"
    )


def test_read_back():
    found = (HELD, LOOSE)
    assert findings_from_list([finding.to_dict() for finding in found]) == found


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "x: a list of findings; got {}"),
        ([{"code": "a"}], "x: a finding has code, severity and message; got {'code': 'a'}"),
        (
            [{"code": "a", "severity": "error", "message": "b"}],
            "x: severity: 'note' or 'warning'; got 'error'",
        ),
        ([{"code": "", "severity": "note", "message": "b"}], "x: code: a finding's code is text; got ''"),
        ([{"code": "a", "severity": "note", "message": 5}], "x: message: a finding's message is text; got 5"),
    ],
)
def test_errors(data, message):
    with pytest.raises(InputError) as error:
        findings_from_list(data, where="x")
    assert str(error.value) == message
