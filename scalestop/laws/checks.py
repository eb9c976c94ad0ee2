"""What a law asks of its constants and arguments."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scalestop.errors import InputError, shown


def positive(**values: Any) -> None:
    """Check that each value is a positive finite number, or an array of them.

    Raises:
        InputError: Naming the first that is not.
    """
    for name, value in values.items():
        positive_array(name, value)


def positive_array(name: str, value: Any) -> NDArray[np.float64]:
    """Return a positive finite number, or an array of them, as float64: Python ints of any size, float32, lists.

    Raises:
        InputError: Naming the argument, if it is anything else.
    """
    array = np.asarray(value)
    # ints beyond 64 bits arrive as objects
    if array.dtype.kind in "iuf" or (array.dtype.kind == "O" and all(type(x) in (int, float) for x in array.flat)):
        with contextlib.suppress(OverflowError):
            array = array.astype(np.float64)
            if np.all(np.isfinite(array) & (array > 0)):
                return array
    raise InputError(f"{name}: must be positive and finite; got {shown(value)}")


def both_or_neither(**values: Any) -> None:
    """Check that two optional constants are given together, each positive and finite.

    Raises:
        InputError: If only one is given, or one is not positive.
    """
    given = {name: value for name, value in values.items() if value is not None}
    if given and len(given) < len(values):
        raise InputError(f"{' and '.join(values)} are given together; got only {', '.join(given)}")
    positive(**given)


def check_irreducible_loss(E: Any) -> None:
    """Check that E is finite and not negative.

    Raises:
        InputError: If it is anything else.
    """
    array = np.asarray(E)
    if array.dtype.kind not in "iuf" or not np.all(np.isfinite(array) & (array >= 0)):
        raise InputError(f"E: must be finite and not negative; got {shown(E)}")
