"""`ComputeOptimalStopping` for those who import `lightning.pytorch`."""

from __future__ import annotations

from lightning.pytorch.callbacks import Callback

from scalestop.lightning.callback import StoppingCallback


class ComputeOptimalStopping(StoppingCallback, Callback):
    """See `StoppingCallback`."""

    __doc__ = StoppingCallback.__doc__
