"""Imports point one way, and there is no circle: type-only and late imports included."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "bertsmith"
FLOORS = (
    ("errors", "clock", "atomic", "kept_memory", "listener", "machine", "quiet", "ranks", "signals", "threads"),
    ("findings", "examples", "recipe", "encoded", "words"),
    ("encoders", "flops", "run_folder", "bundle"),
    ("tasks",),
    ("data",),
    ("inference",),
    ("training",),
    ("masked",),
    ("baselines",),
    ("evaluation", "long_texts", "rungs", "scoring"),
    ("drift", "explaining", "feedback"),
    ("report",),
    ("record", "telling"),
    ("prepare",),
    ("learning", "deciding", "assessing"),
    ("pipeline", "rescore", "export"),
    ("tuning",),
    ("api",),
    ("serve",),
    ("cli",),
    ("__main__",),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
FORBIDDEN_NAMES = {"utils", "common", "helpers", "misc"}


def modules() -> dict[str, Path]:
    names = {}
    for path in SOURCE.rglob("*.py"):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def imports_of(path: Path, known: dict[str, Path]) -> set[str]:
    """Modules of bertsmith that a file names in any import, at the top, in a function or for types."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
        else:
            continue
        inside = [name.removeprefix("bertsmith.") for name in names if name.startswith("bertsmith.")]
        found |= {name for name in inside if name in known}
    return found


def room_of(module: str) -> str:
    return module.partition(".")[0]


def test_every_room_has_a_floor():
    """A new file or folder must be given its place in the order."""
    assert {room_of(name) for name in modules() if name} - set(FLOOR) == set()


def test_imports_never_point_up():
    """A room imports from rooms below it and from itself, never from above or beside."""
    known = modules()
    wrong = [
        f"{name} imports {target}"
        for name, path in known.items()
        if name
        for target in imports_of(path, known)
        if target and room_of(target) != room_of(name) and FLOOR[room_of(target)] >= FLOOR[room_of(name)]
        and not (FLOOR[room_of(target)] == FLOOR[room_of(name)] <= 2)
    ]  # fmt: skip
    assert wrong == []


def test_there_is_no_circle():
    """Following imports from any file never leads back to it."""
    known = modules()
    graph = {name: imports_of(path, known) - {name} for name, path in known.items() if name}
    # A package's own __init__ may name its parts; that its parts import it back is what is forbidden.
    state: dict[str, int] = {}

    def visit(name: str, way: tuple[str, ...]) -> None:
        state[name] = 1
        for target in sorted(graph.get(name, ())):
            assert state.get(target) != 1, " → ".join([*way, name, target])
            if target not in state:
                visit(target, (*way, name))
        state[name] = 2

    for name in sorted(graph):
        if name not in state:
            visit(name, ())


def test_nothing_imports_the_package_root():
    """The root hands names out; taking them from there would tie every file to every other."""
    wrong = []
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "bertsmith":
                wrong += [
                    f"{name}: {alias.name}"
                    for alias in node.names
                    if alias.name not in modules() and alias.name != "__version__"
                ]
            if isinstance(node, ast.Import):
                wrong += [f"{name}: {alias.name}" for alias in node.names if alias.name == "bertsmith"]
    assert wrong == []


@pytest.mark.parametrize("name", sorted(FORBIDDEN_NAMES))
def test_no_file_without_a_reason(name):
    """A file called utils holds what nobody found a place for."""
    assert not list(SOURCE.rglob(f"{name}.py"))
