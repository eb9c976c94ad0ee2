from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fitting_data import record
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from scalestop.fitting.tables.read import read_runs


def logger_for(kind: str, folder: Path) -> Any:
    return CSVLogger(folder, name="runs") if kind == "csv" else TensorBoardLogger(folder, name="runs")


def write_run(logger: Any, *, counters: str = "scalestop/", with_record: bool = True, loss: float = 2.95) -> Path:
    """Log a run as a Trainer with the callback does: counters and validation loss at the same steps, apart."""
    for step in (100, 200, 300):
        logger.log_metrics({f"{counters}tokens": 1000.0 * step, f"{counters}flops": 6e9 * step}, step=step)
    for step in (150, 300):
        logger.log_metrics({"val_loss": 4.0 - step / 300}, step=step)
    logger.save()
    logger.finalize("success")
    folder = Path(logger.log_dir)
    if with_record:
        finished = record(0, num_params=1_000_000, num_tokens=300_000, loss=loss, loss_name="val_loss", run="r", seed=3)
        finished.save(folder / "scalestop.json")
    return folder


@pytest.mark.parametrize("kind", ["csv", "tensorboard"])
@pytest.mark.parametrize("counters", ["scalestop/", "scalestop/main/"])
def test_a_log_folder_gives_the_record_and_the_curve(tmp_path: Path, kind: str, counters: str) -> None:
    write_run(logger_for(kind, tmp_path), counters=counters)
    table = read_runs(tmp_path)
    assert len(table) == 1
    assert (table.params[0], table.tokens[0], table.loss[0]) == (1e6, 3e5, 2.95)
    assert (table.run, table.seed) == (("r",), (3,))
    # step 150 lies half way between the counters of steps 100 and 200
    np.testing.assert_allclose(table.curve[0], [(150_000, 3.5), (300_000, 3.0)], rtol=1e-6)


def test_a_named_metric_replaces_the_records_loss(tmp_path: Path) -> None:
    logger = logger_for("csv", tmp_path)
    logger.log_metrics({"code_loss": 1.25, "scalestop/tokens": 3e5}, step=300)
    write_run(logger)
    assert read_runs(tmp_path, loss="code_loss").loss[0] == 1.25


def test_a_run_that_diverged_is_not_fitted_by_its_last_good_loss(tmp_path: Path) -> None:
    write_run(logger_for("csv", tmp_path / "lost"), loss=float("nan"))
    write_run(logger_for("csv", tmp_path / "whole"))
    table = read_runs(tmp_path)
    assert table.loss.tolist() == [2.95]
    assert [row.reason for row in table.bad_rows] == ["loss: must be positive and finite; got 'NaN'"]


def test_a_killed_run_without_a_record_is_named_for_what_it_lacks(tmp_path: Path) -> None:
    write_run(logger_for("csv", tmp_path / "killed"), with_record=False)
    write_run(logger_for("csv", tmp_path / "whole"))
    table = read_runs(tmp_path)
    assert len(table) == 1
    assert [row.reason for row in table.bad_rows] == ["params is missing"]
    assert "killed" in table.bad_rows[0].source


def test_folders_of_many_runs(tmp_path: Path) -> None:
    for kind in ("csv", "tensorboard", "csv"):
        write_run(logger_for(kind, tmp_path / kind))
    assert len(read_runs(tmp_path)) == 3
