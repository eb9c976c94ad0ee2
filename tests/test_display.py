"""Results in a notebook: one line as text, a table as HTML with nothing unescaped, rows as a data frame."""

from __future__ import annotations

import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from fitting_data import surface_runs

from scalestop import Campaign, InputError, RunRecord, Usage, allocate, backtest, fit_law, get_law, list_laws, make_plan
from scalestop.display import html_card
from scalestop.fitting.tables.read import read_runs

RECORD = RunRecord(
    num_params=272,
    num_tokens=4352,
    flops=7_102_464,
    loss=3.006,
    stop_reason="COMPUTE_OPTIMAL",
    law="toy",
    budget="7.1e6 FLOPs",
    curve=((1000, 4.0), (4352, 3.006)),
)
EVIL = "<script>alert('1')</script> & \"x\""


class Reader(HTMLParser):
    """Collects tags and texts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def fit():
    return fit_law(surface_runs(40, seed=1), "parametric", bootstrap=20)


@pytest.fixture(scope="module")
def shown(fit, tmp_path_factory):
    campaign = Campaign.create(tmp_path_factory.mktemp("c") / "c.jsonl", "1e6 FLOPs")
    campaign.charge("a", Usage(flops=7))
    return {
        "plan": make_plan("1e21 FLOPs", "besiroglu", tokens_per_step=10**6),
        "law": get_law("besiroglu"),
        "fit": fit,
        "allocation": allocate("1e21 FLOPs"),
        "campaign": campaign.status(),
        "record": RECORD,
    }


@pytest.mark.parametrize(
    ("what", "line", "row"),
    [
        ("plan", "Plan(1e21 FLOPs by besiroglu: N 2.78B total; COMPUTE_OPTIMAL after step 59,9", "stop"),
        (
            "law",
            "ParametricLaw('besiroglu': E 1.8169, A 482.01, B 2085.4, alpha 0.34781, beta 0.36585; N total)",
            "form",
        ),
        ("fit", "LawFit(parametric, 40 rows: E 1.", "alpha"),
        ("allocation", "Allocation(1e+21 FLOPs by law besiroglu: N_opt 2.78B", "N_opt"),
        ("campaign", None, "spent"),
        ("record", "RunRecord(COMPUTE_OPTIMAL: N 272 total, D 4.35k, 7.1e6 FLOPs, loss 3.006; law toy)", "ended"),
    ],
)
def test_each_is_a_line_and_a_table(shown, what, line, row):
    found = shown[what]
    if line is not None:
        assert repr(found).startswith(line.replace("1e+21", "1e21")) and "\n" not in repr(found)
    html = Reader(found._repr_html_())
    assert html.tags[0] == "table" and set(html.tags) <= {"table", "caption", "b", "tbody", "tr", "th", "td"}
    assert row in html.texts


@pytest.mark.parametrize("name", list_laws())
def test_every_law_is_a_line_of_its_constants(name):
    law = get_law(name)
    assert len(repr(law)) < 300 and repr(law).startswith(f"{type(law).__name__}({name!r}: ")
    assert all(f"{key} " in repr(law) for key, value in law.constants.items() if value is not None)
    assert replace(law) == law


def test_whatever_a_text_holds_is_shown_and_not_run():
    html = html_card(EVIL, [(EVIL, EVIL)])
    assert "<script" not in html and Reader(html).texts == [EVIL] * 3
    law = get_law("besiroglu")
    evil = replace(law, info=replace(law.info, name=EVIL, source=EVIL, notes=(EVIL,)))
    assert "<script" not in evil._repr_html_() and EVIL in Reader(evil._repr_html_()).texts


def test_rows_become_a_data_frame(fit, shown):
    runs = surface_runs(40, seed=1)
    table = read_runs(runs)
    assert table.to_frame()["loss"].tolist() == pytest.approx(list(runs["loss"]))
    frame = fit.to_frame().set_index("name")
    assert frame.loc["alpha", "estimate"] == fit.intervals["alpha"].estimate
    # what comes out goes in again
    again = fit_law(table.to_frame(), "parametric", bootstrap=0)
    assert again.law.constants == pytest.approx(fit.law.constants)
    tested = backtest(runs, "parametric")
    assert tested.to_frame()["covered"].mean() == pytest.approx(tested.coverage)
    assert RECORD.to_frame().to_dict("list") == {"num_tokens": [1000, 4352], "loss": [4.0, 3.006]}
    assert shown["campaign"].to_frame().to_dict("records") == [{"run": "a", "flops_spent": 7, "flops_held": 0}]


def test_without_pandas_it_says_what_to_install(fit, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match=r"to_frame: needs pandas; pip install scalestop\[pandas\]"):
        fit.to_frame()
