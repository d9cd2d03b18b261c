"""The tables of `bench.triggers`, and what one connection of the site does with them."""

from __future__ import annotations

import contextlib
import itertools
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pymysql

__all__ = ["SYNC", "Case", "entities", "tables", "write"]

KEYS = ("growing", "random", "automatic", "many rows")
ISOLATIONS = ("REPEATABLE READ", "READ COMMITTED")
_SIDES = ("a", "b")
_AUTOMATIC = {"a": "a_auto", "b": "b_auto"}
_EVERY = (*_SIDES, *_AUTOMATIC.values())

SYNC = "version: 1\nentities:\n" + "".join(
    f"  {name}: {{collection: {name}, source: {{table: noted_{name}, key: id}}}}\n"
    for name in _EVERY
)


@dataclass(frozen=True)
class Case:
    """keys: how they come. together: transactions over two tables, in both orders."""

    keys: str
    together: bool
    isolation: str

    @classmethod
    def all(cls) -> list[Case]:
        """Every one."""
        return [cls(*one) for one in itertools.product(KEYS, (False, True), ISOLATIONS)]

    @classmethod
    def few(cls) -> list[Case]:
        """Those in which most went wrong with other triggers."""
        return [cls(keys, True, ISOLATIONS[0]) for keys in KEYS]

    def __str__(self) -> str:
        together = "two tables" if self.together else "autocommit"
        return f"{self.keys}, {together}, {self.isolation}"

    @property
    def given(self) -> bool:
        """Whether the site gives the keys."""
        return self.keys in ("growing", "random")

    @property
    def tables(self) -> list[str]:
        """The two, without `bare_` or `noted_`."""
        return [*(_SIDES if self.given else _AUTOMATIC.values())]


def entities() -> Sequence[str]:
    """Those of SYNC."""
    return _EVERY


def tables() -> Iterator[str]:
    """CREATE TABLE of every table."""
    for kind, name in itertools.product(("bare", "noted"), _EVERY):
        automatic = " AUTO_INCREMENT" if name in _AUTOMATIC.values() else ""
        yield (
            f"CREATE TABLE {kind}_{name} (id BIGINT NOT NULL{automatic} PRIMARY KEY, "
            "title VARCHAR(100) NOT NULL, n INT NOT NULL, KEY (title)) ENGINE=InnoDB"
        )


@contextlib.contextmanager
def write(
    url: str, case: Case, names: Sequence[str], number: int, connections: int, edits: int
) -> Iterator[Callable[[], Any]]:
    """One connection. Finds milliseconds of each INSERT, errors, and how many rows were changed."""
    parts = urlsplit(url)
    connection = pymysql.connect(
        host=parts.hostname,
        port=parts.port or 3306,
        user="root",
        database=parts.path.strip("/"),
        charset="utf8mb4",
        autocommit=not case.together,
        init_command=f"SET SESSION TRANSACTION ISOLATION LEVEL {case.isolation}",
    )
    with connection, connection.cursor() as cursor:
        writer = _Writer(cursor, case, number, connections)

        def work() -> tuple[list[float], list[str], int]:
            errors: list[str] = []
            for edit in range(edits):
                # Half of the connections take the tables in the other order.
                order = names if (number + edit) % 2 == 0 else names[::-1]
                if case.together:
                    before = writer.changed
                    try:
                        for name in order:
                            writer.edit(name, edit)
                        connection.commit()
                    except pymysql.MySQLError as error:
                        errors.append(str(error.args[0]))
                        connection.rollback()
                        writer.changed = before
                else:
                    try:
                        writer.edit(order[0], edit)
                    except pymysql.MySQLError as error:
                        errors.append(str(error.args[0]))
            return writer.inserts, errors, writer.changed

        yield work


class _Writer:
    def __init__(self, cursor: Any, case: Case, number: int, connections: int) -> None:
        self._cursor, self._case = cursor, case
        self._chance = random.Random(number)
        self._next = itertools.count(number + 1, connections)
        self.inserts: list[float] = []
        self.changed = 0

    def edit(self, name: str, edit: int) -> None:
        """An INSERT; of every third row also an UPDATE, of every sixth a deletion."""
        key = self._insert(name)
        if edit % 3 == 0:
            self._do(f"UPDATE {name} SET n = n + 1 WHERE id = %s", key)
        if edit % 6 == 0:
            self._do(f"DELETE FROM {name} WHERE id = %s", key)

    def _insert(self, name: str) -> int:
        row = (f"title {self._chance.random()}", 1)
        key, values = 0, tuple[Any, ...]()
        if self._case.keys == "many rows":
            words, values = f"INSERT INTO {name} (title, n) SELECT %s, seq FROM seq_1_to_3", row[:1]
        elif self._case.keys == "automatic":
            words, values = f"INSERT INTO {name} (title, n) VALUES (%s, %s)", row
        else:
            grown = next(self._next)
            key = grown if self._case.keys == "growing" else self._chance.getrandbits(62)
            words, values = f"INSERT INTO {name} VALUES (%s, %s, %s)", (key, *row)
        begun = time.perf_counter()
        self._do(words, *values)
        self.inserts.append((time.perf_counter() - begun) * 1000)
        return key or int(self._cursor.lastrowid)

    def _do(self, statement: str, *values: Any) -> None:
        self.changed += int(self._cursor.execute(statement, values))
