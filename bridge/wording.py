"""What pydantic complains of, in the words of the house: what is wrong, and what to write instead.

Pure. Where a value stands in its file is `bridge.yamlfile`'s; what a validator of our own says
has its words already.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from bridge.units import size_text

__all__ = ["as_mapping", "fields_of", "model_at", "words"]

_SIZE = re.compile(r"\d+\s*(?:B|KiB|MiB|GiB)")
_PLAIN = re.compile(r"[\w/.:%+-]+", re.ASCII)
_MAPPINGS = ("model_type", "dict_type", "model_attributes_type", "mapping_type")
_BOUNDS = {
    "greater_than_equal": ("ge", "small", "{} or more"),
    "less_than_equal": ("le", "large", "{} or less"),
    "greater_than": ("gt", "small", "more than {}"),
    "less_than": ("lt", "large", "less than {}"),
}


def words(detail: Mapping[str, Any], raw: object) -> tuple[str, str]:
    """What is wrong, and what to write, for one of pydantic's details; `raw` is what the file has
    there. Kinds that need more of the file than that are not for here."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in _MAPPINGS:
        return "must be a mapping", "write `key: value` lines under it, indented"
    if kind in ("list_type", "tuple_type", "set_type"):
        one = written(raw)
        hint = f"write [{one}]" if one else "write [a, b] or lines that begin with `- `"
        return "must be a list", hint
    if kind in ("bool_type", "bool_parsing"):
        return "must be true or false", ""
    if kind == "literal_error":
        expected = context["expected"]
        return f"must be {'true' if expected == 'True' else expected}", ""
    if kind in _BOUNDS:
        return _bound(kind, context, raw)
    if kind.startswith("int_"):
        return f"{shown(raw)} is no whole number", "write digits, without quotes, for example 100"
    if kind.startswith("float_") or kind == "finite_number":
        return f"{shown(raw)} is no number", "write digits, without quotes, for example 0.5"
    if kind in ("too_short", "string_too_short"):
        least = context["min_length"]
        if least == 1:
            what = "a text" if kind == "string_too_short" else "one or more"
            return "is empty", f"write {what}"
        return f"is too short, with less than {least}", f"write {least} or more"
    if kind in ("too_long", "string_too_long"):
        most = context["max_length"]
        return f"is too long, with more than {most}", f"write {most} or less"
    if kind.startswith("string_"):
        if kind == "string_pattern_mismatch":
            return f"{shown(raw)} is not of the right form", f"it has to match {context['pattern']}"
        return "must be text", "put it in quotes"
    return f"{shown(raw)} cannot be used here: {kind.replace('_', ' ')}", "mend or remove it"


def _bound(kind: str, context: Mapping[str, Any], raw: object) -> tuple[str, str]:
    name, how, write = _BOUNDS[kind]
    bound = context[name]
    # Sizes are compared as bytes, and written otherwise.
    is_size = isinstance(raw, str) and _SIZE.fullmatch(raw)
    said = size_text(int(bound)) if is_size else f"{bound}"
    return f"{raw} is too {how}", f"write {write.format(said)}"


def shown(raw: object) -> str:
    """A value for a message, as it would be written in the file."""
    if raw is None or isinstance(raw, bool):
        return json.dumps(raw)
    if isinstance(raw, Mapping):
        return "a mapping"
    if isinstance(raw, list | tuple):
        return "a list"
    return repr(raw)


def written(raw: object) -> str:
    """A scalar as it can be written inside brackets; empty for what is none."""
    if isinstance(raw, bool) or not isinstance(raw, str | int | float):
        return ""
    text = str(raw)
    if isinstance(raw, str) and not _PLAIN.fullmatch(text):
        return "'" + text.replace("'", "''") + "'"
    return text


def as_mapping(model: type[BaseModel], key: object, raw: object) -> str:
    """How to write what stands there as the mapping that `model` is: `health: {path: /x}` for
    `health: /x`. Empty where nothing can be said of it."""
    if isinstance(raw, list | tuple):
        return ""
    fields = fields_of(model)
    needed = [name for name, field in fields.items() if field.is_required()]
    first, field = next(iter(fields.items()))
    inside = dict.fromkeys(needed, "…")
    if one := written(raw):
        is_list = get_origin(field.annotation) in (list, tuple)
        inside.pop(first, None)
        inside = {first: f"[{one}]" if is_list else one, **inside}
    elif not needed and raw is True and isinstance(field.default, str):
        inside[first] = field.default
    text = "{" + ", ".join(f"{name}: {value}" for name, value in inside.items()) + "}"
    what = f"- {text}" if isinstance(key, int) else f"`{key}: {text}`"
    off = "" if needed or raw not in (False, None) else ", or remove it"
    return f"write {'for example ' * bool(one)}{what}{off}"


def fields_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a model by the names that they have in a file."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def model_at(model: type[BaseModel], location: Iterable[str | int]) -> type[BaseModel] | None:
    """The model that lies at `location` within `model`, if one does."""
    current: Any = model
    for part in location:
        if not _is_model(current):
            current = _inner(current)  # `part` is an index or a key of a container
        elif isinstance(part, str) and part in (fields := fields_of(current)):
            current = fields[part].annotation
        else:
            return None
    found = _inner(current)
    return found if _is_model(found) else None


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _inner(annotation: Any) -> Any:
    """The model inside `list[Model]`, `dict[str, Model]` or `Model | None`."""
    if _is_model(annotation):
        return annotation
    for argument in get_args(annotation):
        inner = _inner(argument)
        if _is_model(inner):
            return inner
    return annotation
