"""sync.yaml: what it may say, and every error with its place and what to write instead."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bridge.errors import ConfigError
from bridge.queue.sources import ColumnValue
from bridge.sync.entities import SCHEMA, File, load, schema_text
from bridge.sync.models import FieldRule

WHOLE = """\
version: 1
outbox: {table: shop.changes, source: /forge, keep: 2h}
spool: [/var/spool/bridge, /srv/other]
queues:
  - table: sync_queue
    id: queue_id
    where: processed = 0 AND due <= NOW()
    entity: project
    change: {column: action, values: {I: changed, U: changed, D: deleted, 3: deleted}}
    key: {column: project_name}
    version: {column: ver}
    data:
      columns: {title: project_title, stars: star_count}
    done: {processed: 1, note: taken}
  - table: page_queue
    entity: {column: kind}
    key: {column: k}
    data: {query: "SELECT title, ver FROM project WHERE name = :key"}
lists: [celery]
"""
ENTITIES = """\
version: 1
max_document: 4MiB
reconcile: {every: 6h, rate: 100}
entities:
  project:
    collection: projects
    source: {table: projects, key: name, version: ver, deleted: gone}
    schema: {type: object, required: [name]}
    fields: {size_kb: {as: size, type: integer}, updated: datetime}
    drop: [note]
    indexes: [name, [section, -updated], {fields: [homepage], unique: true}]
    children:
      releases: {entity: release, key: [version, architecture]}
  release:
    collection: releases
    source:
      query: SELECT * FROM releases
      key: [project, version, architecture]
      version: ver
      columns: {version: version, size: bytes}
"""
QUEUE = """\
version: 1
queues:
  - table: q
    entity: project
    key: {column: k}
    version: {column: v}
    data: {json: state}
"""


def read(tmp_path: Path, text: str) -> File:
    file = tmp_path / "sync.yaml"
    file.write_text(text, encoding="utf-8")
    return load(file)


def problems(tmp_path: Path, text: str) -> list[tuple[int, int, str]]:
    """Line, column, and message with hint."""
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    for problem in caught.value.problems:
        assert problem.file == str(tmp_path / "sync.yaml")
    return [(one.line, one.column, f"{one.message} – {one.hint}") for one in caught.value.problems]


def problem(tmp_path: Path, text: str) -> tuple[int, int, str]:
    [one] = problems(tmp_path, text)
    return one


def test_all_that_may_stand_there_is_read(tmp_path: Path) -> None:
    file = read(tmp_path, WHOLE)

    assert (file.outbox.table, file.outbox.source) == ("shop.changes", "/forge")
    assert file.outbox.keep == 7200
    assert file.spool == ["/var/spool/bridge", "/srv/other"]
    assert file.lists == ["celery"]
    first, second = file.queues
    assert first.change == ColumnValue(
        column="action", values={"I": "changed", "U": "changed", "D": "deleted", 3: "deleted"}
    )
    assert first.done == {"processed": 1, "note": "taken"}
    assert [type(value) for value in dict(first.done).values()] == [int, str]
    assert (first.id, second.id, second.done, second.where) == ("queue_id", "id", "delete", "")
    assert second.version is None


def test_a_missing_file_is_an_outbox_of_the_usual_name(tmp_path: Path) -> None:
    file = load(tmp_path / "sync.yaml")

    assert file == File(version=1)
    assert (file.outbox.table, file.outbox.keep, file.queues) == ("bridge_outbox", 0, [])


def test_a_file_with_a_version_alone_is_the_same(tmp_path: Path) -> None:
    assert read(tmp_path, "version: 1\n") == File(version=1)
    assert read(tmp_path, "version: 1\noutbox: {keep: 0s}\n") == File(version=1)


def test_a_queue_needs_no_more_than_this(tmp_path: Path) -> None:
    [queue] = read(tmp_path, QUEUE).queues
    assert (queue.change, queue.done, queue.data.json_) == ("changed", "delete", "state")


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("version: 2\n", (1, 10), "must be 1"),
        ("spool: []\n", (1, 1), "`version` is missing"),
        ("version: 1\nspools: [x]\n", (2, 1), "did you mean `spool`?"),
        ("version: 1\noutbox:\n  tabel: x\n", (3, 3), "did you mean `table`?"),
        ("version: 1\noutbox: {table: a b}\n", (2, 17), "is no name of a table"),
        ("version: 1\noutbox: {table: a.b.c}\n", (2, 17), "is no name of a table"),
        ("version: 1\noutbox: {source: ''}\n", (2, 18), "is empty"),
        ("version: 1\noutbox: {keep: 5}\n", (2, 16), "write for example 500ms"),
        ("version: 1\nspool: /x\n", (2, 8), "must be a list"),
        ("version: 1\nspool: [1]\n", (2, 9), "must be text"),
        ("version: 1\nversion: 1\n", (2, 1), "keep one of the two"),
        ("version: 1\nspool: [x\n", (3, 1), "check indentation"),
        ("- version: 1\n", (1, 1), "must be a mapping"),
        (QUEUE.replace("{json: state}", "{}"), (7, 11), "write columns, json or query"),
        (
            QUEUE.replace("{json: state}", "{json: a, query: 'x :key'}"),
            *((7, 11), "write columns, json or query"),
        ),
        (
            QUEUE.replace("{json: state}", "{query: SELECT 1}"),
            *((7, 11), "write … WHERE name = :key"),
        ),
        (QUEUE.replace("{json: state}", "{jsno: state}"), (7, 12), "did you mean `json`?"),
        (QUEUE.replace("    version: {column: v}\n", ""), (3, 5), "name the column that holds it"),
        (
            QUEUE.replace("    version: {column: v}\n", "    change: deleted\n").replace(
                "json: state", "query: 'x :key'"
            ),
            *((3, 5), "a deletion needs a version too"),
        ),
        (QUEUE.replace("{column: k}", "k"), (5, 10), "must be a mapping"),
        (QUEUE.replace("{column: k}", '{column: ""}'), (5, 19), "is no name of a column"),
        (QUEUE.replace("{column: k}", "{colunm: k}"), (5, 11), "did you mean `column`?"),
        (QUEUE.replace("table: q", "tabel: q"), (3, 5), "did you mean `table`?"),
        (QUEUE + "    done: {processed: 1}\n", (3, 5), "`where: processed = 0`"),
        (QUEUE + "    where: x = 0\n    done: {}\n", (3, 5), "`where: processed = 0`"),
        (QUEUE + "    done: gone\n", (8, 11), "must be 'delete'"),
        (QUEUE + "    change: altered\n", (8, 13), "'changed' or 'deleted'"),
    ],
)
def test_an_error_has_its_place_and_what_to_write(
    tmp_path: Path, text: str, place: tuple[int, int], words: str
) -> None:
    found = problems(tmp_path, text)
    assert any(one[:2] == place and words in one[2] for one in found), found


def test_entities_are_read(tmp_path: Path) -> None:
    file = read(tmp_path, ENTITIES)

    project, release = file.entities["project"], file.entities["release"]
    assert project.source is not None
    assert release.source is not None
    assert (project.source.table, project.source.key) == ("projects", ("name",))
    assert release.source.key == ("project", "version", "architecture")
    assert project.fields["size_kb"] == FieldRule(as_="size", type="integer")
    assert project.fields["updated"] == FieldRule(type="datetime")
    assert [index.name for index in project.indexes] == [
        "bridge_name",
        "bridge_section_updated_desc",
        "bridge_homepage_unique",
    ]
    assert project.indexes[1].keys == [("section", 1), ("updated", -1)]
    assert project.indexes[2].unique
    assert project.children["releases"].key == ("version", "architecture")
    assert file.max_document == 4 * 1024 * 1024
    assert file.reconcile is not None
    assert (file.reconcile.every, file.reconcile.rate, file.reconcile.repair) == (21600, 100, False)


@pytest.mark.parametrize(
    ("old", "new", "place", "words"),
    [
        ("4MiB", "17MiB", (2, 15), "at most 16MiB"),
        ("every: 6h", "every: 0s", (3, 20), "is no duration above zero"),
        ("rate: 100", "rate: 0", (3, 30), "0 is too small"),
        ("  project:", "  Project:", (5, 3), "is no name of an entity"),
        ("collection: projects", "collection: releases", (15, 17), "is that of project"),
        ("collection: projects", "collection: bridge_state", (6, 17), "own bookkeeping"),
        ("collection: projects", "collection: system.x", (6, 17), "MongoDB's own"),
        ("table: projects, ", "", (7, 13), "write table or query"),
        ("{table: projects,", "{table: p, query: SELECT,", (7, 13), "write table or query"),
        ("key: name", "key: []", (7, 36), "is empty"),
        ("key: name", 'key: ""', (7, 36), "is no name of a column"),
        ("deleted: gone", "delete: gone", (7, 56), "did you mean `deleted`?"),
        ("required: [name]", "required: name", (8, 38), "no JSON Schema"),
        ("{type: object, required: [name]}", "{$ref: 'http://x.invalid/'}", (8, 13), "not fetched"),
        ("schema: {type: object, required: [name]}", "schema: x.json", (8, 13), "x.json"),
        ("type: integer", "type: int", (9, 40), "must be 'string'"),
        ("as: size", "as: _size", (9, 28), "is no name of a field"),
        ("updated: datetime}", "size: {as: size}}", (9, 56), "becomes `size`, too"),
        ("drop: [note]", "drop: [size_kb]", (9, 23), "is dropped, too"),
        ("drop: [note]", "drop: [releases]", (10, 11), "becomes documents of its own"),
        ("updated: datetime", "releases: string", (9, 60), "becomes documents of its own"),
        ("[name, [", "[name, name, [", (11, 21), "the same index stands above"),
        ("-updated]", "-section]", (11, 21), "a field stands twice"),
        ("[name, [", "[tombstones, [", (11, 15), "the bridge's own index"),
        ("entity: release,", "entity: releas,", (13, 26), "did you mean `release`?"),
        ("entity: release,", "entity: project,", (13, 26), "has children of its own"),
        (
            "key: [version, architecture]",
            "key: version",
            (13, 26),
            "and then 1 column for version",
        ),
        ("query: SELECT * FROM releases", "qurey: x", (17, 7), "did you mean `query`?"),
    ],
)
def test_an_error_of_an_entity_has_its_place(
    tmp_path: Path, old: str, new: str, place: tuple[int, int], words: str
) -> None:
    assert old in ENTITIES
    found = problems(tmp_path, ENTITIES.replace(old, new, 1))
    assert any(one[:2] == place and words in one[2] for one in found), found


def test_a_source_needs_one_for_its_children(tmp_path: Path) -> None:
    text = ENTITIES[: ENTITIES.index("    source:\n")]
    place, words = problem(tmp_path, text)[:2], problem(tmp_path, text)[2]
    assert place == (13, 26)
    assert "its children `release` have none" in words


def test_a_child_has_one_parent(tmp_path: Path) -> None:
    text = ENTITIES + "  other: {collection: o, children: {releases: {entity: release, key: v}}}\n"
    assert "has a parent already: project" in problem(tmp_path, text)[2]


def test_a_schema_may_be_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"type": "object"}', encoding="utf-8")
    text = "version: 1\nentities:\n  p: {collection: p, schema: p.json}\n"
    assert read(tmp_path, text).entities["p"].schema_ == {"type": "object"}
    (tmp_path / "p.json").write_text("[]", encoding="utf-8")
    assert "p.json is no JSON Schema: it holds no object" in problem(tmp_path, text)[2]


def test_all_errors_are_told_at_once(tmp_path: Path) -> None:
    text = "version: 1\nspools: []\noutbox: {table: a b, keep: x}\nlists: {}\n"

    assert [one[:2] for one in problems(tmp_path, text)] == [(2, 1), (3, 17), (3, 28), (4, 8)]


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "sync.yaml").mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "sync.yaml")
    (tmp_path / "latin1.yaml").write_bytes(b"version: 1 # \xe9\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "latin1.yaml")


def test_the_schema_for_editors_is_in_step() -> None:
    """If this fails: write `bridge.sync.entities.schema_text()` to bridge/sync/sync.schema.json."""
    assert SCHEMA.read_text(encoding="utf-8") == schema_text()


def test_the_schema_knows_every_key_and_no_other() -> None:
    schema = json.loads(schema_text())

    assert set(schema["properties"]) == set(File.model_fields)
    assert schema["additionalProperties"] is False
    assert set(schema["$defs"]["Data"]["properties"]) == {"columns", "json", "query"}


def test_what_the_log_tells_row_by_row_has_no_part_in_families(tmp_path: Path) -> None:
    text = """\
version: 1
entities:
  project:
    collection: projects
    source: {table: projects, key: name}
    children: {releases: {entity: release, key: v}}
  release:
    collection: releases
    source: {table: releases, key: [project, v], log: true}
"""
    assert "`release` comes with its project" in problem(tmp_path, text)[2]

    parent = text.replace(", log: true}", "}").replace("key: name}", "key: name, log: true}")
    assert "an entity with children comes as a whole" in problem(tmp_path, parent)[2]


COMPARED = """\
version: 1
entities:
  project:
    collection: projects
    source: {table: projects, key: name, version: ver, log: compare}
    children: {releases: {entity: release, key: v}}
  release:
    collection: releases
    source: {table: releases, key: [project, v], log: compare}
"""


def test_what_is_only_compared_may_have_versions_and_children(tmp_path: Path) -> None:
    path = tmp_path / "sync.yaml"
    path.write_text(COMPARED, encoding="utf-8")

    sources = [one.source for one in load(path).entities.values()]

    assert [one and (one.owner, one.log) for one in sources] == [
        ("column", "compare"),
        ("beside", "compare"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("table: projects,", "query: SELECT 1,", "the log has the rows of tables"),
        ("version: ver, log: compare", "version: ver, log: true", "the log gives the versions"),
        ("log: compare}\n    children", "log: compares}\n    children", "true, or compare"),
    ],
)
def test_a_source_that_the_log_is_not_for_is_refused(
    tmp_path: Path, old: str, new: str, says: str
) -> None:
    assert old in COMPARED
    assert says in problem(tmp_path, COMPARED.replace(old, new, 1))[2]
