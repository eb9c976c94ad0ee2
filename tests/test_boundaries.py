"""The boundaries: what may import what, what loads without torch, and what is public."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import scalestop

PACKAGE = Path(scalestop.__file__).parent

PUBLIC = [
    "Allocation",
    "Budget",
    "BudgetLR",
    "Campaign",
    "ComputeOptimalStopping",
    "DataConstrainedLaw",
    "Forecast",
    "InputError",
    "KaplanLaw",
    "LawFit",
    "Meter",
    "ParamCount",
    "ParametricLaw",
    "Plan",
    "PowerLawAllocation",
    "RunRecord",
    "RunTracker",
    "ScalestopError",
    "ScalestopWarning",
    "ScalingLaw",
    "Speed",
    "StopDecision",
    "StopReason",
    "StopRule",
    "TaskFit",
    "TokenCount",
    "Usage",
    "allocate",
    "backtest",
    "count_params",
    "decay_to",
    "decide",
    "fit_law",
    "fit_task",
    "get_law",
    "list_laws",
    "make_plan",
    "predict_loss",
    "score",
    "seal_forecast",
    "undecayed_penalty",
]

# The house, floor by floor: a room may import from its own floor and from those above it in this table.
# Within accounting the meter loads no torch, as the rule reads what it counts; run and planning load none either.
HOUSE = [
    # rooms                                     packages from elsewhere, at import
    ({"display", "errors", "files", "units"}, set()),
    ({"laws", "accounting.meter"}, {"numpy"}),
    ({"accounting"}, {"numpy", "torch"}),
    ({"planning", "fitting"}, {"numpy", "scipy"}),
    ({"run"}, {"numpy"}),
    ({"schedules"}, {"torch"}),
    ({"run.adapter"}, {"torch"}),
    ({"report", "plot"}, {"numpy", "matplotlib", "rich"}),
    ({"lightning"}, {"torch"}),
    ({"huggingface"}, {"torch", "transformers"}),
    ({"lab"}, {"numpy", "torch"}),
    ({"ladder"}, {"numpy", "torch", "pytorch_lightning", "rich", "jsonargparse"}),
    ({"commands", "cli", "__main__"}, {"torch", "pytorch_lightning", "rich", "jsonargparse"}),
]
FLOORS = {name: floor for floor, (rooms, _) in enumerate(HOUSE) for name in rooms}
THIRD_PARTY = {floor: packages for floor, (_, packages) in enumerate(HOUSE)}
# rooms beside each other that do not enter one another
APART = [("laws", "accounting"), ("planning", "fitting"), ("run", "fitting")]
# Lightning by the names of its two namespaces: one file for each, and nobody else imports it at all
OWN = {
    ("lightning.for_lightning", "lightning"),
    ("lightning.for_pytorch_lightning", "pytorch_lightning"),
    ("lightning.for_both", "lightning"),
    ("lightning.for_both", "pytorch_lightning"),
}
# inside a function only, so that nobody pays who does not ask: (module, what it imports)
LATE = {
    ("display", "pandas"),
    ("ladder.ray_engine", "ray"),
    ("fitting.tables.logs", "tensorboard"),
    ("commands.train", "yaml"),
    ("ladder.launch", "submitit"),
    ("report.pages", "jinja2"),
}


def module_name(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"}


def room(name):
    """The longest listed prefix of a module's name."""
    parts = name.split(".")
    found = (".".join(parts[:i]) for i in range(len(parts), 0, -1))
    return next((prefix for prefix in found if prefix in FLOORS), None)


class Imports(ast.NodeVisitor):
    """Collects (imported name, whether inside a function); what only a type checker reads is left out."""

    def __init__(self):
        self.found, self.depth = [], 0

    def visit_FunctionDef(self, node):
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_If(self, node):
        if "TYPE_CHECKING" not in ast.unparse(node.test):
            self.visit(node.test)
            for child in node.body:
                self.visit(child)
        for child in node.orelse:
            self.visit(child)

    def visit_Import(self, node):
        self.found += [(alias.name, self.depth > 0) for alias in node.names]

    def visit_ImportFrom(self, node):
        assert node.level == 0, "imports are absolute"
        if node.module == "scalestop":
            # `from scalestop import x` may name a module or a public name; only a module has a floor
            names = [f"scalestop.{a.name}" for a in node.names if a.name in MODULES or room(a.name)]
            self.found += [(name, self.depth > 0) for name in names or ["scalestop"]]
        else:
            self.found.append((node.module, self.depth > 0))


def imports_of(name):
    visitor = Imports()
    visitor.visit(ast.parse(MODULES[name].read_text(encoding="utf-8")))
    return visitor.found


@pytest.mark.parametrize("name", MODULES)
def test_every_module_has_a_floor_and_imports_only_what_is_below(name):
    assert room(name), f"{name} is new: give it a floor in FLOORS"
    floor = FLOORS[room(name)]
    for imported, late in imports_of(name):
        top, _, rest = imported.partition(".")
        if top != "scalestop":
            allowed = top in sys.stdlib_module_names or top in THIRD_PARTY[floor] or (name, top) in OWN
            assert allowed or (late and (name, top) in LATE), f"{name} (floor {floor}) imports {imported}"
        elif rest:
            assert room(rest), f"{name} imports {imported}, which has no floor"
            allowed = FLOORS[room(rest)] <= floor
            assert allowed or (late and (name, room(rest)) in LATE), f"{name} (floor {floor}) imports {imported}"
        else:
            assert floor == len(HOUSE) - 1, f"{name} imports the package's own front door"


def test_no_floor_is_for_a_module_that_is_gone():
    assert {room(name) for name in MODULES} == set(FLOORS)


def test_no_module_imports_itself_by_way_of_others():
    """An import inside a function counts as well: it hides a circle and does not open it."""
    names = {name: {imported.removeprefix("scalestop.") for imported, _ in imports_of(name)} for name in MODULES}
    graphlib.TopologicalSorter({name: found & set(MODULES) for name, found in names.items()}).prepare()


def folder(name):
    """The folder a module lies in; "" at the top of the house."""
    return name if (PACKAGE / name.replace(".", "/")).is_dir() else name.rpartition(".")[0]


def test_no_folder_imports_itself_by_way_of_others():
    """A folder within a folder is a room of its own: its parent may enter it, and it does not go back."""
    edges = {}
    for name in MODULES:
        found = {folder(i.removeprefix("scalestop.")) for i, _ in imports_of(name) if i.startswith("scalestop.")}
        edges.setdefault(folder(name), set()).update(found - {folder(name), ""})
    graphlib.TopologicalSorter(edges).prepare()


@pytest.mark.parametrize(("one", "other"), [*APART, *[pair[::-1] for pair in APART]])
def test_rooms_beside_each_other_stay_apart(one, other):
    for name in MODULES:
        if name == one or name.startswith(f"{one}."):
            found = [i for i, _ in imports_of(name) if f"{i}.".startswith(f"scalestop.{other}.")]
            assert not found, f"{name} imports {found}"


HEAVY = ("torch", "scipy", "matplotlib", "pytorch_lightning", "lightning", "pandas", "jsonargparse", "rich")


@pytest.mark.parametrize(
    ("code", "too"),
    [
        ("", ("numpy",)),
        ("scalestop.make_plan('1 PF-day', num_params=7 * 10**8, tokens_per_step=10**6)", ()),
        ("str(scalestop.make_plan('12h', 'kaplan', 10**9, speed=scalestop.Speed(1e15, 0.4)))", ()),
        ("scalestop.allocate('1e20 FLOPs', 'muennighoff')", ()),
        ("[scalestop.get_law(name).to_dict() for name in scalestop.list_laws()]", ()),
        ("scalestop.predict_loss(1e9, 2e10)", ()),
        ("scalestop.decide(scalestop.make_plan('1e18 FLOPs'), scalestop.Usage())", ()),
        ("scalestop.Meter(6), scalestop.StopReason, scalestop.StopRule, scalestop.RunRecord", ()),
        ("scalestop.seal_forecast('besiroglu', 10**9, 2 * 10**10), scalestop.score", ()),
        ("dir(scalestop)", ("numpy",)),
    ],
)
def test_planning_and_deciding_load_nothing_heavy(code, too):
    """In a process of its own, where no other test has imported anything."""
    script = f"import sys, scalestop\n{code}\nprint(*[name for name in {HEAVY + too!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=PACKAGE.parent, timeout=120, check=False
    )
    assert done.stderr == ""
    assert done.stdout == "\n"


def test_the_public_surface():
    assert scalestop.__all__ == PUBLIC
    assert set(PUBLIC) <= set(dir(scalestop))


@pytest.mark.parametrize("name", PUBLIC)
def test_each_public_name_resolves_to_what_bears_it(name):
    assert getattr(scalestop, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'scalestop' has no attribute 'stop_run'"):
        _ = scalestop.stop_run
