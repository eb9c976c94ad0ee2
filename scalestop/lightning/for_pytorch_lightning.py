"""`ComputeOptimalStopping` for those who import `pytorch_lightning`."""

from __future__ import annotations

from pytorch_lightning.callbacks import Callback

from scalestop.lightning.callback import StoppingCallback


class ComputeOptimalStopping(StoppingCallback, Callback):
    """See `StoppingCallback`."""

    __doc__ = StoppingCallback.__doc__
