"""The rooms of the package: who may import whom stands once, in docs/architecture.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
TO_COME = {"page", "fleet", "session"}
ORDERED = ("bridge", "bridge.proxy", "bridge.queue", "bridge.sync", "bridge.evidence")
"""The packages whose floors are held."""


@dataclass(frozen=True)
class Floor:
    """One line of the block: names beside each other. apart: of which none knows another."""

    names: tuple[str, ...]
    apart: bool
    to_come: bool


@dataclass
class House:
    """The floors of each package, from the top."""

    floors: dict[str, list[Floor]] = field(default_factory=dict)

    def level(self, package: str, name: str) -> int | None:
        """How high it is; the lowest is 0."""
        floors = self.floors[package]
        found = [at for at, floor in enumerate(reversed(floors)) if name in floor.names]
        return found[0] if found else None


def read(page: str) -> House:
    """The block `layout` of the page."""
    block = page.partition("```layout\n")[2].partition("```")[0]
    house, path = House(), ["bridge"]
    for line in block.splitlines()[1:]:
        depth = (len(line) - len(line.lstrip())) // 2
        if depth > 10:
            continue  # the rest of what a line says
        names, _, says = line.strip().partition("  ")
        words = [word.strip("/") for word in re.split(r"[ |]+", names)]
        package = ".".join([*path[:1], *path[1:depth]])
        to_come = says.strip().startswith("to come")
        house.floors.setdefault(package, []).append(Floor(tuple(words), "|" in names, to_come))
        path = [*path[:depth], words[0]]
    return house


@cache
def modules() -> dict[str, Path]:
    found = {}
    for path in sorted((ROOT / "bridge").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(module: str) -> tuple[tuple[str, int], ...]:
    """The modules of ours that it imports, anywhere in its text, with the line."""
    known, found = modules(), []
    for node in ast.walk(ast.parse(known[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names if alias.name in known]
        elif isinstance(node, ast.ImportFrom):
            source = absolute(module, node)
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                name = inner if inner in known else source
                if name in known:
                    found.append((name, node.lineno))
        elif isinstance(node, ast.Call) and _name_of(node.func) in ("import_module", "__import__"):
            found += [
                (argument.value, node.lineno)
                for argument in node.args
                if isinstance(argument, ast.Constant) and argument.value in known
            ]
    return tuple(found)


def _name_of(function: ast.expr) -> str:
    return getattr(function, "attr", "") or getattr(function, "id", "")


def absolute(module: str, node: ast.ImportFrom) -> str:
    """The module that `from … import` names, also where it is written with leading dots."""
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    is_package = modules()[module].name == "__init__.py"
    above = parts[: len(parts) - node.level + is_package]
    return ".".join([*above, *([node.module] if node.module else [])])


def within(package: str, module: str) -> str | None:
    """The name that `module` has, or is in, directly under `package`."""
    rest = module.removeprefix(f"{package}.")
    return None if rest == module else rest.partition(".")[0]


def wrong(house: House, package: str) -> Iterator[str]:
    """Imports that run upwards, or to a neighbour that is none of their business."""
    for module in modules():
        own = within(package, module)
        if own is None:
            continue
        for imported, line in imports(module):
            other = within(package, imported)
            if other is None or other == own:
                continue
            here, there = house.level(package, own), house.level(package, other)
            if here is None or there is None:
                continue  # said elsewhere
            floor = house.floors[package][-1 - here]
            if there > here or (there == here and floor.apart):
                path = modules()[module].relative_to(ROOT)
                yield f"{path}:{line}: {own} imports {other}"


def circles() -> list[list[str]]:
    """The modules that import each other in a circle."""
    done: dict[str, int] = {}
    found: list[list[str]] = []

    def visit(module: str, way: list[str]) -> None:
        done[module] = 1
        for imported, _ in imports(module):
            if done.get(imported) == 1 and imported in way:
                found.append([*way[way.index(imported) :], imported])
            elif imported not in done:
                visit(imported, [*way, imported])
        done[module] = 2

    for module in modules():
        if module not in done:
            visit(module, [module])
    return found


@pytest.fixture(scope="module")
def house() -> House:
    return read(PAGE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("package", ORDERED)
def test_no_import_runs_upwards(house: House, package: str) -> None:
    assert list(wrong(house, package)) == []


@pytest.mark.parametrize(
    ("module", "line", "meant"),
    [
        ("bridge.proxy.request.hosts", "from ..serve import server", "bridge.proxy.serve"),
        ("bridge.proxy.request.hosts", "from .. import front", "bridge.proxy"),
        ("bridge.proxy.request.hosts", "from . import head", "bridge.proxy.request"),
        ("bridge.proxy.request", "from . import head", "bridge.proxy.request"),
        ("bridge.proxy.request", "from ...cli import main", "bridge.cli"),
        ("bridge.proxy.request.hosts", "from bridge import cli", "bridge"),
    ],
)
def test_an_import_with_leading_dots_is_read_as_any_other(
    module: str, line: str, meant: str
) -> None:
    (node,) = ast.parse(line).body
    assert isinstance(node, ast.ImportFrom)
    assert absolute(module, node) == meant


def test_no_imports_run_in_a_circle() -> None:
    assert circles() == []


@pytest.mark.parametrize("package", ORDERED)
def test_every_room_has_its_floor(house: House, package: str) -> None:
    there = {name for module in modules() if (name := within(package, module))}
    named = [name for floor in house.floors[package] for name in floor.names]

    assert len(named) == len(set(named))
    assert {name for name in named if name not in TO_COME} == there


def test_the_rooms_to_come_have_their_place(house: House) -> None:
    to_come = {
        name
        for floors in house.floors.values()
        for floor in floors
        if floor.to_come
        for name in floor.names
    }

    assert to_come == TO_COME
    assert not any(within("bridge", module) in TO_COME for module in modules())


def test_the_parts_know_each_other_only_downwards(house: House) -> None:
    level = {name: house.level("bridge", name) for name in ("cli", "sync", "queue", "proxy")}
    assert level["cli"] > level["sync"] > level["queue"]  # type: ignore[operator]
    for module in modules():
        known = {within("bridge", imported) for imported, _ in imports(module)}
        if module.startswith("bridge.proxy"):
            assert not known & {"sync", "queue"}, module
        if module.startswith("bridge.queue"):
            assert not known & {"sync", "proxy"}, module
        if not module.startswith(("bridge.cli", "bridge.__main__")):
            assert "cli" not in known, module


def test_the_package_knows_nothing_of_what_is_around_it() -> None:
    """Tests, benchmarks, the servers of both, and the example."""
    for path in modules().values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names.append(node.module or "")
            around = {"bench", "stack", "tests", "examples"}
            assert not around & {name.partition(".")[0] for name in names}, path


def test_the_engine_knows_no_gunicorn() -> None:
    for module, path in modules().items():
        if module.startswith("bridge.proxy.engine"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom):
                    names = [node.module or ""]
                assert "gunicorn" not in {name.partition(".")[0] for name in names}, path


def test_every_folder_opens_with_its_question(house: House) -> None:
    for package in ORDERED[1:]:
        for module, path in modules().items():
            if path.name == "__init__.py" and module.startswith(f"{package}."):
                text = path.read_text(encoding="utf-8")
                assert re.match(r'"""[^\n]+[?.](?:"""|\n)', text), path


def test_an_import_that_runs_upwards_is_named(house: House) -> None:
    upside_down = House({"bridge.proxy": list(reversed(house.floors["bridge.proxy"]))})

    found = list(wrong(upside_down, "bridge.proxy"))

    assert any(re.fullmatch(r"bridge/proxy/\S+\.py:\d+: \w+ imports \w+", one) for one in found)
    assert len(found) > 50


def test_the_table_of_sentences_names_what_there_is() -> None:
    page = PAGE.read_text(encoding="utf-8")
    table = page.partition("| the README says |")[2].partition("\n\n")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ") and "`" in line]
    assert len(rows) >= 20
    for row in rows:
        for name in re.findall(r"`([a-z_]+(?:/[a-zA-Z_.]+)*)`", row.split("|")[2]):
            places = [ROOT / "bridge" / f"{name}.py", ROOT / name]
            assert any(place.is_file() for place in places), name
