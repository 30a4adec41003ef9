"""Imports only fall: each package may import the floors below it, and ops and machine never import each other."""

from __future__ import annotations

import ast
from pathlib import Path

import infersim

PACKAGE = Path(infersim.__file__).parent
FLOORS = {
    "_version": 0, "errors": 0, "units": 0, "routing": 0, "mechanisms": 0, "acceptance": 0,
    "files": 0, "tables": 0,
    "specs": 1,
    "ops": 2, "machine": 2,
    "calibrate": 3, "microbench": 3,
    "predict": 4,
    "serving": 5,
    "planning": 6, "decoding": 6, "prompts": 6, "adapters": 6, "retrieval": 6,
    "agents": 7, "rag": 7, "decide": 7,
    "scenario": 8,
    "validate": 9, "report": 9, "plot": 9, "doctor": 9, "cli": 10,
    "__main__": 11, "__init__": 11,
}  # fmt: skip
SEPARATE = {frozenset({"ops", "machine"})}


def _imports(path: Path) -> set[str]:
    """Packages of infersim that a file imports, at any depth, type-checking imports included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        modules = []
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            if node.module == "infersim":
                modules = [f"infersim.{alias.name}" for alias in node.names]
            else:
                modules = [node.module]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        found |= {module.split(".")[1] for module in modules if module.startswith("infersim.")}
    return found


def _room(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def test_every_room_has_a_floor() -> None:
    assert {_room(path) for path in PACKAGE.rglob("*.py")} <= set(FLOORS)


def test_imports_only_fall() -> None:
    upward = []
    for path in PACKAGE.rglob("*.py"):
        room = _room(path)
        upward += [
            f"{path.relative_to(PACKAGE)} imports {target}"
            for target in _imports(path) - {room, "_version"}
            if target in FLOORS and (FLOORS[target] > FLOORS[room] or frozenset({room, target}) in SEPARATE)
        ]
    assert not upward


def test_no_circle_between_files() -> None:
    """Files of one room may import each other, but never in a circle."""
    modules = {}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(("infersim", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        modules[name] = path
    arrows: dict[str, set[str]] = {}
    for name, path in modules.items():
        targets = set()
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                targets |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
        arrows[name] = (targets & set(modules)) - {name}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name not in done:
            for target in arrows[name]:
                visit(target, (*trail, name))
            done.add(name)

    for name in modules:
        visit(name, ())


def test_import_is_light() -> None:
    """``import infersim`` and the command line's start pull in nothing heavy."""
    import subprocess
    import sys

    code = "import sys, infersim.cli.app; print(sorted({'scipy', 'matplotlib', 'pandas', 'torch', 'numpy'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"
