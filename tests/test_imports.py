"""Imports go one way between the rooms, so that each can be read, tested and replaced without those above."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALL = frozenset(
    {
        "headrace",
        "parser",
        "ingest",
        "storage",
        "orders",
        "mes",
        "web",
        "simulator",
        "benchmarks",
        "devcluster",
    }
)

ALLOWED = {
    "parser": frozenset[str](),
    "simulator": frozenset[str](),
    "devcluster": frozenset[str](),
    "storage": frozenset({"parser"}),
    "ingest": frozenset({"parser", "storage"}),
    "orders": frozenset({"parser", "storage"}),
    "mes": frozenset({"parser", "storage"}),
    "web": frozenset({"parser", "storage", "orders", "mes"}),
    "headrace": ALL,
    "benchmarks": ALL,
}
"""Which rooms each one may import, beside itself. The parser's types are also those of the storage."""

IMPURE = frozenset({"asyncio", "socket", "time", "datetime", "os", "pathlib", "io", "threading", "random"})
"""What bytes to columns has no business with."""


def modules(room: str) -> list[Path]:
    """The source files of a room; none where it doesn't exist yet."""
    return sorted((ROOT / room).rglob("*.py"))


def imports(module: Path) -> Iterator[str]:
    """The first name of each package that a module imports, also inside functions."""
    for node in ast.walk(ast.parse(module.read_bytes(), module)):
        match node:
            case ast.Import(names=names):
                yield from (alias.name.split(".")[0] for alias in names)
            case ast.ImportFrom(module=name, level=level):
                assert name is not None, f"{module}: imports say where from"
                assert level == 0, f"{module}: imports are absolute"
                yield name.split(".")[0]


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_imports_go_one_way(room: str) -> None:
    """A room imports only what stands below it, and nobody imports the tests."""
    forbidden = (ALL | {"tests"}) - ALLOWED[room] - {room}
    wrong = [
        f"{module.relative_to(ROOT)} imports {name}"
        for module in modules(room)
        for name in imports(module)
        if name in forbidden
    ]
    assert not wrong


def test_every_package_is_a_room() -> None:
    """A folder with code in it is known here, so that no package escapes the rule."""
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages - {"tests"} <= ALL
    assert {"headrace", "parser", "ingest", "storage", "web", "simulator", "benchmarks"} <= packages


def test_the_parser_is_pure() -> None:
    """Bytes to columns knows no clock, no file, no socket and no chance."""
    assert modules("parser")
    for module in modules("parser"):
        assert not IMPURE & set(imports(module)), module
