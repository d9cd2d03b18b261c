"""Real servers for the tests: started at first use, stopped at the end, by process id.

A missing program fails the test that needs it, with the command that installs it. Only RabbitMQ
and PostgreSQL, which `scripts/test --all` installs, are skipped when they are missing. A test
that kills servers starts its own (`stack`) instead of these shared ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from hypothesis import settings
from pymongo import MongoClient
from pymongo.database import Database

from stack import waiting
from stack.mariadb import MariaDB
from stack.mongod import Mongod
from stack.postgres import Postgres
from stack.rabbitmq import RabbitMQ
from stack.redis import Redis
from tests.installed import skip_if_missing

# How long an example takes says more of the machine than of the code.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")

_numbers = itertools.count(1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Of several pytest processes (`-n`), one runs a whole file, which shares its servers, and
    one all of the forge's, which share a site that takes long to load."""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return "tests/examples" if file.startswith("tests/examples/") else file

    return ByFile(config, log)


@pytest.fixture(scope="session")
def mongodb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    """A MongoDB (replica set of one) for the whole run."""
    with Mongod(tmp_path_factory.mktemp("mongodb"), parameters={"ttlMonitorSleepSecs": "1"}) as m:
        yield m


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A Redis with an append-only file for the whole run."""
    with Redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def clean_mongodb(mongodb: Mongod) -> Iterator[Database[dict[str, Any]]]:
    """An empty database of this test's own, dropped after it."""
    client: MongoClient[dict[str, Any]] = mongodb.client()
    with client:
        database = client[f"test_{next(_numbers)}"]
        client.drop_database(database)
        yield database
        client.drop_database(database)


@pytest.fixture
def mongodb_url(mongodb: Mongod, clean_mongodb: Database[dict[str, Any]]) -> str:
    """The URL of `clean_mongodb`, as BRIDGE_MONGODB_URL takes it."""
    return mongodb.url_of(clean_mongodb.name)


@pytest.fixture
def clean_redis(redis_server: Redis) -> Iterator[redis.Redis]:
    """A client of the Redis, emptied for this test."""
    with redis_server.client() as client:
        client.flushall()
        yield client


@pytest.fixture
def redis_url(redis_server: Redis, clean_redis: redis.Redis) -> str:
    """The URL of the emptied Redis, as BRIDGE_BROKER_URL takes it."""
    return redis_server.url


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """A RabbitMQ for the whole run; the test is skipped where it is not installed."""
    with skip_if_missing(RabbitMQ(tmp_path_factory.mktemp("rabbitmq"))) as server:
        yield server


@pytest.fixture
def rabbitmq_url(rabbitmq: RabbitMQ) -> Iterator[str]:
    """The URL of an empty vhost of this test's own, removed after it."""
    vhost = f"test_{next(_numbers)}"
    yield rabbitmq.create_vhost(vhost)
    rabbitmq.delete_vhost(vhost)


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    """A MariaDB for the whole run."""
    with MariaDB(tmp_path_factory.mktemp("mariadb")) as server:
        yield server


@pytest.fixture(scope="session")
def logged_mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    """A MariaDB for the whole run whose log can be read from any place, though not from a GTID:
    it has no system tables."""
    words = ["--log-bin=bin", "--server-id=7", "--binlog-format=ROW", "--binlog-row-metadata=FULL"]
    with MariaDB(tmp_path_factory.mktemp("logged"), options=words) as server:
        yield server


@pytest.fixture
def mariadb_url(mariadb: MariaDB) -> Iterator[str]:
    """The URL of an empty database of this test's own, dropped after it."""
    name = f"test_{next(_numbers)}"
    yield mariadb.create_database(name)
    mariadb.drop_database(name)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A PostgreSQL for the whole run; the test is skipped where it is not installed."""
    with skip_if_missing(Postgres(tmp_path_factory.mktemp("postgres"))) as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """The URL of an empty database of this test's own, dropped after it."""
    name = f"test_{next(_numbers)}"
    yield postgres.create_database(name)
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def wait_for() -> Callable[..., Any]:
    """`wait_for(condition, bound=10, what="")`: see `stack.waiting.wait_for`."""
    return waiting.wait_for
