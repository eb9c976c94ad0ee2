"""Makes scalestop/laws/data/hoffmann_runs.draws.json from the public points, which are not part of the project.

    python tests/published_draws.py chinchilla_svg.csv      (columns n_params, n_tokens, loss, kept)

The 4,000 bootstrap samples are those of Besiroglu et al.'s code, so the standard errors are theirs; the first 1,000 are
kept. Of the residuals, 60 quantiles for each law. The drift is what fits to the runs below a hundredth, a thirtieth and
a tenth of the largest compute missed above it, beyond the runs' scatter and the refits' spread.
"""

from __future__ import annotations

import base64
import csv
import json
import sys
import zlib
from pathlib import Path

import numpy as np

from scalestop.fitting import read_runs
from scalestop.fitting.solve.surface_fit import SurfaceProblem
from scalestop.laws.parametric import parametric_loss, parametric_optimum
from scalestop.laws.published import BESIROGLU, CHINCHILLA
from scalestop.laws.published_draws import HOFFMANN_RUNS, NAMES

KEPT_DRAWS = 1000
NUM_QUANTILES = 60
SOURCE = (
    "bootstrap refits (Huber sum of log loss, delta 1e-3; the 4,000 samples of Besiroglu et al. 2024, arXiv "
    "2404.10102, of which the first 1,000 are kept) to the 240 runs of Hoffmann et al. 2022, read out of their figure "
    "4; drift from fits to the runs below 1/100, 1/30 and 1/10 of the largest compute; made by tests/published_draws.py"
)


def points(path):
    """The 240 runs that the paper fits: params, tokens, loss."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["kept"] == "1"]
    names = {"params": "n_params", "tokens": "n_tokens", "loss": "loss"}
    return {ours: np.array([float(row[theirs]) for row in rows]) for ours, theirs in names.items()}


def refits(runs, draws=4000):
    """Constants of the best fit, shape (5,), and of the refits, shape (draws, 5)."""
    generator = np.random.RandomState(42)  # as the paper's code draws them
    count = len(runs["loss"])
    samples = [generator.choice(np.arange(count), size=count, replace=True) for _ in range(draws)]
    weights = np.stack([np.bincount(sample, minlength=count) for sample in samples]).astype(float)
    problem = SurfaceProblem(**runs)
    best = problem.fit().theta[0]
    return best, problem.refit(weights, best).theta


def moves(best, found):
    """By how much each refit moved E, log A, log B, alpha, beta."""
    logs = [name in ("A", "B") for name in NAMES]
    return np.where(logs, np.log(found / best), found - best)


def residual_quantiles(runs, constants):
    """Quantiles of log(measured / law), widened as far as new runs scatter more than those that the constants fit."""
    residual = np.log(runs["loss"] / parametric_loss(runs["params"], runs["tokens"], **constants))
    count = len(residual)
    levels = (np.arange(NUM_QUANTILES) + 0.5) / NUM_QUANTILES
    return np.quantile(residual, levels) * np.sqrt(count / (count - len(NAMES)))


def drift(runs, full, cuts=(100, 30, 10), draws=500):
    """What a fit to the cheap runs misses, for each factor e of compute: sd of log loss, and of log N_opt.

    Of the loss: the dearer runs near the valley (within 3 % of the least loss at their compute or below), their mean
    square miss beyond that of the fitted runs. Of N_opt, at the largest compute: the square of how far it moves until
    all runs are fitted, beyond the square of its spread over bootstrap refits. Means over the cuts, each counted alike.
    """
    params, tokens, loss = runs["params"], runs["tokens"], runs["loss"]
    flops = 6 * params * tokens
    largest = flops.max()
    floor = np.array([loss[flops <= at * 1.0001].min() for at in flops])
    generator = np.random.default_rng(0)
    of_loss, of_params = [], []
    for factor in cuts:
        cheap = flops <= largest / factor
        problem = SurfaceProblem(params[cheap], tokens[cheap], loss[cheap])
        best = problem.fit().theta[0]
        residual = np.log(loss / parametric_loss(params, tokens, *best))
        dear = ~cheap & (loss < floor * 1.03)
        beyond = np.log(flops[dear] / (largest / factor))
        of_loss.append(np.sum(residual[dear] ** 2 - np.mean(residual[cheap] ** 2)) / np.sum(beyond**2))
        count = int(cheap.sum())
        found = problem.refit(
            generator.multinomial(count, np.full(count, 1 / count), size=draws).astype(float), best
        ).theta
        moved, spread = (log_n_opt(full, largest) - log_n_opt(best, largest)), np.std(log_n_opt(found, largest))
        of_params.append(max(moved**2 - spread**2, 0) / np.log(factor) ** 2)
    return float(np.sqrt(max(np.mean(of_loss), 0))), float(np.sqrt(np.mean(of_params)))


def log_n_opt(constants, flops):
    return np.log(parametric_optimum(flops, *np.asarray(constants).T[1:]).num_params)


def derived(path):
    runs = points(path)
    best, found = refits(runs)
    kept = moves(best, found)[:KEPT_DRAWS]
    of_loss, of_params = drift(runs, best)
    packed = zlib.compress(np.ascontiguousarray(kept, dtype="<f4").T.tobytes(), 9)
    return {
        "schema": "scalestop.draws/1",
        "source": SOURCE,
        "names": list(NAMES),
        "num_draws": len(kept),
        "deviations_f4_columns_zlib_base64": base64.b64encode(packed).decode(),
        "num_runs": len(runs["loss"]),
        "data_hash": read_runs(runs).data_hash,
        "drift": round(of_loss, 5),
        "drift_params": round(of_params, 4),
        "scatter": {
            name: [float(f"{value:.5g}") for value in residual_quantiles(runs, constants)]
            for name, constants in (("besiroglu", BESIROGLU), ("chinchilla", CHINCHILLA))
        },
    }


if __name__ == "__main__":
    target = Path(__file__).parents[1] / "scalestop" / "laws" / "data" / HOFFMANN_RUNS
    target.write_text(json.dumps(derived(sys.argv[1]), indent=2) + "\n", encoding="utf-8")
    print(target)
