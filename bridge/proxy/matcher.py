"""Which of many Werkzeug rules a path fits, in Werkzeug's order, at a cost that has a bound.

Pure. Werkzeug reads the rules; its own matcher backtracks within a segment, so that a path of
7 KB can take half a minute. Here each pattern looks at each character a fixed number of times
(`Pattern`), and each pattern of a table is tried at most once for a path. Values are what
Werkzeug's expressions would capture, and a value that a converter refuses leads on to the next
best rule.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from werkzeug.routing import (
    AnyConverter,
    BaseConverter,
    FloatConverter,
    IntegerConverter,
    Map,
    PathConverter,
    Rule,
    UnicodeConverter,
    UUIDConverter,
)

__all__ = ["Matcher", "Pattern", "Variable", "fits", "read_rule"]

E = TypeVar("E")

_MAP_SETTINGS: dict[str, Any] = {
    # The defaults invent 308 redirects: fuel for a redirect loop with the other side.
    "strict_slashes": False,
    "merge_slashes": False,
    "redirect_defaults": False,
}
_TOKEN = re.compile(
    r"(?P<slash>/)|(?P<text>[^</]+)|<(?:[a-zA-Z_]\w*(?:\(.*?\))?:)?(?P<name>[a-zA-Z_]\w*)>",
    re.ASCII,
)
_STRING = re.compile(r"\[\^/\]\{(\d+)(,?)(\d*)\}")
_MOST_PARTS = 200  # of one rule: walking down a table is recursive
_SEGMENT = re.compile(r"[^/]+")
_DIGITS = re.compile(r"\d+")
_HEX = re.compile(r"[A-Fa-f0-9]+")
_ALL = re.compile(r".+", re.DOTALL)


class _OneOf(NamedTuple):
    """One of these texts, the first that fits rather than a later one."""

    texts: tuple[str, ...]


class _Run(NamedTuple):
    """`least` to `most` characters of a class, as many as can be or, `lazy`, as few."""

    runs: re.Pattern[str]
    least: int = 1
    most: int | None = None
    lazy: bool = False


_Atom = _OneOf | _Run


@dataclass(frozen=True)
class Variable:
    """A variable of a rule: its name, Werkzeug's converter, and the atoms that it consists of."""

    name: str
    converter: BaseConverter
    atoms: tuple[_Atom, ...]

    @property
    def lazy(self) -> bool:
        """Whether it takes as little as it can, not as much."""
        return any(isinstance(atom, _Run) and atom.lazy for atom in self.atoms)

    def takes(self, text: str) -> bool:
        """Whether `text` can stand within a value of it; values of any length may hold no text."""
        runs = [atom for atom in self.atoms if isinstance(atom, _Run) and atom.most is None]
        return any(not text or atom.runs.fullmatch(text) for atom in runs)


class Pattern:
    """One segment of a rule, or its rest where a variable may contain slashes (`final`): texts
    and variables in turn, beginning and ending with a text, which may be empty."""

    def __init__(self, texts: Sequence[str], variables: Sequence[Variable], final: bool) -> None:
        self.texts, self.variables, self.final = tuple(texts), tuple(variables), final
        expressions = [f"({one.converter.regex})" for one in variables]
        self.key = final, self.texts, tuple(expressions)
        try:
            self._only = re.compile(expressions[0]).fullmatch
            for expression in expressions[1:]:
                re.compile(expression)
        except (re.error, OverflowError) as error:
            raise ValueError(f"{error} in the converter of <{variables[0].name}>") from None
        self._shortest = sum(map(len, texts))
        atoms: list[_Atom] = []
        self._spans: list[tuple[int, int]] = []
        for text, variable in zip(texts, variables, strict=False):
            if text:
                atoms.append(_OneOf((text,)))
            self._spans.append((len(atoms), len(atoms) + len(variable.atoms)))
            atoms += variable.atoms
        if texts[-1]:
            atoms.append(_OneOf((texts[-1],)))
        self._atoms = tuple(atoms)
        strings = all(one.atoms == (_Run(_SEGMENT),) for one in variables)
        self._read_several = (
            self._from_the_right if strings and all(texts[1:-1]) and not final else self._any_atoms
        )

    def read(self, text: str) -> list[str] | None:
        """The values of the variables, or None where `text` does not fit."""
        texts = self.texts
        if (
            len(text) < self._shortest
            or not text.startswith(texts[0])
            or not text.endswith(texts[-1])
        ):
            return None
        if len(texts) == 2:
            value = text[len(texts[0]) : len(text) - len(texts[1])]
            return [value] if self._only(value) else None
        return self._read_several(text)

    def _from_the_right(self, text: str) -> list[str] | None:
        """The quick way where every variable takes any text: each as much as it can, the first
        one first, which is each text between them as far to the right as it can be."""
        texts = self.texts
        first, end = len(texts[0]), len(text) - len(texts[-1])
        values: list[str] = []
        for between in texts[-2:0:-1]:
            at = text.rfind(between, first + 1, end - 1)
            if at < 0:
                return None
            values.append(text[at + len(between) : end])
            end = at
        values.append(text[first:end])
        values.reverse()
        return values

    def _any_atoms(self, text: str) -> list[str] | None:
        """From the end of `text`: from where on does the rest of the pattern fit? Then from its
        beginning: each atom takes what an expression that backtracks would end with."""
        ends = bytearray(len(text) + 1)
        ends[-1] = 1
        after = [ends]
        for atom in reversed(self._atoms):
            ends = _one_of(atom, text, ends) if isinstance(atom, _OneOf) else _run(atom, text, ends)
            after.append(ends)
        if not ends[0]:
            return None
        after.reverse()
        places = [0]
        for number, atom in enumerate(self._atoms):
            places.append(_taken(atom, text, places[-1], after[number + 1]))
        return [text[places[first] : places[last]] for first, last in self._spans]


def _one_of(atom: _OneOf, text: str, ends: bytearray) -> bytearray:
    """Where `atom` can begin, as flags, if it may end where `ends` has them."""
    starts = bytearray(len(ends))
    for one in atom.texts:
        at = text.find(one)
        while at >= 0:
            if ends[at + len(one)]:
                starts[at] = 1
            at = text.find(one, at + 1)
    return starts


def _run(atom: _Run, text: str, ends: bytearray) -> bytearray:
    """As `_one_of`. No flag is set twice."""
    starts = bytearray(len(ends)) if atom.least else bytearray(ends)
    for found in atom.runs.finditer(text):
        first, last = found.span()
        if atom.most is None:
            highest = ends.rfind(1, first + atom.least, last + 1)
            if highest >= 0:
                count = highest - atom.least - first + 1
                starts[first : first + count] = b"\1" * count
            continue
        begin = first
        end = ends.find(1, first + atom.least, last + 1)
        while end >= 0:
            begin = max(begin, end - atom.most)
            count = end - atom.least + 1 - begin
            starts[begin : begin + count] = b"\1" * count
            begin += count
            end = ends.find(1, end + 1, last + 1)
    return starts


def _taken(atom: _Atom, text: str, at: int, ends: bytearray) -> int:
    """Where `atom` ends that begins at `at`; there is a place, as `ends` were made."""
    if isinstance(atom, _OneOf):
        fitting = (one for one in atom.texts if text.startswith(one, at) and ends[at + len(one)])
        return at + len(next(fitting))
    run = atom.runs.match(text, at)
    last = run.end() if run else at
    if atom.most is not None:
        last = min(last, at + atom.most)
    find = ends.find if atom.lazy else ends.rfind
    return find(1, at + atom.least, last + 1)


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
        self.found.append(Variable(variable_name, converter, _atoms(converter, args)))
        return converter


def _atoms(converter: BaseConverter, args: tuple[Any, ...]) -> tuple[_Atom, ...]:
    """What the converter's expression says, in atoms. Raises ValueError for a limit that no
    value can be held against."""
    if isinstance(converter, AnyConverter):
        return (_OneOf(tuple(map(str, args))),)
    if isinstance(converter, PathConverter):
        return _Run(_SEGMENT, 1, 1), _Run(_ALL, 0, lazy=True)
    if isinstance(converter, UnicodeConverter):
        found = _STRING.fullmatch(converter.regex)
        if found is None:
            raise ValueError("a length must be 0 or more")
        least = int(found[1])
        most = int(found[3]) if found[3] else None if found[2] else least
        return (_Run(_SEGMENT, least, most),)
    if isinstance(converter, IntegerConverter | FloatConverter):
        limits = converter.min, converter.max
        if not all(one is None or isinstance(one, int | float) for one in limits):
            raise ValueError("min and max must be numbers")
        digits = _Run(_DIGITS)
        number: tuple[_Atom, ...] = (digits,)
        if isinstance(converter, FloatConverter):
            number = digits, _OneOf((".",)), digits
        return (_OneOf(("-", "")), *number) if converter.signed else number
    if isinstance(converter, UUIDConverter):
        four, dash = _Run(_HEX, 4, 4), _OneOf(("-",))
        return _Run(_HEX, 8, 8), *(dash, four) * 3, dash, _Run(_HEX, 12, 12)
    raise LookupError(f"the converter {type(converter).__name__} is not known here")


_Part = str | Pattern


def read_rule(path: str) -> tuple[list[tuple[_Part, tuple[Any, ...]]], tuple[Variable, ...]]:
    """The segments of a rule after its first slash, each with Werkzeug's weight of it, and its
    variables. Raises ValueError or LookupError for a malformed rule."""
    rule = _Reader(path)
    Map([rule], **_MAP_SETTINGS)
    variables = iter(rule.found)
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
    return parts, tuple(rule.found)


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
        parts = path.split("/")
        count = len(parts)

        def walk(node: _Node[E], at: int, values: list[str]) -> tuple[E, dict[str, Any]] | None:
            if at == count:
                return _ended(node, values, holds)
            part = parts[at]
            below = node.static.get(part)
            if below is not None:
                found = walk(below, at + 1, values)
                if found is not None:
                    return found
            rest = ""
            for _, pattern, below in node.dynamic:
                if pattern.final:
                    rest = rest or "/".join(parts[at:])
                    read, on = pattern.read(rest), count
                elif part and part.endswith(pattern.texts[-1]):
                    read, on = pattern.read(part), at + 1
                else:
                    continue
                if read is not None:
                    found = walk(below, on, [*values, *read] if values else read)
                    if found is not None:
                        return found
            return None

        return walk(self._root, 1, [])

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
