"""Text whose bytes are in another character set than its column says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import bson
import pytest
import sqlalchemy as sql
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.errors import UnusableEvent
from bridge.queue.events import Event
from bridge.queue.relay.spool import Spool
from bridge.queue.sql.database import connect
from bridge.sync.charsets import codec_of, readable
from bridge.sync.documents import Mirror
from bridge.sync.log.stream import Change, Unreadable
from bridge.sync.models import File
from bridge.sync.sql.source import SqlSource
from bridge.sync.sql.sums import KeyedRows
from stack.mariadb import MariaDB
from stack.php import run_php
from tests.sync.alltypes.keyed import judge, mirror_of
from tests.sync.log.reading import Place, end_of, events_of, found_in

# Charset of the bytes, declared charset of the column, and a text that both bytes can hold.
STORED = (
    ("utf-8", "latin1", "Ünï – Привет 日本 😀"),
    ("utf-8", "binary", "Ünï – Привет 日本 😀"),
    ("utf-8", "ascii", "plain"),
    ("utf-8", "cp1251", "Привет"),
    ("cp1251", "latin1", "Привет"),
    ("koi8r", "latin1", "Привет"),
    ("gbk", "latin1", "日本"),
    ("sjis", "latin1", "日本"),
    ("latin1", "utf8mb3", "plain"),
)
INVALID = b"caf\xe9 \xff"


@pytest.fixture(scope="module")
def engine(logged_mariadb: MariaDB) -> Iterator[sql.Engine]:
    made = connect(logged_mariadb.create_database("texts"))
    yield made
    made.dispose()
    logged_mariadb.drop_database("texts")


def column_of(charset: str) -> str:
    return "VARBINARY(200)" if charset == "binary" else f"VARCHAR(200) CHARACTER SET {charset}"


def make(engine: sql.Engine, charset: str, *raw: bytes, key: bool = False) -> Place:
    """A table with a text in a column of this charset, of these bytes; where the log has it."""
    began = end_of(engine)
    assert began is not None
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS texts")
        end = "PRIMARY KEY (id)"
        columns = f"id INT NOT NULL, ver BIGINT NOT NULL, text {column_of(charset)}"
        if key:
            end, columns = (
                "PRIMARY KEY (k)",
                f"k {column_of(charset)} NOT NULL, ver BIGINT NOT NULL",
            )
        connection.exec_driver_sql(f"CREATE TABLE texts ({columns}, {end})")
        for number, one in enumerate(raw, 1):
            # As a client that says that it speaks the column's charset.
            introducer = f"_{charset} " if charset != "binary" else ""
            value = f"{introducer}x'{one.hex()}'"
            values = f"{value}, {number}" if key else f"{number}, {number}, {value}"
            connection.exec_driver_sql(f"INSERT INTO texts VALUES ({values})")
    return began


def read(engine: sql.Engine, charset: str, stored: str, **rule: Any) -> list[Any]:
    """The texts of the documents."""
    mirror = mirror_of_texts(charset, stored, **rule)
    chunk = SqlSource(engine, "text", mirror).chunk(None, 100)
    assert chunk.bad == []
    return texts(mirror, chunk.events)


def mirror_of_texts(charset: str, stored: str, **rule: Any) -> Mirror:
    field = {"text": {"stored": stored, "column": charset}, **rule}
    source = {"table": "texts", "key": "id", "version": "ver"}
    entity = {"collection": "texts", "source": source, "fields": {"text": field}}
    return Mirror(File.model_validate({"version": 1, "entities": {"text": entity}}))


def texts(mirror: Mirror, events: Iterable[Event]) -> list[Any]:
    return [
        bson.decode(bson.encode(mirror.prepare(event).own.document))["text"] for event in events
    ]


@pytest.mark.parametrize(("stored", "charset", "text"), STORED)
def test_what_is_stored_is_read_as_what_it_is(
    engine: sql.Engine, stored: str, charset: str, text: str
) -> None:
    """Whatever the column is declared with; the empty text, too."""
    make(engine, charset, text.encode(codec_of(stored)), b"")
    assert read(engine, charset, stored) == [text, ""]


@pytest.mark.parametrize(("stored", "charset", "text"), STORED)
def test_the_log_has_the_same_text(
    engine: sql.Engine, stored: str, charset: str, text: str
) -> None:
    """Also of bytes that are no such text."""
    began = make(engine, charset, text.encode(codec_of(stored)), b"", b"a", b"caf")
    mirror = mirror_of_texts(charset, stored)
    chunk = SqlSource(engine, "text", mirror).chunk(None, 100)

    logged = events_of(found_in(engine, mirror, began))
    assert texts(mirror, logged) == texts(mirror, chunk.events)
    assert len(logged) == 4


@pytest.mark.parametrize("charset", ["latin1", "binary"])
def test_the_log_has_bytes_that_are_no_such_text(engine: sql.Engine, charset: str) -> None:
    """They follow the same policy."""
    began = make(engine, charset, b"good", INVALID)
    for rule, text in (({}, "café ÿ"), ({"misfit": "null"}, None)):
        mirror = mirror_of_texts(charset, "utf-8", **rule)
        SqlSource(engine, "text", mirror).chunk(None, 100)
        assert texts(mirror, events_of(found_in(engine, mirror, began))) == ["good", text]


def test_php_reads_the_same_text(engine: sql.Engine, tmp_path: Path) -> None:
    """A site of that time says that it speaks latin1, and gets its UTF-8 back."""
    text = "Ünï – Привет 日本 😀"
    make(engine, "latin1", text.encode())
    script = tmp_path / "read.php"
    url = engine.url
    script.write_text(
        f"<?php $db = new mysqli('{url.host}', 'root', '', '{url.database}', {url.port});"
        "$db->set_charset('latin1');"
        "echo $db->query('SELECT text FROM texts')->fetch_row()[0];",
        encoding="utf-8",
    )
    assert run_php(script) == text == read(engine, "latin1", "utf-8")[0]


@pytest.mark.parametrize("charset", ["latin1", "binary"])
def test_bytes_that_are_no_such_text_follow_the_policy(engine: sql.Engine, charset: str) -> None:
    """By default they are readable, as PHP's producer would send them; nothing is stopped."""
    make(engine, charset, b"good", INVALID)

    assert read(engine, charset, "utf-8") == ["good", "café ÿ"]
    assert read(engine, charset, "utf-8", misfit="null") == ["good", None]
    with pytest.raises(UnusableEvent, match="is no utf-8"):
        read(engine, charset, "utf-8", misfit="dead")


@pytest.mark.parametrize(("stored", "charset", "text"), STORED)
def test_a_key_of_such_text_is_found_again(
    engine: sql.Engine, stored: str, charset: str, text: str
) -> None:
    """Rows are named by what it is, and walked, found and summed up."""
    raw = [part.encode(codec_of(stored)) for part in (text, "a", "B ", "", "z%/2F")]
    began = make(engine, charset, *raw, key=True)
    mirror = mirror_of(["texts"], False, k={"text": {"stored": stored, "column": charset}})

    assert judge(engine, mirror, "texts") == []
    events = SqlSource(engine, "texts", mirror).chunk(None, 10).events
    assert {event.key for event in events} == {text, "a", "B ", "", "z%/2F"}
    logged = found_in(engine, mirror, began)
    assert {one.key for one in logged if isinstance(one, Change)} == {e.key for e in events}


def test_a_row_whose_key_is_no_such_text_is_told_and_stops_nothing(engine: sql.Engine) -> None:
    """It has no name; the others are read."""
    began = make(engine, "latin1", b"a", b"\xff", b"b", key=True)
    mirror = mirror_of(["texts"], False, k={"text": {"stored": "utf-8", "column": "latin1"}})
    source = SqlSource(engine, "texts", mirror)
    for size in (1, 2, 10):
        chunks, position = [], None
        while (chunk := source.chunk(position, size)).last is not None:
            position = chunk.last
            chunks.append(chunk)
        assert [event.key for chunk in chunks for event in chunk.events] == ["a", "b"]
        told = [one.error for chunk in chunks for one in chunk.bad]
        assert told == ["texts: the key column k holds what is no utf-8"]
    logged = found_in(engine, mirror, began)
    assert [one.key for one in logged if isinstance(one, Change)] == ["a", "b"]
    told = [one.error for one in logged if isinstance(one, Unreadable)]
    assert told == ["the key column k holds what is no utf-8"]
    rows = KeyedRows(engine, "texts", mirror)
    assert rows.sums(chunk=2).rows == 3
    assert len(list(rows.keys(frozenset(range(4096))))) == 3


@given(st.binary())
def test_text_of_utf8_stays_and_any_other_bytes_become_text(raw: bytes) -> None:
    """Once it is text, it stays the same."""
    text = readable(raw)
    assert readable(text.encode()) == text
    try:
        assert text == raw.decode()
    except UnicodeDecodeError:
        assert text.encode() != raw


@given(st.lists(st.binary(max_size=12), min_size=1, max_size=40))
@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_bytes_are_readable_as_phps_producer_reads_them(tmp_path: Path, raw: list[bytes]) -> None:
    """The two of them agree on every byte."""
    script, spool = tmp_path / "text.php", Spool(tmp_path / "spool")
    producer = Path(__file__).parents[3] / "php" / "BridgeProducer.php"
    script.write_text(
        f"<?php require '{producer}';"
        f"$bridge = new BridgeProducer(array('spool_dir' => '{spool.directory}'));"
        "$texts = array_map('hex2bin', explode(',', $argv[1]));"
        "$bridge->spool('text', 'changed', 'k', 1, array('texts' => $texts));"
    )
    run_php(script, ",".join(one.hex() for one in raw))
    [line] = spool.lines() or []
    spool.done()
    assert Event.parse(line).data == {"texts": [readable(one) for one in raw]}
