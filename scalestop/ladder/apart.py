"""Processes that do not outlive the one that started them."""

from __future__ import annotations

import os
import threading


def end_with_parent() -> None:
    """End this process when the one that started it ends, however that ended: its end of the pipe closes."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
