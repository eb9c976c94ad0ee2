"""`pytorch_lightning` and `lightning.pytorch` are one library twice: only the one that the user imports is imported."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

_NAMES = ("pytorch_lightning", "lightning.pytorch")


def imported_namespaces() -> tuple[str, ...]:
    """Return which of the two are imported; where none is, the one that is installed, `pytorch_lightning` first."""
    imported = tuple(name for name in _NAMES if sys.modules.get(name) is not None)
    if imported:
        return imported
    return _NAMES[:1] if find_spec("pytorch_lightning") is not None else _NAMES[1:]


def namespace() -> Any:
    """Return the module to take `Trainer`, `LightningModule` and their kind from."""
    return import_module(imported_namespaces()[0])
