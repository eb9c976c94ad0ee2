from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from scalestop.report.score_plot import plot_score
from scalestop.run.score import Score, ScoredRun


def run(factor: float | None, measured: float, interval: tuple[float, float] | None = (1.9, 2.1), sealed: bool = False):
    return ScoredRun("r", 1e12, measured, 2.0, interval, factor, sealed)


def test_each_run_is_drawn_at_its_factor_and_miss(tmp_path: Path) -> None:
    runs = (
        run(0.5, 2.02),
        run(5, 2.2),
        run(20, 1.98, None),
        run(50, 2.0, sealed=True),
        run(None, 2.0),
        run(2, math.nan),
    )
    figure = plot_score(Score(runs), tmp_path / "deep" / "score.svg")
    assert (tmp_path / "deep" / "score.svg").read_text(encoding="utf-8").startswith("<?xml")
    above, below = figure.axes
    drawn = {points.get_label(): np.asarray(points.get_offsets()) for points in above.collections}
    np.testing.assert_allclose(drawn["inside (2)"], [[0.5, 1.0], [50, 0.0]], atol=1e-9)
    np.testing.assert_allclose(drawn["outside (1)"], [[5, 10.0]])
    np.testing.assert_allclose(drawn["no interval (1)"], [[20, -1.0]])
    np.testing.assert_allclose(drawn["sealed before the run (1)"], [[50, 0.0]], atol=1e-9)
    assert any("2 not shown" in text.get_text() for text in above.texts)
    bars = [line.get_ydata() for line in above.lines if len(line.get_xdata()) == 2 and line.get_xdata()[0] == 5]
    np.testing.assert_allclose(bars, [[-5, 5]])
    # the run that diverged counts as outside below
    labels = [text.get_text() for text in below.get_xticklabels()]
    assert labels == ["up to x1", "x1 to x3", "x3 to x10", "x30 to x100", "not known"]
    assert [text.get_text() for text in below.texts] == ["1/1", "0/1", "0/1", "1/1", "1/1"]
    assert figure.get_suptitle() == "6 runs against their forecasts, 3 of 5 inside their 90 %"


@pytest.mark.parametrize("runs", [(run(None, 2.0, None),), (run(3, math.inf),)])
def test_a_scoreboard_with_nothing_to_show_is_still_drawn(runs: tuple[ScoredRun, ...]) -> None:
    assert len(plot_score(Score(runs)).axes) == 2
