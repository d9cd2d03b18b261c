"""The SQL queue that `bench.queue` compares: a table, emptied with SKIP LOCKED.

One transaction for a row, as sites that have such a table do it, or for a batch. Durable commits,
READ COMMITTED, the primary key as the order, rows deleted by their keys: of the forms that let
several consumers work at once, the fastest we know.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import pymysql

from bench.queue_brokers import Contender, Publish, Receive, Take

__all__ = ["SqlQueue"]

DEADLOCK = 1213  # ER_LOCK_DEADLOCK


class SqlQueue(Contender):
    """A table `queue` of MariaDB; batch: rows of a transaction."""

    def connect(self, *, autocommit: bool) -> Any:
        parts = urlsplit(self.url)
        return pymysql.connect(
            host=parts.hostname,
            port=parts.port or 3306,
            user="root",
            database=parts.path.strip("/"),
            charset="utf8mb4",
            autocommit=autocommit,
            init_command="SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        )

    def prepare(self) -> None:
        with self.connect(autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(
                f"CREATE TABLE IF NOT EXISTS {self.queue} ("
                "id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, body MEDIUMTEXT NOT NULL"
                ") ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"
            )

    @contextlib.contextmanager
    def publisher(self) -> Iterator[Publish]:
        with self.connect(autocommit=True) as connection, connection.cursor() as cursor:

            def publish(bodies: Sequence[str]) -> None:
                for start in range(0, len(bodies), self.batch):
                    some = bodies[start : start + self.batch]
                    values = ",".join(["(%s)"] * len(some))
                    cursor.execute(f"INSERT INTO {self.queue} (body) VALUES {values}", some)

            yield publish

    @contextlib.contextmanager
    def consumer(self, receive: Receive) -> Iterator[Take]:
        select = (
            f"SELECT id, body FROM {self.queue} ORDER BY id LIMIT {self.batch} "
            "FOR UPDATE SKIP LOCKED"
        )
        with self.connect(autocommit=False) as connection, connection.cursor() as cursor:

            def take() -> bool:
                try:
                    cursor.execute(select)
                    if rows := cursor.fetchall():
                        ids = ",".join(str(id) for id, _ in rows)
                        cursor.execute(f"DELETE FROM {self.queue} WHERE id IN ({ids})")
                except pymysql.OperationalError as error:
                    if error.args[0] != DEADLOCK:
                        raise
                    # A statement may read more than its own rows, and wait for others who wait
                    # for it. MariaDB has undone it all; it has to be tried again.
                    return True
                for _, body in rows:
                    receive(body)
                connection.commit()
                return bool(rows)

            yield take

    def left(self) -> int:
        with self.connect(autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(f"SELECT COUNT(*) FROM {self.queue}")
            [(count,)] = cursor.fetchall()
            return int(count)
