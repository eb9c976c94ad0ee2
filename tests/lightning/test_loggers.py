"""Each tracker is told of a run's plan and end; what it kept is read back with its own reader."""

from __future__ import annotations

import csv
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from toys import stopping, train

from scalestop import RunRecord, ScalestopWarning, StopRule, make_plan
from scalestop.lightning.loggers import log_end, log_start
from scalestop.run.summary import hyperparameters, outcome

PLAN = make_plan("2e21 FLOPs", "besiroglu", "2.5B", "1M", rule=StopRule(undersized="stop"))
RECORD = RunRecord(
    num_params=2_500_000_000,
    num_tokens=6 * 10**10,
    flops=9 * 10**20,
    loss=2.31,
    stop_reason="COMPUTE_OPTIMAL",
    law="besiroglu",
    budget="2e21 FLOPs",
    loss_name="val_loss",
    message="N 2.5B is compute-optimal",
    plan={"loss_at_stop": 2.30, "loss_interval": (2.28, 2.33), "stop_reason": "COMPUTE_OPTIMAL"},
    usage={"tokens": 6 * 10**10, "flops": 9 * 10**20, "optimizer_steps": 60_000, "seconds": 12.5},
    run="abc",
    exact=True,
)
BEGINS = {"scalestop/budget": "2e21 FLOPs", "scalestop/law": "besiroglu", "scalestop/num_params": 2_500_000_000}
ENDS = {"scalestop/final_loss": 2.31, "scalestop/total/optimizer_steps": 60_000, "scalestop/loss_inside_interval": 1.0}
TEXTS = {"scalestop/stop_reason": "COMPUTE_OPTIMAL", "scalestop/message": "N 2.5B is compute-optimal"}


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "made" / "scalestop.json"
    path.parent.mkdir()
    path.write_text(RECORD.to_json())
    return path


def tell(logger: Logger, file: Path) -> None:
    assert log_start([logger], PLAN) == []
    assert log_end([logger], RECORD, step=60_000, files=[file, None, file.with_name("gone")]) == []
    logger.finalize("success")


# ---- what is told


def test_a_plan_as_settings():
    found = hyperparameters(PLAN)
    assert found["optimal_params"] == PLAN.allocation.num_params
    assert found["optimal_tokens"] == PLAN.allocation.num_tokens
    assert (found["planned_stop"], found["rule/tolerance"]) == ("COMPUTE_OPTIMAL", 0.1)
    assert all(isinstance(value, str | int | float) for value in found.values())
    without = hyperparameters(make_plan("1e21 FLOPs", None, 10**9))
    assert "optimal_params" not in without and without["law"] == "none"


def test_an_end_as_a_summary():
    found = outcome(RECORD)
    assert found["loss_against_plan"] == pytest.approx(0.01)
    assert found["loss_inside_interval"] is True and found["diverged"] is False
    assert outcome(replace(RECORD, loss=2.4))["loss_inside_interval"] is False
    # stopped elsewhere than planned, the interval is of another run
    assert "loss_inside_interval" not in outcome(replace(RECORD, stop_reason="TIME_LIMIT"))
    lost = outcome(replace(RECORD, loss=float("nan")))
    assert lost["diverged"] is True and "final_loss" not in lost and "loss_against_plan" not in lost


# ---- what each keeps


def test_csv(tmp_path, file):
    logger = CSVLogger(tmp_path, "csv")
    logger.log_metrics({"train_loss": 3.0}, step=1)
    tell(logger, file)
    kept = yaml.safe_load(Path(logger.log_dir, "hparams.yaml").read_text())
    assert kept.items() >= {**BEGINS, **TEXTS}.items()
    rows = list(csv.DictReader(Path(logger.log_dir, "metrics.csv").read_text().splitlines()))
    assert rows[0]["train_loss"] == "3.0" and rows[-1]["step"] == "60000"
    assert {name: float(rows[-1][name]) for name in ENDS} == ENDS


def test_tensorboard(tmp_path, file):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    logger = TensorBoardLogger(tmp_path, "tb")
    logger.log_hyperparams({"lr": 0.1})  # the module's own
    tell(logger, file)
    everything = {"tensors": 0, "scalars": 0}
    kept = accumulator.EventAccumulator(logger.log_dir, size_guidance=everything).Reload()
    texts = {name: kept.Tensors(f"{name}/text_summary")[-1].tensor_proto.string_val[0].decode() for name in TEXTS}
    assert texts == TEXTS
    table = accumulator.EventAccumulator(f"{logger.log_dir}/scalestop", size_guidance=everything).Reload()
    assert {name: table.Scalars(name)[-1].value for name in ENDS} == pytest.approx(ENDS)
    content = table.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    told = HParamsPluginData.FromString(content).session_start_info.hparams
    assert told["scalestop/budget"].string_value == "2e21 FLOPs"
    assert told["scalestop/num_params"].number_value == 2.5e9 and told["lr"].number_value == 0.1


def entries(content: bytes) -> Iterator[bytes]:
    """Entries of a W&B file, which is LevelDB's log format after seven bytes: W&B 0.31 has no reader in Python."""
    place, parts = 7, []
    while place + 7 <= len(content):
        if (left := 32768 - place % 32768) < 7:  # no header begins there
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        parts.append(content[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):  # whole, or the last of several
            yield b"".join(parts)
            parts = []


def test_wandb_offline(tmp_path, file, monkeypatch):
    wandb = pytest.importorskip("wandb")
    from pytorch_lightning.loggers import WandbLogger
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger(save_dir=str(tmp_path), project="x", offline=True)
    tell(logger, file)
    folder = Path(logger.experiment.dir)
    logger.experiment.finish()
    wandb.teardown()  # its writer is a process of its own
    config, summary = {}, {}
    for data in entries(next(folder.parent.glob("*.wandb")).read_bytes()):
        record = wandb_internal_pb2.Record.FromString(data)
        for update in (*record.config.update, *record.run.config.update):
            config["/".join(update.nested_key) or update.key] = yaml.safe_load(update.value_json)
        for update in (*record.summary.update, *record.run.summary.update):
            summary["/".join(update.nested_key) or update.key] = yaml.safe_load(update.value_json)
    assert config.items() >= BEGINS.items()
    assert summary.items() >= {**ENDS, **TEXTS}.items()
    assert (folder / "scalestop.json").read_text() == RECORD.to_json()


def test_mlflow_in_sqlite(tmp_path, file):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    from pytorch_lightning.loggers import MLFlowLogger

    uri = f"sqlite:///{tmp_path}/runs.db"
    logger = MLFlowLogger("x", tracking_uri=uri, artifact_location=str(tmp_path / "kept"))
    tell(logger, file)
    # a resumed run tells its plan again, and a parameter that was kept stays
    assert log_start([logger], PLAN) == []
    found = mlflow.MlflowClient(uri).get_run(logger.run_id)
    assert found.data.params.items() >= {name: str(value) for name, value in BEGINS.items()}.items()
    assert found.data.metrics.items() >= ENDS.items()
    assert found.data.tags.items() >= TEXTS.items()
    assert (tmp_path / "kept" / logger.run_id / "artifacts" / "scalestop" / "scalestop.json").is_file()


def test_one_that_raises_costs_the_others_nothing(tmp_path, file):
    class Broken(CSVLogger):
        def log_hyperparams(self, params=None):
            raise OSError("quota\nexceeded")

    whole = CSVLogger(tmp_path, "whole")
    both = [Broken(tmp_path, "broken"), whole]
    assert log_start(both, PLAN) == ["Broken: quota exceeded"]
    assert log_end(both, RECORD, files=[file]) == ["Broken: quota exceeded"]
    assert yaml.safe_load(Path(whole.log_dir, "hparams.yaml").read_text())["scalestop/stop_reason"] == "COMPUTE_OPTIMAL"


def test_a_logger_of_ones_own_gets_what_every_logger_takes(file):
    told = {}

    class Own(Logger):
        name, version = "own", 0

        def log_hyperparams(self, params, *args, **kwargs):
            told.update(params)

        def log_metrics(self, metrics, step=None):
            told.update(metrics)

    tell(Own(), file)
    assert told.items() >= {**BEGINS, **ENDS}.items()


def test_a_run_tells_its_loggers(tmp_path):
    """By the callback, in a real Trainer: the plan once it is stated, the end before the loggers are closed."""
    loggers = [CSVLogger(tmp_path / "csv"), TensorBoardLogger(tmp_path / "tb")]
    callback = stopping("1280 tokens", oversized="ignore", verbose=False)
    train(callback, tmp_path, logger=loggers)
    kept = yaml.safe_load((Path(loggers[0].log_dir) / "hparams.yaml").read_text())
    assert kept["scalestop/budget"] == "1280 tokens" and kept["scalestop/planned_step"] == 20
    with (Path(loggers[0].log_dir) / "metrics.csv").open() as rows:
        last = [row for row in csv.DictReader(rows) if row.get("scalestop/total/optimizer_steps")][-1]
    assert float(last["scalestop/total/optimizer_steps"]) == 20
    assert float(last["scalestop/total/flops"]) == callback.usage.flops


class Refuses(CSVLogger):
    def log_hyperparams(self, *_, **__):
        raise RuntimeError("not today")


def test_a_logger_that_refuses_ends_no_run(tmp_path):
    callback = stopping("1280 tokens", oversized="ignore", verbose=False)
    with pytest.warns(ScalestopWarning, match="not today"):
        train(callback, tmp_path, logger=Refuses(tmp_path))
    assert callback.decision.stop and callback.usage.tokens == 1280
