"""What `--json` prints."""

from __future__ import annotations

import json
import math
from typing import Any


def as_json(data: Any) -> str:
    """Return data as JSON that every reader takes: what is no finite number is null."""
    return json.dumps(_finite(data), indent=2, allow_nan=False, default=str)


def _finite(value: Any) -> Any:
    if hasattr(value, "tolist"):  # of numpy
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(name): _finite(part) for name, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list | tuple) else value
