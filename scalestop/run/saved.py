"""What a checkpoint holds of a run: a versioned format, every earlier version of which is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from scalestop.errors import InputError
from scalestop.run.curve import Curve, Validation
from scalestop.run.history import History

SCHEMA = 2
"""Version of the state that is written. Version 0, of the first release, bears no number."""

_INSTEAD = (
    "take another checkpoint, or train on from this one as a new run: give the callback another name= and the tokens "
    "so far as initial_tokens="
)
_NUMBER = (int, float)
_SHAPE: dict[str, Any] = {
    "meter": Mapping,
    "exact": bool,
    "inexact_because": str,
    "run": str,
    "history": Mapping,
    "peak_lr": _NUMBER,
    "measured_flops_per_second": (*_NUMBER, type(None)),
    "fingerprint": Mapping,
}


def _from_0(state: dict[str, Any]) -> dict[str, Any]:
    """Version 1 says why counts are inexact, thins its curve, and knows laws by what they answer."""
    fingerprint = state.get("fingerprint")
    found = {"inexact_because": "", **state}
    if isinstance(fingerprint, Mapping):
        found["fingerprint"] = {name: value for name, value in fingerprint.items() if name != "law"}
    return found


def _from_1(state: dict[str, Any]) -> dict[str, Any]:
    """Version 2 keeps the whole curve; before, there were losses of validations alone, at steps that nobody noted."""
    if "curve" not in state:
        return state
    try:
        pairs = [(int(tokens), float(loss)) for tokens, loss in state["curve"]]
        every, seen = int(state.get("curve_stride", 1)), int(state.get("curve_seen", len(pairs)))
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"checkpoint: curve in the callback's state holds no pairs of numbers; {_INSTEAD}") from None
    curve = Curve(validations=[Validation(0, tokens, {"val_loss": loss}) for tokens, loss in pairs])
    curve.every, curve.seen = max(1, every), seen
    return {**state, "history": History(curve=curve).state_dict()}


_UPGRADES: tuple[Callable[[dict[str, Any]], dict[str, Any]], ...] = (_from_0, _from_1)
"""From version i to i + 1."""


def read_state(state: Any, where: str = "checkpoint") -> dict[str, Any]:
    """Return a saved state in today's format.

    Args:
        state: What `RunState.state_dict` returned, of this release or of an earlier one.
        where: Where it lies, for errors.

    Raises:
        InputError: If it is of a later version, or something in it is missing or no value of its kind.
    """
    if not isinstance(state, Mapping):
        raise InputError(f"{where}: the callback's state is a {type(state).__name__}, no mapping; {_INSTEAD}")
    version = state.get("schema", 0)
    if isinstance(version, bool) or not isinstance(version, int) or version < 0:
        raise InputError(f"{where}: the callback's state has schema {version!r}, which is no version; {_INSTEAD}")
    if version > SCHEMA:
        raise InputError(
            f"{where}: the callback's state has schema {version}, this scalestop reads up to {SCHEMA}; update "
            f"scalestop, or {_INSTEAD}"
        )
    found = dict(state)
    for upgrade in _UPGRADES[version:]:
        found = upgrade(found)
    if missing := [name for name in _SHAPE if name not in found]:
        raise InputError(f"{where}: the callback's state lacks {', '.join(missing)}; {_INSTEAD}")
    for name, kind in _SHAPE.items():
        value = found[name]
        sound = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if not sound:
            raise InputError(f"{where}: {name} in the callback's state cannot be {value!r}; {_INSTEAD}")
    return {**found, "schema": SCHEMA}
