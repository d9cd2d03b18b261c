"""One segment of a rule that has variables, held against a text in linear time.

Pure. Werkzeug makes a regular expression of a segment, and that backtracks: a path of 7 KB can
take half a minute. Here each atom of a pattern looks at each character a fixed number of times,
and the values are what Werkzeug's expression would capture.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from werkzeug.routing import (
    AnyConverter,
    BaseConverter,
    FloatConverter,
    IntegerConverter,
    PathConverter,
    UnicodeConverter,
    UUIDConverter,
)

__all__ = ["Pattern", "Variable", "atoms_of"]

_STRING = re.compile(r"\[\^/\]\{(\d+)(,?)(\d*)\}")
_SEGMENT = re.compile(r"[^/]+")
_DIGITS = re.compile(r"\d+")
_HEX = re.compile(r"[A-Fa-f0-9]+")
_ALL = re.compile(r".+")


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
        for variable, expression in zip(variables, expressions, strict=True):
            try:
                re.compile(expression)
            except (re.error, OverflowError) as error:
                raise ValueError(f"{error} in the converter of <{variable.name}>") from None
        self._only = re.compile(expressions[0]).fullmatch
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
        self._is_simple = all(one.atoms == (_Run(_SEGMENT),) for one in variables)

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
        return self._from_the_right(text) if self._is_simple else self._any_atoms(text)

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


def atoms_of(converter: BaseConverter, args: tuple[Any, ...]) -> tuple[_Atom, ...]:
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
