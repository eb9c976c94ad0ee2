"""What the ladder on the standard library's sources found: its law, its forecasts, its valley, and the cheaper ladder.

    scalestop ladder --config configs/ladder_tiny.yaml          # trains the runs
    python examples/stdlib_ladder.py                            # reads what they left, and draws the picture

The runs are in `stdlib_ladder_runs.csv` (independent runs) and `stdlib_trunk_runs.csv` (decay branches off
constant-rate trunks); what they mean is in `stdlib_ladder.md`.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from scalestop import LawFit, fit_law

HERE = Path(__file__).parent
INDEPENDENT, TRUNKS = HERE / "stdlib_ladder_runs.csv", HERE / "stdlib_trunk_runs.csv"
BUDGETS = (1e12, 1e13, 3e13, 1e14)  # FLOPs at which the two ladders are held against each other


def read(path: Path) -> list[dict]:
    """Return the runs of a ladder, one dict each, numbers as numbers."""
    numbers = ("params", "tokens", "flops", "loss", "budget", "body_params", "new_flops")
    with path.open(newline="") as file:
        return [{**row, **{name: float(row[name]) for name in numbers}} for row in csv.DictReader(file)]


def held_out(fit: LawFit, runs: list[dict], kind: str = "held out") -> list[tuple[dict, float, tuple[float, float]]]:
    """Return the runs beyond the fitted ones, each with its forecast and the 90 % interval for one run.

    Args:
        fit: The law.
        runs: The ladder's runs.
        kind: "held out" for those above the fit, "below" for those below it.
    """
    found = [run for run in runs if run["kind"] == kind]
    forecasts = [fit.predict(run["params"], run["tokens"]) for run in found]
    return [(run, seen.loss.estimate, seen.new_run) for run, seen in zip(found, forecasts, strict=True)]


def valley(runs: list[dict]) -> dict[float, float]:
    """Return the mean loss by size at the budget whose sizes reach farthest."""
    budget = next(run["budget"] for run in runs if run["kind"] == "valley")
    losses: dict[float, list[float]] = {}
    for run in runs:
        if run["budget"] == budget and run["kind"] in ("run", "valley"):
            losses.setdefault(run["params"], []).append(run["loss"])
    return {size: sum(values) / len(values) for size, values in sorted(losses.items())}


def spent(runs: list[dict]) -> float:
    """Return the FLOPs behind the fitted runs: a trunk's tokens, which several branches go on from, count once."""
    return sum(run["new_flops"] for run in runs if run["kind"] in ("run", "branch", "trunk"))


def by_body(runs: list[dict]) -> list[dict]:
    """Return the runs with N counted without the embedding."""
    return [{**run, "params": run["body_params"], "flops": None, "n_counts": "body"} for run in runs]


def rms(fit: LawFit) -> float:
    """Return the root mean square of the log residuals."""
    return float(np.sqrt(np.mean(np.square(fit.residuals.log_ratio))))


def report(runs: list[dict], fit: LawFit, trunk_runs: list[dict], trunks: LawFit) -> None:
    """Print what was found."""
    law = fit.law
    print("\nheld out                    loss  forecast     miss   90 % interval of one run")
    for run, forecast, (low, high) in held_out(fit, runs):
        where = "inside" if low <= run["loss"] <= high else "OUTSIDE"
        print(f"{run['run']:<22}{run['loss']:>10.4f}{forecast:>10.4f}{run['loss'] - forecast:>+9.4f}   "
              f"{low:.4f} to {high:.4f}  {where}")  # fmt: skip

    below = held_out(fit, runs, "below")
    print("\nbelow the fit   best run   forecast   90 % interval of one run     runs inside")
    for budget in sorted({run["budget"] for run, _, _ in below}):
        here = [told for told in below if told[0]["budget"] == budget]
        run, forecast, (low, high) = min(here, key=lambda told: told[0]["loss"])
        inside = sum(low <= run["loss"] <= high for run, _, (low, high) in here)
        print(f"{budget:<16.0e}{run['loss']:>8.4f}{forecast:>11.4f}   {low:.4f} to {high:.4f}           "
              f"{inside} of {len(here)}")  # fmt: skip

    found = valley(runs)
    budget = next(run["budget"] for run in runs if run["kind"] == "valley")
    optimum, best = float(law.optimal(budget).num_params), min(found.values())
    print(f"\nvalley at {budget:.0e} FLOPs; the law's N_opt is {optimum:,.0f}")
    for size, loss in found.items():
        print(f"{size:>9,.0f} = {size / optimum:>5.2f} N_opt   {loss:.4f}   {loss / best - 1:+.2%}   "
              f"law {float(law.loss(size, budget / 6 / size)):.4f}")  # fmt: skip

    print("\nN counts   rms of log residuals   miss of the held-out runs")
    for convention, one, changed in (
        ("total", fit, runs),
        ("body", fit_law(by_body(runs), bootstrap=20), by_body(runs)),
    ):
        misses = [run["loss"] - float(one.law.loss(run["params"], run["tokens"]))
                  for run in changed if run["kind"] == "held out"]  # fmt: skip
        print(f"{convention:<10}{rms(one):>21.4f}   {', '.join(f'{miss:+.4f}' for miss in misses)}")

    alone = sum(run["flops"] for run in trunk_runs if run["kind"] != "trunk")
    print(f"\ntrunks: {len(trunks.table)} branches for {spent(trunk_runs):.3g} FLOPs; one by one {alone:.3g}, "
          f"{1 - spent(trunk_runs) / alone:.0%} saved")  # fmt: skip
    print(f"independent: {len(fit.table)} runs for {spent(runs):.3g} FLOPs")
    for flops in BUDGETS:
        for name, one in (("independent", fit), ("trunks", trunks)):
            at = one.optimum(flops)
            print(f"{flops:.0e}  {name:<12} N_opt {at.num_params}  loss {at.loss}")
    for run, forecast, (low, high) in held_out(trunks, runs):
        print(f"trunks' forecast of {run['run']}: {forecast:.4f} ({low:.4f} to {high:.4f}), measured {run['loss']:.4f}")


def draw(runs: list[dict], fit: LawFit, path: Path) -> None:
    """Draw the valley, and the frontier with the runs beyond the fitted ones."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    law, ink, accent = fit.law, "#2a78b5", "#d1495b"

    budget = next(run["budget"] for run in runs if run["kind"] == "valley")
    optimum = float(law.optimal(budget).num_params)
    for kind, colour, label in (("run", ink, "fitted"), ("valley", accent, "not fitted")):
        here = [run for run in runs if run["budget"] == budget and run["kind"] == kind]
        left.scatter(
            [run["params"] for run in here], [run["loss"] for run in here], s=22, color=colour, label=label, zorder=3
        )
    found = valley(runs)
    sizes = np.geomspace(min(found) / 1.1, max(found) * 1.1, 200)
    left.plot(sizes, law.loss(sizes, budget / 6 / sizes), color=ink, linewidth=1.4, label="the law")
    left.axvline(optimum, color="#888888", linewidth=0.9, linestyle=(0, (4, 3)), label=f"N_opt {optimum:,.0f}")
    left.set(xscale="log", xlabel="N, parameters", ylabel="loss, nats per byte")
    left.set_title(f"The valley at {budget:.0e} FLOPs".replace("e+", "e"), loc="left", fontsize=11)

    flops = np.geomspace(7e8, 1.2e14, 80)
    best = [law.optimal(c) for c in flops]
    spans = [fit.predict(*map(float, at)) for at in best]
    right.fill_between(
        flops, [s.new_run[0] for s in spans], [s.new_run[1] for s in spans], color=ink, alpha=0.16, linewidth=0
    )
    right.plot(
        flops, [s.loss.estimate for s in spans], color=ink, linewidth=1.4, label="the law at its optimum; 90 % of runs"
    )
    pilots = [run for run in runs if run["kind"] == "run"]
    right.scatter([r["flops"] for r in pilots], [r["loss"] for r in pilots], s=14, color=ink, label="fitted", zorder=3)
    beyond = [run for kind in ("below", "held out") for run, _, _ in held_out(fit, runs, kind)]
    right.scatter(
        [r["flops"] for r in beyond], [r["loss"] for r in beyond], s=14, color=accent, label="not fitted", zorder=4
    )
    right.set(xscale="log", xlabel="compute 6·N·D, FLOPs", ylabel="loss, nats per byte")
    right.set_title("Forecast and what came of it", loc="left", fontsize=11)
    for axis in (left, right):
        axis.grid(color="#d9dee3", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.legend(fontsize=9, frameon=False)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--plot", type=Path, default=None, help="where to draw the picture")
    arguments = parser.parse_args()
    runs, trunk_runs = read(INDEPENDENT), read(TRUNKS)
    fit, trunks = fit_law(runs, bootstrap=1000), fit_law(trunk_runs, bootstrap=1000)
    report(runs, fit, trunk_runs, trunks)
    if arguments.plot:
        draw(runs, fit, arguments.plot)


if __name__ == "__main__":
    main()
