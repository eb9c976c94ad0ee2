from __future__ import annotations

import numpy as np
import pytest
from report_toys import LAW, record, write_run

from scalestop.report.run_log import RunLog, read_log
from scalestop.report.run_plot import ReportedRun, plot_curves, plot_spending, spending_of


def test_a_curve_ends_at_the_record_and_shows_its_forecast(tmp_path):
    found = record(off=1.01)
    ax = plot_curves([ReportedRun("mine", found, read_log(write_run(tmp_path, found)))], LAW)
    (measured,) = [line for line in ax.lines if line.get_label() == "val_loss"]
    assert measured.get_xdata()[-1] == found.num_tokens and measured.get_ydata()[-1] == found.loss
    (law,) = [line for line in ax.lines if line.get_label().startswith("stdlib-bytes")]
    assert law.get_ydata()[-1] == pytest.approx(float(LAW.loss(found.num_params, found.num_tokens)))
    low, high = ax.get_ylim()
    assert low < found.plan["loss_interval"][0] and found.plan["loss_interval"][1] < high


def test_a_run_without_a_loss_says_so():
    ax = plot_curves([ReportedRun("mine", record(loss=None, plan={}))])
    assert "No loss was logged." in [text.get_text() for text in ax.texts]


def test_where_compute_went_adds_up():
    found = record(flops=1e12)
    parts = dict(spending_of(ReportedRun("mine", found)).parts)
    assert parts == {"training": pytest.approx(1.0, rel=1e-4), "validation, beside the budget": pytest.approx(0.05)}
    under = ReportedRun("under", record(plan={"flops": found.flops / 0.9}))
    parts = dict(spending_of(under).parts)
    assert parts["training"] == pytest.approx(0.9) and parts["left of the budget"] == pytest.approx(0.1)
    over = ReportedRun("over", record(plan={"flops": 0.9 * found.flops}))
    parts = dict(spending_of(over).parts)
    assert parts["training"] == pytest.approx(1.0) and parts["past the limit"] == pytest.approx(1 / 0.9 - 1)
    tokens = ReportedRun("tokens", record(budget="2M tokens"))
    assert dict(spending_of(tokens).parts)["training"] == 1.0


def test_bars_stand_end_to_end():
    ax = plot_spending([spending_of(ReportedRun("mine", record(flops=1e12)))])
    bars = sorted((bar.get_x(), bar.get_width()) for bar in ax.patches)
    ends = np.cumsum([width for _, width in bars])
    np.testing.assert_allclose([x for x, _ in bars], [0, *ends[:-1]], atol=1e-12)


def test_what_the_run_foresaw_of_its_end_is_a_band():
    found = record()
    series = {"scalestop/tokens": ((9, 1e5), (19, 2e5))}
    series |= {f"scalestop/loss_forecast_{end}": ((9, at), (19, at)) for end, at in (("low", 1.4), ("high", 1.6))}
    ax = plot_curves([ReportedRun("mine", found, RunLog(series))])
    (band,) = [c for c in ax.collections if str(c.get_label()).startswith("the end as the run foresaw it")]
    corners = band.get_paths()[0].vertices
    assert set(corners[:, 0]) == {1e5, 2e5} and set(corners[:, 1]) == {1.4, 1.6}
