"""The outbox table: rows are taken by state, shared by relays, and block nobody who writes."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pymysql
import pytest
import sqlalchemy as sql
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.errors import BridgeError, UndecodableMessage
from bridge.queue.events import MAX_EVENT_BYTES, Event
from bridge.queue.sql import database
from bridge.queue.sql.outbox import CLAIM_BYTES, Outbox, connect, now_ms
from stack.process import REPOSITORY
from tests.queue.outbox_site import (
    DIALECTS,
    SERVERS,
    add,
    change,
    engine_for,
    insert,
    make_due,
    outbox_in,
    rows_of,
)


@pytest.fixture(params=DIALECTS)
def engine(request: pytest.FixtureRequest) -> Iterator[sql.Engine]:
    yield from engine_for(request)


@pytest.fixture(params=SERVERS)
def server_engine(request: pytest.FixtureRequest) -> Iterator[sql.Engine]:
    """Where writers do not lock the whole database."""
    yield from engine_for(request)


@pytest.fixture
def outbox(engine: sql.Engine) -> Outbox:
    return outbox_in(engine)


def without_skip_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As before MySQL 8.0.1 and MariaDB 10.6."""
    monkeypatch.setattr(database, "_can_skip_locked", lambda dialect: False)


class TestClaiming:
    def test_rows_come_as_they_were_written(self, outbox: Outbox) -> None:
        add(outbox, change("vim ✓", 7, '{"t":"ä€😀","f":1.0}'), change("vim", 2**63 - 1, None))

        first, second = outbox.claim(10, 30)
        assert (first.entity, first.key, first.version) == ("project", "vim ✓", 7)
        assert (first.payload, first.published_at, first.attempts) == (
            '{"t":"ä€😀","f":1.0}',
            None,
            0,
        )
        assert (second.type, second.payload) == ("project.deleted", None)
        assert second.version == 2**63 - 1

    def test_a_claimed_row_is_nobody_elses_until_the_lease_ends(self, outbox: Outbox) -> None:
        add(outbox, change())

        assert len(outbox.claim(10, 30)) == 1
        assert outbox.claim(10, 30) == []
        make_due(outbox)
        assert len(outbox.claim(10, -1)) == 1
        assert len(outbox.claim(10, 30)) == 1  # that lease had ended

    def test_never_published_rows_come_before_a_backlog_that_was_put_off(
        self, outbox: Outbox
    ) -> None:
        add(outbox, *(change("old", version) for version in range(50)))
        outbox.postpone(outbox.claim(50, 30), now_ms() - 1000)
        add(outbox, change("new"))

        assert [row.key for row in outbox.claim(2, 30)] == ["new", "old"]

    def test_a_claim_is_no_more_than_a_relay_can_hold(self, outbox: Outbox) -> None:
        large = json.dumps({"t": "x" * 1_000_000})
        add(outbox, *(change("a", version, large) for version in range(20)))

        taken = outbox.claim(500, 30)
        assert CLAIM_BYTES - 2_000_000 < sum(len(row.payload or "") for row in taken) < CLAIM_BYTES
        assert len(outbox.claim(500, 30)) == 20 - len(taken)

    def test_a_huge_payload_is_cut_where_it_is_too_large_anyway(self, outbox: Outbox) -> None:
        add(outbox, change("a", 1, json.dumps("x" * (outbox.largest + 1000))), change("b"))

        large, small = outbox.claim(10, 30)
        assert len(large.payload or "") == outbox.largest
        with pytest.raises(UndecodableMessage, match=f"more than {MAX_EVENT_BYTES}"):
            Event.parse(large.event("/site"))
        assert Event.parse(small.event("/site")).key == "b"

    @pytest.mark.parametrize("ahead", [600, 365 * 24 * 3600, 10**12, 5 * 10**15])
    def test_a_row_put_off_by_a_wrong_clock_is_taken_back(self, outbox: Outbox, ahead: int) -> None:
        insert(outbox, next_try=now_ms() + ahead * 1000, aggregateid="new")
        published = {"published_at": now_ms(), "attempts": 1}
        insert(outbox, next_try=now_ms() + ahead * 1000, aggregateid="old", **published)
        insert(outbox, next_try=now_ms() + 3600 * 1000, aggregateid="later", **published)

        taken = [row.key for row in outbox.claim(10, 30)]
        assert taken == (["new"] if ahead == 600 else ["new", "old"])


class TestManyAtOnce:
    def test_rows_committed_out_of_the_order_of_their_ids_are_all_found(
        self, server_engine: sql.Engine
    ) -> None:
        outbox = outbox_in(server_engine)
        found: list[str] = []
        with server_engine.connect() as slow, slow.begin():
            outbox.add(slow, [change("slow")])
            add(outbox, change("quick"))
            found += [row.key for row in outbox.claim(10, 30)]
            assert found == ["quick"]
        found += [row.key for row in outbox.claim(10, 30)]
        assert found == ["quick", "slow"]

    @pytest.mark.parametrize("skips", [True, False], ids=["skip-locked", "named-lock"])
    def test_several_relays_and_writers_share_all_rows(
        self, engine: sql.Engine, skips: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if not skips:
            if engine.dialect.name not in ("mysql", "mariadb"):
                pytest.skip("only MySQL has servers without it")
            without_skip_locked(monkeypatch)
        outbox = outbox_in(engine)
        writing = threading.Event()
        writing.set()

        def write(writer: int) -> None:
            for version in range(40):
                add(outbox, change(f"k{writer}", version), change(f"l{writer}", version))

        def relay() -> list[int]:
            taken: list[int] = []
            while True:
                last = not writing.is_set()
                rows = outbox.claim(7, 60)
                taken += [row.id for row in rows]
                if last and not rows:
                    return taken

        with ThreadPoolExecutor(8) as pool:
            relays = [pool.submit(relay) for _ in range(4)]
            writers = [pool.submit(write, number) for number in range(4)]
            for writer in writers:
                writer.result()
            writing.clear()
            taken = [id for one in relays for id in one.result()]
        assert len(taken) == len(set(taken)) == 320

    @pytest.mark.parametrize("skips", [True, False], ids=["skip-locked", "named-lock"])
    def test_the_site_writes_while_a_claim_is_open_and_a_claim_does_not_wait_for_the_site(
        self, server_engine: sql.Engine, skips: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        maria = server_engine.dialect.name in ("mysql", "mariadb")
        if not skips:
            if not maria:
                pytest.skip("only MySQL has servers without it")
            without_skip_locked(monkeypatch)
        outbox = outbox_in(server_engine)
        table = outbox.table
        add(outbox, *(change(f"k{n}") for n in range(30)))
        due = sql.select(table).where(table.c.next_try <= 0).order_by(table.c.next_try, table.c.id)
        patience = "innodb_lock_wait_timeout = 1" if maria else "lock_timeout = '1s'"

        with server_engine.connect() as site, site.begin():
            site.execute(sql.text(f"SET SESSION {patience}"))
            outbox.add(site, [change("before")])
            taken = database.taking(server_engine, due, table.c.id, "outbox")
            with taken as (claiming, rows):
                claiming.execute(table.update().values(next_try=5).where(table.c.id < 20))
                outbox.add(site, [change("during")])
                assert len(rows) == 30
        assert len(outbox.claim(100, 30)) == 32

    @pytest.mark.parametrize("keep", [0.0, 60.0])
    def test_freeing_does_not_wait_for_an_open_transaction_of_the_site(
        self, server_engine: sql.Engine, keep: float
    ) -> None:
        outbox = outbox_in(server_engine, keep=keep)
        add(outbox, change("a"), change("b"), change("c", 2))
        rows = outbox.claim(2, 30)
        with server_engine.connect() as site, site.begin():
            outbox.add(site, [change("open")])
            with ThreadPoolExecutor(1) as pool:
                pool.submit(outbox.free, rows).result(3)
                assert pool.submit(outbox.drop, "project", "c", 2).result(3) == 1
                assert pool.submit(outbox.backlog).result(3).rows == 0

    @pytest.mark.parametrize("count", [1, 2, 20, 260])
    def test_freeing_all_rows_does_not_wait_for_one_between_them_that_is_not_committed(
        self, server_engine: sql.Engine, count: int
    ) -> None:
        outbox = outbox_in(server_engine)
        add(outbox, *(change(f"a{n}") for n in range(count)))
        with server_engine.connect() as site, site.begin():
            outbox.add(site, [change("open")])
            add(outbox, *(change(f"b{n}") for n in range(count)))
            rows = outbox.claim(2 * count, 30)
            assert len(rows) == 2 * count
            with ThreadPoolExecutor(1) as pool:
                pool.submit(outbox.free, rows).result(3)
        assert [row.aggregateid for row in rows_of(outbox)] == ["open"]

    def test_a_row_of_the_lock_holder_comes_back_when_it_dies(
        self, server_engine: sql.Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if server_engine.dialect.name == "mariadb" or server_engine.dialect.name == "mysql":
            without_skip_locked(monkeypatch)
        outbox = outbox_in(server_engine)
        table = outbox.table
        add(outbox, change())
        due = sql.select(table).where(table.c.next_try <= 0)

        def claim_and_die() -> None:
            taken = database.taking(server_engine, due, table.c.id, table.fullname)
            with taken as (connection, rows):
                assert len(rows) == 1
                connection.execute(table.update().values(next_try=10**15))
                connection.connection.dbapi_connection.close()  # type: ignore[union-attr]
                connection.execute(sql.text("SELECT 1"))

        with pytest.raises(sql.exc.SQLAlchemyError):
            claim_and_die()
        assert len(outbox.claim(10, 30)) == 1

    def test_of_mysql_without_skip_locked_only_the_holder_of_the_name_claims(
        self, mariadb_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        without_skip_locked(monkeypatch)
        monkeypatch.setattr(database, "LOCK_SECONDS", 0)
        engine = connect(mariadb_url)
        outbox = outbox_in(engine)
        add(outbox, change())
        with engine.connect() as other:
            other.execute(sql.text("SELECT GET_LOCK('bridge bridge_outbox', 1)"))
            assert outbox.claim(10, 30) == []
            other.execute(sql.text("SELECT RELEASE_LOCK('bridge bridge_outbox')"))
        assert len(outbox.claim(10, 30)) == 1
        engine.dispose()

    def test_mariadb_finds_due_rows_by_the_index(self, mariadb_url: str) -> None:
        """A sort would lock every row that is due, and leave none to other relays."""
        engine = connect(mariadb_url)
        outbox = outbox_in(engine)
        add(outbox, *(change(f"k{n}", 1, '{"t":"' + "x" * 300 + '"}') for n in range(3000)))
        taken: list[int] = []
        table = outbox.table
        due = (
            sql.select(table.c.id)
            .where(table.c.next_try <= now_ms())
            .order_by(table.c.next_try, table.c.id)
            .limit(500)
        )
        with database.taking(engine, due, table.c.id, "x") as (_, rows):  # as another relay
            taken += [row.id for row in outbox.claim(500, 30)]
        assert len(taken) == 500
        assert not {row[0] for row in rows} & set(taken)
        engine.dispose()

    def test_a_reader_of_the_backlog_does_not_lock_a_sqlite_file(self, tmp_path: Path) -> None:
        engine = connect(f"sqlite:///{tmp_path / 'x.sqlite'}")
        outbox = outbox_in(engine)
        with engine.begin() as connection:
            outbox.add(connection, [change()])
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(outbox.backlog).result(3).rows == 0
        engine.dispose()


class TestBeingDone:
    def test_what_mongodb_holds_is_deleted(self, outbox: Outbox) -> None:
        add(outbox, change("a"), change("b"))
        outbox.free([row for row in outbox.claim(10, 30) if row.key == "a"])

        assert [row.aggregateid for row in rows_of(outbox)] == ["b"]

    def test_or_kept_for_as_long_as_was_said(self, engine: sql.Engine) -> None:
        outbox = outbox_in(engine, keep=0.2)
        add(outbox, change("a"))
        outbox.free(outbox.claim(10, 30))
        [row] = rows_of(outbox)
        assert row.applied_at is not None
        assert row.next_try is None
        assert outbox.backlog().rows == 0

        make_old = outbox.table.update().values(applied_at=now_ms() - 1000)
        with engine.begin() as connection:
            connection.execute(make_old)
        again = Outbox(engine, keep=0.2)
        assert again.claim(10, 30) == []
        assert rows_of(outbox) == []

    def test_an_id_is_never_given_twice(self, engine: sql.Engine) -> None:
        """A relay that was slow would free the wrong row."""
        outbox = outbox_in(engine)
        first = insert(outbox)
        outbox.free(outbox.claim(10, 30))

        assert insert(outbox) > first

    def test_publishing_is_noted_and_counted(self, outbox: Outbox) -> None:
        add(outbox, change())
        rows = outbox.claim(10, 30)
        outbox.published(rows, now_ms() - 1)
        outbox.published(outbox.claim(10, 30), now_ms() - 1)

        [row] = outbox.claim(10, 30)
        assert row.attempts == 2
        assert abs((row.published_at or 0) - now_ms()) < 60_000

    def test_dropping_takes_this_version_and_no_other(self, outbox: Outbox) -> None:
        add(outbox, change("a", 1), change("a", 2), change("a ", 1), change("A", 1))
        add(outbox, change("a", 1, entity="release"))

        assert outbox.drop("project", "a", 1) == 1
        assert [(row.aggregateid, row.ver) for row in rows_of(outbox)] == [
            ("a", 2),
            ("a ", 1),
            ("A", 1),
            ("a", 1),
        ]

    @pytest.mark.parametrize(("key", "version"), [("\ud800", 1), ("a", 2**63), ("a", -(2**70))])
    def test_dropping_what_no_row_can_be_drops_nothing(
        self, outbox: Outbox, key: str, version: int
    ) -> None:
        assert outbox.drop("project", key, version) == 0

    def test_the_backlog_is_what_is_not_applied_and_the_age_of_the_oldest(
        self, outbox: Outbox
    ) -> None:
        assert outbox.backlog().lag == 0.0
        insert(outbox, created_at=now_ms() - 90_000)
        insert(outbox, created_at=now_ms(), aggregateid="b")

        backlog = outbox.backlog()
        assert backlog.rows == 2
        assert 89 < backlog.lag < 150
        outbox.published(outbox.claim(10, 30), now_ms() + 1000)
        assert outbox.backlog().rows == 2

    def test_a_time_in_the_future_is_no_lag(self, outbox: Outbox) -> None:
        insert(outbox, created_at=now_ms() + 10**9)

        assert outbox.backlog().lag == 0.0


class TestEvents:
    def test_a_row_is_the_event_that_its_columns_say(self, outbox: Outbox) -> None:
        add(outbox, change('a"b', 5, '{"n":1.0}'))
        [row] = outbox.claim(1, 30)

        event = Event.parse(row.event("/forge"))
        assert (event.entity, event.change, event.key, event.version) == (
            *("project", "changed"),
            *('a"b', 5),
        )
        assert event.data == {"n": 1.0}
        assert (event.id, event.source) == (f"outbox-{row.id}", "/forge")
        assert event.time.endswith("Z")
        assert row.event("/forge") == row.event("/forge")

    @pytest.mark.parametrize("created_at", [-1, -(2**63), 0, 2**63 - 1])
    def test_whatever_the_time_of_a_row_it_is_an_event(
        self, outbox: Outbox, created_at: int
    ) -> None:
        insert(outbox, created_at=created_at)

        [row] = outbox.claim(1, 30)
        assert Event.parse(row.event("/site")).key == "vim"

    def test_the_type_says_which_entity_it_is(self, outbox: Outbox) -> None:
        insert(outbox, aggregatetype="other", type="release.changed", aggregateid="x")

        [row] = outbox.claim(1, 30)
        assert row.identity == Event.parse(row.event("/s")).identity == ("release", "x")
        assert outbox.drop("release", "x", 1) == 1

    def test_bytes_that_are_no_utf8_leave_as_they_are(self, tmp_path: Path) -> None:
        engine = connect(f"sqlite:///{tmp_path / 'x.sqlite'}")
        outbox = outbox_in(engine)
        insert(outbox, aggregateid="good")
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE bridge_outbox SET payload = CAST(x'7b22e9227d' AS TEXT)"
            )
        insert(outbox, aggregateid="next")

        bad, following = outbox.claim(10, 30)
        assert b'"data":{"\xe9"}}' in bad.event("/s")
        assert following.key == "next"
        engine.dispose()

    def test_a_json_column_of_postgresql_is_text_like_any_other(self, postgres_url: str) -> None:
        engine = connect(postgres_url)
        outbox = outbox_in(engine)
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "ALTER TABLE bridge_outbox ALTER payload TYPE jsonb USING payload::jsonb"
            )
        add(outbox, change("a", 1, '{"n": 1.0, "big": 9007199254740993, "t": "ä"}'))

        [row] = outbox.claim(10, 30)
        data = Event.parse(row.event("/s")).data
        assert data == {"n": 1.0, "big": 9007199254740993, "t": "ä"}
        assert isinstance(data["n"], float)
        engine.dispose()

    def test_a_binary_column_of_mysql_is_text_like_any_other(self, mariadb_url: str) -> None:
        engine = connect(mariadb_url)
        outbox = outbox_in(engine)
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "ALTER TABLE bridge_outbox MODIFY payload LONGBLOB,"
                " MODIFY aggregateid VARBINARY(1024) NOT NULL"
            )
        add(outbox, change("ä", 1, '{"t":"ä"}'))

        [row] = outbox.claim(10, 30)
        assert Event.parse(row.event("/s")).key == "ä"
        engine.dispose()


SQL_FILES = {"sqlite": "sqlite", "mysql": "mysql", "mariadb": "mysql", "postgresql": "postgresql"}


def test_the_table_of_the_sql_file_is_the_one_that_is_driven(engine: sql.Engine) -> None:
    file = REPOSITORY / "php" / "sql" / f"outbox.{SQL_FILES[engine.dialect.name]}.sql"
    text = re.sub(r"--[^\n]*", "", file.read_text(encoding="utf-8"))
    with engine.begin() as connection:
        for statement in filter(str.strip, text.split(";")):
            connection.exec_driver_sql(statement)
    outbox = Outbox(engine, keep=60)
    outbox.create()  # does nothing: it is there
    key = "ä" * 512
    add(outbox, change(key, 3, '{"t":"😀"}'), change("b", 4, None))

    first, second = outbox.claim(10, 30)
    assert (first.key, first.payload, second.payload) == (key, '{"t":"😀"}', None)
    outbox.published([first, second], now_ms() - 1)
    outbox.free(outbox.claim(1, 30))
    assert outbox.backlog().rows == 1
    assert outbox.drop("project", "b", 4) == 1
    made = {column["name"] for column in sql.inspect(engine).get_columns("bridge_outbox")}
    assert made == set(outbox.table.c.keys())


class TestUrls:
    @pytest.mark.parametrize("table", ["", "a b", "a.b.c", "x;DROP", "1a", "a`b"])
    def test_a_name_that_is_no_table_is_refused(self, table: str) -> None:
        with pytest.raises(BridgeError, match="no name of a table"):
            Outbox(connect("sqlite://"), table=table)

    def test_the_usual_urls_get_the_drivers_that_are_installed(self) -> None:
        assert connect("mysql://u@h/d").driver == "pymysql"
        assert connect("mariadb://u@h/d").driver == "pymysql"
        assert connect("postgres://u@h/d").driver == "psycopg"
        assert connect("postgresql://u@h/d").driver == "psycopg"

    def test_a_driver_that_is_missing_is_named_with_its_extra(self) -> None:
        with pytest.raises(BridgeError, match=r"pip install '/path/to/checkout\[postgresql\]'"):
            connect("postgresql+psycopg2://u:secret@h/d")

    @pytest.mark.parametrize(
        "url",
        ["", "nonsense", "mysql://u:secret@h:secret/d", "oops://u:secret@h/d", "mysql:secret"],
    )
    def test_a_url_that_cannot_be_used_is_an_error_without_its_password(self, url: str) -> None:
        with pytest.raises(BridgeError, match="cannot be used") as caught:
            connect(url)
        assert "secret" not in str(caught.value)

    def test_a_table_in_a_schema_is_found(self, postgres_url: str) -> None:
        engine = connect(postgres_url)
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE SCHEMA shop")
        outbox = outbox_in(engine, table="shop.events")
        add(outbox, change())
        assert len(outbox.claim(10, 30)) == 1
        engine.dispose()

    def test_text_travels_as_utf8_without_a_word_in_the_url(self, mariadb_url: str) -> None:
        engine = connect(mariadb_url.replace("?charset=utf8mb4", ""))
        outbox = outbox_in(engine)
        add(outbox, change("Łódź 😀"))
        assert outbox.claim(1, 30)[0].key == "Łódź 😀"
        engine.dispose()


class TestErrorsForTheLog:
    def test_a_value_of_a_statement_is_never_told(self, engine: sql.Engine) -> None:
        outbox = outbox_in(engine)
        insert(outbox, id=1)
        with pytest.raises(sql.exc.SQLAlchemyError) as caught:
            insert(outbox, id=1, aggregateid="secret", payload="secret")
        assert "secret" not in database.log_text(caught.value)
        with pytest.raises(sql.exc.SQLAlchemyError) as caught, engine.begin() as connection:
            connection.execute(sql.text("SELECT x FROM nowhere WHERE x = 'secret'"))
        told = database.log_text(caught.value)
        assert "nowhere" in told
        assert "secret" not in told

    def test_nor_one_that_mysql_puts_into_its_text(self, mariadb_url: str) -> None:
        engine = connect(mariadb_url)
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE t (k VARCHAR(20) PRIMARY KEY, n INT)")
        for statement in (
            "INSERT INTO t (k, n) VALUES ('secret', 1), ('secret', 2)",
            "INSERT INTO t (k, n) VALUES ('a', 'secret')",
            "UPDATE t SET n = 1 WHERE 'secret' 5",
        ):
            with pytest.raises(sql.exc.SQLAlchemyError) as caught, engine.begin() as connection:
                connection.execute(sql.text(statement))
            assert isinstance(caught.value.orig, pymysql.Error)  # type: ignore[attr-defined]
            assert "secret" not in database.log_text(caught.value)
        engine.dispose()


class TestDeadLetters:
    def test_a_buried_row_is_no_part_of_the_backlog_and_is_looked_at_again(
        self, outbox: Outbox, wait_for: Callable[..., Any]
    ) -> None:
        insert(outbox, created_at=now_ms() - 90_000, aggregateid="dead")
        insert(outbox, created_at=now_ms() - 30_000, aggregateid="waits")
        dead, waits = outbox.claim(10, 30)
        outbox.bury([dead], now_ms() + 300)
        outbox.postpone([waits], now_ms() + 3600_000)

        backlog = outbox.backlog()
        assert (backlog.rows, backlog.buried) == (1, 1)
        assert 29 < backlog.lag < 60
        assert "'waits' version 1, not published yet" in backlog.oldest
        [again] = wait_for(lambda: outbox.claim(10, 30))
        assert (again.key, again.buried) == ("dead", True)
        assert outbox.backlog().buried == 1, "also while it is claimed"

    def test_what_failed_on_the_way_stays_what_it_was(self, outbox: Outbox) -> None:
        add(outbox, change("dead"), change("waits"))
        dead, waits = outbox.claim(10, 30)
        outbox.bury([dead], 0)
        [buried] = outbox.claim(10, 30)
        outbox.give_back([buried, waits], now_ms() + 1000)

        backlog = outbox.backlog()
        assert (backlog.rows, backlog.buried) == (1, 1)

    def test_another_relay_finds_it_too(self, engine: sql.Engine) -> None:
        first, second = outbox_in(engine), Outbox(engine)
        add(first, change("dead"))
        first.bury(first.claim(10, 30), 0)

        assert [row.key for row in second.claim(10, 30)] == ["dead"]

    def test_when_a_person_tries_again_it_waits_for_mongodb(self, outbox: Outbox) -> None:
        add(outbox, change("a", 1), change("a", 2), change("b", 1))
        outbox.bury(outbox.claim(10, 30), now_ms() + 600_000)

        assert outbox.wake("project", "a", 1) == 1
        backlog = outbox.backlog()
        assert (backlog.rows, backlog.buried) == (1, 2)
        assert outbox.wake("project", "a", 1) == 0, "it is none any more"

    def test_an_older_relay_takes_it_for_one_with_a_wrong_clock(self, outbox: Outbox) -> None:
        """It looks at rows beyond two hours from now, so that nothing is lost in a mixed site."""
        add(outbox, change("dead"))
        outbox.bury(outbox.claim(10, 30), now_ms())

        [row] = rows_of(outbox)
        assert row.next_try > now_ms() + 2 * 3600 * 1000


SKEWS = st.one_of(st.integers(-(10**13), 10**13), st.integers(-200_000, 200_000))


class TestClocks:
    """Of producers and relays, wrong by any amount in either direction."""

    @settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(producer=SKEWS, relay=SKEWS, head_start=st.sampled_from([0, 1000]))
    def test_no_row_waits_long_and_the_lag_is_one(
        self, tmp_path_factory: pytest.TempPathFactory, producer: int, relay: int, head_start: int
    ) -> None:
        """An old producer writes by its own clock; one minute of the database's later the row is
        with the relay, or was put off by no more than two."""
        engine = connect(f"sqlite:///{tmp_path_factory.mktemp('clock') / 'x.sqlite'}")
        outbox = outbox_in(engine)
        real = now_ms()
        written = real + producer
        insert(outbox, created_at=written, next_try=max(0, written + head_start))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("bridge.queue.sql.clock.now_ms", lambda: now_ms() + relay)
            backlog = outbox.backlog()
            rows = outbox.claim(10, 30)
        engine.dispose()

        put_off = written + head_start - real
        if put_off <= -1000 or put_off > 125_000:
            assert len(rows) == 1
        assert backlog.rows == 1
        assert backlog.lag >= 0
        assert abs(backlog.lag - backlog.ahead + producer / 1000) < 5

    @settings(
        max_examples=30,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(one=SKEWS, other=SKEWS)
    def test_relays_agree_on_a_lease_and_on_when_a_row_was_published(
        self, tmp_path_factory: pytest.TempPathFactory, one: int, other: int
    ) -> None:
        engine = connect(f"sqlite:///{tmp_path_factory.mktemp('clock') / 'x.sqlite'}")
        first, second = outbox_in(engine), Outbox(engine)
        add(first, change("a"), change("b"))

        def by(skew: int) -> Any:
            patch = pytest.MonkeyPatch.context()
            entered = patch.__enter__()
            entered.setattr("bridge.queue.sql.clock.now_ms", lambda: now_ms() + skew)
            return patch

        clock = by(one)
        [a] = first.claim(1, 30)
        first.published([a], now_ms() + one - 1000)
        clock.__exit__(None, None, None)
        clock = by(other)
        found = {row.key: row for row in second.claim(10, 30)}
        clock.__exit__(None, None, None)
        engine.dispose()

        assert set(found) == {"a", "b"}
        published = found["a"].published_at
        assert published is not None
        assert abs(published - (now_ms() + other)) < 5000
