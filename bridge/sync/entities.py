"""sync.yaml: where changes come from and what is mirrored. Every error at once, with line and
column.

A missing file means: an outbox of the usual name in the database of BRIDGE_SQL_URL, if that is
set, and nothing else. What an event becomes under this file is `bridge.sync.documents`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
from pydantic import ValidationError

from bridge.errors import ConfigError, Problem
from bridge.sync.models import MAX_DOCUMENT, Entity, File
from bridge.units import several
from bridge.yamlfile import UnreadableFile, YamlFile, did_you_mean, read_text, whatever_happens

__all__ = [
    "SCHEMA",
    "STATE",
    "TOMBSTONES",
    "TWINS",
    "Entity",
    "File",
    "compile_schema",
    "load",
    "read",
    "schema_text",
]

SCHEMA = Path(__file__).with_name("sync.schema.json")
TOMBSTONES = "bridge_tombstones"
"""Name of the index that ends tombstones; no declared one may have it."""
TWINS = "bridge__twin"
"""Name of the index of the mark of twins; likewise."""
STATE = "bridge_state"
"""The collection of our own bookkeeping; no entity may have it."""

Location = tuple[str | int, ...]


def load(path: Path) -> File:
    """Read sync.yaml. Raises ConfigError with every error of it."""
    return read(path)[0]


def read(path: Path) -> tuple[File, YamlFile | None]:
    """sync.yaml and the places in it, None where there is no file. Raises ConfigError."""
    if not os.path.lexists(path):
        return File(version=1), None
    try:
        text = read_text(path)
    except UnreadableFile as error:
        place = error.line, min(1, error.line)
        raise ConfigError([Problem(str(path), *place, f"cannot be read: {error}")]) from None
    with whatever_happens(str(path)):
        return _read_text(text, path)


def _read_text(text: str, path: Path) -> tuple[File, YamlFile | None]:
    yaml = YamlFile.parse(text, str(path))
    data, problems = _with_schemas(yaml, path.parent)
    try:
        file = File.model_validate(data)
    except ValidationError as error:
        raise ConfigError([*problems, *yaml.problems(error, File)]) from None
    problems += _misfits(file, yaml)
    if problems:
        raise ConfigError(problems)
    return file, yaml


def compile_schema(schema: dict[str, Any]) -> Any:
    """What checks data: `is_valid(data)`, `iter_errors(data)`. References are not followed over the
    network. Raises ValueError for what is no schema."""
    plain = json.loads(json.dumps(schema, default=str))  # ruamel's dicts and lists are not
    return jsonschema_rs.validator_for(plain, validate_formats=True, retriever=_refuse)


def _refuse(uri: str) -> Any:
    raise ValueError(f"{uri} is not fetched; put it into the schema under $defs")


def _with_schemas(yaml: YamlFile, folder: Path) -> tuple[Any, list[Problem]]:
    """The file's data, with the schemas that it names as files read into it."""
    entities = yaml.data.get("entities")
    if not isinstance(entities, dict):
        return yaml.data, []
    problems = []
    read: dict[str, Any] = {}
    for name, entity in entities.items():
        if not isinstance(entity, dict) or not isinstance(entity.get("schema"), str):
            continue
        found, where = entity["schema"], ("entities", name, "schema")
        try:
            schema = json.loads(read_text(folder / found))
            if not isinstance(schema, dict):
                raise ValueError("it holds no object")
        except (ValueError, RecursionError) as error:
            text, hint = f"{found} is no JSON Schema: {error}", f"paths are beside {yaml.name}"
            problems.append(yaml.problem(where, text, hint))
            schema = {}
        read[name] = {**entity, "schema": schema}
    return {**yaml.data, "entities": {**entities, **read}}, problems


def _misfits(file: File, yaml: YamlFile) -> list[Problem]:
    problems = []
    if not 1 <= file.max_document <= MAX_DOCUMENT:
        text = "a document of MongoDB has at most 16MiB"
        problems.append(yaml.problem(("max_document",), text, "write for example 4MiB"))
    collections: dict[str, str] = {STATE: "the bridge's own bookkeeping"}
    parents: dict[str, str] = {}
    for name, entity in file.entities.items():
        here: Location = ("entities", name)
        if (other := collections.get(entity.collection)) is not None:
            text = f"the collection {entity.collection} is that of {other}"
            hint = "give each entity its own collection"
            problems.append(yaml.problem((*here, "collection"), text, hint))
        elif entity.collection.startswith("system."):
            text = "collections that begin with system. are MongoDB's own"
            problems.append(yaml.problem((*here, "collection"), text, "choose another name"))
        collections[entity.collection] = name
        for where, message, hint in (
            *_schema_misfits(entity),
            *_field_misfits(entity),
            *_child_misfits(file, name, parents),
            *_log_misfits(file, name),
        ):
            problems.append(yaml.problem((*here, *where), message, hint))
    return problems


def _schema_misfits(entity: Entity) -> Iterator[tuple[Location, str, str]]:
    if not isinstance(entity.schema_, dict):
        return
    try:
        compile_schema(entity.schema_)
    except jsonschema_rs.ValidationError as error:
        where = ("schema", *error.instance_path)
        yield where, f"no JSON Schema: {error.message}", "see json-schema.org, draft 2020-12"
    except (jsonschema_rs.ReferencingError, ValueError) as error:
        yield ("schema",), f"no usable JSON Schema: {error}", ""


def _field_misfits(entity: Entity) -> Iterator[tuple[Location, str, str]]:
    targets: dict[str, str] = {}
    for field, rule in entity.fields.items():
        target = rule.as_ or field
        if field in entity.drop:
            yield ("fields", field), f"`{field}` is dropped, too", "keep one of the two"
        if field in entity.children:
            yield ("fields", field), f"`{field}` becomes documents of its own", "remove it here"
        if target in targets:
            yield ("fields", field), f"`{targets[target]}` becomes `{target}`, too", "rename one"
        targets[target] = field
    for field in entity.drop:
        if field in entity.children:
            yield ("drop",), f"`{field}` becomes documents of its own", "remove it here"
    names = [TOMBSTONES, TWINS, *(index.name for index in entity.indexes)]
    for number, index in enumerate(entity.indexes):
        if index.name in (TOMBSTONES, TWINS):
            text = f"`{index.name}` is the name of the bridge's own index"
            yield ("indexes", number), text, "rename the field"
        elif index.name in names[: number + 2]:
            yield ("indexes", number), "the same index stands above", "remove one of the two"
        fields = [field for field, _ in index.keys]
        if len(set(fields)) < len(fields):
            yield ("indexes", number), "a field stands twice in it", "remove one of the two"


def _child_misfits(
    file: File, name: str, parents: dict[str, str]
) -> Iterator[tuple[Location, str, str]]:
    entity = file.entities[name]
    for field, child in entity.children.items():
        where: Location = ("children", field, "entity")
        if (found := file.entities.get(child.entity)) is None:
            hint = did_you_mean(child.entity, file.entities) or "add it under `entities:`"
            yield where, f"there is no entity `{child.entity}`", hint
            continue
        if child.entity in parents:
            text = f"`{child.entity}` has a parent already: {parents[child.entity]}"
            yield where, text, "children come from one list of one entity"
        parents[child.entity] = name
        if found.children or child.entity == name:
            text = f"`{child.entity}` has children of its own"
            yield where, text, "children go one level deep; send them as events of their own"
        if entity.source is None:
            continue
        if found.source is None:
            text = f"`{name}` has a source and its children `{child.entity}` have none"
            yield where, text, f"give `{child.entity}` a source, too"
        elif len(found.source.key) != len(entity.source.key) + len(child.key):
            text = (
                f"the key of the source of `{child.entity}` must be that of `{name}` and then "
                f"{several(len(child.key), 'column')} for {', '.join(child.key)}"
            )
            hint = f"its first columns are those that hold {'/'.join(entity.source.key)}"
            yield where, text, hint


def _log_misfits(file: File, name: str) -> Iterator[tuple[Location, str, str]]:
    entity = file.entities[name]
    if entity.source is None or entity.source.log is not True:
        return
    hint = "mirror the tables of its children as entities of their own, without `children:`"
    if entity.children:
        text = "the log tells rows one by one, and an entity with children comes as a whole"
        yield ("children",), text, hint
    for parent, other in file.entities.items():
        if any(child.entity == name for child in other.children.values()):
            text = f"the log tells rows one by one, and `{name}` comes with its {parent}"
            yield ("source", "log"), text, "leave log out, or remove it from the children"


def schema_text() -> str:
    """The JSON Schema for editors, with a last newline."""
    schema = File.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "sync.yaml of the PHP–Python bridge"
    # Bytes in the model, `1MiB` in the file.
    schema["properties"]["max_document"].pop("default")
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
