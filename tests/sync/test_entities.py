"""sync.yaml: what it may say, and every error with its place and what to write instead."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bridge.errors import ConfigError
from bridge.queue.sources import Column
from bridge.sync.entities import SCHEMA, File, load, schema_text

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
    assert first.change == Column(
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
        ("version: 1\noutbox: {source: ''}\n", (2, 18), "at least 1 character"),
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
        (QUEUE.replace("{column: k}", "{column: a-b}"), (5, 19), "is no name of a column"),
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

    assert set(schema["properties"]) == {"version", "outbox", "spool", "queues", "lists"}
    assert schema["additionalProperties"] is False
    assert set(schema["$defs"]["Data"]["properties"]) == {"columns", "json", "query"}
