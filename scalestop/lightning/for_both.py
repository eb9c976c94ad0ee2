"""`ComputeOptimalStopping` for a process that has imported both `pytorch_lightning` and `lightning.pytorch`."""

from __future__ import annotations

from lightning.pytorch.callbacks import Callback as OtherCallback
from pytorch_lightning.callbacks import Callback

from scalestop.lightning.callback import StoppingCallback


class ComputeOptimalStopping(StoppingCallback, Callback, OtherCallback):
    """See `StoppingCallback`."""

    __doc__ = StoppingCallback.__doc__
