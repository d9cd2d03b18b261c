"""Why a database does not do what was asked: each class of failure has its true sentence."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sql

from bridge.errors import BridgeError, ServerAway, ServerMissing
from bridge.queue.sql import cause as sqlcause
from bridge.queue.sql.cause import Cause, cause_of
from bridge.queue.sql.database import connect
from bridge.sync.sql.rows import as_bridge_error
from stack.mariadb import MariaDB
from stack.ports import free_port
from stack.postgres import Postgres
from tests.installed import skip_if_missing


@dataclass
class Site:
    """A database that can be made to fail. url: what to connect to, by the kind of failure."""

    urls: dict[str, str]
    provoke: Callable[[str], ExitStack]

    def cause(self, name: str, statement: str = "SELECT 1") -> Cause:
        """Of what happens with that URL."""
        engine = connect(self.urls.get(name, self.urls["good"]))
        try:
            with (
                self.provoke(name),
                pytest.raises(sql.exc.SQLAlchemyError) as caught,
                engine.connect() as connection,
            ):
                connection.execute(sql.text(statement))
            return cause_of(caught.value, engine.url)
        finally:
            engine.dispose()


@pytest.fixture(scope="module")
def silent() -> Iterator[int]:
    """The port of something that takes connections and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


@pytest.fixture(scope="module")
def mariadb_site(tmp_path_factory: pytest.TempPathFactory, silent: int) -> Iterator[Site]:
    with MariaDB(tmp_path_factory.mktemp("granting"), grants=True) as server:
        server.execute(
            "CREATE DATABASE IF NOT EXISTS shop",
            "CREATE TABLE shop.items (id INT PRIMARY KEY, price INT)",
            "CREATE VIEW shop.lost AS SELECT id FROM shop.items",
            "CREATE USER reader@'%' IDENTIFIED BY 'right'",
            "GRANT SELECT (id) ON shop.items TO reader@'%'",
            "CREATE USER tls@'%' IDENTIFIED BY 'right' REQUIRE SSL",
            "CREATE USER one@'%' IDENTIFIED BY 'right' WITH MAX_USER_CONNECTIONS 1",
            "GRANT ALL ON shop.* TO one@'%'",
        )

        def provoke(name: str) -> ExitStack:
            stack = ExitStack()
            if name == "too many":
                stack.enter_context(
                    other := connect(f"mysql://one:right@{server.address}/shop").connect()
                )
                stack.callback(other.engine.dispose)
            return stack

        at = server.address
        yield Site(
            {
                "good": f"mysql://reader:right@{at}/shop",
                "root": f"mysql://root@{at}/shop",
                "password": f"mysql://reader:wrong-word@{at}/shop",
                "no database": f"mysql://root@{at}/nowhere",
                "not our database": f"mysql://reader:right@{at}/nowhere",
                "TLS": f"mysql://tls:right@{at}/shop",
                "too many": f"mysql://one:right@{at}/shop",
                "refused": f"mysql://root@127.0.0.1:{free_port()}/shop",
                "host": "mysql://root@no-such-host.invalid/shop",
                "silent": f"mysql://root@127.0.0.1:{silent}/shop?connect_timeout=1",
            },
            provoke,
        )


@pytest.mark.parametrize(
    ("name", "statement", "kind", "says", "do", "waits"),
    [
        ("refused", "", "refused", "does not answer: nothing takes connections", "start it", True),
        ("host", "", "unknown host", "a host that nobody knows", "mend the host", True),
        pytest.param(
            *("silent", "", "silent", "does not answer", "start it, or mend host and port", True),
            marks=pytest.mark.long,  # for as long as an answer is waited for
        ),
        ("password", "", "let in", "does not let us in", "mend user and password", False),
        ("TLS", "", "let in", "does not let us in", "?ssl_ca=", False),
        ("no database", "", "no database", "is not there", "mend its name", False),
        (
            *("not our database", "", "no right", "no such database, or not for us"),
            *("GRANT SELECT ON nowhere.* TO 'reader'@'%'", False),
        ),
        (
            *("good", "SELECT * FROM items", "no right", "does not allow it"),
            *("GRANT SELECT ON `shop`.`items` TO 'reader'@'localhost'", False),
        ),
        (
            *("good", "SELECT price FROM items", "no right", "for column 'price'"),
            *("GRANT SELECT (price) ON items TO 'reader'@'localhost'", False),
        ),
        (
            *("good", "DELETE FROM items", "no right", "DELETE command denied"),
            *("GRANT DELETE ON `shop`.`items` TO 'reader'@'localhost'", False),
        ),
        ("root", "SELECT 1 FROM nothing", "no table", "has no such table", "sync.yaml", False),
        ("root", "SELECT colour FROM items", "no column", "has no such column", "sync.y", False),
        ("root", "SELEC 1", "wrong SQL", "does not understand the SQL", "mend `query:`", False),
        ("too many", "", "too many", "max_user_connections", "raise the limit", True),
    ],
)
def test_of_mariadb(
    mariadb_site: Site, name: str, statement: str, kind: str, says: str, do: str, waits: bool
) -> None:
    cause = mariadb_site.cause(name, statement or "SELECT 1")

    assert (cause.kind, cause.waits) == (kind, waits)
    assert says in cause.says
    assert do in cause.do
    assert "wrong-word" not in str(cause)


@pytest.fixture(scope="module")
def postgres_site(tmp_path_factory: pytest.TempPathFactory, silent: int) -> Iterator[Site]:
    options = {
        "max_connections": "6",
        "superuser_reserved_connections": "0",
        "max_wal_senders": "0",
    }
    directory = tmp_path_factory.mktemp("granting-postgres")
    with skip_if_missing(Postgres(directory, options=options)) as server:
        url = f"host=127.0.0.1 port={server.port} user=postgres dbname=postgres"
        with psycopg.connect(url, autocommit=True) as root:
            for statement in (
                "CREATE ROLE reader LOGIN PASSWORD 'right'",
                "CREATE TABLE items (id INT PRIMARY KEY, price INT)",
                "GRANT SELECT (id) ON items TO reader",
                "CREATE SCHEMA closed",
                "CREATE TABLE closed.items (id INT)",
            ):
                root.execute(statement.encode())
            (server.data / "pg_hba.conf").write_text(
                "host all postgres 127.0.0.1/32 trust\n"
                "host all nobody 127.0.0.1/32 trust\n"
                "hostssl all tls 127.0.0.1/32 trust\n"
                "host all reader 127.0.0.1/32 scram-sha-256\n"
            )
            root.execute("SELECT pg_reload_conf()")

        def provoke(name: str) -> ExitStack:
            stack = ExitStack()
            if name == "too many":
                for _ in range(6):
                    try:
                        stack.enter_context(closing(psycopg.connect(url)))
                    except psycopg.OperationalError:
                        break
            return stack

        at = f"127.0.0.1:{server.port}"
        site = Site(
            {
                "good": f"postgresql://reader:right@{at}/postgres",
                "root": f"postgresql://postgres@{at}/postgres",
                "password": f"postgresql://reader:wrong-word@{at}/postgres",
                "no password": f"postgresql://reader@{at}/postgres",
                "no role": f"postgresql://nobody@{at}/postgres",
                "no database": f"postgresql://postgres@{at}/nowhere",
                "TLS": f"postgresql://tls@{at}/postgres",
                "no TLS": f"postgresql://postgres@{at}/postgres?sslmode=require",
                "too many": f"postgresql://postgres@{at}/postgres",
                "refused": f"postgresql://root@127.0.0.1:{free_port()}/postgres",
                "host": "postgresql://root@no-such-host.invalid/postgres",
                "silent": f"postgresql://root@127.0.0.1:{silent}/postgres",
            },
            provoke,
        )
        yield site


@pytest.mark.parametrize(
    ("name", "statement", "kind", "says", "do", "waits"),
    [
        ("refused", "", "refused", "does not answer: nothing takes connections", "start it", True),
        ("host", "", "unknown host", "a host that nobody knows", "mend the host", True),
        ("silent", "", "silent", "does not answer", "start it, or mend host and port", True),
        ("password", "", "let in", "does not let us in", "mend user and password", False),
        ("no password", "", "let in", "does not let us in", "mend user and password", False),
        ("no role", "", "let in", 'role "nobody" does not exist', "mend the user", False),
        ("TLS", "", "TLS", "does not let us in without TLS", "?sslmode=require", False),
        ("no TLS", "", "TLS", "has no TLS", "take sslmode out", False),
        ("no database", "", "no database", "is not there", "mend its name", False),
        (
            *("good", "SELECT * FROM items", "no right", "does not allow it"),
            *("GRANT SELECT ON items TO reader", False),
        ),
        (
            *("good", "SELECT * FROM closed.items", "no right", "schema closed"),
            *("GRANT USAGE ON SCHEMA closed TO reader", False),
        ),
        ("root", "SELECT 1 FROM nothing", "no table", "has no such table", "sync.yaml", False),
        ("root", "SELECT colour FROM items", "no column", "has no such column", "sync.y", False),
        ("root", "SELEC 1", "wrong SQL", "does not understand the SQL", "mend `query:`", False),
        ("too many", "", "too many", "too many connections", "raise max_connections", True),
        (
            *("root", "SELECT pg_terminate_backend(pg_backend_pid())", "going down"),
            *("is shutting down", "start it again", True),
        ),
    ],
)
def test_of_postgresql(
    postgres_site: Site, name: str, statement: str, kind: str, says: str, do: str, waits: bool
) -> None:
    cause = postgres_site.cause(name, statement or "SELECT 1")

    assert (cause.kind, cause.waits) == (kind, waits)
    assert says in cause.says
    assert do in cause.do
    assert "wrong-word" not in str(cause)


def broken_sqlite(folder: Path, name: str) -> tuple[Path, ExitStack]:
    """A file of that kind, and what keeps it so."""
    path, stack = folder / "site.sqlite", ExitStack()
    if name == "a directory":
        path.mkdir()
    elif name == "no database":
        path.write_bytes(b"This is a letter to a friend.\n" * 200)
    elif name == "in no directory":
        path = folder / "none" / "site.sqlite"
    elif name != "not there":
        connection = stack.enter_context(closing(sqlite3.connect(path)))
        connection.execute("CREATE TABLE items (id INTEGER PRIMARY KEY)")
        connection.commit()
        if name == "locked":
            connection.execute("BEGIN EXCLUSIVE")
        if name == "cut off":
            connection.execute("CREATE TABLE more (id INTEGER PRIMARY KEY)")
            connection.commit()
            path.write_bytes(path.read_bytes()[:4096] + b"x" * 100)
    return path, stack


@pytest.mark.parametrize(
    ("name", "kind", "says", "waits"),
    [
        ("not there", "no file", "is not there", False),
        ("in no directory", "no file", "is not there", False),
        ("a directory", "no file", "is no file", False),
        ("no database", "no SQLite", "is no SQLite file", False),
        ("cut off", "no SQLite", "or a broken one", False),
        ("locked", "busy", "is locked by another program", True),
    ],
)
def test_of_a_sqlite_file(
    tmp_path: Path, name: str, kind: str, says: str, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.queue.sql.database.CONNECT_SECONDS", 0.1)
    path, stack = broken_sqlite(tmp_path, name)
    there = path.exists()
    engine = connect(f"sqlite:///{path}")
    with stack, pytest.raises(BridgeError) as caught:
        sqlcause.check(engine)
    engine.dispose()

    assert says in str(caught.value)
    assert "sqlite://" in str(caught.value)
    assert isinstance(caught.value, ServerMissing) is waits
    assert path.exists() == there, "nothing was made"


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("SELECT 1 FROM elsewhere", "no table"),
        ("SELECT colour FROM items", "no column"),
        ("SELEC 1", "wrong SQL"),
        ("SELECT (", "wrong SQL"),
        ("SELECT 'x", "wrong SQL"),
    ],
)
def test_of_a_statement_for_sqlite(tmp_path: Path, statement: str, kind: str) -> None:
    path, stack = broken_sqlite(tmp_path, "good")
    engine = connect(f"sqlite:///{path}")
    with stack, engine.connect() as connection, pytest.raises(sql.exc.SQLAlchemyError) as caught:
        connection.execute(sql.text(statement))
    engine.dispose()

    assert cause_of(caught.value, engine.url).kind == kind


def test_what_may_pass_by_itself_is_waited_for_and_all_else_is_told(mariadb_site: Site) -> None:
    for name, statement, expected in [
        ("refused", "SELECT 1", ServerAway),
        ("good", "SELECT * FROM items", BridgeError),
        ("password", "SELECT 1", BridgeError),
    ]:
        engine = connect(mariadb_site.urls[name])
        with pytest.raises(sql.exc.SQLAlchemyError) as caught, engine.connect() as connection:
            connection.execute(sql.text(statement))
        told = as_bridge_error(caught.value, "item", engine)
        engine.dispose()
        assert type(told) is expected


def test_a_server_that_goes_down_in_the_middle_is_waited_for(tmp_path: Path) -> None:
    with MariaDB(tmp_path / "short-lived") as server:
        engine = connect(server.url)
        with engine.connect() as connection:
            connection.execute(sql.text("SELECT 1"))
            server.kill()
            with pytest.raises(sql.exc.SQLAlchemyError) as caught:
                connection.execute(sql.text("SELECT 1"))
        engine.dispose()
    assert cause_of(caught.value, engine.url).waits
