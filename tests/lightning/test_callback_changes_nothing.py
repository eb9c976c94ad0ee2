"""Training is bit for bit the same with the callback as without it, while its budget is far: scene by scene."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    BackboneFinetuning,
    BatchSizeFinder,
    GradientAccumulationScheduler,
    LearningRateFinder,
    ModelCheckpoint,
    StochasticWeightAveraging,
)
from pytorch_lightning.utilities import CombinedLoader
from torch.utils.data import DataLoader, Dataset
from toys import SAFE, ManualToy, ResumableLoader, Rows, Stream, Toy, loader, plain, stopping


class Draws(Dataset):
    """Items from a generator of its own: whoever else asks for one changes all that follow."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(1)

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index):
        return torch.randint(0, 16, (16,), generator=self.generator)


class OpensLate(Dataset):
    """Opens its file at the first item; a handle that is opened before a fork is shared by all workers."""

    def __init__(self, path) -> None:
        self.path, self.file = path, None
        path.write_bytes(bytes(range(16)) * 200)

    def __len__(self) -> int:
        return 80

    def __getitem__(self, index):
        if self.file is None:
            self.file = open(self.path, "rb", buffering=0)  # noqa: SIM115
        self.file.seek(17 * index)
        return torch.frombuffer(bytearray(self.file.read(16)), dtype=torch.uint8).long()


class Noted(Toy):
    """Notes every batch, and draws as dropout would."""

    def __init__(self) -> None:
        super().__init__()
        self.noted, self.backbone, self.batch_size = [], self.embedding, 4

    def training_step(self, batch, batch_idx):
        self.noted.append(f"{batch} {torch.rand(1)}")
        loss = self.loss(batch)
        self.log("train_loss", loss, batch_size=1)
        return loss

    def train_dataloader(self):
        return loader(80, batch_size=self.batch_size, shuffle=True)


class NotedManual(ManualToy):
    def __init__(self) -> None:
        super().__init__(every=2)
        self.noted = []

    def training_step(self, batch, batch_idx):
        self.noted.append(str(batch))
        super().training_step(batch, batch_idx)


class NotedFetching(Noted):
    def training_step(self, dataloader_iter):
        batch, batch_idx, _ = next(dataloader_iter)
        return super().training_step(batch, batch_idx) if batch is not None else None


class NotedFetchingTwo(Noted):
    def training_step(self, dataloader_iter):
        losses = []
        for _ in range(2):
            batch = next(dataloader_iter, (None,))[0]
            if batch is not None:
                losses.append(super().training_step(batch, 0))
        return sum(losses) if losses else None


class NotedAdam(Noted):
    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-2)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 3)]


class SomeNone:
    """A loader that yields None now and then."""

    def __iter__(self):
        for i, batch in enumerate(loader(40)):
            yield batch if i % 4 else None

    def __len__(self) -> int:
        return 10


def shuffled(**options):
    return loader(40, shuffle=True, **options)


def scene(data=shuffled, module=Noted, callbacks=(), validation=False, ours=None, resumes=False, **options):
    return {
        "data": data,
        "module": module,
        "callbacks": callbacks,
        "validation": validation,
        "ours": ours or {},
        "resumes": resumes,
        "options": options,
    }


def workers(kind: str, **more):
    return lambda: loader(40, shuffle=True, num_workers=2, multiprocessing_context=kind, **more)


def combined(mode: str):
    return lambda: CombinedLoader({"a": shuffled(), "b": loader(24, batch_size=2, shuffle=True)}, mode)


SCENES = {
    "map": scene(),
    "ragged": scene(lambda: shuffled(ragged=True)),
    "stream": scene(lambda: DataLoader(Stream(12), batch_size=None)),
    "forked workers": scene(workers("fork")),
    "persistent workers": scene(workers("fork", persistent_workers=True)),
    "stream in workers": scene(lambda: DataLoader(Stream(6), batch_size=None, num_workers=2)),
    "min_size": scene(combined("min_size")),
    "max_size": scene(combined("max_size")),
    "max_size_cycle": scene(combined("max_size_cycle")),
    "own generator": scene(lambda: DataLoader(Draws(), batch_size=4, collate_fn=plain)),
    "stateful, resumed": scene(lambda: loader(80, kind=ResumableLoader), resumes=True),
    "stateful, resumed, measured": scene(
        lambda: loader(80, kind=ResumableLoader), resumes=True, ours={"flops_per_token": "measured"}
    ),
    "resumed": scene(module=NotedAdam, resumes=True),
    "measured": scene(ours={"flops_per_token": "measured"}),
    "fetches": scene(module=NotedFetching),
    "fetches two": scene(module=NotedFetchingTwo),
    "fetches some None": scene(SomeNone, NotedFetching),
    "some None": scene(SomeNone),
    "manual, two optimizers": scene(module=NotedManual),
    "accumulation": scene(accumulate_grad_batches=3),
    "scheduled accumulation": scene(callbacks=[lambda: GradientAccumulationScheduler({1: 2})]),
    "clipping": scene(gradient_clip_val=0.5),
    "validation": scene(validation=True, val_check_interval=3, num_sanity_val_steps=2),
    "averaging": scene(callbacks=[lambda: StochasticWeightAveraging(1e-2, swa_epoch_start=1)], max_epochs=3),
    "finetuning": scene(callbacks=[lambda: BackboneFinetuning(1, verbose=False)], max_epochs=3),
    "rate finder": scene(callbacks=[lambda: LearningRateFinder(num_training_steps=5)]),
    "batch size finder": scene(
        lambda: None,
        callbacks=[lambda: BatchSizeFinder("power", steps_per_trial=2, max_trials=2)],
        validation=True,
    ),
    "overfitting": scene(overfit_batches=2),
    "limited": scene(limit_train_batches=0.5, limit_val_batches=1, validation=True),
    "new loaders": scene(lambda: None, reload_dataloaders_every_n_epochs=1),
    "schedule": scene(module=NotedAdam, ours={"count_validation": True}, validation=True),
}


def trained(folder, ours: bool, what: dict, data=None) -> tuple[list[str], list]:
    """Train a scene; return what each batch and draw was, and the weights and the generators' state it ended with."""
    pl.seed_everything(5, verbose=False)
    module = what["module"]()
    first = {"max_epochs": 2, **what["options"]}
    runs = [({**first, "max_epochs": 1, "limit_train_batches": 7}, None)] if what["resumes"] else [(first, None)]
    if what["resumes"]:
        runs.append((first, str(folder / "first.ckpt")))
    for options, checkpoint in runs:
        callbacks = [make() for make in what["callbacks"]]
        if ours:
            callback = stopping("1e12 tokens", oversized="ignore", verbose=False, record=False, **what["ours"])
            callbacks.insert(0, callback)
        if what["resumes"] and checkpoint is None:
            callbacks.append(ModelCheckpoint(folder, "first", every_n_train_steps=7))
        trainer = pl.Trainer(
            callbacks=callbacks,
            accelerator="cpu",
            default_root_dir=folder,
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
            enable_checkpointing=any(isinstance(one, ModelCheckpoint | LearningRateFinder) for one in callbacks),
            **{"num_sanity_val_steps": 0, **options},
        )
        trainer.fit(
            module,
            (data or what["data"])(),
            loader(8) if what["validation"] else None,
            ckpt_path=checkpoint,
            **(SAFE if checkpoint else {}),
        )
    if ours:
        assert callback.usage.tokens > 0
    weights = [parameter.detach().clone() for parameter in module.parameters()]
    return module.noted, [*weights, torch.get_rng_state()]


def assert_same(tmp_path, what: dict, data=None) -> None:
    alone, ours = (trained(tmp_path / str(kind), kind, what, data) for kind in (False, True))
    assert alone[0] == ours[0] != []
    assert all(torch.equal(one, other) for one, other in zip(alone[1], ours[1], strict=True))


pytestmark = pytest.mark.filterwarnings("ignore::scalestop.errors.ScalestopWarning")  # the budget is far


@pytest.mark.parametrize("name", SCENES)
def test_the_same_bits(tmp_path, name):
    assert_same(tmp_path, SCENES[name])


def test_a_file_that_each_worker_opens_for_itself(tmp_path):
    def data():
        return DataLoader(OpensLate(tmp_path / "bytes"), batch_size=4, collate_fn=plain, num_workers=2)

    assert_same(tmp_path, scene(), data)


@pytest.mark.slow
def test_spawned_workers(tmp_path):
    assert_same(
        tmp_path,
        scene(lambda: DataLoader(Rows(40), 4, collate_fn=plain, num_workers=1, multiprocessing_context="spawn")),
    )
