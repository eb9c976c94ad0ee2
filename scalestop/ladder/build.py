"""Models and data out of class paths and arguments."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from jsonargparse import ArgumentError, ArgumentParser

from scalestop.errors import InputError, shown
from scalestop.ladder.settings import LadderSettings


def import_class(path: str, what: str) -> type:
    """Import a class by its path.

    Raises:
        InputError: If there is none.
    """
    if not isinstance(path, str):
        raise InputError(f"{what}.class_path: the path of a class, such as 'my.module.Model'; got {shown(path)}")
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{what}.class_path: cannot import {shown(path)}: {error}") from None
    if not isinstance(found, type):
        raise InputError(f"{what}.class_path: {path} is a {type(found).__name__}, not a class")
    return found


def build_model(settings: LadderSettings, arguments: Mapping[str, Any]) -> pl.LightningModule:
    """Return the model with these arguments beside the given ones."""
    return _build("model", pl.LightningModule, settings.model, arguments)


def build_data(settings: LadderSettings, arguments: Mapping[str, Any]) -> pl.LightningDataModule:
    """Return the data with these arguments beside the given ones."""
    return _build("data", pl.LightningDataModule, settings.data, arguments)


def _build(what: str, base: type, given: Mapping[str, Any], arguments: Mapping[str, Any]) -> Any:
    """Build through jsonargparse, so that arguments are checked against their types, and may be classes themselves."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(base, what)
    init_args = {**(given.get("init_args") or {}), **arguments}
    try:
        parsed = parser.parse_object({what: {"class_path": given["class_path"], "init_args": init_args}})
        return parser.instantiate_classes(parsed)[what]
    except InputError:
        raise
    except (ArgumentError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{what}: {' '.join(str(error).split())[:600]}") from None
