"""The same callback in `pytorch_lightning` and in `lightning.pytorch`, from Python and from a LightningCLI file."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import toys

NAMESPACES = ["pytorch_lightning", "lightning.pytorch"]
CLASS_PATHS = {
    "pytorch_lightning": "scalestop.ComputeOptimalStopping",
    "lightning.pytorch": "scalestop.lightning.ComputeOptimalStopping",  # its CLI asks for a subclass of its Callback
}
MODULE = """
import torch
from torch import nn
from {namespace} import LightningModule, LightningDataModule


class Toy(LightningModule):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(16, 8), nn.Linear(8, 16)

    def training_step(self, batch, batch_idx):
        ids, labels = batch
        loss = nn.functional.cross_entropy(self.head(self.embedding(ids)).flatten(0, 1), labels.flatten())
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-2)


class Data(LightningDataModule):
    def train_dataloader(self):
        ids = torch.randint(0, 16, (400, 16))
        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(ids, ids), batch_size=4)
"""
MAIN = """
from {namespace}.cli import LightningCLI
from toy_module import Data, Toy

LightningCLI(Toy, Data)
"""
CONFIG = """
trainer:
  accelerator: cpu
  max_epochs: -1
  logger: false
  enable_progress_bar: false
  callbacks:
    - class_path: {class_path}
      init_args:
        budget: {flops} FLOPs
        law: law.json
        overshoot: never
        until: {{train_loss: "< 100"}}
"""


def module_of(namespace: str):
    pytest.importorskip(namespace)
    pl = importlib.import_module(namespace)
    scope: dict = {}
    exec(MODULE.format(namespace=namespace), scope)
    return pl, scope["Toy"](), scope["Data"]()


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_trainer_of_either_namespace(tmp_path, namespace):
    pl, module, data = module_of(namespace)
    callback = toys.stopping()
    trainer = toys.train(callback, tmp_path, module, data, trainer_class=pl.Trainer)
    assert callback.decision.stop and trainer.global_step == callback.plan.stop_step == 70
    again = toys.stopping(1.2 * toys.C_OPT, tolerance=0.3)
    trainer = toys.train(again, tmp_path, module, data, trainer_class=pl.Trainer, ckpt_path=callback.checkpoint_path)
    assert again.usage.tokens == trainer.global_step * 64 > callback.usage.tokens


@pytest.mark.parametrize("namespace", [NAMESPACES[0], pytest.param(NAMESPACES[1], marks=pytest.mark.slow)])
def test_lightning_cli_file(tmp_path, namespace):
    pytest.importorskip(namespace)
    (tmp_path / "toy_module.py").write_text(MODULE.format(namespace=namespace))
    (tmp_path / "main.py").write_text(MAIN.format(namespace=namespace))
    config = CONFIG.format(flops=round(1.05 * toys.C_OPT), class_path=CLASS_PATHS[namespace])
    (tmp_path / "run.yaml").write_text(config)
    toys.LAW.save(tmp_path / "law.json")
    result = subprocess.run(
        [sys.executable, "main.py", "fit", "--config", "run.yaml"],
        cwd=tmp_path,
        env=toys.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "scalestop: COMPUTE_OPTIMAL: N 272 (total)" in result.stdout
    # without a logger, beside the checkpoints: the working directory stays clean
    record = json.loads(Path(tmp_path, "checkpoints", "scalestop.json").read_text())
    assert record["num_tokens"] == 70 * 64 and record["num_params"] == toys.N


def test_both_classes_save_under_the_same_key():
    pytest.importorskip("lightning.pytorch")
    from lightning.pytorch.callbacks import Callback

    from scalestop.lightning import ComputeOptimalStopping

    twin = ComputeOptimalStopping(1e9, toys.LAW)
    assert isinstance(twin, Callback)
    assert twin.state_key == toys.stopping().state_key
    assert twin.state_dict() == {} and "log" not in vars(twin)


ONE_ALONE = """
import sys
sys.modules[{absent!r}] = None
from {namespace}.callbacks import Callback
import scalestop
from scalestop.lab import TextData, TinyGPT

assert isinstance(scalestop.ComputeOptimalStopping("1e9 FLOPs"), Callback)
assert scalestop.lightning.ComputeOptimalStopping is scalestop.ComputeOptimalStopping
print(*(name for name in ("pytorch_lightning", "lightning") if sys.modules.get(name)))
"""


@pytest.mark.parametrize(
    ("namespace", "absent"),
    [
        pytest.param("lightning.pytorch", "pytorch_lightning", marks=pytest.mark.slow),
        pytest.param("pytorch_lightning", "lightning", marks=pytest.mark.slow),
    ],
)
def test_the_namespace_that_the_user_imports_is_enough(namespace, absent):
    """And no other is imported: it would take over its logger."""
    script = ONE_ALONE.format(namespace=namespace, absent=absent)
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        env=toys.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.split() == [namespace.partition(".")[0]]
