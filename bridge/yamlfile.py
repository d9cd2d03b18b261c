"""YAML files with the place of every value, for errors that name line and column.

Reads with ruamel (YAML 1.2, duplicate keys are errors) and turns every complaint, ruamel's
and pydantic's, into `bridge.errors.Problem`s. What a file means is its model's business.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from bridge.errors import BridgeError, ConfigError, Problem
from bridge.wording import as_mapping, fields_of, model_at, words

__all__ = ["UnreadableFile", "YamlFile", "did_you_mean", "read_text", "whatever_happens"]

Location = tuple[str | int, ...]

_SIGN = re.compile(r"[*@`%](?:[^\s,\[\]{}'\"#]|(?<=\S)#)*")
_LARGEST = 8 * 1024 * 1024  # bytes of a file


class UnreadableFile(ValueError):
    """A file cannot be read as text; `line` is where, or 0."""

    def __init__(self, what: str, line: int = 0) -> None:
        self.line = line
        super().__init__(what)


def read_text(path: Path) -> str:
    """The text of a file that an operator names. Never waits, as a pipe would. Raises
    UnreadableFile."""
    try:
        # Not blocking: opening a pipe would wait for somebody who writes into it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UnreadableFile("it is no plain file")
            with open(descriptor, "rb", closefd=False) as file:
                raw = file.read(_LARGEST + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise UnreadableFile(error.strerror or str(error)) from None
    except UnreadableFile:
        raise
    except ValueError as error:  # a zero byte in the name, or what no name can have
        raise UnreadableFile(f"no file has such a name: {error}") from None
    if len(raw) > _LARGEST:
        raise UnreadableFile(f"it has more than {_LARGEST // 2**20} MiB")
    try:
        # As text files are read: any end of a line is \n.
        return raw.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise UnreadableFile("is not UTF-8", raw[: error.start].count(b"\n") + 1) from None


@contextlib.contextmanager
def whatever_happens(name: str) -> Iterator[None]:
    """Whatever goes wrong inside, while the file `name` is read, is an error of that file.

    What a file may say has no end, and what reads it is others' code; a site must not stop for
    any of it. Raises ConfigError in place of every exception but our own, those of YAML and
    MemoryError.
    """
    try:
        yield
    except (BridgeError, YAMLError, MemoryError):
        raise
    except RecursionError as error:
        line, column = _place_of(error.__traceback__)
        problem = Problem(name, line, column, "is nested too deeply", "use fewer brackets")
    except Exception as error:
        line, column = _place_of(error.__traceback__)
        what = str(error) or type(error).__name__
        hint = "mend the value here, or put it in quotes"
        problem = Problem(name, line, column, f"cannot be read: {what}", hint)
    else:
        return
    raise ConfigError([problem])


def _place_of(traceback: TracebackType | None) -> tuple[int, int]:
    """Line and column of what was read when an exception came, or else of the file's beginning.

    ruamel's functions have it in `node` or `event`; the innermost one counts.
    """
    place = (1, 1)
    while traceback:
        local = traceback.tb_frame.f_locals
        for mark in (getattr(local.get(name), "start_mark", None) for name in ("event", "node")):
            if mark is not None:
                place = mark.line + 1, mark.column + 1
        traceback = traceback.tb_next
    return place


@dataclass(frozen=True)
class YamlFile:
    """A parsed file: `name` for messages, `text` as read, `data` with positions."""

    name: str
    text: str
    data: CommentedMap

    @classmethod
    def parse(cls, text: str, name: str) -> YamlFile:
        """Parse `text`. Raises ConfigError with line and column when it is no YAML mapping."""
        try:
            with whatever_happens(name):
                data = _parsed(text)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
            what = (error.problem or str(error)).split("\n")[0]
            hint = "check indentation, quotes and brackets just before this place"
            if "duplicate key" in what:
                what, hint = what.split(" with value")[0], "keep one of the two"
            elif sign := _needs_quotes(text, error):
                word, line, column = sign
                what = f"`{word}` has a meaning of its own in YAML"
                hint = f"put `{word}` in quotes: '{word}'"
            raise ConfigError([Problem(name, line, column, what, hint)]) from None
        except YAMLError as error:
            # A character that may not be there; ruamel counts them from the beginning.
            before = text[: getattr(error, "position", 0)]
            place = before.count("\n") + 1, len(before.rpartition("\n")[2]) + 1
            raise ConfigError([Problem(name, *place, str(error).split("\n")[0])]) from None
        if not isinstance(data, CommentedMap):
            raise ConfigError(
                [Problem(name, 1, 1, "the file must be a mapping", "begin with `version: 1`")]
            )
        return cls(name, text, data)

    def position(self, location: Location, *, key: bool = False) -> tuple[int, int]:
        """Line and column (from 1) of the value at `location`, or of its key.

        Parts of the location that are not in the file (a missing key, the name of a model in a
        union) are passed over, which gives the nearest place that a person can look at.
        """
        node: Any = self.data
        place = (0, 0)
        known = self._resolve(location)
        for index, part in enumerate(known):
            last = index == len(known) - 1
            if isinstance(node, CommentedMap):
                written = _written(node, part)
                if written is not None:
                    place = written.lc.key(part) if key or not last else written.lc.value(part)
            elif isinstance(node, CommentedSeq) and part in (node.lc.data or ()):
                place = node.lc.item(part)
            node = node[part]
        return place[0] + 1, place[1] + 1

    def _resolve(self, location: Location) -> list[Any]:
        node: Any = self.data
        known: list[Any] = []
        for part in location:
            inside = (isinstance(node, CommentedMap) and part in node) or (
                isinstance(node, CommentedSeq) and isinstance(part, int) and part < len(node)
            )
            if inside:
                known.append(part)
                node = node[part]
        return known

    def problem(
        self, location: Location, message: str, hint: str = "", *, key: bool = False
    ) -> Problem:
        """A Problem of this file.

        location, key: as for `position`.
        message, hint: what is wrong, and what to do.
        """
        line, column = self.position(location, key=key)
        return Problem(self.name, line, column, message, hint)

    def problems(self, error: ValidationError, model: type[BaseModel]) -> list[Problem]:
        """Every complaint of pydantic about this file, with its place and what to write."""
        return [
            self._problem(detail, model)
            for detail in error.errors(include_url=False)
            if not self._is_echo(detail)
        ]

    def _problem(self, detail: Mapping[str, Any], model: type[BaseModel]) -> Problem:
        location: Location = tuple(detail["loc"])
        # pydantic's word for "the key itself is wrong"
        is_key = location[-1:] == ("[key]",)
        if is_key:
            location = location[:-1]
        kind = detail["type"]
        if kind == "extra_forbidden":
            at = model_at(model, location[:-1])
            allowed = list(fields_of(at)) if at else []
            hint = did_you_mean(str(location[-1]), allowed) or (
                f"allowed here: {', '.join(allowed)}" if allowed else "remove it"
            )
            return self.problem(location, f"unknown key `{location[-1]}`", hint, key=True)
        if kind == "missing":
            where = f" in `{_path(location[:-1])}`" if location[:-1] else ""
            return self.problem(location, f"`{location[-1]}` is missing{where}", "add it")
        if kind == "value_error":
            message, _, hint = str(detail["ctx"]["error"]).partition("; ")
            return self.problem(location, f"`{_path(location)}`: {message}", hint, key=is_key)
        raw = self._raw(location)
        message, hint = words(detail, raw)
        if kind == "model_type" and (at := model_at(model, location)):
            hint = as_mapping(at, location[-1], raw) or hint
        return self.problem(location, f"`{_path(location)}`: {message}", hint, key=is_key)

    def _raw(self, location: Location) -> Any:
        """The value at `location`; None where there is none."""
        node: Any = self.data
        known = self._resolve(location)
        for part in known:
            node = node[part]
        return node if len(known) == len(location) else None

    def _is_echo(self, detail: Mapping[str, Any]) -> bool:
        """Whether a list is only called too short because its members are wrong, which is said."""
        found = detail["input"] if detail["type"] == "too_short" else None
        return isinstance(found, list | Mapping) and len(found) >= detail["ctx"]["min_length"]


def _needs_quotes(text: str, error: MarkedYAMLError) -> tuple[str, int, int] | None:
    """The word at which reading failed because of its first sign: `*`, which names an alias, or
    one that YAML keeps for itself; and its line and column."""
    for mark in (error.problem_mark, error.context_mark):
        if mark is None or mark.line >= text.count("\n") + 1:
            continue
        found = _SIGN.match(text.split("\n")[mark.line], mark.column)
        if found:
            return found[0], mark.line + 1, mark.column + 1
    return None


def _parsed(text: str) -> Any:
    yaml = YAML(typ="rt", pure=True)
    try:
        return yaml.load(text)
    finally:
        # Its parts know each other, and all know the text: that would stay until Python looks for
        # such circles, which is seldom in a process that serves.
        yaml.__dict__.clear()


def _written(node: CommentedMap, key: Any, above: tuple[int, ...] = ()) -> CommentedMap | None:
    """Where the value of `key` stands: in `node` itself, or in what it merges (`<<: *other`)."""
    if key in (node.lc.data or ()):
        return node
    for merged in () if id(node) in above else node.merge:
        if isinstance(merged, CommentedMap):
            found = _written(merged, key, (*above, id(node)))
            if found is not None:
                return found
    return None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean …?` with the nearest known word, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else ""


def _path(location: Location) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
