"""Connections to databases of sites that are lost: whatever is done with them, it is an error of
SQLAlchemy's, which everybody waits for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest
import sqlalchemy as sql

from bridge.queue.sql.database import at_level, connect, reading
from bridge.sync.log.snapshots import consistent
from stack.mariadb import MariaDB
from tests.cutting import Cutting


def autocommit(engine: sql.Engine) -> None:
    with at_level(engine, "AUTOCOMMIT") as connection:
        connection.exec_driver_sql("SELECT 1")


def repeatable(engine: sql.Engine) -> None:
    with at_level(engine, "REPEATABLE READ") as connection, connection.begin():
        connection.exec_driver_sql("SELECT 1")


def read(engine: sql.Engine) -> None:
    with reading(engine) as connection:
        connection.exec_driver_sql("SELECT 1")


def at_a_place(engine: sql.Engine) -> None:
    with consistent(engine) as (connection, _):
        connection.exec_driver_sql("SELECT 1")


@pytest.mark.parametrize("do", [autocommit, repeatable, read, at_a_place])
def test_a_connection_that_is_cut_anywhere_is_an_error_to_be_waited_for(
    do: Callable[[sql.Engine], None], logged_mariadb: MariaDB, capfd: pytest.CaptureFixture[str]
) -> None:
    lengths = list(range(1, 1600, 23))
    failed = 0
    with closing(Cutting(logged_mariadb.port, list(lengths))) as way:
        url = logged_mariadb.url.replace(str(logged_mariadb.port), str(way.port))
        for _ in range(len(lengths)):
            engine = connect(url)
            try:
                do(engine)
            except sql.exc.SQLAlchemyError:
                failed += 1
            finally:
                engine.dispose()
        do(connect(url))
    assert failed > 20
    assert "Traceback" not in capfd.readouterr().err
