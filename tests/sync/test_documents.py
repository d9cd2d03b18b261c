"""What an event becomes under sync.yaml: pure, without a server."""

from __future__ import annotations

import contextlib
import math
import textwrap
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from bson.decimal128 import Decimal128
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import ConfigError, UnusableEvent
from bridge.queue.events import Event
from bridge.settings import Settings
from bridge.sync.documents import Document, Mirror, _Conversions
from bridge.sync.entities import load
from bridge.sync.models import File
from bridge.sync.types.keys import KINDS, Unlookable
from bridge.sync.types.values import CONVERSIONS
from bridge.sync.types.wire import KeyColumn

Make = Callable[[str], Mirror]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """make(entities) -> Mirror, from the text under `entities:`."""

    def _make(entities: str) -> Mirror:
        file = tmp_path / "sync.yaml"
        inner = textwrap.indent(textwrap.dedent(entities), "  ")
        file.write_text(f"version: 1\nentities:\n{inner}", encoding="utf-8")
        return Mirror(load(file))

    return _make


def changed(data: dict[str, Any], entity: str = "project", key: str = "bash") -> Event:
    return Event(entity, "changed", key, 7, data)


def document(mirror: Mirror, data: dict[str, Any]) -> Document:
    return mirror.prepare(changed(data)).own.document


def refused(mirror: Mirror, event: Event) -> str:
    with pytest.raises(UnusableEvent) as caught:
        mirror.prepare(event)
    return str(caught.value)


def double(data: Document, event: Event) -> Document:
    """A hook of the tests."""
    return {**data, "twice": data["n"] * 2, "at": event.version}


def hook_of_list(data: Document, event: Event) -> Any:
    return [data]


def hook_of_dollar(data: Document, event: Event) -> Document:
    return {"$set": 1}


PLAIN = "project: {collection: projects}"
SPLIT = """
    project:
      collection: projects
      children:
        releases: {entity: release, key: [version, architecture]}
    release:
      collection: releases
      schema: {type: object, required: [version], properties: {size: {type: integer}}}
      fields: {size: {as: bytes}}
"""


def test_data_become_the_document_with_key_and_version(make: Make) -> None:
    own = make(PLAIN).prepare(changed({"name": "bash", "tags": ["a"]})).own
    assert own.collection == "projects"
    assert own.document == {"_id": "bash", "_v": 7, "name": "bash", "tags": ["a"]}


def test_a_deletion_becomes_a_tombstone(make: Make) -> None:
    own = make(PLAIN).prepare(Event("project", "deleted", "bash", 8)).own
    assert own.document == {"_id": "bash", "_v": 8, "_del": True}


@pytest.mark.parametrize(
    ("entities", "known"),
    [
        (PLAIN, "project"),
        ("b: {collection: b}\na: {collection: a}\nc: {collection: c}", "a, b, c"),
        ("{}", "none"),
    ],
)
def test_an_entity_that_nobody_declared_is_refused_with_those_that_are(
    make: Make, entities: str, known: str
) -> None:
    text = refused(make(entities), changed({}, entity="person"))
    assert text == f"person is mirrored nowhere; entities of sync.yaml: {known}"


def test_fields_are_renamed_converted_and_left_out(make: Make) -> None:
    mirror = make(
        """
        project:
          collection: projects
          fields: {size_kb: {as: size, type: integer}, updated: datetime, a: {as: b}, b: {as: a}}
          drop: [note]
        """
    )
    data = {"size_kb": "12", "updated": "2024-01-02 03:04:05", "a": 1, "b": 2, "note": "x", "c": 3}
    assert document(mirror, data) == {
        "_id": "bash",
        "_v": 7,
        "size": 12,
        "updated": datetime(2024, 1, 2, 3, 4, 5),
        "b": 1,
        "a": 2,
        "c": 3,
    }


def test_the_event_keeps_its_data_as_they_came(make: Make) -> None:
    event = changed({"n": "1", "releases": [{"version": "1", "architecture": "all", "size": 1}]})
    before = repr(event)
    make(SPLIT.replace("children:", "fields: {n: integer}\n      children:")).prepare(event)
    assert repr(event) == before


def test_a_new_name_that_is_taken_is_refused(make: Make) -> None:
    mirror = make("project: {collection: projects, fields: {size_kb: {as: size}}}")
    assert "size_kb becomes size, which is there" in refused(
        mirror, changed({"size_kb": 1, "size": 2})
    )
    assert "size_kb becomes size, which is there" in refused(
        mirror, changed({"size": 2, "size_kb": 1})
    )


def test_data_that_do_not_fit_the_schema_are_refused_with_the_place(make: Make) -> None:
    mirror = make(
        """
        project:
          collection: projects
          schema:
            type: object
            properties: {tags: {type: array, items: {type: string}}, at: {format: date-time}}
        """
    )
    assert refused(mirror, changed({"tags": ["a", 5]})).startswith("schema: data.tags[1]: 5 is not")
    assert refused(mirror, changed({"at": "yesterday"})).startswith("schema: data.at: ")
    assert document(mirror, {"tags": ["a"], "at": "2024-01-01T00:00:00Z"})["tags"] == ["a"]


def test_a_value_that_cannot_be_converted_is_named(make: Make) -> None:
    mirror = make("project: {collection: projects, fields: {n: integer}}")
    assert refused(mirror, changed({"n": "many"})) == "data.n is no whole number: 'many'"


@pytest.mark.parametrize("names", ["ab", "ba", "acb", "bca"])
def test_no_two_fields_become_one(make: Make, names: str) -> None:
    """In whatever order they come."""
    mirror = make("project: {collection: projects, fields: {a: {as: b}}}")
    event = changed(dict.fromkeys(names, 1))
    assert "data.a becomes b, which is there, too" in refused(mirror, event)


def test_fields_may_change_their_names_with_each_other(make: Make) -> None:
    mirror = make("project: {collection: p, fields: {a: {as: b}, b: {as: c}, c: {as: a}}}")
    assert document(mirror, {"a": 1, "b": 2, "c": 3}) == {
        "_id": "bash",
        "_v": 7,
        "b": 1,
        "c": 2,
        "a": 3,
    }


@pytest.mark.parametrize("kind", ["integer", "number", "datetime", "boolean", "binary", "json"])
def test_what_is_null_or_absent_is_not_converted(make: Make, kind: str) -> None:
    mirror = make(f"project: {{collection: projects, fields: {{n: {kind}}}}}")
    assert document(mirror, {"n": None}) == {"_id": "bash", "_v": 7, "n": None}
    assert document(mirror, {}) == {"_id": "bash", "_v": 7}


def test_a_message_shows_300_characters(make: Make) -> None:
    mirror = make(f"project: {{collection: p, hook: {__name__}:failing}}")
    start = f"the hook {__name__}:failing failed: ValueError: "
    for length, shown in ((300 - len(start), "x" * (300 - len(start))), (301 - len(start), None)):
        text = refused(mirror, changed({"n": "x" * length}))
        assert len(text) == 300
        assert text == (start + shown if shown else start + "x" * (297 - len(start)) + "...")


def failing(data: Document, event: Event) -> Document:
    """A hook that says why it fails."""
    raise ValueError(data["n"])


def named_by_the_data(data: Document, event: Event) -> Document:
    """A hook that names its field as the data say."""
    return {data["n"]: 1}


@pytest.mark.parametrize("name", ["_x", "$x", "", "a\0b", "\0", 5, None])
def test_a_hook_gives_no_name_that_is_the_mirrors_or_mongodbs(make: Make, name: Any) -> None:
    mirror = make(f"project: {{collection: p, hook: {__name__}:named_by_the_data}}")
    assert "gave a field" in refused(mirror, changed({"n": name}))


@pytest.mark.parametrize("name", ["x", "a_b", "a$b", "é", " "])
def test_a_hook_gives_any_other_name(make: Make, name: str) -> None:
    mirror = make(f"project: {{collection: p, hook: {__name__}:named_by_the_data}}")
    assert document(mirror, {"n": name})[name] == 1


@pytest.mark.parametrize("change", ["changed", "deleted"])
@pytest.mark.parametrize("rewrite", [False, True])
def test_every_write_of_an_event_says_whether_it_is_a_rewrite(
    make: Make, change: str, rewrite: bool
) -> None:
    members = [{"version": "1", "architecture": "a"}]
    data = {"releases": members} if change == "changed" else None
    event = Event("project", change, "bash", 7, data, rewrite=rewrite)
    made = make(SPLIT).prepare(event)
    assert {one.rewrite for one in (made.own, *made.children)} == {rewrite}
    assert {one.version for one in (made.own, *made.children)} == {7}
    assert made.event is event
    assert (made.own.key, made.own.collection) == ("bash", "projects")
    assert [(one.key, one.collection) for one in made.children] == (
        [("bash/1/a", "releases")] if data else []
    )


def test_where_an_entity_goes_is_known(make: Make) -> None:
    mirror = make(SPLIT)
    assert mirror.collection_of("release") == "releases"
    assert mirror.parent_of == {"release": "project"}
    assert mirror.typed("project") is None
    assert mirror.key_of("project", "a/b") == "a/b"
    mirror.learn("project", None)
    assert mirror.prepare(Event("project", "deleted", "bash", 8)).own.key == "bash"
    with pytest.raises(UnusableEvent, match=r"entities of sync\.yaml: project, release"):
        mirror.collection_of("person")


@pytest.mark.parametrize(("more", "taken"), [(0, True), (1, False)])
def test_the_key_of_a_child_has_1024_bytes_at_most(make: Make, more: int, taken: bool) -> None:
    name = "é" * 508 + "x" * (1 + more)
    event = changed({"releases": [{"version": "1", "architecture": name}]})
    assert len(f"bash/1/{name}".encode()) == 1024 + more
    if taken:
        assert make(SPLIT).prepare(event).children
    else:
        assert "its key has more than 1024 bytes" in refused(make(SPLIT), event)


def test_the_place_of_a_wrong_value_is_said_step_by_step(make: Make) -> None:
    schema = "{properties: {a: {items: {properties: {b: {type: integer}}}}}}"
    mirror = make(f"project: {{collection: projects, schema: {schema}}}")
    text = refused(mirror, changed({"a": [{}, {"b": "x"}]}))
    assert text.startswith("schema: data.a[1].b: ")


def test_kinds_of_data_are_converted_each_in_its_way_however_many_there_were(make: Make) -> None:
    """What is to be converted is remembered by the types of the values: 1000 of them."""
    fields = ", ".join(f"f{number}: integer" for number in range(11))
    mirror = make(f"project: {{collection: projects, fields: {{{fields}}}}}")
    for number in range(1100):
        data = {f"f{bit}": ("7" if number >> bit & 1 else 7) for bit in range(11)}
        assert set(document(mirror, data).values()) == {"bash", 7}


def test_what_is_remembered_of_kinds_of_data_has_a_bound() -> None:
    """Producers write the data: what they can make up must not fill the memory."""
    fields = [f"f{number}" for number in range(11)]
    made = _Conversions([(int, (one, whole, "null")) for one in fields])
    sizes = set()
    for number in range(2048):
        data = {one: "7" if number >> bit & 1 else 7 for bit, one in enumerate(fields)}
        found = made.of(data)
        assert [one for one, _, _ in found] == [one for one in fields if data[one] == "7"]
        assert made.of(dict(data)) is found
        sizes.add(len(made._known))
    assert max(sizes) == 1000


class Whole(NamedTuple):
    """What is known of a table, as far as documents ask for it: whole numbers, and a key that is
    written without zeros in front."""

    rules: dict[str, Any]
    key: tuple[Any, ...] = ()

    def canonical(self, key: str) -> str:
        if "/" in key:
            raise Unlookable("it has a slash")
        return key.lstrip("0")


def whole(value: Any) -> int:
    return int(value)


def known(*fields: str, plain: type | None = int, misfit: str = "null") -> Any:
    """What is known of a table with these columns."""
    return Whole(
        {one: SimpleNamespace(plain=plain, convert=whole, misfit=misfit) for one in fields}
    )


class TestKnownTables:
    def test_what_is_known_of_a_table_converts_its_fields_and_its_keys(self, make: Make) -> None:
        mirror = make("project: {collection: projects, drop: [gone], fields: {text: integer}}")
        types = known("n", "gone")
        mirror.learn("project", types)
        assert mirror.typed("project") is types
        made = mirror.prepare(changed({"n": "5", "gone": "x", "text": "6"}, key="007"))
        assert made.own.document == {"_id": "7", "_v": 7, "n": 5, "text": 6}
        assert made.own.key == "7"
        mirror.learn("project", None)
        mirror.learn("project", None)
        made = mirror.prepare(changed({"n": "5"}, key="007"))
        assert made.own.document == {"_id": "007", "_v": 7, "n": "5"}

    def test_a_key_that_no_row_has_is_refused(self, make: Make) -> None:
        mirror = make(PLAIN)
        mirror.learn("project", known())
        text = refused(mirror, changed({}, key="x/y"))
        assert text == "no row has the key 'x/y': it has a slash"

    def test_a_value_that_does_not_fit_becomes_what_the_rule_says(self, make: Make) -> None:
        mirror = make("project: {collection: p, fields: {n: {type: integer, misfit: text}}}")
        assert document(mirror, {"n": "x"})["n"] == "x"
        mirror.learn("project", known("n", misfit="null"))
        assert document(mirror, {"n": "x"})["n"] is None

    def test_a_value_of_the_plain_type_is_not_converted(self, make: Make) -> None:
        mirror = make(PLAIN)
        mirror.learn("project", known("n", plain=float))
        assert document(mirror, {"n": 1.5})["n"] == 1.5
        assert document(mirror, {"n": "1"})["n"] == 1

    def test_children_have_the_types_of_their_own_table(self, make: Make) -> None:
        mirror = make(SPLIT)
        members = [{"version": str(n), "architecture": "a", "n": n} for n in ("1", 2)]
        mirror.learn("release", known("n"))
        made = mirror.prepare(changed({"releases": members}))
        assert [one.document["n"] for one in made.children] == [1, 2]


class TestHooks:
    def test_a_hook_has_the_last_word(self, make: Make) -> None:
        mirror = make(f"project: {{collection: projects, hook: {__name__}:double}}")
        assert document(mirror, {"n": 2}) == {"_id": "bash", "_v": 7, "n": 2, "twice": 4, "at": 7}

    @pytest.mark.parametrize("hook", ["", f", hook: {__name__}:double"])
    def test_a_file_whose_hooks_are_there_is_read(self, tmp_path: Path, hook: str) -> None:
        file = tmp_path / "sync.yaml"
        text = f"version: 1\nentities:\n  project: {{collection: p{hook}}}\n"
        file.write_text(text, encoding="utf-8")
        mirror = Mirror.of(Settings(tmp_path / "routes.yaml", "", "", tmp_path, sync=file))
        assert document(mirror, {"n": 1}).get("twice") == (2 if hook else None)

    def test_where_there_is_no_file_nothing_is_mirrored(self, tmp_path: Path) -> None:
        nothing = tmp_path / "sync.yaml"
        mirror = Mirror.of(Settings(tmp_path / "routes.yaml", "", "", tmp_path, sync=nothing))
        assert mirror.entities == {}

    def test_a_hook_that_fails_harms_its_event_alone(self, make: Make) -> None:
        mirror = make(f"project: {{collection: projects, hook: {__name__}:double}}")
        text = refused(mirror, changed({}))
        assert text == f"the hook {__name__}:double failed: KeyError: 'n'"

    @pytest.mark.parametrize(
        ("name", "what"),
        [
            ("hook_of_list", "list, and must give the document as a dict"),
            ("hook_of_dollar", "a field '$set'; names with _ or $ first are not its own"),
        ],
    )
    def test_a_hook_that_gives_what_cannot_be_stored_is_named(
        self, make: Make, name: str, what: str
    ) -> None:
        mirror = make(f"project: {{collection: projects, hook: {__name__}:{name}}}")
        assert refused(mirror, changed({})) == f"the hook {__name__}:{name} gave {what}"

    def test_a_hook_that_is_not_there_is_an_error_with_its_place(self, tmp_path: Path) -> None:
        file = tmp_path / "sync.yaml"
        text = "version: 1\nentities:\n  project: {collection: p, hook: no_such.module:x}\n"
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError) as caught:
            Mirror.of(Settings(tmp_path / "routes.yaml", "", "", tmp_path, sync=file))
        [problem] = caught.value.problems
        assert (problem.line, problem.column) == (3, 34)
        assert "there is no module `no_such` for hook" in problem.message


class TestChildren:
    def test_members_become_documents_with_the_version_of_their_parent(self, make: Make) -> None:
        members = [{"version": "1.0", "architecture": "all", "size": 5}]
        made = make(SPLIT).prepare(changed({"name": "bash", "releases": members}))
        assert made.own.document == {"_id": "bash", "_v": 7, "name": "bash"}
        assert [write.document for write in made.children] == [
            {
                "_id": "bash/1.0/all",
                "_v": 7,
                "_parent": "bash",
                "version": "1.0",
                "architecture": "all",
                "bytes": 5,
            }
        ]
        assert made.child_collections == ("releases",)

    def test_a_deletion_names_the_collections_in_which_its_children_vanish(
        self, make: Make
    ) -> None:
        made = make(SPLIT).prepare(Event("project", "deleted", "bash", 8))
        assert (made.children, made.child_collections) == ((), ("releases",))

    @pytest.mark.parametrize(
        ("data", "text"),
        [
            ({}, "data.releases is missing"),
            ({"releases": None}, "data.releases must be a list"),
            ({"releases": ["1.0"]}, "data.releases[0] must be an object"),
            ({"releases": [{"version": "1"}]}, "data.releases[0].architecture must name it"),
            (
                {"releases": [{"version": True, "architecture": "a"}]},
                "data.releases[0].version must name it",
            ),
            (
                {"releases": [{"version": n, "architecture": "a"} for n in ("1", 1)]},
                "data.releases[1] is named like another one",
            ),
            (
                {"releases": [{"version": "1", "architecture": "a", "_v": 1}]},
                "data.releases[0]._v: names with _ first",
            ),
            ({"releases": [{"architecture": "a"}]}, "schema: data.releases[0]: "),
            (
                {"releases": [{"version": "1", "architecture": "a" * 1100}]},
                "data.releases[0]: its key has more than 1024 bytes",
            ),
        ],
    )
    def test_members_that_cannot_be_split_off_are_refused(
        self, make: Make, data: dict[str, Any], text: str
    ) -> None:
        assert text in refused(make(SPLIT), changed(data))

    def test_a_child_does_not_come_alone(self, make: Make) -> None:
        event = changed({"version": "1"}, entity="release", key="bash/1.0/all")
        assert "release comes with its project" in refused(make(SPLIT), event)


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False)
)
NAME_PART = st.text("a1/%2F5é", max_size=5)


def sourced(*key: str) -> str:
    """A project whose releases have a table with this key."""
    return f"""
        project:
          collection: projects
          children:
            releases: {{entity: release, key: [version, architecture]}}
        release:
          collection: releases
          source: {{table: releases, key: [{", ".join(key)}], version: ver}}
    """


def releases_of_a_table(*parent: str) -> Mirror:
    """The same without a file. parent: the columns before the two of its own."""
    own = ["version", "architecture"]
    source = {"table": "r", "key": [*parent, *own], "version": "ver"}
    child = {"entity": "release", "key": own}
    entities = {
        "project": {"collection": "projects", "children": {"releases": child}},
        "release": {"collection": "releases", "source": source},
    }
    return Mirror(File.model_validate({"version": 1, "entities": entities}))


def key_of(*kinds: str) -> Any:
    """What is known of a table whose key has columns of these kinds."""
    none: Any = None
    parts = [KeyColumn(none, KINDS[kind], none, none, None, str) for kind in kinds]
    return Whole({}, tuple(parts))


class TestKeysOfChildren:
    """They are the keys of their rows, where the children have a table of their own."""

    def keys(self, mirror: Mirror, owner: str, *members: tuple[Any, Any]) -> list[str]:
        listed = [{"version": one, "architecture": other} for one, other in members]
        made = mirror.prepare(changed({"releases": listed}, key=owner))
        assert [one.document["_parent"] for one in made.children] == [owner] * len(members)
        return [one.key for one in made.children]

    @pytest.mark.parametrize(
        ("key", "owner", "name"),
        [
            ([], "a/b%2F", "a/b%2F/1/2/x%2F"),  # no table: as the parent is called
            (["version", "architecture"], "a/b%2F", "a/b%2F/1/2/x%2F"),
            (["project", "version", "architecture"], "bash", "bash/1%2F2/x%252F"),
            (["project", "version", "architecture"], "a/b%2F", "a%2Fb%252F/1%2F2/x%252F"),
            (["owner", "project", "version", "architecture"], "a/b%2F", "a/b%2F/1%2F2/x%252F"),
            (["a", "b", "c", "version", "architecture"], "1//3", "1//3/1%2F2/x%252F"),
        ],
    )
    def test_what_precedes_its_own_columns_is_the_parents_key(
        self, make: Make, key: list[str], owner: str, name: str
    ) -> None:
        mirror = make(sourced(*key) if key else SPLIT)
        assert self.keys(mirror, owner, ("1/2", "x%2F")) == [name]

    @given(
        st.lists(st.tuples(NAME_PART, NAME_PART), min_size=2, max_size=4, unique=True),
        st.text("a/%2F5", max_size=4),
    )
    def test_members_with_other_names_have_other_keys(
        self, members: list[tuple[str, str]], owner: str
    ) -> None:
        mirror = releases_of_a_table("project")
        assert len({*self.keys(mirror, owner, *members)}) == len(members)

    @given(
        owner=st.text("a1-/%2F", max_size=6),
        parent=st.sampled_from([(), ("a",), ("a", "b"), ("a", "b", "c")]),
        kinds=st.none() | st.lists(st.sampled_from(sorted(KINDS)), min_size=5, max_size=5),
        member=st.tuples(*[st.text(max_size=8) | scalars] * 2),
    )
    def test_whatever_a_member_is_called_its_event_is_written_or_refused(
        self, owner: str, parent: tuple[str, ...], kinds: list[str] | None, member: tuple[Any, Any]
    ) -> None:
        """No other error leaves it: the worker would try the event again and again."""
        mirror = releases_of_a_table(*parent)
        if kinds is not None:
            mirror.learn("release", key_of(*kinds[: len(parent) + 2]))
        try:
            [key] = self.keys(mirror, owner, member)
        except UnusableEvent:
            return
        assert len(key.encode()) <= 1024

    @pytest.mark.parametrize("owner", ["bash", "", "a/b/c"])
    def test_a_parent_whose_key_has_other_columns_is_refused(self, make: Make, owner: str) -> None:
        """It harms no other event."""
        mirror = make(sourced("owner", "project", "version", "architecture"))
        members = [{"version": "1", "architecture": "x"}]
        text = refused(mirror, changed({"releases": members}, key=owner))
        parts = owner.count("/") + 1
        assert text.startswith(f"data.releases[0]: no row has the key ['{owner}', '1', 'x']: it ")
        assert f"has {parts} parts, and the key has 2 columns" in text

    @pytest.mark.parametrize(
        ("kinds", "member", "name"),
        [
            (("text", "whole", "text"), ("007", "x/y"), "bash/7/x%2Fy"),
            (("text", "whole", "text"), (7, "x"), "bash/7/x"),
            (("text", "text", "bytes"), ("1", "AP8="), "bash/1/00ff"),
            (("text", "bytes", "uuid"), ("AP8=", "A" * 8 + "-AAAA" * 3 + "-" + "A" * 12), None),
            (("text", "whole", "text"), ("one", "x"), "it is no whole number"),
            (("text", "text", "bytes"), ("1", "§"), "is no base64 text"),
            (("text", "text", "bytes"), ("1", 5), "is no base64 text"),
            (("whole", "text", "text"), ("1", "x"), "it is no whole number"),
        ],
    )
    def test_they_are_written_as_their_columns_are(
        self, make: Make, kinds: tuple[str, ...], member: tuple[Any, Any], name: str | None
    ) -> None:
        """Bytes, which come as base64, are hexadecimal in a key. What no row has is refused."""
        mirror = make(sourced("project", "version", "architecture"))
        mirror.learn("release", key_of(*kinds))
        if name is None:
            name = f"bash/00ff/{member[1].lower()}"
        if "/" in name:
            assert self.keys(mirror, "bash", member) == [name]
            return
        data = {"releases": [{"version": member[0], "architecture": member[1]}]}
        text = refused(mirror, changed(data))
        assert text.startswith("data.releases[0]: no row has the key ['bash', ")
        assert name in text


CASES: list[tuple[Any, Any, Any]] = [
    ("string", 5, "5"),
    ("string", "ä", "ä"),
    ("integer", " 42", 42),
    ("integer", 3.0, 3),
    ("integer", True, 1),
    ("number", "1.5", 1.5),
    ("number", "10", 10.0),
    ("boolean", "N", False),
    ("boolean", 1, True),
    ("boolean", 2, True),
    ("boolean", "", False),
    ("datetime", "2024-02-03T04:05:06.1239+02:00", datetime(2024, 2, 3, 2, 5, 6, 123000)),
    ("datetime", 86400, datetime(1970, 1, 2)),
    ("datetime", "0000-00-00 00:00:00", None),
    ("datetime", "", None),
    ("decimal", "12.50", Decimal128("12.50")),
    ("binary", "AP8=", b"\x00\xff"),
    ("json", '{"a": [1]}', {"a": [1]}),
    ("json", [1], [1]),
]
WRONG: list[tuple[Any, Any]] = [
    ("string", [1]),
    ("string", True),
    ("integer", "1e3"),
    ("integer", str(2**63)),
    ("integer", 1.5),
    ("number", "nan"),
    ("number", "1e999"),
    ("number", "many"),
    ("boolean", "perhaps"),
    ("datetime", "3 May"),
    ("datetime", True),
    ("datetime", 1e300),
    ("decimal", "1" * 40),
    ("decimal", "inf"),
    ("binary", "§"),
    ("json", "{"),
    ("json", '{"$where": 1}'),
]


@pytest.mark.parametrize(("kind", "value", "result"), CASES)
def test_values_are_converted(kind: Any, value: Any, result: Any) -> None:
    found = CONVERSIONS[kind](value)
    assert found == result
    assert type(found) is type(result)


@pytest.mark.parametrize(("kind", "value"), WRONG)
def test_values_that_are_not_of_the_type_are_refused(kind: Any, value: Any) -> None:
    with pytest.raises(ValueError, match=r"^(is|has|cannot)\b"):
        CONVERSIONS[kind](value)


@given(st.sampled_from(["string", "integer", "number", "boolean"]), scalars)
def test_what_is_converted_stays_as_it_is(kind: Any, value: Any) -> None:
    try:
        found = CONVERSIONS[kind](value)
    except ValueError:
        return
    if isinstance(found, float) and not math.isfinite(found):
        return  # a database's word for it; as a number it is what became too large in JSON
    assert CONVERSIONS[kind](found) == found
    assert type(CONVERSIONS[kind](found)) is type(found)


@given(st.sampled_from(sorted(CONVERSIONS)), scalars)
def test_what_cannot_be_converted_is_a_value_error_and_nothing_else(kind: Any, value: Any) -> None:
    with contextlib.suppress(ValueError):
        CONVERSIONS[kind](value)
