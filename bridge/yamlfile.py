"""YAML files with the place of every value, for errors that name line and column.

Reads with ruamel (YAML 1.2, duplicate keys are errors) and turns every complaint, ruamel's
and pydantic's, into `bridge.errors.Problem`s. What a file means is its model's business.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from bridge.errors import ConfigError, Problem

__all__ = ["YamlFile", "did_you_mean"]

Location = tuple[str | int, ...]


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
            data = YAML(typ="rt", pure=True).load(text)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
            what = (error.problem or str(error)).split("\n")[0]
            hint = "check indentation, quotes and brackets just before this place"
            if "duplicate key" in what:
                what, hint = what.split(" with value")[0], "keep one of the two"
            raise ConfigError([Problem(name, line, column, what, hint)]) from None
        except YAMLError as error:
            raise ConfigError([Problem(name, 0, 0, str(error).split("\n")[0])]) from None
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
                place = node.lc.key(part) if key or not last else node.lc.value(part)
            elif isinstance(node, CommentedSeq):
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
        """A Problem at `location`."""
        line, column = self.position(location, key=key)
        return Problem(self.name, line, column, message, hint)

    def problems(self, error: ValidationError, model: type[BaseModel]) -> list[Problem]:
        """Every complaint of pydantic about this file, with its place and what to write."""
        return [self._problem(detail, model) for detail in error.errors(include_url=False)]

    def _problem(self, detail: Mapping[str, Any], model: type[BaseModel]) -> Problem:
        location: Location = tuple(detail["loc"])
        # pydantic's word for "the key itself is wrong"
        is_key = location[-1:] == ("[key]",)
        if is_key:
            location = location[:-1]
        kind, message = detail["type"], detail["msg"]
        if kind == "extra_forbidden":
            allowed = _fields_at(model, location[:-1])
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
        hint = ""
        if kind in ("model_type", "dict_type", "model_attributes_type"):
            message, hint = "must be a mapping", "write `key: value` lines under it, indented"
        elif kind in ("list_type", "tuple_type"):
            message, hint = "must be a list", "write [a, b] or lines that begin with `- `"
        elif kind == "string_type":
            message, hint = "must be text", "put it in quotes"
        elif kind in ("bool_type", "bool_parsing"):
            message, hint = "must be true or false", ""
        elif kind == "literal_error":
            message = f"must be {detail['ctx']['expected']}"
        return self.problem(location, f"`{_path(location)}`: {message}", hint, key=is_key)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean …?` with the nearest known word, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else ""


def _path(location: Location) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _fields_at(model: type[BaseModel], location: Location) -> list[str]:
    """Names of the fields of the model that lies at `location` within `model`."""
    current: Any = model
    for part in location:
        if not (isinstance(current, type) and issubclass(current, BaseModel)):
            current = _inner_model(current)  # `part` is an index or a key of a container
        elif isinstance(part, str) and part in current.model_fields:
            current = current.model_fields[part].annotation
        else:
            return []
    current = _inner_model(current)
    if isinstance(current, type) and issubclass(current, BaseModel):
        return [field.alias or name for name, field in current.model_fields.items()]
    return []


def _inner_model(annotation: Any) -> Any:
    """The model inside `list[Model]`, `dict[str, Model]` or `Model | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        inner = _inner_model(argument)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            return inner
    return annotation
