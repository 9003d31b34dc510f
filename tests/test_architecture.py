"""The direction of imports and the library fences, read from the source with `ast`.

Function-local imports count too: a cycle or a fence must not be dodged by importing late.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = ("cli", "evidence", "inversion", "ledger", "migrations")

MAY_IMPORT = {
    "cli": {"cli", "evidence", "inversion", "ledger"},
    "evidence": {"evidence", "inversion", "ledger"},
    "inversion": {"inversion"},
    "ledger": {"ledger", "migrations"},
    "migrations": {"migrations", "ledger.store.tables"},
}
"""Which part may import which; `ledger` names `migrations` only as the place of the scripts."""

KEY_FILES = (
    "ledger.keys",
    "ledger.keystream",
    "ledger.vault",
    "ledger.disclosure",
    "ledger.timestamp",
)
FENCES = {
    "torch": ("inversion",),
    "safetensors": ("inversion",),
    "sqlalchemy": ("ledger.store", "migrations"),
    "alembic": ("ledger.store", "migrations"),
    "cryptography": KEY_FILES,
    "typst": ("evidence.report",),
    "pyhanko": ("evidence.report",),
    "matplotlib": ("evidence.report",),
    "typer": ("cli",),
    "rich": ("cli",),
    "pydantic_settings": ("cli",),
    "scipy": ("inversion", "evidence"),
    "PIL": ("inversion", "evidence"),
}
HEAVY = {"torch", "scipy", "PIL", "matplotlib", "safetensors", "pdqhash", "typst", "pyhanko"}
CHECKING = "evidence.verify"
MAKING = {"evidence.calibrate", "evidence.examine"}


@cache
def modules() -> dict[str, Path]:
    """Every module of the package, by its name without `latentlog.`."""
    found = {}
    for part in PARTS:
        for path in sorted((ROOT / part).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


@cache
def imports(name: str, *, typing: bool) -> frozenset[str]:
    """Everything that a module imports, `latentlog.` removed from our own names."""
    tree = ast.parse(modules()[name].read_text(encoding="utf-8"))
    return frozenset(_imported(tree, typing=typing))


def _imported(node: ast.AST, *, typing: bool) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING" and not typing:
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name.removeprefix("latentlog.") for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = (child.module or "").removeprefix("latentlog.")
            for alias in child.names:
                whole = f"{base}.{alias.name}".removeprefix("latentlog.")
                yield whole if whole in modules() else base
        yield from _imported(child, typing=typing)


def ours(name: str, *, typing: bool = False) -> set[str]:
    """The modules of this package that `name` imports."""
    return {i for i in imports(name, typing=typing) if i in modules()}


def within(name: str, places: tuple[str, ...] | set[str]) -> bool:
    """Tell whether a module is one of `places` or lies below one."""
    return any(name == place or name.startswith(place + ".") for place in places)


def reachable(start: str) -> set[str]:
    """Every module that importing `start` may come to import."""
    seen, todo = set(), [start]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += ours(name)
    return seen


@pytest.mark.parametrize("name", modules())
def test_imports_point_in_the_allowed_direction(name: str) -> None:
    allowed = MAY_IMPORT[name.partition(".")[0]]
    strangers = {i for i in ours(name, typing=True) if not within(i, allowed)}
    assert not strangers, f"latentlog.{name} may import only {sorted(allowed)}"


@pytest.mark.parametrize("library", FENCES)
def test_library_stays_behind_its_fence(library: str) -> None:
    users = {
        name
        for name in modules()
        if any(i.partition(".")[0] == library for i in imports(name, typing=True))
    }
    assert not {name for name in users if not within(name, FENCES[library])}


def test_there_is_no_import_cycle() -> None:
    graph = {name: ours(name) - {name} for name in modules()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as cycle:
        pytest.fail(f"import cycle: {' -> '.join(cycle.args[1])}")


def test_checking_needs_neither_the_makers_nor_the_heavy_libraries() -> None:
    behind = reachable(CHECKING)
    assert not {name for name in behind if within(name, MAKING | {"inversion"})} - {
        "inversion.errors"
    }
    libraries = {i.partition(".")[0] for name in behind for i in imports(name, typing=False)}
    assert not libraries & (HEAVY | {"sqlalchemy", "alembic"})


@pytest.mark.parametrize("name", [n for n, path in modules().items() if path.name == "__init__.py"])
def test_package_file_holds_a_docstring_and_nothing_else(name: str) -> None:
    body = ast.parse(modules()[name].read_text(encoding="utf-8")).body
    assert len(body) == 1
    assert ast.get_docstring(ast.Module(body, [])), "a package starts with the map of its files"


def test_every_module_says_what_it_is() -> None:
    silent = [
        name
        for name, path in modules().items()
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        and not within(name, {"migrations.versions"})
    ]
    assert not silent
