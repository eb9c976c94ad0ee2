"""Pictures of laws, fits and runs, each drawn on the axes that are given or on new ones, which it returns.

    from scalestop import get_law, plot
    plot.valley(get_law("besiroglu"), 1e21).figure.savefig("valley.svg")

Axes of your own keep their theme, light or dark: colours are read off their ground. `theme=` sets that of new ones. All
need matplotlib, which `pip install 'scalestop[report]'` brings.
"""

from scalestop.report.fit_plot import plot_allocation as allocation
from scalestop.report.fit_plot import plot_fit as fit
from scalestop.report.fit_plot import plot_residuals as residuals
from scalestop.report.law_plot import plot_frontier as frontier
from scalestop.report.law_plot import plot_plane as plane
from scalestop.report.law_plot import plot_valley as valley
from scalestop.report.loss_plot import plot_isoflops as isoflops
from scalestop.report.loss_plot import plot_sizes as sizes
from scalestop.report.run_plot import plot_curves as curves
from scalestop.report.run_plot import plot_spending as spending
from scalestop.report.score_plot import plot_misses as misses
from scalestop.report.score_plot import plot_score as score
from scalestop.report.score_plot import plot_shares as shares

__all__ = [
    "allocation",
    "curves",
    "fit",
    "frontier",
    "isoflops",
    "misses",
    "plane",
    "residuals",
    "score",
    "shares",
    "sizes",
    "spending",
    "valley",
]
