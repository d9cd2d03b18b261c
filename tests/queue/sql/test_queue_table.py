"""A queue table of the site's own: every row moves once, whole, or becomes a dead letter."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sql

from bridge.errors import BridgeError, ServerAway, UndecodableMessage
from bridge.queue.sources import SqlQueue
from bridge.queue.sql import database
from bridge.queue.sql.outbox import Outbox, connect
from bridge.queue.sql.queue_table import move, to_outbox_row
from bridge.queue.sql.values import to_json
from stack.process import REPOSITORY
from tests.queue.outbox_site import DIALECTS, SERVERS, engine_for, outbox_in, rows_of

TABLE = (
    "CREATE TABLE q (id INTEGER PRIMARY KEY, action VARCHAR(9), k VARCHAR(2000), v VARCHAR(40),"
    " title VARCHAR(100), state TEXT, processed INTEGER DEFAULT 0)"
)
COLUMNS = {
    "table": "q",
    "entity": "project",
    "change": {"column": "action", "values": {"I": "changed", "D": "deleted"}},
    "key": {"column": "k"},
    "version": {"column": "v"},
    "data": {"columns": {"name": "title"}},
}


def queue(**fields: Any) -> SqlQueue:
    return SqlQueue.model_validate(COLUMNS | fields)


@pytest.fixture(params=DIALECTS)
def engine(request: pytest.FixtureRequest) -> Iterator[sql.Engine]:
    yield from engine_for(request)


@pytest.fixture(params=SERVERS)
def server_engine(request: pytest.FixtureRequest) -> Iterator[sql.Engine]:
    yield from engine_for(request)


@pytest.fixture
def outbox(engine: sql.Engine) -> Outbox:
    run(engine, TABLE)
    return outbox_in(engine)


def run(engine: sql.Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def fill(engine: sql.Engine, *rows: dict[str, Any]) -> None:
    """Insert rows; the columns that are not given are those of a good change."""
    usual = {"action": "I", "k": "vim", "v": "7", "title": "Vi", "state": "{}"}
    with engine.begin() as connection:
        for number, row in enumerate(rows, 1):
            values = {"id": number} | usual | row
            names = ", ".join(values)
            marks = ", ".join(f":{name}" for name in values)
            connection.execute(sql.text(f"INSERT INTO q ({names}) VALUES ({marks})"), values)


def left(engine: sql.Engine, column: str = "id") -> list[Any]:
    with engine.begin() as connection:
        return list(connection.execute(sql.text(f"SELECT {column} FROM q ORDER BY id")).scalars())


class Grave:
    """Keeps what is buried."""

    def __init__(self) -> None:
        self.found: list[tuple[dict[str, Any], str]] = []
        self.away = False

    def __call__(self, raw: bytes, error: str) -> None:
        if self.away:
            raise ServerAway("Redis is away")
        self.found.append((json.loads(raw), error))

    @property
    def errors(self) -> list[str]:
        return [error for _, error in self.found]


def nobody(raw: bytes, error: str) -> None:
    raise AssertionError(error)


def moved(outbox: Outbox) -> list[tuple[Any, ...]]:
    return [(r.type, r.aggregateid, r.ver, r.payload) for r in rows_of(outbox)]


class TestMoving:
    def test_columns_and_constants_make_the_event_and_the_row_goes(self, outbox: Outbox) -> None:
        fill(outbox.engine, {"title": "Vi ä😀"}, {"action": "D", "k": "ed", "v": "8"})

        assert move(queue(), outbox, nobody) == 2
        assert moved(outbox) == [
            ("project.changed", "vim", 7, '{"name":"Vi ä😀"}'),
            ("project.deleted", "ed", 8, None),
        ]
        assert rows_of(outbox)[0].aggregatetype == "project"
        assert left(outbox.engine) == []
        assert move(queue(), outbox, nobody) == 0

    def test_what_is_done_may_be_marked_instead(self, outbox: Outbox) -> None:
        fill(outbox.engine, {}, {"processed": 1}, {"k": "ed", "title": "x"})
        one = queue(where="processed = 0 -- those that wait", done={"processed": 2, "title": None})

        assert move(one, outbox, nobody) == 2
        assert left(outbox.engine, "processed") == [2, 1, 2]
        assert left(outbox.engine, "title") == [None, "Vi", None]
        assert move(one, outbox, nobody) == 0
        assert len(rows_of(outbox)) == 2

    def test_a_condition_with_or_is_one_condition(self, outbox: Outbox) -> None:
        fill(outbox.engine, {"processed": 3}, {"processed": 0}, {"processed": 9})
        one = queue(where="processed = 0 OR processed = 3", done={"processed": 1})

        assert move(one, outbox, nobody) == 2
        assert left(outbox.engine, "processed") == [1, 1, 9]

    def test_marks_that_leave_rows_waiting_are_refused_and_nothing_moves(
        self, outbox: Outbox
    ) -> None:
        fill(outbox.engine, {})
        one = queue(where="processed < 5", done={"processed": 1})

        with pytest.raises(BridgeError, match="still match `where`"):
            move(one, outbox, nobody)
        assert rows_of(outbox) == []
        assert left(outbox.engine, "processed") == [0]

    def test_a_column_of_json_is_the_state(self, outbox: Outbox) -> None:
        fill(outbox.engine, {"state": '{"a": 1.0, "b": [null, "ä"]}'})

        move(queue(data={"json": "state"}), outbox, nobody)
        assert moved(outbox)[0][3] == '{"a":1.0,"b":[null,"ä"]}'

    def test_a_query_finds_the_state_and_the_version(self, outbox: Outbox) -> None:
        run(
            outbox.engine,
            "CREATE TABLE project (name VARCHAR(20), title VARCHAR(20), ver BIGINT)",
            "INSERT INTO project VALUES ('vim', '100 :x', 42)",
        )
        fill(outbox.engine, {"v": None}, {"k": "gone"})
        grave = Grave()
        find = "SELECT title, ver, '12:30' AS at FROM project WHERE name = :key AND name LIKE '%m'"

        one = queue(data={"query": find}, version=None, change="changed")
        assert move(one, outbox, grave) == 2
        assert moved(outbox) == [("project.changed", "vim", 42, '{"title":"100 :x","at":"12:30"}')]
        assert grave.errors == ["q: the query finds no row for 'gone'"]

    def test_the_version_of_the_queue_goes_before_that_of_the_query(self, outbox: Outbox) -> None:
        fill(outbox.engine, {"v": "9"})
        one = queue(data={"query": "SELECT 3 AS ver, k FROM q WHERE k = :key"})

        move(one, outbox, nobody)
        assert moved(outbox) == [("project.changed", "vim", 9, '{"k":"vim"}')]

    def test_no_more_rows_than_are_asked_for_the_oldest_first(self, outbox: Outbox) -> None:
        fill(outbox.engine, *({"k": f"k{n}"} for n in range(10)))

        assert move(queue(), outbox, nobody, 4) == 4
        assert [row[1] for row in moved(outbox)] == ["k0", "k1", "k2", "k3"]
        assert left(outbox.engine) == list(range(5, 11))


class TestWhatIsNoEvent:
    @pytest.mark.parametrize(
        ("row", "error"),
        [
            ({"k": None}, "the column k is NULL"),
            ({"k": "ä" * 513}, "subject: the key must have at most 1024 bytes"),
            ({"action": "X"}, "the change is 'X', neither changed nor deleted"),
            ({"action": None}, "the column action is NULL"),
            ({"v": "seven"}, "the version is 'seven', no whole number"),
            ({"v": None}, "the version is 'None', no whole number"),
            ({"v": "-1"}, "the version is '-1', no whole number"),
            ({"v": "9223372036854775808"}, "no whole number of 64 bits"),
            ({"v": "1" * 40}, "no whole number of 64 bits"),
        ],
    )
    def test_becomes_a_dead_letter_with_the_whole_row_and_its_neighbours_move(
        self, outbox: Outbox, row: dict[str, Any], error: str
    ) -> None:
        fill(outbox.engine, {"k": "a"}, {"title": "whole", **row}, {"k": "b"})
        grave = Grave()

        assert move(queue(), outbox, grave) == 3
        assert [one[1] for one in moved(outbox)] == ["a", "b"]
        [(kept, why)] = grave.found
        assert error in why
        assert kept["title"] == "whole"
        assert kept["id"] == 2
        assert set(kept) == {"id", "action", "k", "v", "title", "state", "processed"}
        assert left(outbox.engine) == []

    @pytest.mark.parametrize(
        ("state", "error"),
        [
            ("", "not JSON"),
            ("[1]", "data: must be a JSON object"),
            ('{"a":1,"a":2}', "stands twice"),
            ('{"a":NaN}', "NaN is no JSON"),
            ('{"_id":1}', "mirror's own"),
        ],
    )
    def test_so_does_a_state_that_is_none(self, outbox: Outbox, state: str, error: str) -> None:
        fill(outbox.engine, {"state": state}, {"k": "b"})
        grave = Grave()

        move(queue(data={"json": "state"}), outbox, grave)
        assert [one[1] for one in moved(outbox)] == ["b"]
        assert error in grave.errors[0]

    @pytest.mark.parametrize(
        "fields",
        [
            {"key": {"column": "nothing"}},
            {"version": {"column": "nothing"}},
            {"data": {"columns": {"x": "nothing"}}},
            {"data": {"json": "nothing"}},
            {"entity": {"column": "nothing"}},
        ],
    )
    def test_a_column_that_is_not_there_is_named(
        self, outbox: Outbox, fields: dict[str, Any]
    ) -> None:
        fill(outbox.engine, {})
        grave = Grave()

        move(queue(**fields), outbox, grave)
        assert "there is no column nothing; there are id, action, k" in grave.errors[0]

    def test_bytes_that_are_no_utf8_are_kept(self, sqlite_outbox: Outbox) -> None:
        fill(sqlite_outbox.engine, {}, {"k": "b"})
        run(sqlite_outbox.engine, "UPDATE q SET k = CAST(x'636166e9' AS TEXT) WHERE id = 1")
        raws: list[bytes] = []

        move(queue(), sqlite_outbox, lambda raw, error: raws.append(raw))
        assert b'"k":"caf\xe9"' in raws[0]
        assert [one[1] for one in moved(sqlite_outbox)] == ["b"]

    def test_while_it_cannot_be_kept_nothing_moves(self, outbox: Outbox) -> None:
        fill(outbox.engine, {"k": "a"}, {"k": None})
        grave = Grave()
        grave.away = True

        with pytest.raises(ServerAway):
            move(queue(), outbox, grave)
        assert rows_of(outbox) == []
        assert left(outbox.engine) == [1, 2]

    def test_it_is_not_kept_again_and_again_where_the_rest_fails(self, outbox: Outbox) -> None:
        fill(outbox.engine, {"k": None})
        grave = Grave()

        for _ in range(3):
            with pytest.raises(sql.exc.SQLAlchemyError):
                move(queue(where="processed = 0", done={"procesed": 1}), outbox, grave)
        assert grave.found == []
        assert left(outbox.engine) == [1]

    @pytest.mark.parametrize(
        "fields",
        [
            {"table": "nowhere"},
            {"where": "no_column = 1"},
            {"where": "processed = = 0"},
            {"where": "k = :missing"},
            {"id": "nothing"},
            {"data": {"query": "SELECT x FROM nowhere WHERE y = :key"}},
        ],
    )
    def test_what_the_database_refuses_is_an_error_and_moves_nothing(
        self, outbox: Outbox, fields: dict[str, Any]
    ) -> None:
        fill(outbox.engine, {"k": "secret"})

        with pytest.raises(sql.exc.SQLAlchemyError) as caught:
            move(queue(**fields), outbox, nobody)
        assert "secret" not in database.log_text(caught.value)
        assert rows_of(outbox) == []
        assert left(outbox.engine) == [1]


@pytest.fixture
def sqlite_outbox(tmp_path: Any) -> Iterator[Outbox]:
    engine = connect(f"sqlite:///{tmp_path / 'q.sqlite'}")
    run(engine, TABLE)
    yield outbox_in(engine)
    engine.dispose()


class TestValues:
    def test_what_databases_give_is_json(self) -> None:
        given = {
            "whole": Decimal("12"),
            "money": Decimal("12.00"),
            "big": Decimal(2**70),
            "infinite": Decimal("Infinity"),
            "nan": Decimal("NaN"),
            "tiny": Decimal("1E-7"),
            "moment": datetime(2026, 1, 2, 3, 4, 5),
            "day": date(2026, 1, 2),
            "hour": time(3, 4),
            "text": "ä".encode(),
            "bytes": b"\xff\x00",
        }
        assert json.loads(to_json(given)) == {
            "whole": 12,
            "money": "12.00",
            "big": str(2**70),
            "infinite": "Infinity",
            "nan": "NaN",
            "tiny": "1E-7",
            "moment": "2026-01-02T03:04:05",
            "day": "2026-01-02",
            "hour": "03:04:00",
            "text": "ä",
            "bytes": "/wA=",
        }

    @pytest.mark.parametrize(
        "value", ["D", b"D", bytearray(b"D"), memoryview(b"D")], ids=lambda v: type(v).__name__
    )
    def test_a_value_is_looked_up_however_it_comes(self, value: Any) -> None:
        row = {"action": value, "k": "vim", "v": 1, "title": ""}
        assert to_outbox_row(queue(), row, lambda key: None)["change"] == "deleted"

    @pytest.mark.parametrize(
        ("written", "value"),
        [(1, 1), (1, True), ("1", 1), (0, False), (1, Decimal(1)), (1, b"1"), ("x", "x")],
    )
    def test_numbers_and_booleans_are_looked_up_too(self, written: Any, value: Any) -> None:
        one = queue(change={"column": "action", "values": {written: "deleted"}})
        row = {"action": value, "k": "vim", "v": 1, "title": ""}
        assert to_outbox_row(one, row, lambda key: None)["change"] == "deleted"

    @pytest.mark.parametrize(
        ("value", "key"),
        [(17, "17"), (Decimal("17"), "17"), (b"a", "a"), (date(2026, 1, 2), "2026-01-02")],
    )
    def test_a_key_is_text(self, value: Any, key: str) -> None:
        row = {"action": "I", "k": value, "v": 1, "title": ""}
        assert to_outbox_row(queue(), row, lambda key: None)["key"] == key

    def test_two_keys_that_are_no_utf8_are_not_made_one(self) -> None:
        row = {"action": "I", "k": b"\xff", "v": 1, "title": ""}
        with pytest.raises(UndecodableMessage, match="the column k is not UTF-8"):
            to_outbox_row(queue(), row, lambda key: None)

    @pytest.mark.parametrize("value", [1.5, True, "1.0", "", Decimal("1.5"), datetime.now()])
    def test_what_is_no_version_is_refused(self, value: Any) -> None:
        row = {"action": "I", "k": "a", "v": value, "title": ""}
        with pytest.raises(UndecodableMessage, match="the version is"):
            to_outbox_row(queue(), row, lambda key: None)

    @pytest.mark.parametrize("value", [7, "7", b"7", Decimal("7")])
    def test_what_is_a_version_is_one_however_it_comes(self, value: Any) -> None:
        row = {"action": "I", "k": "a", "v": value, "title": ""}
        assert to_outbox_row(queue(), row, lambda key: None)["version"] == 7

    def test_a_state_that_is_too_large_is_refused(self) -> None:
        row = {"action": "I", "k": "a", "v": 1, "title": "x" * 2**20}
        with pytest.raises(UndecodableMessage, match="more than 1048576"):
            to_outbox_row(queue(), row, lambda key: None)

    def test_mariadb_columns_of_every_kind(self, mariadb_url: str) -> None:
        engine = connect(mariadb_url)
        run(
            engine,
            "CREATE TABLE q (id INT PRIMARY KEY, k VARBINARY(20), v BIGINT UNSIGNED,"
            " action BIT(1), price DECIMAL(10,2), at DATETIME(3), day DATE, span TIME,"
            " raw BLOB, ratio DOUBLE, flag BOOLEAN, doc JSON, kind ENUM('a','b'), y YEAR)",
            "INSERT INTO q VALUES (1, 'vim', 9223372036854775807, b'1', 12.50,"
            " '2026-01-02 03:04:05.678', '2026-01-02', '26:00:01', x'ff00', 0.1, TRUE,"
            " '{\"a\": 1}', 'b', 2026)",
        )
        names = ("price", "at", "day", "span", "raw", "ratio", "flag", "doc", "kind", "y")
        outbox = outbox_in(engine)
        one = queue(change="changed", data={"columns": {name: name for name in names}})

        move(one, outbox, nobody)
        [(_, key, version, payload)] = moved(outbox)
        assert (key, version) == ("vim", 2**63 - 1)
        assert json.loads(payload) == {
            "price": "12.50",
            "at": "2026-01-02T03:04:05.678000",
            "day": "2026-01-02",
            "span": "1 day, 2:00:01",
            "raw": "/wA=",
            "ratio": 0.1,
            "flag": 1,
            "doc": '{"a": 1}',
            "kind": "b",
            "y": 2026,
        }
        engine.dispose()

    def test_postgresql_columns_of_every_kind(self, postgres_url: str) -> None:
        engine = connect(postgres_url)
        run(
            engine,
            "CREATE TABLE q (id UUID PRIMARY KEY, k TEXT, v NUMERIC, price NUMERIC(10,2),"
            " at TIMESTAMPTZ, raw BYTEA, flag BOOLEAN, doc JSONB, tags TEXT[])",
            "INSERT INTO q VALUES ('00000000-0000-0000-0000-000000000001', 'vim', 8, 12,"
            " '2026-01-02 03:04:05+00', '\\xff00', TRUE, '{\"a\": 1.0}', '{a,b}')",
        )
        names = ("price", "at", "raw", "flag", "doc", "tags")
        outbox = outbox_in(engine)
        one = queue(
            change={"column": "flag", "values": {1: "changed", 0: "deleted"}},
            data={"columns": {name: name for name in names}},
        )

        move(one, outbox, nobody)
        [(_, key, version, payload)] = moved(outbox)
        assert (key, version) == ("vim", 8)
        found = json.loads(payload)
        assert datetime.fromisoformat(found.pop("at")).timestamp() == 1767323045
        assert found == {
            "price": "12.00",
            "raw": "/wA=",
            "flag": True,
            "doc": {"a": 1.0},
            "tags": ["a", "b"],
        }
        engine.dispose()


class TestManyAtOnce:
    @pytest.mark.parametrize("skips", [True, False], ids=["skip-locked", "named-lock"])
    def test_several_relays_move_each_row_once(
        self, server_engine: sql.Engine, skips: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if not skips:
            if server_engine.dialect.name == "postgresql":
                pytest.skip("only MySQL has servers without it")
            monkeypatch.setattr(database, "_can_skip_locked", lambda dialect: False)
        run(server_engine, TABLE)
        outbox = outbox_in(server_engine)
        fill(server_engine, *({"k": f"k{n}"} for n in range(200)))

        def relay() -> int:
            done = 0
            while left(server_engine):
                done += move(queue(), outbox, nobody, 7)
            return done

        with ThreadPoolExecutor(4) as pool:
            assert sum(one.result() for one in [pool.submit(relay) for _ in range(4)]) == 200
        assert sorted(row[1] for row in moved(outbox)) == sorted(f"k{n}" for n in range(200))

    @pytest.mark.parametrize("skips", [True, False], ids=["skip-locked", "named-lock"])
    @pytest.mark.parametrize("done", ["delete", {"processed": 1}])
    def test_an_open_insert_of_the_site_is_not_waited_for(
        self, server_engine: sql.Engine, skips: bool, done: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if not skips:
            monkeypatch.setattr(
                database, "_can_skip_locked", lambda dialect: dialect.name[0] == "p"
            )
        run(server_engine, TABLE)
        outbox = outbox_in(server_engine)
        fill(server_engine, {"k": "a"}, {"k": "b"}, {"k": "c"})
        one = queue(where="processed = 0", done=done)
        with server_engine.connect() as site, site.begin():
            site.execute(sql.text("INSERT INTO q (id, action, k, v) VALUES (9, 'I', 'open', '1')"))
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(move, one, outbox, nobody).result(5) == 3
        assert move(one, outbox, nobody) == 1
        assert [row[1] for row in moved(outbox)] == ["a", "b", "c", "open"]

    def test_a_kill_in_the_middle_loses_nothing_and_doubles_nothing(
        self, server_engine: sql.Engine
    ) -> None:
        run(server_engine, TABLE)
        outbox = outbox_in(server_engine)
        fill(server_engine, *({"k": f"k{n}"} for n in range(60)))
        script = textwrap.dedent(
            """
            import json, sys
            from bridge.queue.sql import queue_table as sqlqueue
            from bridge.queue.sql.outbox import Outbox, connect
            from bridge.queue.sources import SqlQueue
            outbox = Outbox(connect(sys.argv[1]))
            queue = SqlQueue.model_validate_json(sys.argv[2])
            finish = sqlqueue._finish
            def slow(*arguments):
                finish(*arguments)
                print("before the commit", flush=True)
                sys.stdin.readline()
            sqlqueue.move(queue, outbox, None, 10)
            sqlqueue._finish = slow
            sqlqueue.move(queue, outbox, None, 10)
            """
        )
        url = server_engine.url.render_as_string(hide_password=False)
        with subprocess.Popen(
            [sys.executable, "-c", script, url, json.dumps(COLUMNS)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"before the commit\n"
            os.kill(process.pid, signal.SIGKILL)
        while move(queue(), outbox, nobody) or left(server_engine):
            pass
        assert sorted(row[1] for row in moved(outbox)) == sorted(f"k{n}" for n in range(60))
