"""The callback for those who import `lightning.pytorch`.

A Trainer takes either class. LightningCLI does not: it asks of a `class_path` that it be a subclass of its own
namespace's `Callback`. In a configuration for `lightning.pytorch.cli`, write
`class_path: scalestop.lightning.ComputeOptimalStopping`. Checkpoints of the two classes are the same.
"""

from __future__ import annotations

from lightning.pytorch.callbacks import Callback

from scalestop.lightning import callback as _callback

__all__ = ["ComputeOptimalStopping"]


class ComputeOptimalStopping(_callback.ComputeOptimalStopping, Callback):
    """`scalestop.ComputeOptimalStopping` for the Callbacks of `lightning.pytorch`; the arguments are the same."""
