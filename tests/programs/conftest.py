"""Each of the programs with its mirror, one after the other, on the servers of the whole run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from stack.mariadb import MariaDB
from stack.mediawiki import MediaWiki
from stack.mongod import Mongod
from stack.php import PhpServer
from stack.redis import Redis
from stack.wordpress import WordPress
from tests.programs import mediawiki, phpbb, wordpress
from tests.programs.mirrored import Mirrored


class Program(NamedTuple):
    """A program that runs, all who use it, and its mirror.

    touched: the tables that they change. seen: table, column and value of what they wrote.
    """

    server: PhpServer
    people: Any
    touched: set[str]
    seen: tuple[str, str, str]
    mirrored: Mirrored


PROGRAMS = {
    "WordPress": (WordPress, wordpress),
    "MediaWiki": (MediaWiki, mediawiki),
    "board": (phpbb.Board, phpbb),
}


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """Theirs alone: a program's worker lives until the run ends, beside tests of other folders, and
    would take the events of these."""
    with Redis(tmp_path_factory.mktemp("programs-redis")) as server:
        yield server


@pytest.fixture(scope="session", params=PROGRAMS)
def program(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    mariadb: MariaDB,
    mongodb: Mongod,
    redis_server: Redis,
) -> Iterator[Program]:
    """Installed as it comes, used for a while, then mirrored by what an operator types."""
    make, module = PROGRAMS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    with make(folder / "program", mariadb) as server, mongodb.client() as client:
        server.install()
        people = module.People(server)
        people.begin()
        with redis_server.client() as redis:
            redis.flushall()
        mirrored = Mirrored(
            folder, server.database,
            mariadb=mariadb, mongodb=mongodb, redis=redis_server, database=client[server.database],
        )  # fmt: skip
        with mirrored:
            yield Program(server, people, module.TOUCHED, module.SEEN, mirrored)
