"""`scalestop train`: the main job. Trains under a budget until the rule ends it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from jsonargparse import ArgumentParser, Namespace
from pytorch_lightning.callbacks import ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger

from scalestop.commands._parser import build, new_parser, one_line, parse
from scalestop.commands._resume import KeepOptions, Resumed, find, keep_options, log_kept
from scalestop.errors import InputError, ScalestopWarning
from scalestop.lab.data import TextData, batch_size_for
from scalestop.lab.dims import dims_below
from scalestop.lab.tiny_gpt import TinyGPT
from scalestop.ladder.points import only_data
from scalestop.laws import ScalingLaw, get_law
from scalestop.lightning import ComputeOptimalStopping
from scalestop.planning.allocation import allocate, flops_of
from scalestop.planning.budget import Budget
from scalestop.planning.rule import StopReason

DEFAULT_BUDGET = "2e12 FLOPs"
NOTHING_TRAINED = 3
"""Exit code of a run whose model is too large for its budget."""
_TINY_GPT = f"{TinyGPT.__module__}.{TinyGPT.__qualname__}"
_TEXT_DATA = f"{TextData.__module__}.{TextData.__qualname__}"


def run(words: Sequence[str]) -> int:
    """Train, and print why it ended.

    Returns:
        The exit code: 0, or `NOTHING_TRAINED` where the model is too large for its budget.
    """
    parser = _parser()
    options = parse(parser, words)
    resumed = None if options.resume is None else find(options.resume)
    if resumed is not None:
        options = _options_of(parser, resumed, words)
    if not 0 <= options.seed < 2**32:
        raise InputError(f"seed: between 0 and 2**32 - 1; got {options.seed}")
    budget, law = Budget.parse(options.budget), get_law(options.law)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    _quiet_lightning()
    torch.set_num_threads(max(1, options.threads))
    pl.seed_everything(options.seed, verbose=False)
    callback = build(lambda: ComputeOptimalStopping(budget, law, **options.stop.as_dict()))
    fill_in(options, budget, law)
    built = build(lambda: parser.instantiate_classes(options))
    logger = _logger(options.out, None if resumed is None else resumed.folder)
    folder = Path(logger.log_dir)
    trainer_options = _typed(options.trainer)
    shows = trainer_options.get("enable_progress_bar", True)
    trainer = build(
        lambda: pl.Trainer(
            **{
                "max_epochs": -1,
                "accelerator": "auto",
                "devices": 1,
                "gradient_clip_val": 1.0,
                "enable_model_summary": False,
                "log_every_n_steps": 20,
                "check_val_every_n_epoch": None,
                "val_check_interval": 10_000_000,  # the stop itself validates
                "num_sanity_val_steps": 0,
                "logger": logger,
                **trainer_options,
            },
            callbacks=[
                ModelCheckpoint(
                    dirpath=folder / "checkpoints",
                    filename="{step}",
                    every_n_train_steps=100,
                    save_top_k=1,
                    save_last=True,
                ),
                *([TQDMProgressBar(refresh_rate=20)] if shows else []),
                KeepOptions(lambda: keep_options(parser, options, folder)),
                callback,
            ],
        ),
        pl.Trainer,
    )
    with log_kept(folder):
        _fit(trainer, built, None if resumed is None else resumed.checkpoint)
    print(f"record      {callback.record_path}")
    if callback.checkpoint_path:
        print(f"checkpoint  {callback.checkpoint_path}")
    return NOTHING_TRAINED if callback.stop_reason is StopReason.MODEL_OVERSIZED else 0


def _options_of(parser: ArgumentParser, resumed: Resumed, words: Sequence[str]) -> Namespace:
    """Return the options of the run that is resumed, under those that are given now.

    Raises:
        InputError: If they want another run than the one that is resumed.
    """
    if resumed.words:
        options = parse(parser, [*resumed.words, *words])
        before = parse(_parser(), resumed.words)
        if options.seed != before.seed:
            raise InputError(f"seed: the run that is resumed has {before.seed}; leave it out, or begin a new run")
    else:
        options = parse(parser, words)
        for what, found in resumed.hyperparameters().items():
            given = options[what].init_args
            if _names(options[what].class_path, {"model": TinyGPT, "data": TextData}[what]):
                for name in found.keys() & given.keys():
                    given[name] = found[name]
    model: dict[str, Any] = dict(options.model.get("init_args") or {})
    if model.get("num_params") is not None and model.get("width") is not None:
        raise InputError(
            f"model.num_params: the run that is resumed has width {model['width']}, depth {model['depth']} and "
            f"num_heads {model['num_heads']}; leave num_params out, or begin a new run"
        )
    return options


def _fit(trainer: pl.Trainer, built: Namespace, checkpoint: Path | None) -> None:
    try:
        trainer.fit(built.model, datamodule=built.data, **only_data(trainer, checkpoint))
    except (RuntimeError, ValueError, KeyError) as error:
        # torch says it in one line for each weight; any other error is the model's own
        if checkpoint is None or "state dict" not in str(error).replace("_", " "):
            raise
        raise InputError(
            f"resume: {checkpoint} does not fit the model ({one_line(str(error))[:300]}); leave the model's options "
            f"out, and the run's own are taken"
        ) from None


def _parser() -> ArgumentParser:
    parser = new_parser(
        "train",
        "Train a model under a compute budget until its optimum, on real text. Exit code 3 says that the model is too "
        "large for its budget (MODEL_OVERSIZED), and that nothing was trained.",
    )
    add = parser.add_argument
    add("--budget", type=str, default=DEFAULT_BUDGET, help="what the run may spend, such as '1e12 FLOPs' or '1h'")
    add("--law", type=str, default="stdlib-bytes", help="name of a law (see `scalestop laws list`) or its file")
    add("--out", type=str, default="runs", help="folder for logs, checkpoints and the run's record")
    add(
        "--resume",
        type=str,
        default=None,
        help="checkpoint, or folder of a run, to go on from: with "
        "its model, data, seed and rate; a larger --budget raises its budget",
    )
    add("--threads", type=int, default=1, help="processor threads: small models gain little from more than one")
    add("--seed", type=int, default=0, help="seed of weights and data order")
    parser.add_subclass_arguments(pl.LightningModule, "model", required=False, help="any LightningModule by class_path")
    parser.add_subclass_arguments(pl.LightningDataModule, "data", required=False, help="any datamodule by class_path")
    parser.add_class_arguments(ComputeOptimalStopping, "stop", skip={"budget", "law", "clock"}, instantiate=False)
    add("--trainer", type=dict, default={}, help="more arguments for the Trainer, such as --trainer.accelerator gpu")
    parser.set_defaults({"model": {"class_path": _TINY_GPT}, "data": {"class_path": _TEXT_DATA}})
    return parser


def fill_in(options: Namespace, budget: Budget, law: ScalingLaw) -> None:
    """Choose what the user left open: the right-sized model, and the batch that suits its tokens."""
    if not _names(options.model.class_path, TinyGPT):
        return
    model, data = options.model.init_args, options.data.init_args
    if _names(options.data.class_path, TextData) and model.vocab_size < 256:
        raise InputError(f"model.vocab_size: text is bytes, of which there are 256; got {model.vocab_size}")
    compute = flops_of(budget, law) if budget.flops or budget.tokens else None
    if model.num_params is None and model.width is None:
        if compute is None:
            raise InputError("model.num_params: a budget in time or money does not say how large the model should be")
        # one just above N_opt would spend its FLOPs before it sees D_opt
        dims = dims_below(allocate(compute, law).num_params, model.tied, model.vocab_size)
        model.width, model.depth, model.num_heads = dims.width, dims.depth, dims.num_heads
    if _names(options.data.class_path, TextData) and data.batch_size is None and compute is not None:
        size = build(lambda: TinyGPT(**model.as_dict())).dims.num_params
        data.batch_size = batch_size_for(compute / (6 * size), data.context)


def _names(class_path: str, cls: type) -> bool:
    """Whether a class path names a class, under whichever of its addresses."""
    module, _, name = class_path.rpartition(".")
    return getattr(import_module(module), name, None) is cls


def _logger(out: str, folder: Path | None) -> CSVLogger:
    if folder is not None:
        folder = folder.resolve()  # "." has no name
        return CSVLogger(folder.parent, name="", version=folder.name)
    return CSVLogger(out, name="")


def _typed(values: dict[str, Any]) -> dict[str, Any]:
    """Words of the command line as numbers and booleans where they are that."""
    import yaml

    try:
        return {key: yaml.safe_load(value) if isinstance(value, str) else value for key, value in values.items()}
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"trainer: {one_line(str(error)) or 'nested too deeply'}") from None


def _quiet_lightning() -> None:
    """Leave the terminal to the plan, the progress bar and the reason."""
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="lightning_fabric")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.simplefilter("always", ScalestopWarning)
