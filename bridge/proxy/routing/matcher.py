"""Which of many Werkzeug rules a path fits, in Werkzeug's order, at a cost that has a bound.

Pure. Werkzeug reads the rules, and its converters the values; the matching is our own: each pattern
of a table is tried at most once for a path, and `bridge.proxy.routing.pattern` looks at each
character a fixed number of times. A value that a converter refuses leads on to the next best rule.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from werkzeug.routing import BaseConverter, Map, Rule

from bridge.proxy.routing.pattern import Pattern, Variable, atoms_of

__all__ = ["Matcher", "fits", "read_rule"]

E = TypeVar("E")

_TOKEN = re.compile(
    r"(?P<slash>/)|(?P<text>[^</]+)|<(?:[a-zA-Z_]\w*(?:\(.*?\))?:)?(?P<name>[a-zA-Z_]\w*)>",
    re.ASCII,
)
_MOST_PARTS = 200  # of one rule: walking down a table is recursive


class _Reader(Rule):
    """A rule that notes its converters while Werkzeug reads it."""

    def __init__(self, path: str) -> None:
        self.found: list[Variable] = []
        super().__init__(path, endpoint="")

    def get_converter(
        self,
        variable_name: str,
        converter_name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> BaseConverter:
        try:
            converter = super().get_converter(variable_name, converter_name, args, kwargs)
        except TypeError as error:  # arguments that the converter does not have
            raise ValueError(f"{error} in <{variable_name}>") from None
        if any(one.name == variable_name for one in self.found):
            raise ValueError(f"two variables are called <{variable_name}>")
        self.found.append(Variable(variable_name, converter, atoms_of(converter, args)))
        return converter


_Part = str | Pattern


def read_rule(path: str) -> tuple[list[tuple[_Part, tuple[Any, ...]]], tuple[Variable, ...]]:
    """The segments of a rule after its first slash, each with Werkzeug's weight of it, and its
    variables. Raises ValueError or LookupError for a malformed rule."""
    rule = _Reader(path)
    made, found = Map([rule]), tuple(rule.found)
    # They know each other, and would stay until Python looks for such circles, which is seldom.
    made.__dict__.clear()
    rule.__dict__.clear()
    variables = iter(found)
    parts: list[tuple[_Part, tuple[Any, ...]]] = []
    texts, within, lengths, final = [""], list[Variable](), list[tuple[int, int]](), False

    def end() -> None:
        if not within:
            parts.append((texts[0], ()))
            return
        weight = (
            -len(lengths),
            lengths.copy(),
            -len(within),
            [one.converter.weight for one in within],
        )
        parts.append((Pattern(texts, within, final), weight))

    for token in _TOKEN.finditer(path, 1):
        if token["name"]:
            variable = next(variables)
            within.append(variable)
            texts.append("")
            final = final or not variable.converter.part_isolating
        elif token["text"]:
            texts[-1] += token["text"]
            lengths.append((len(lengths), -len(token["text"])))
        elif final:
            texts[-1] += "/"
        else:
            end()
            texts, within, lengths = [""], [], []
    end()
    if len(parts) > _MOST_PARTS:
        raise ValueError(f"a path of more than {_MOST_PARTS} segments")
    return parts, found


class _Node(Generic[E]):
    """A place in the tree of all rules: what can follow, and what ends here."""

    __slots__ = ("_known", "dynamic", "ends", "static")

    def __init__(self) -> None:
        self.static: dict[str, _Node[E]] = {}
        self.dynamic: list[tuple[tuple[Any, ...], Pattern, _Node[E]]] = []
        self.ends: list[tuple[E, tuple[Variable, ...]]] = []
        self._known: dict[tuple[Any, ...], _Node[E]] = {}  # by what a pattern takes

    def after(self, part: _Part, weight: tuple[Any, ...]) -> _Node[E]:
        if isinstance(part, str):
            return self.static.setdefault(part, _Node())
        node = self._known.get(part.key)
        if node is None:
            node = self._known[part.key] = _Node()
            self.dynamic.append((weight, part, node))
        return node

    def sort(self) -> None:
        """Put the patterns here and below in Werkzeug's order."""
        self.dynamic.sort(key=lambda one: one[0])
        for node in (*self.static.values(), *self._known.values()):
            node.sort()


class Matcher(Generic[E]):
    """Rules, each with what it stands for."""

    def __init__(self, rules: Iterable[tuple[str, E]]) -> None:
        """Raises ValueError or LookupError for a malformed rule."""
        self._root = _Node[E]()
        for path, endpoint in rules:
            parts, variables = read_rule(path)
            node = self._root
            for part, weight in parts:
                node = node.after(part, weight)
            node.ends.append((endpoint, variables))
        self._root.sort()

    def find(
        self, path: str, holds: Callable[[E], bool] = lambda _: True
    ) -> tuple[E, dict[str, Any]] | None:
        """What the best rule stands for that `path` fits and that `holds`, and the values of its
        variables; None where there is none. `path` is canonical."""
        return _walk(self._root, path.split("/"), 1, [], holds)

    def crowded(self) -> Iterator[tuple[E, int]]:
        """Where many patterns are tried for one segment: a rule of the last of them, and how
        many they are."""
        nodes = [self._root]
        while nodes:
            node = nodes.pop()
            below = [one for _, _, one in node.dynamic]
            if below:
                last = below[-1]
                while not last.ends:
                    last = next(iter((*last.static.values(), *(one[2] for one in last.dynamic))))
                yield last.ends[0][0], len(below)
            nodes += (*node.static.values(), *below)


def _walk(
    node: _Node[E], parts: list[str], at: int, values: list[str], holds: Callable[[E], bool]
) -> tuple[E, dict[str, Any]] | None:
    """The best rule from `node` on that takes the segments of a path from `at` on."""
    if at == len(parts):
        return _ended(node, values, holds)
    part = parts[at]
    below = node.static.get(part)
    if below is not None:
        found = _walk(below, parts, at + 1, values, holds)
        if found is not None:
            return found
    rest = ""
    for _, pattern, below in node.dynamic:
        if pattern.final:
            rest = rest or "/".join(parts[at:])
            read, on = pattern.read(rest), len(parts)
        elif part.endswith(pattern.texts[-1]):
            read, on = pattern.read(part), at + 1
        else:
            continue
        if read is not None:
            found = _walk(below, parts, on, [*values, *read] if values else read, holds)
            if found is not None:
                return found
    return None


def _ended(
    node: _Node[E], values: list[str], holds: Callable[[E], bool]
) -> tuple[E, dict[str, Any]] | None:
    """The first rule that ends here, whose converters take the values, and that holds."""
    for endpoint, variables in node.ends:
        try:
            given = {
                one.name: one.converter.to_python(value)
                for one, value in zip(variables, values, strict=True)
            }
        except ValueError:
            continue  # Werkzeug's ValidationError: the next best rule may take it
        if holds(endpoint):
            return endpoint, given
    return None


def fits(rule: str, path: str) -> bool:
    """Whether the canonical `path` fits `rule`. Raises ValueError or LookupError for a malformed
    rule."""
    return Matcher([(rule, None)]).find(path) is not None
