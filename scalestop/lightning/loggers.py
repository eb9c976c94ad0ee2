"""Tells Lightning's loggers of a run, each in its own way; what one of them raises costs the others nothing.

| logger | at the start | at the end | files |
|---|---|---|---|
| W&B | config | summary | saved with the run |
| MLflow | params | metrics; texts as tags | artifacts |
| TensorBoard | hparams of a run of their own below | their metrics; texts as text | - |
| CSV | `hparams.yaml` | a last row of `metrics.csv`; texts in `hparams.yaml` | - |
| Comet | parameters | others | assets |
| any other | `log_hyperparams` | `log_metrics` | - |
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scalestop.planning.planned import Plan
from scalestop.run.records import RunRecord
from scalestop.run.summary import Value, hyperparameters, outcome

PREFIX = "scalestop/"


def log_start(loggers: Iterable[Any], plan: Plan, prefix: str = PREFIX) -> list[str]:
    """Log a plan as hyperparameters.

    Args:
        loggers: The Trainer's.
        plan: The run's, as it is known by now. Trackers that keep the first value of a parameter keep this one.
        prefix: Before every name.

    Returns:
        What went wrong, one line for each logger that raised.
    """
    values = _named(hyperparameters(plan), prefix)

    def log(logger: Any) -> None:
        if _kind(logger) == "TensorBoardLogger":
            # an hparams table needs a metric, and the loss is not known yet
            _hparams_table(logger, values, {f"{prefix}final_loss": float("nan")})
        else:
            logger.log_hyperparams(values)

    return _each(loggers, log)


def log_end(
    loggers: Iterable[Any],
    record: RunRecord,
    *,
    step: int | None = None,
    files: Sequence[str | Path | None] = (),
    prefix: str = PREFIX,
) -> list[str]:
    """Log how a run ended as its summary, and its files where the logger keeps files.

    Args:
        loggers: The Trainer's, before they are finalized.
        record: The run's.
        step: The Trainer's logging step.
        files: Such as the record's file and the stop's checkpoint; those that are not there are left out.
        prefix: Before every name.

    Returns:
        What went wrong, one line for each logger that raised.
    """
    values = _named(outcome(record), prefix)
    texts = {name: value for name, value in values.items() if isinstance(value, str)}
    numbers = {name: float(value) for name, value in values.items() if not isinstance(value, str)}
    kept = [str(file) for file in files if file is not None and Path(file).is_file()]

    def log(logger: Any) -> None:
        tell = _ENDS.get(_kind(logger))
        if tell is None:
            logger.log_metrics(numbers, step=step)
        else:
            tell(logger, texts, numbers, kept, step)

    return _each(loggers, log)


def _wandb(logger: Any, texts: Mapping[str, str], numbers: Mapping[str, float], files: list[str], step: Any) -> None:
    logger.experiment.summary.update({**texts, **numbers})
    for file in files:
        logger.experiment.save(file, base_path=str(Path(file).parent), policy="now")


def _mlflow(logger: Any, texts: Mapping[str, str], numbers: Mapping[str, float], files: list[str], step: Any) -> None:
    for name, text in texts.items():
        logger.experiment.set_tag(logger.run_id, name, text[:5000])
    logger.log_metrics(numbers, step=step)
    for file in files:
        logger.experiment.log_artifact(logger.run_id, file, "scalestop")


def _tensorboard(
    logger: Any, texts: Mapping[str, str], numbers: Mapping[str, float], files: list[str], step: Any
) -> None:
    _hparams_table(logger, {}, numbers, step)
    for name, text in texts.items():
        logger.experiment.add_text(name, text, step)


def _hparams_table(
    logger: Any, values: Mapping[str, Value], numbers: Mapping[str, float], step: int | None = None
) -> None:
    """Add to TensorBoard's table of hparams, in a run below the logger's: of one run it shows the first it was told."""
    logger.hparams.update(values)
    plain = {name: value for name, value in logger.hparams.items() if isinstance(value, str | int | float | bool)}
    add = logger.experiment.add_hparams
    named = "run_name" if "run_name" in inspect.signature(add).parameters else "name"  # torch's, or tensorboardX's
    add(plain, dict(numbers), global_step=step, **{named: "scalestop"})


def _csv(logger: Any, texts: Mapping[str, str], numbers: Mapping[str, float], files: list[str], step: Any) -> None:
    logger.log_hyperparams(dict(texts))
    logger.log_metrics(dict(numbers), step=step)
    logger.save()


def _comet(logger: Any, texts: Mapping[str, str], numbers: Mapping[str, float], files: list[str], step: Any) -> None:
    for name, value in {**texts, **numbers}.items():
        logger.experiment.log_other(name, value)
    for file in files:
        logger.experiment.log_asset(file)


_ENDS: dict[str, Callable[[Any, Mapping[str, str], Mapping[str, float], list[str], Any], None]] = {
    "WandbLogger": _wandb,
    "MLFlowLogger": _mlflow,
    "TensorBoardLogger": _tensorboard,
    "CSVLogger": _csv,
    "CometLogger": _comet,
}


def _kind(logger: Any) -> str:
    """Lightning's class that a logger is, or derives from; its own otherwise. Nothing is imported to find out."""
    names = [cls.__name__ for cls in type(logger).__mro__]
    return next((name for name in names if name in _ENDS), names[0])


def _named(values: Mapping[str, Value], prefix: str) -> dict[str, Value]:
    return {prefix + name: value for name, value in values.items()}


def _each(loggers: Iterable[Any], log: Callable[[Any], None]) -> list[str]:
    troubles = []
    for logger in loggers:
        try:
            log(logger)
        except Exception as error:
            troubles.append(f"{type(logger).__name__}: {' '.join(str(error).split())[:200]}")
    return troubles
