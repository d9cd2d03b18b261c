"""Errors of configuration files in words of the house, whatever is written where it may not be."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from bridge import units
from bridge.errors import ConfigError, Problem
from bridge.proxy.routing.models import File as Routes
from bridge.sync.models import File as Sync
from bridge.yamlfile import YamlFile

Path = tuple[str | int, ...]
Schema = Mapping[str, Any]

ODD: list[Any] = [
    *("", "odd words", "x\x01", "/x", "*", "101%", "1B", "9999GiB", "0s", "99999d", "1.5", "é"),
    *(True, False, None, 0, -1, 10**12, 1.5, [], [1], [None], ["odd words"], [[]], {}, {"A B": 1}),
    {"x": "y"},
]


def places(schema: Schema, root: Schema, path: Path = ()) -> Iterator[tuple[Path, Schema]]:
    """Every place in a file that a JSON Schema describes, and what it says of it."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    yield path, schema
    for one in (*schema.get("anyOf", ()), *schema.get("allOf", ())):
        yield from places(one, root, path)
    for name, one in schema.get("properties", {}).items():
        yield from places(one, root, (*path, name))
    if isinstance(one := schema.get("additionalProperties"), Mapping):
        yield from places(one, root, (*path, "x"))
    if isinstance(one := schema.get("items"), Mapping):
        yield from places(one, root, (*path, 0))


def broken(schema: Schema) -> list[Any]:
    """Values that this cannot take, and some that it can."""
    low, high = schema.get("minimum"), schema.get("maximum")
    bounds = [*([low - 1] if low is not None else []), *([high + 1] if high is not None else [])]
    return [*ODD, *bounds, *(["x" * 10_000] if "maxLength" in schema else [])]


def file_with(path: Path, value: Any) -> str:
    """A file that has `value` at `path`, and nothing else."""
    for part in reversed(path):
        value = [value] if part == 0 else {part: value}
    return json.dumps(value)


def complaints(model: type[BaseModel], text: str) -> tuple[list[dict[str, Any]], list[Problem]]:
    """What pydantic says of a file, and what we say."""
    file = YamlFile.parse(text, "file.yaml")
    try:
        model.model_validate(file.data)
    except ValidationError as error:
        return list(map(dict, error.errors())), file.problems(error, model)
    return [], []


@pytest.mark.parametrize("model", [Routes, Sync])
def test_no_words_of_pydantic_reach_a_person(model: type[BaseModel]) -> None:
    """Every constraint of the models is broken, at every place that they have."""
    schema = model.model_json_schema(by_alias=True)
    seen: set[str] = set()
    everywhere: dict[Path, list[Schema]] = {}
    for path, said in places(schema, schema):
        everywhere.setdefault(path, []).append(said)
    del everywhere[()]
    for path, all_said in everywhere.items():
        for value in (one for said in all_said for one in broken(said)):
            details, problems = complaints(model, file_with(path, value))
            text = "\n".join(map(str, problems))
            for detail in details:
                seen.add(detail["type"])
                assert detail["msg"] not in text, (path, value)
            for word in ("Input should", "Value error", "validation", "cannot be used here"):
                assert word not in text, (path, value)
            assert all(one.message.strip() for one in problems)
    # What the models use; it must not become less without notice.
    assert {"model_type", "string_type", "bool_parsing", "literal_error", "missing"} <= seen
    assert {"greater_than_equal", "int_parsing", "value_error", "extra_forbidden"} <= seen
    if model is Routes:
        assert {"too_short", "string_too_short", "less_than_equal", "tuple_type"} <= seen


def hints(model: type[BaseModel], text: str) -> list[str]:
    """Message and hint of each complaint about a file, but of what is missing elsewhere."""
    try:
        _, problems = complaints(model, text)
    except ConfigError as error:
        problems = list(error.problems)
    return [f"{one.message} – {one.hint}" for one in problems if "is missing" not in one.message]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sites: {s: {hosts: []}}", "`sites.s.hosts`: is empty – write one or more"),
        (
            "backends: {b: {health: {path: nope}}}",
            "`backends.b.health.path`: 'nope' is no path (a slash first, no space in it) – "
            "write for example /health",
        ),
        (
            "routes: [{decline_on: [99]}]",
            "`routes[0].decline_on[0]`: 99 is too small – write 400 or more",
        ),
        (
            "visitors: {request_line: 1B}",
            "`visitors.request_line`: 1B is too small – write 1KiB or more",
        ),
        (
            "visitors: {buffer: 1MiB}",
            "`visitors.buffer`: 1MiB is too large – write 256KiB or less",
        ),
        (
            "backends: {b: {limits: {connections: many}}}",
            "`backends.b.limits.connections`: 'many' is no whole number – write digits, without "
            "quotes, for example 100",
        ),
        ("trusted_proxies: unix", "`trusted_proxies`: must be a list – write [unix]"),
        ("sites: {s: {hosts: '*'}}", "`sites.s.hosts`: must be a list – write ['*']"),
        (
            "sites: {s: {compress: true}}",
            "`sites.s.compress`: must be a mapping – write `compress: {}`",
        ),
        (
            "sites: {s: {compress: false}}",
            "`sites.s.compress`: must be a mapping – write `compress: {}`, or remove it",
        ),
        (
            "backends: {b: {health: true}}",
            "`backends.b.health`: must be a mapping – write `health: {path: /}`",
        ),
        (
            "backends: {b: {health: /x}}",
            "`backends.b.health`: must be a mapping – write for example `health: {path: /x}`",
        ),
        ("groups: {g: 5%}", "`groups.g`: must be a mapping – write for example `g: {python: 5%}`"),
        (
            "sites: {s: www.example.org}",
            "`sites.s`: must be a mapping – write for example `s: {hosts: [www.example.org], "
            "legacy: …}`",
        ),
        ("backends: {b: }", "`backends.b`: must be a mapping – write `b: {url: …}`"),
    ],
)
def test_it_says_what_to_write(text: str, says: str) -> None:
    assert hints(Routes, text) == [says]


def test_a_list_whose_members_are_wrong_is_not_called_empty() -> None:
    (said,) = hints(Routes, "sites: {s: {hosts: ['a b']}}")
    assert "'a b' is no host" in said


@pytest.mark.parametrize("word", ["*", "*.example.org", "*:8080", "@home", "`x`", "%5"])
@pytest.mark.parametrize(
    "around",
    ["sites: {s: {hosts: [@]}}", "sites: {s: {hosts: [a.example, @ ]}}", "sites:\n  s: @\n",
     "sites:\n  s:\n    hosts:\n    - a\n    - @ # any\n    legacy: php\n", "sites: @"],
)  # fmt: skip
def test_a_sign_of_yaml_is_to_be_put_in_quotes(word: str, around: str) -> None:
    text = around.replace("@", word)
    with pytest.raises(ConfigError) as error:
        YamlFile.parse(text, "file.yaml")
    (problem,) = error.value.problems
    assert problem.hint == f"put `{word}` in quotes: '{word}'"
    assert text.splitlines()[problem.line - 1][problem.column - 1 :].startswith(word)
    YamlFile.parse(around.replace("@", f"'{word}'"), "file.yaml")


def test_an_alias_that_is_there_stays_one() -> None:
    data = YamlFile.parse("a: &x 1\nb: *x\n", "file.yaml").data
    assert data["b"] == 1


@pytest.mark.parametrize("written", ["0B", "1B", "1023B", "1KiB", "1536B", "3MiB", "2GiB"])
def test_a_size_is_said_as_it_is_written(written: str) -> None:
    assert units.size_text(units._parse_size(written)) == written
