"""Finding a law by name or by file."""

from __future__ import annotations

import difflib
import json
import os
from functools import cache
from importlib import resources
from pathlib import Path

from scalestop.errors import InputError, shown
from scalestop.files import as_path, read_json
from scalestop.laws.base import ScalingLaw, law_from_dict
from scalestop.laws.coupled import CoupledLaw
from scalestop.laws.isoflop import IsoFLOPLaw
from scalestop.laws.kaplan import KaplanLaw
from scalestop.laws.parametric import ParametricLaw
from scalestop.laws.power import PowerLawAllocation
from scalestop.laws.published import published_laws
from scalestop.laws.repeated import DataConstrainedLaw

DEFAULT_LAW = "besiroglu"

KINDS: dict[str, type[ScalingLaw]] = {
    cls.kind: cls for cls in (ParametricLaw, CoupledLaw, KaplanLaw, PowerLawAllocation, DataConstrainedLaw, IsoFLOPLaw)
}


@cache
def _built_in() -> dict[str, ScalingLaw]:
    laws = {law.name: law for law in published_laws()}
    folder = resources.files("scalestop.laws").joinpath("data")
    for entry in sorted(folder.iterdir() if folder.is_dir() else (), key=lambda e: e.name):
        if entry.name.endswith(".json") and not entry.name.endswith((".draws.json", ".curves.json")):
            data = json.loads(entry.read_text(encoding="utf-8"))
            beside = folder.joinpath(entry.name.removesuffix(".json") + ".curves.json")
            if beside.is_file():
                data["curves"] = json.loads(beside.read_text(encoding="utf-8"))
            law = law_from_dict(data, KINDS, where=entry.name)
            laws[law.name] = law
    return laws


def list_laws() -> list[str]:
    """Return the names of the built-in laws."""
    return list(_built_in())


def get_law(law: str | Path | ScalingLaw = DEFAULT_LAW) -> ScalingLaw:
    """Return a law by its built-in name, from a JSON file, or as it is.

    Args:
        law: A name from `list_laws()`, the path of a file that `ScalingLaw.save` wrote, or a law.

    Raises:
        InputError: If there is no such name or file, or the file is no law; the message says which field is wrong.
    """
    if isinstance(law, ScalingLaw):
        return law
    if not isinstance(law, str | Path):
        raise InputError(f"law: expected a name, a path or a ScalingLaw; got {type(law).__name__}")
    laws = _built_in()
    if str(law) in laws:
        return laws[str(law)]
    path = as_path(law, "law")
    if os.path.isfile(path):  # of a name too long for a file system, Path.is_file raises
        return law_from_dict(read_json(path, "law"), KINDS, where=str(path))
    near = difflib.get_close_matches(str(law)[:100], laws, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise InputError(f"law: no law and no file is called {shown(str(law))}.{hint} Built-in: {', '.join(laws)}.")
