"""Rooms of the package: who may import whom. No arrow goes up, and none goes round in a circle."""

import ast
import graphlib
from pathlib import Path

import pytest

import andor

PACKAGE = Path(andor.__file__).parent

# Room -> the rooms that it may import from, besides itself.
ROOMS = {
    "core": set(),
    "devices": {"core"},
    "prompts": set(),
    "measures": {"core"},
    "solvers": {"core", "devices"},
    "models": {"core", "devices", "prompts"},
    "evaluation": {"core", "devices", "prompts", "models"},
    "figures": {"core", "measures", "prompts"},
    "page": {"core", "measures", "figures"},
    "runs": {"core", "devices", "prompts", "measures", "solvers", "models", "evaluation", "figures", "page"},
}
ROOMS["show"] = set(ROOMS)


def modules() -> dict[str, Path]:
    """Name of every module -> its file; of a package, that of its __init__.py."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ("andor", *path.relative_to(PACKAGE).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(path: Path) -> set[str]:
    """Modules of the package that a file imports, also inside functions and for annotations alone."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            # `from andor.runs import files` is of andor.runs.files; `from andor.runs.files import Damaged` too.
            names |= {f"{node.module}.{each.name}" for each in node.names}
    ours = {name for name in names if name.split(".")[0] == "andor"}
    return {name if name in MODULES else name.rpartition(".")[0] for name in ours}


IMPORTS = {name: imports(path) for name, path in MODULES.items()}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_every_module_has_a_room():
    assert {room(name) for name in MODULES} - {"", "__main__"} == set(ROOMS)
    assert set().union(*IMPORTS.values()) <= set(MODULES)


@pytest.mark.parametrize("name", ROOMS)
def test_no_arrow_goes_up(name):
    up = {
        f"{module} -> {each}"
        for module, found in IMPORTS.items()
        if room(module) == name
        for each in found
        if room(each) not in ROOMS[name] | {name}
    }
    assert not up


def test_the_front_door_is_lazy_and_the_program_only_shows():
    assert not IMPORTS["andor"], "names are fetched when they are used"
    assert {room(each) for each in IMPORTS["andor.__main__"]} == {"show"}


def test_no_module_imports_itself_by_way_of_others():
    try:
        tuple(graphlib.TopologicalSorter(IMPORTS).static_order())
    except graphlib.CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))
