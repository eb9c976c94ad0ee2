"""The Lightning adapter: whatever touches a Trainer. In YAML, `scalestop.lightning.ComputeOptimalStopping`.

Nothing of Lightning is imported until a name is asked for, and then only the namespace that the user has imported.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from scalestop.lightning.namespace import imported_namespaces

if TYPE_CHECKING:
    from scalestop.lightning.branch import decay_to
    from scalestop.lightning.for_pytorch_lightning import ComputeOptimalStopping

__all__ = ["ComputeOptimalStopping", "decay_to"]

_FOR = {
    ("pytorch_lightning",): "for_pytorch_lightning",
    ("lightning.pytorch",): "for_lightning",
    ("pytorch_lightning", "lightning.pytorch"): "for_both",
}


def __getattr__(name: str) -> Any:
    # nothing is kept: another namespace may be imported by the next time
    if name == "ComputeOptimalStopping":
        return import_module(f"{__name__}.{_FOR[imported_namespaces()]}").ComputeOptimalStopping
    if name == "decay_to":
        return import_module(f"{__name__}.branch").decay_to
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
