"""Triggers of MySQL run as the user that made them: when that one is gone, every note fails."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sql

from bridge.queue.sql.database import connect
from bridge.queue.sql.outbox import Outbox
from bridge.sync.documents import Mirror
from bridge.sync.models import File
from bridge.sync.triggers.commands import Triggers
from stack.mariadb import MariaDB


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    """A server with users and rights."""
    with MariaDB(tmp_path_factory.mktemp("definer"), grants=True) as made:
        yield made


def triggers(url: str) -> tuple[sql.Engine, Triggers]:
    said = {"collection": "posts", "source": {"table": "posts", "key": "id"}}
    mirror = Mirror(File.model_validate({"version": 1, "entities": {"post": said}}))
    engine = connect(url)
    return engine, Triggers(engine, mirror, Outbox(engine))


def test_triggers_whose_user_is_gone_are_told_and_made_anew(server: MariaDB) -> None:
    """Until then no statement of the site's goes through."""
    url = server.create_database("definer")
    site = connect(url)
    with site.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE posts (id INT PRIMARY KEY AUTO_INCREMENT, n INT)")
        connection.exec_driver_sql("CREATE USER maker@'%%' IDENTIFIED BY 'x'")
        connection.exec_driver_sql("GRANT ALL ON definer.* TO maker@'%%'")
    made_by, theirs = triggers(
        str(site.url.set(username="maker", password="x").render_as_string(False))
    )
    theirs.apply([])
    made_by.dispose()
    engine, ours = triggers(url)
    assert [state.good for state in ours.check([])] == [True]
    with site.begin() as connection:
        connection.exec_driver_sql("DROP USER maker@'%%'")
    with pytest.raises(sql.exc.OperationalError, match="1449"), site.begin() as connection:
        connection.exec_driver_sql("INSERT INTO posts (n) VALUES (1)")

    assert [state.good for state in ours.check([])] == [False]
    ours.apply([])
    with site.begin() as connection:
        connection.exec_driver_sql("INSERT INTO posts (n) VALUES (1)")
    assert [state.good for state in ours.check([])] == [True]
    engine.dispose()
    site.dispose()
