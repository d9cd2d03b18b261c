"""The documentation leads where it says, and docstrings say what functions take."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name

import pytest

from stack.process import REPOSITORY

PAGES = [
    *(REPOSITORY / name for name in ("README.md", "php/README.md", "examples/forge/README.md")),
    *sorted((REPOSITORY / "docs").glob("*.md")),
]

page = pytest.mark.parametrize("page", PAGES, ids=lambda one: str(one.relative_to(REPOSITORY)))


def anchors(text: str) -> set[str]:
    """What a link may have behind its `#`, as GitHub makes it of headings."""
    headings = re.findall(r"(?m)^#+ (.*)$", text)
    return {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}


@page
def test_every_link_to_a_page_leads_to_it_and_to_its_heading(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    broken = []
    for link in re.findall(r"\]\(((?!https?:)[^)]+)\)", text):
        name, _, anchor = link.partition("#")
        there = page.parent / name if name else page
        if not there.exists() or (anchor and anchor not in anchors(there.read_text())):
            broken.append(link)
    assert broken == []


@page
def test_every_module_that_is_named_is_there(page: Path) -> None:
    """Those of the three parts: `bridge.events` is a queue."""
    missing = []
    for name in re.findall(r"`(bridge\.(?:proxy|queue|sync|errors)(?:\.\w+)*)`", page.read_text()):
        try:
            resolve_name(name)
        except (ImportError, AttributeError):
            missing.append(name)
    assert missing == []


MOST_UNLISTED = 3
ITEM = re.compile(r"(\w+(?:, \w+)*): \S")


@dataclass(frozen=True)
class Public:
    """A function that others may call, with the docstring that describes its parameters."""

    place: str
    module: str
    holder: ast.ClassDef | None
    node: ast.FunctionDef | ast.AsyncFunctionDef

    @property
    def taken(self) -> list[ast.arg]:
        given = self.node.args
        every = (*given.posonlyargs, *given.args, *given.kwonlyargs)
        return [one for one in every if one.arg not in ("self", "cls")]

    @property
    def parameters(self) -> list[str]:
        return [one.arg for one in self.taken]

    @property
    def measured(self) -> list[str]:
        """Those whose type does not say in what: seconds, percent."""
        kinds = {one.arg: ast.unparse(one.annotation) for one in self.taken if one.annotation}
        return [name for name, kind in kinds.items() if kind in ("float", "float | None")]

    @property
    def text(self) -> str:
        """The parameters of a constructor stand in the docstring of its class."""
        built = self.holder if self.node.name == "__init__" else None
        return ast.get_docstring(built or self.node) or ""

    @property
    def is_command(self) -> bool:
        """Its docstring is what --help says; click describes the options."""
        decorators = [ast.unparse(one).partition("(")[0] for one in self.node.decorator_list]
        return any(name.rpartition(".")[2] in ("command", "group") for name in decorators)

    @property
    def is_port(self) -> bool:
        """A method of a Protocol."""
        return self.holder is not None and "Protocol" in map(ast.unparse, self.holder.bases)

    @property
    def overrides(self) -> bool:
        """Its base, ours or Kombu's, has described it."""
        if self.holder is None or not self.holder.bases or self.is_port:
            return False
        if self.node.name == "__init__":
            return False
        bases = resolve_name(f"{self.module}:{self.holder.name}").__mro__[1:]
        return any(self.node.name in vars(base) for base in bases)


def public(path: str, source: str) -> Iterator[Public]:
    """The public functions of a module, with those of its public classes."""
    module = path.removesuffix(".py").replace("/", ".")

    def inside(node: ast.AST, holder: ast.ClassDef | None) -> Iterator[Public]:
        for child in ast.iter_child_nodes(node):
            name = getattr(child, "name", "")
            if name.startswith("_") and name != "__init__":
                continue
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield Public(f"{path}:{child.lineno}: {name}", module, holder, child)
            elif isinstance(child, ast.ClassDef):
                yield from inside(child, child)
            elif isinstance(child, ast.If | ast.Try | ast.With):
                yield from inside(child, holder)

    yield from inside(ast.parse(source), None)


def fault(text: str, parameters: list[str], measured: Collection[str] = ()) -> str:
    """What is wrong with how a docstring describes parameters; empty when nothing is."""
    lines = text.splitlines()
    items = [at for at, line in enumerate(lines) if ITEM.match(line)]
    if not items:
        return "describes no parameter in a list"
    end = next((at for at in range(items[0], len(lines)) if not lines[at]), len(lines))
    block = range(items[0], end)
    if items[0] < 2 or lines[items[0] - 1] or not set(items) <= set(block):
        return "has its list in other text: there is one, with an empty line before and after"
    if loose := [lines[at] for at in block if at not in items and lines[at][:4].strip()]:
        return f"does not indent {loose[0]!r}"
    listed = [name for at in items for name in lines[at].partition(":")[0].split(", ")]
    if strange := [name for name in listed if name not in parameters]:
        return f"lists {', '.join(strange)}, which it does not take"
    if twice := [name for name, many in Counter(listed).items() if many > 1]:
        return f"lists {', '.join(twice)} twice"
    prose = " ".join(
        line.partition(": ")[2] if at in items else line.strip() for at, line in enumerate(lines)
    )
    for name in parameters:
        if re.search(rf"(?:^|[.;] )(?:`?{name}`?:|`{name}` (?:is|are|has|says)\b)", prose):
            return f"describes {name} in running text"
        if name in measured and name not in listed and f"`{name}`" not in prose:
            return f"does not say in what {name} is measured"
    return ""


def undescribed(path: str, source: str, ports: Collection[tuple[str, int]] = ()) -> Iterator[str]:
    """The public functions whose parameters are too many to be left without a list."""
    for one in public(path, source):
        many = len(one.parameters)
        if many <= MOST_UNLISTED or one.is_command:
            continue
        if (one.node.name, many) in ports and not one.is_port:
            continue
        if (why := fault(one.text, one.parameters, one.measured)) and not one.overrides:
            yield f"{one.place} {why}"


def test_parameters_of_public_functions_with_more_than_three_are_a_list() -> None:
    paths = sorted((REPOSITORY / "bridge").rglob("*.py"))
    sources = {str(one.relative_to(REPOSITORY)): one.read_text("utf-8") for one in paths}
    functions = [one for path, source in sources.items() for one in public(path, source)]
    ports = {(one.node.name, len(one.parameters)) for one in functions if one.is_port}

    wrong = [one for path, source in sources.items() for one in undescribed(path, source, ports)]

    assert wrong == []
    assert sum(len(one.parameters) > MOST_UNLISTED for one in functions) > 100


WELL = """One sentence.

first: seconds.
second, third: bytes,
    as many as there are.

Raises ValueError. A `fourth` needs no words.
"""


def test_a_docstring_may_list_parameters() -> None:
    assert fault(WELL, ["first", "second", "third", "fourth"]) == ""


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("first: seconds.\nsecond, third: bytes,\n    as many as there are.\n", "", "in a list"),
        ("sentence.\n\nfirst", "sentence.\nfirst", "in other text"),
        ("are.\n\nRaises", "are.\nRaises", "does not indent 'Raises"),
        ("    as many", "as many", "does not indent 'as many"),
        ("Raises", "fourth: feet.\n\nRaises", "in other text"),
        ("third: bytes", "fifth: bytes", "lists fifth, which"),
        ("second, third", "second, first", "lists first twice"),
        ("seconds.", "seconds; fourth: feet.", "describes fourth in running text"),
        ("sentence.", "sentence. fourth: feet.", "describes fourth in running text"),
        ("A `fourth` needs", "`fourth` has", "describes fourth in running text"),
    ],
)
def test_a_docstring_with_parameters_elsewhere_is_refused(old: str, new: str, says: str) -> None:
    assert old in WELL
    assert says in fault(WELL.replace(old, new), ["first", "second", "third", "fourth"])


LISTED = '''class A:
    """One.

    a: 1.
    """

    def __init__(self, a, b, c, d): pass
'''


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("def f(a, b, c, d): pass", ["1: f"]),
        ("async def f(a, *, b, c, d): pass", ["1: f"]),
        ("def f(a, b, c): pass", []),
        ("def _f(a, b, c, d): pass", []),
        ("@cli.command('f')\n@click.option('-a')\ndef f(a, b, c, d): pass", []),
        ("class A:\n    def __init__(self, a, b, c, d): pass", ["2: __init__"]),
        (LISTED, []),
        ("class A:\n    def put(self, a, b, c, d): pass", []),
        ("class A:\n    def put(self, a, b, c, d, e): pass", ["2: put"]),
        ("class A(Protocol):\n    def put(self, a, b, c, d): pass", ["2: put"]),
        ("class _A:\n    def f(self, a, b, c, d): pass", []),
        (LISTED.replace("c, d", "c: float, d"), ["7: __init__ does not say in what c is measured"]),
        (LISTED.replace("c, d", "c: float, d").replace("One", "In `c` seconds"), []),
    ],
)
def test_functions_without_a_list_are_named_with_their_line(source: str, named: list[str]) -> None:
    """Not private ones, commands, and methods that a port describes."""
    found = undescribed("bridge/one.py", source, {("put", 4)})

    assert [one.removeprefix("bridge/one.py:").partition(" describes")[0] for one in found] == named


def test_every_metric_of_the_queue_and_the_mirror_is_explained() -> None:
    """As it stands in the code, in one of the pages."""
    text = "".join(one.read_text(encoding="utf-8") for one in PAGES)
    rooms = ("queue/status", "sync/reconcile/results", "sync/log/shown", "evidence/standing")
    made = [REPOSITORY / f"bridge/{name}.py" for name in rooms]
    names = {
        node.value
        for path in made
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"bridge_[a-z_]+", node.value)
    }

    assert len(names) > 10
    assert [name for name in sorted(names) if not re.search(rf"`{name}\b", text)] == []
