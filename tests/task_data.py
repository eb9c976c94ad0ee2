"""Runs with a metric: of a known two-step law, and OLMo's ladder where it is at hand."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
from fitting_data import data_folder
from scipy.special import expit

from scalestop.fitting.tasks.runs import TaskRun

OLMO_PARAMS = {"190M": 190354176, "370M": 371262464, "760M": 758220288, "1B": 1279395840}
"""Of the ladder's four sizes (Bhagia et al. 2024, arXiv 2412.04403)."""


def true_loss(params, tokens):
    """Bits per byte of a task whose law is known: floor .4, exponents .3 and .28."""
    return 0.4 + 1.1 * (params / 1e9) ** -0.3 * 0.35 + 0.3 * (tokens / 1e11) ** -0.28


def true_metric(loss):
    """Floor .25, ceiling .9, half way up at .9."""
    return 0.25 + 0.65 * expit(6 * (0.9 - loss))


def task_table(scatter=0.004, noise=0.004, seed=0, checkpoints=1, sizes=(1e8, 2e8, 4e8, 8e8, 1.6e9)):
    """Return columns run, params, tokens, bpb, acc of a ladder of known law."""
    rng = np.random.default_rng(seed)
    rows = []
    for n in sizes:
        for multiple in (0.5, 1, 2, 5, 10):
            off = np.exp(scatter * rng.normal())
            for share in np.linspace(1 / checkpoints, 1, checkpoints):
                d = 20 * n * multiple * share
                loss = true_loss(n, d) * off
                metric = np.clip(true_metric(loss) + noise * rng.normal(), 0, 1)
                rows.append({"run": f"{n:g}x{multiple:g}", "params": n, "tokens": d, "bpb": loss, "acc": metric})
    return {name: [row[name] for row in rows] for name in rows[0]}


def olmo_runs(columns: list[str]) -> dict[str, list[TaskRun]]:
    """Return OLMo's twenty runs for each task of `columns`, or skip."""
    folder: Path = data_folder()
    if not (folder / "olmo_ladder.csv").is_file():
        import pytest

        pytest.skip(f"olmo_ladder.csv is not in {folder}")
    groups = defaultdict(list)
    with (folder / "olmo_ladder.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            groups[row["size"], row["chinchilla_multiple"]].append(row)
    found = {}
    for task in columns:
        found[task] = [
            TaskRun(
                f"{size}x{multiple}",
                float(OLMO_PARAMS[size]),
                np.array([float(row["step"]) * float(row["batch_tokens"]) for row in rows]),
                np.array([float(row[f"{task}_bpb"]) for row in rows]),
                np.array([float(row[f"{task}_acc"]) for row in rows]),
            )
            for (size, multiple), rows in groups.items()
        ]
    return found


OLMO_TASKS = [
    "mmlu_stem_test_rc_5shot",
    "mmlu_humanities_test_rc_5shot",
    "mmlu_social_sciences_test_rc_5shot",
    "mmlu_other_test_rc_5shot",
    "hellaswag_val_rc_5shot",
    "arc_easy_test_rc_5shot",
    "arc_challenge_test_rc_5shot",
    "boolq_val_rc_5shot",
    "csqa_val_rc_5shot",
    "openbookqa_test_rc_5shot",
    "piqa_val_rc_5shot",
    "socialiqa_val_rc_5shot",
    "winogrande_val_rc_5shot",
]
